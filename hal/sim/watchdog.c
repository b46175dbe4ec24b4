/* A watchdog that never bites: it counts how often it was fed, in the file `watchdog`, for a test to look at. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/sim/sim.h"

static uint32_t fed_cnt;

static int sim_feed(int fd, struct err *e)
{
    char text[16];
    int len = snprintf(text, sizeof(text), "%u\n", (unsigned)++fed_cnt);

    if (io_pwrite_full(fd, text, (size_t)len, 0) < 0)
        return err_errno(e, "sim: watchdog");
    return 0;
}

static int sim_start(int *fd, uint32_t *timeout_s, struct err *e)
{
    char path[512];
    int rc = sim_path("watchdog", path, sizeof(path), e);

    (void)timeout_s;
    if (rc < 0)
        return rc;
    *fd = IO_RETRY(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (*fd < 0)
        return err_errno(e, "%s", path);
    fed_cnt = 0;
    return 0;
}

const struct watchdog_ops watchdog_sim = {.start = sim_start, .feed = sim_feed};
