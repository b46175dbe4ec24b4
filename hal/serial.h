/* Port: a serial line for control frames. */
#ifndef SLIPWAY_HAL_SERIAL_H
#define SLIPWAY_HAL_SERIAL_H

#include <stdint.h>

#include "base/err.h"

struct serial_ops {
    /* Open a tty raw, 8N1, non-blocking, not as the controlling terminal. `baud` is ignored where it has none. */
    int (*open)(const char *path, uint32_t baud, int *fd, struct err *e);
};

#endif
