/* Tree slots on block devices: mounted in a private place for as long as they are open. Unmounting drops the cached
 * pages with the filesystem, so what is read after the next open comes from the medium. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/place.h"
#include "hal/linux/tree_posix.h"

#define MOUNT_DIR "/run/slipway/slot"

static int try_mount(const char *dev, bool writable, struct err *e)
{
    static const char *const types[] = {"ext4", "f2fs", "btrfs", "ubifs"};
    unsigned long flags = MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME | (writable ? 0 : MS_RDONLY);
    int last = ENODEV;

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (mount(dev, MOUNT_DIR, types[i], flags, NULL) == 0)
            return 0;
        /* Another filesystem's superblock gives EINVAL, one the kernel lacks ENODEV: the rest is worth telling. */
        if (errno != EINVAL && errno != ENODEV)
            last = errno;
    }
    errno = last;
    return err_errno(e, "%s: mount as ext4, f2fs, btrfs, ubifs", dev);
}

/* A process that was killed leaves its mount behind; one that is at work keeps it busy. */
static int clean_up(struct err *e)
{
    if (umount2(MOUNT_DIR, UMOUNT_NOFOLLOW) != 0 && errno == EBUSY)
        return err_set(e, ERR_STATE, "%s: another process works on a slot", MOUNT_DIR);
    return 0;
}

static int linux_open(const char *place, bool writable, int *root_fd, struct err *e)
{
    char dev[PLACE_DEV_MAX];
    int rc = place_device(place, dev, e);
    if (rc == 0)
        rc = clean_up(e);
    if (rc != 0)
        return rc;
    if (place_is_mounted(dev))
        return err_set(e, ERR_STATE, "%s: is mounted", dev);
    if ((mkdir("/run/slipway", 0700) != 0 && errno != EEXIST) ||
        (mkdir(MOUNT_DIR, 0700) != 0 && errno != EEXIST))
        return err_errno(e, "%s", MOUNT_DIR);
    rc = try_mount(dev, writable, e);
    if (rc != 0)
        return rc;
    int fd = IO_RETRY(open(MOUNT_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0) {
        err_errno(e, "%s", MOUNT_DIR);
        umount2(MOUNT_DIR, UMOUNT_NOFOLLOW);
        return e->code;
    }
    *root_fd = fd;
    return 0;
}

static int linux_close(int root_fd, struct err *e)
{
    int rc = close(root_fd);
    if (umount2(MOUNT_DIR, UMOUNT_NOFOLLOW) != 0)
        return err_errno(e, "%s: unmount", MOUNT_DIR);
    return rc != 0 ? err_errno(e, "close") : 0;
}

const struct tree_ops tree_linux = {
    .caps = {.close_drops_cache = true},
    .open = linux_open,
    .close = linux_close,
    .space = tree_posix_space,
    .make = tree_posix_make,
    .reopen = tree_posix_reopen,
    .settle = tree_posix_settle,
    .link = tree_posix_link,
    .remove = tree_posix_remove,
    .sync = tree_posix_sync,
};
