/* Port: the hardware watchdog. Once started it is never stopped: a crash of the agent must not disarm it. */
#ifndef SLIPWAY_HAL_WATCHDOG_H
#define SLIPWAY_HAL_WATCHDOG_H

#include <stdint.h>

#include "base/err.h"

struct watchdog_ops {
    /* Start counting; *timeout_s goes in as wished and comes out as the hardware took it. *fd is the caller's. */
    int (*start)(int *fd, uint32_t *timeout_s, struct err *e);
    int (*feed)(int fd, struct err *e);
};

#endif
