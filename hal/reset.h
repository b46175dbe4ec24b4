/* Port: why the board started, and starting it again. */
#ifndef SLIPWAY_HAL_RESET_H
#define SLIPWAY_HAL_RESET_H

#include "base/err.h"

enum reset_cause { RESET_UNKNOWN = 0, RESET_POWER_ON, RESET_WATCHDOG, RESET_SOFTWARE };

struct reset_ops {
    enum reset_cause (*cause)(void);
    /* Orderly reboot: sync, then restart. Returns only on failure. */
    int (*restart)(struct err *e);
};

#endif
