#include "hal/sim/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

static struct {
    bool ready;
    unsigned long count, cut, eio, enospc, flip;
    int log_fd;
} sim;

static unsigned long number_from(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? strtoul(text, NULL, 10) : 0;
}

void fault_reset(void)
{
    const char *log = getenv("SLIPWAY_SIM_COUNT");
    if (sim.ready && sim.log_fd >= 0)
        close(sim.log_fd);
    sim.ready = true;
    sim.count = 0;
    sim.cut = number_from("SLIPWAY_SIM_CUT");
    sim.eio = number_from("SLIPWAY_SIM_EIO");
    sim.enospc = number_from("SLIPWAY_SIM_ENOSPC");
    sim.flip = number_from("SLIPWAY_SIM_FLIP");
    sim.log_fd = log != NULL ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
}

int fault_point(const char *op)
{
    if (!sim.ready)
        fault_reset();
    sim.count++;
    if (sim.log_fd >= 0 && io_write_two(sim.log_fd, op, strlen(op), "\n", 1) != 0)
        return -1;
    if (sim.count == sim.cut)
        kill(0, SIGKILL);
    if (sim.count != sim.eio && sim.count != sim.enospc)
        return 0;
    errno = sim.count == sim.eio ? EIO : ENOSPC;
    return -1;
}

int fault_flip(int fd)
{
    unsigned char c;

    if (sim.count != sim.flip || io_pread_full(fd, &c, 1, 0) != 1)
        return 0;
    c ^= 1;
    return io_pwrite_full(fd, &c, 1, 0);
}

unsigned long fault_count(void)
{
    return sim.count;
}
