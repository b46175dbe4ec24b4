/* The host's clock. Its time of day is put on by so many seconds as the file `clock` of the device says, at any moment. */
#include <stdlib.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/sim/sim.h"

static uint64_t sim_boot_ms(void)
{
    return clock_linux.boot_ms();
}

static int64_t sim_wall_s(void)
{
    char path[256], text[32];
    struct err e;

    if (sim_path("clock", path, sizeof path, &e) < 0 || io_read_file(path, text, sizeof text) <= 0)
        return clock_linux.wall_s();
    return clock_linux.wall_s() + strtoll(text, NULL, 10);
}

const struct clock_ops clock_sim = {.boot_ms = sim_boot_ms, .wall_s = sim_wall_s};
