/* BeagleBone Black (TI AM3358) on an SD card: README.md. */
#include "hal/board.h"
#include "boards/common/card.h"
#include "hal/linux/linux.h"

const struct board board = {
    .name = CONFIG_BOARD_NAME,
    .platform = {"linux", "arm", "v7"},
    .slots = {"PARTLABEL=slot-a", "PARTLABEL=slot-b"},
    .needs = {"boot/kernel", "boot/initrd", "boot/board.dtb", "usr/sbin/agentd"},
    .app_root = linux_app_root,
    .tree = &tree_linux,
    .disk = &disk_linux,
    .bootrec = &bootrec_uboot,
    .bootrec_arg = &card_environment,
    .watchdog = &watchdog_linux,
    .reset = &reset_linux,
    .clock = &clock_linux,
    .identity = &identity_linux,
    .secret = &secret_linux,
    .serial = &serial_linux,
    .wear = &wear_linux,
    .pressure = &pressure_linux,
    .store = &store_linux,
};
