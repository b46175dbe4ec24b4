/* Disk slots on block devices. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/linux/linux.h"
#include "hal/linux/place.h"

/* Behind a private root there is no /sys to search, and no telling what is mounted outside. */
static char confined[PLACE_DEV_MAX];

static int linux_confine(const char *place, struct err *e)
{
    int rc = place_device(place, confined, e);
    return rc == 0 ? reach_let(confined, REACH_DEVICE, e) : rc;
}

static int linux_open(const char *place, bool writable, int *fd, uint64_t *size, struct err *e)
{
    char dev[PLACE_DEV_MAX];
    struct stat st;
    int rc = place_device(confined[0] ? confined : place, dev, e);
    if (rc != 0)
        return rc;
    if (writable && place_is_mounted(dev))
        return err_set(e, ERR_STATE, "%s: is mounted", dev);
    /* O_EXCL: the kernel too refuses a device that is mounted or part of another. */
    int f = IO_RETRY(open(dev, (writable ? O_RDWR | O_EXCL : O_RDONLY) | O_CLOEXEC));
    if (f < 0)
        return err_errno(e, "%s", dev);
    if (fstat(f, &st) != 0 || !S_ISBLK(st.st_mode))
        rc = err_set(e, ERR_CONFIG, "%s: not a block device", dev);
    else if (ioctl(f, BLKGETSIZE64, size) != 0)
        rc = err_errno(e, "%s: size", dev);
    if (rc != 0) {
        close(f);
        return rc;
    }
    *fd = f;
    return 0;
}

static int linux_sync(int fd, struct err *e)
{
    if (IO_RETRY(fsync(fd)) != 0)
        return err_errno(e, "fsync");
    if (ioctl(fd, BLKFLSBUF, 0) != 0)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
}

static int linux_close(int fd, struct err *e)
{
    return close(fd) != 0 ? err_errno(e, "close") : 0;
}

const struct disk_ops disk_linux = {
    .confine = linux_confine, .open = linux_open, .sync = linux_sync, .close = linux_close};
