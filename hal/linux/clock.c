#include <time.h>

#include "base/log.h"
#include "hal/linux/linux.h"

static uint64_t clock_boot_ms(void)
{
    struct timespec t;

    ASSERT(clock_gettime(CLOCK_BOOTTIME, &t) == 0);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int64_t clock_wall_s(void)
{
    struct timespec t;

    ASSERT(clock_gettime(CLOCK_REALTIME, &t) == 0);
    return t.tv_sec;
}

const struct clock_ops clock_linux = {.boot_ms = clock_boot_ms, .wall_s = clock_wall_s};
