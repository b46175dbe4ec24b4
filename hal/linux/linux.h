/* The drivers of a board that runs Linux. A board.c names those it has; what is not named is not linked. */
#ifndef SLIPWAY_HAL_LINUX_H
#define SLIPWAY_HAL_LINUX_H

#include <stddef.h>

#include "hal/board.h"

extern const struct tree_ops tree_linux;
extern const struct tree_ops tree_folder;
extern const struct disk_ops disk_linux;
extern const struct bootrec_ops bootrec_uboot; /* arg: const struct uboot_env_place * (uboot_env.h) */
extern const struct bootrec_ops
    bootrec_fw_env; /* arg: path of a fw_env.config, read at each call; the variables that
                                                   the build was configured for (uboot_vars.h) */
extern const struct watchdog_ops watchdog_linux;
extern const struct reset_ops reset_linux;
extern const struct clock_ops clock_linux;
extern const struct identity_ops identity_linux;
extern const struct secret_ops secret_linux;
extern const struct serial_ops serial_linux;
extern const struct wear_ops wear_linux;
extern const struct pressure_ops pressure_linux;
extern const struct store_ops store_linux;

/* pressure_linux, with another file in place of /proc/pressure/memory. */
int pressure_linux_read(const char *path, uint32_t *out_percent, struct err *e);
/* wear_linux, with another folder in place of /sys. */
int wear_linux_read(const char *sys, const char *place, struct wear *out, struct err *e);

/* The WDIOC_GETBOOTSTATUS flags that watchdog_linux saw when it was started; 0 before. For kernels without
 * CONFIG_WATCHDOG_SYSFS. */
int linux_watchdog_bootstatus(void);

/* struct reset_ops: restart, with an argument for the firmware; "": none. */
int linux_restart(const char *argument, struct err *e);

/* struct board: app_root of every board whose app runs in the booted slot: "/". */
int linux_app_root(enum slot_id slot, char *out, size_t cap, struct err *e);

#endif
