/* What the file `memory_pressure` of the device says, in the words of /proc; without one, a kernel that does not count. */
#include "hal/linux/linux.h"
#include "hal/sim/sim.h"

static int memory(uint32_t *out_percent, struct err *e)
{
    char path[256];

    return sim_path("memory_pressure", path, sizeof path, e) < 0 ? e->code
                                                                 : pressure_linux_read(path, out_percent, e);
}

const struct pressure_ops pressure_sim = {.memory = memory};
