/* Raspberry Pi 3, 4, Zero 2 W and, with a newer kernel, 5: started by their own firmware, with tryboot. README.md. */
#include "hal/board.h"
#include "hal/linux/linux.h"
#include "hal/linux/tryboot.h"

static const struct tryboot_place card = {
    .card = "/dev/disk/by-partuuid/5110a000-01",
    .firmware = TRYBOOT_FIRMWARE,
    .partition = {2, 3},
};

const struct board board = {
    .name = CONFIG_BOARD_NAME,
    .platform = {"linux", "arm64", "v8"},
    .slots = {"PARTUUID=5110a000-02", "PARTUUID=5110a000-03"},
    .needs = {""},
    .app_root = linux_app_root,
    .tree = &tree_linux,
    .disk = &disk_linux,
    .bootrec = &bootrec_tryboot,
    .bootrec_arg = &card,
    .watchdog = &watchdog_linux,
    .reset = &reset_tryboot,
    .clock = &clock_linux,
    .identity = &identity_linux,
    .secret = &secret_linux,
    .serial = &serial_linux,
    .wear = &wear_linux,
    .pressure = &pressure_linux,
    .store = &store_linux,
};
