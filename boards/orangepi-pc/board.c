/* Orange Pi PC (Allwinner H3) on an SD card: README.md. */
#include "hal/board.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_env.h"

/* boards/common/uboot.config */
static const struct uboot_env_place environment = {
    .device = {"/dev/mmcblk0", "/dev/mmcblk0"},
    .offset = {0x100000, 0x110000},
    .size = 0x4000,
    .lock = UBOOT_ENV_LOCK,
};

const struct board board = {
    .name = CONFIG_BOARD_NAME,
    .platform = {"linux", "arm", "v7"},
    .slots = {"PARTLABEL=slot-a", "PARTLABEL=slot-b"},
    .needs = {"boot/kernel", "boot/initrd", "boot/board.dtb", "usr/sbin/agentd"},
    .app_root = linux_app_root,
    .tree = &tree_linux,
    .disk = &disk_linux,
    .bootrec = &bootrec_uboot,
    .bootrec_arg = &environment,
    .watchdog = &watchdog_linux,
    .reset = &reset_linux,
    .clock = &clock_linux,
    .identity = &identity_linux,
    .serial = &serial_linux,
    .store = &store_linux,
};
