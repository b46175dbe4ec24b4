/* What the variables of U-Boot's environment say as a boot record. Three projects have words for it, so that a device in
 * the field can change its agent and keep its boot loader:
 *
 *     RAUC      BOOT_ORDER "A B"; BOOT_A_LEFT, BOOT_B_LEFT: starts left (boards/common/boot.cmd)
 *     Mender    mender_boot_part "2", mender_boot_part_hex; upgrade_available, bootcount, bootlimit
 *     SWUpdate  a variable of the integrator's choice, bootpart "2"; ustate 0 is settled, 1 on trial, 3 failed; and the
 *               three that Mender has, too
 *
 * With the last two U-Boot itself counts (CONFIG_BOOTCOUNT_ENV): while upgrade_available is 1 it adds one to bootcount and
 * stores that before each start; when bootcount is above bootlimit it runs altbootcmd, which names the other slot and
 * clears upgrade_available. So there is one count, of the first slot; and one more variable, slipway_first, tells a slot
 * that altbootcmd gave up from one that was never armed.
 */
#ifndef SLIPWAY_HAL_UBOOT_VARS_H
#define SLIPWAY_HAL_UBOOT_VARS_H

#include "hal/bootrec.h"
#include "hal/linux/uboot_env.h"

enum uboot_words { UBOOT_RAUC = 0, UBOOT_MENDER, UBOOT_SWUPDATE };

struct uboot_vars {
    enum uboot_words words;
    const char *part; /* the variable that names the slot to start; RAUC has none */
    const char
        *values[SLOT_CNT]; /* what stands in it for A and B: a partition's number, as at the end of root= */
};

/* As boards/common/boot.cmd reads them. */
extern const struct uboot_vars uboot_vars_rauc;
/* As this build was configured to: CONFIG_UBOOT_RAUC and its neighbours. */
extern const struct uboot_vars uboot_vars_configured;

/* ERR_BOOT when no slot has the name that stands there. */
int uboot_vars_get(const struct uboot_vars *v, const struct uboot_env *env, struct bootrec *out,
                   struct err *e);
/* ERR_BOOT when the environment is full, or these words can't say it: with one count, that no slot is to start. */
int uboot_vars_set(const struct uboot_vars *v, struct uboot_env *env, const struct bootrec *r, struct err *e);
/* Which slot the kernel's command line says: "slipway.slot=A", which boards/common/boot.cmd passes, or "rauc.slot=A"; where
 * neither is there and these words name partitions, the one that root= ends with. `line` is cut into its words. ERR_BOOT
 * when it doesn't say. */
int uboot_vars_booted(const struct uboot_vars *v, char *line, enum slot_id *out, struct err *e);

#endif
