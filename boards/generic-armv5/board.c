/* Any armv5te or armv6 board with U-Boot: where its slots are stands in agent.conf, where its environment is in
 * /etc/fw_env.config, which such boards have for fw_printenv anyway. */
#include "hal/board.h"
#include "hal/linux/linux.h"

const struct board board = {
    .name = CONFIG_BOARD_NAME,
    .platform = {"linux", "arm", "v5"},
    .slots = {"", ""},
    .needs = {"usr/sbin/agentd"},
    .app_root = linux_app_root,
    .tree = &tree_linux,
    .folder = &tree_folder,
    .disk = &disk_linux,
    .bootrec = &bootrec_fw_env,
    .bootrec_arg = "/etc/fw_env.config",
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
