/* The simulated device: a board whose flash, boot record and clock of life are a directory of the host.
 *
 *     $SLIPWAY_SIM_DIR/slot-a/, slot-b/   tree slots
 *                      bootenv            U-Boot environment, two copies, the format real boards have
 *                      booted             "A" or "B", for people and tests to look at
 *                      watchdog           how often it was fed
 *                      life_time          what an eMMC says of its wear, as in /sys: "0x01 0x02"
 *                      memory_pressure    what the kernel says of it, as in /proc/pressure/memory
 *                      clock              seconds that its clock is ahead of the host's; none: 0
 *
 * Starting agentd is a power-on, killing it a power cut: the first call that asks what was booted runs the boot
 * loader's model. Child processes inherit the answer in SLIPWAY_SIM_SLOT.
 */
#ifndef SLIPWAY_HAL_SIM_H
#define SLIPWAY_HAL_SIM_H

#include <stddef.h>

#include "hal/board.h"

extern const struct tree_ops tree_sim;
extern const struct disk_ops disk_sim;
extern const struct bootrec_ops bootrec_sim;
extern const struct watchdog_ops watchdog_sim;
extern const struct reset_ops reset_sim;
extern const struct identity_ops identity_sim;
extern const struct store_ops store_sim;
extern const struct clock_ops clock_sim;
extern const struct wear_ops wear_sim;
extern const struct pressure_ops pressure_sim;

/* Path of `name` below $SLIPWAY_SIM_DIR. ERR_CONFIG when that is not set, ERR_LIMIT when `out` is too small. */
int sim_path(const char *name, char *out, size_t cap, struct err *e);

/* Where the app's root is when `slot` is booted: the slot's own directory. */
int sim_app_root(enum slot_id slot, char *out, size_t cap, struct err *e);

/* What the boot loader does between power-on and the kernel: choose a slot, count one try, store that, tell the
 * system in SLIPWAY_SIM_SLOT and in the file `booted`. A damaged or missing environment starts from defaults. */
int sim_boot(enum slot_id *out, struct err *e);

/* The environment of a new device: two good copies without variables, which stand for the script's defaults. */
int sim_bootenv_make(struct err *e);

/* boards/common/boot.cmd in C: the first slot in order with tries left, one of them taken off and that stored. ERR_BOOT
 * when no copy of the environment is good. */
int sim_bootenv_take(enum slot_id *out, struct err *e);

#endif
