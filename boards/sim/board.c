/* The host with a simulated device; the folder is $SLIPWAY_SIM_DIR (hal/sim/sim.h). */
#include "hal/board.h"
#include "hal/linux/linux.h"
#include "hal/sim/sim.h"

const struct board board = {
    .name = CONFIG_BOARD_NAME,
    .platform = {"linux", "amd64", ""},
    .slots = {"slot-a", "slot-b"},
    .app_root = sim_app_root,
    .tree = &tree_sim,
    .folder = &tree_sim,
    .disk = &disk_sim,
    .bootrec = &bootrec_sim,
    .watchdog = &watchdog_sim,
    .reset = &reset_sim,
    .clock = &clock_sim,
    .identity = &identity_sim,
    .secret = &secret_linux,
    .serial = &serial_linux,
    .wear = &wear_sim,
    .pressure = &pressure_sim,
    .store = &store_sim,
};
