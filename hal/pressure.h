/* Port: how short of memory the board is. */
#ifndef SLIPWAY_HAL_PRESSURE_H
#define SLIPWAY_HAL_PRESSURE_H

#include <stdint.h>

#include "base/err.h"

struct pressure_ops {
    /* Percent of the last 10 seconds in which some process waited for memory (PSI: "some avg10", without its fraction).
     * ERR_UNSUPPORTED where the kernel does not count it. */
    int (*memory)(uint32_t *out_percent, struct err *e);
};

#endif
