#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"

#define DEVICE "/dev/watchdog"

static int bootstatus;

int linux_watchdog_bootstatus(void)
{
    return bootstatus;
}

/* Opening starts the hardware. Nothing here writes the 'V' that would let a close stop it. */
static int watchdog_start(int *fd, uint32_t *timeout_s, struct err *e)
{
    int seconds = (int)*timeout_s;

    *fd = IO_RETRY(open(DEVICE, O_WRONLY | O_CLOEXEC));
    if (*fd < 0)
        return err_errno(e, DEVICE);
    (void)ioctl(*fd, WDIOC_GETBOOTSTATUS, &bootstatus);
    /* Refused: fixed, or out of the hardware's range. Then what it has is what counts. */
    if (ioctl(*fd, WDIOC_SETTIMEOUT, &seconds) < 0 && ioctl(*fd, WDIOC_GETTIMEOUT, &seconds) < 0) {
        int rc = err_errno(e, DEVICE ": time-out of %d s", (int)*timeout_s);

        close(*fd);
        *fd = -1;
        return rc;
    }
    *timeout_s = (uint32_t)seconds;
    return 0;
}

static int watchdog_feed(int fd, struct err *e)
{
    if (ioctl(fd, WDIOC_KEEPALIVE, 0) < 0)
        return err_errno(e, DEVICE);
    return 0;
}

const struct watchdog_ops watchdog_linux = {.start = watchdog_start, .feed = watchdog_feed};
