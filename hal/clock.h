/* Port: time. */
#ifndef SLIPWAY_HAL_CLOCK_H
#define SLIPWAY_HAL_CLOCK_H

#include <stdint.h>

struct clock_ops {
    uint64_t (*boot_ms)(void); /* since start, never goes back, counts while asleep */
    int64_t (*wall_s)(void);   /* Unix time; may be 1970 on a board without a battery */
};

#endif
