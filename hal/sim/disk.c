/* A disk slot that is a regular file of the host. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/sim/fault.h"
#include "hal/sim/sim.h"

static int sim_confine(const char *place, struct err *e)
{
    fault_reset();
    return reach_let(place, REACH_WRITE, e);
}

static int sim_open(const char *place, bool writable, int *fd, uint64_t *size, struct err *e)
{
    struct stat st;
    if (fault_point("disk.open") != 0)
        return err_errno(e, "disk.open");
    int f = IO_RETRY(open(place, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC));
    if (f < 0)
        return err_errno(e, "%s", place);
    if (fstat(f, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(f);
        return err_set(e, ERR_CONFIG, "%s: not a regular file", place);
    }
    *size = (uint64_t)st.st_size;
    *fd = f;
    return 0;
}

static int sim_sync(int fd, struct err *e)
{
    if (fault_point("disk.sync") != 0 || fault_flip(fd) != 0 || IO_RETRY(fsync(fd)) != 0)
        return err_errno(e, "fsync");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int sim_close(int fd, struct err *e)
{
    return close(fd) != 0 ? err_errno(e, "close") : 0;
}

const struct disk_ops disk_sim = {
    .confine = sim_confine, .open = sim_open, .sync = sim_sync, .close = sim_close};
