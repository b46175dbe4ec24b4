/* Tree slots on block devices: mounted in a private place for as long as they are open. Unmounting drops the cached
 * pages with the filesystem, so what is read after the next open comes from the medium. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/linux/linux.h"
#include "hal/linux/place.h"
#include "hal/linux/tree_posix.h"

#define MOUNT_DIR "/run/slipway/slot"
#define BUSY_TRIES 100
#define BUSY_MS 20

/* A process that was killed a moment ago may not have given its mount back yet. */
static int mount_patiently(const char *dev, const char *type, unsigned long flags)
{
    int rc, tries = 0;

    while ((rc = mount(dev, MOUNT_DIR, type, flags, NULL)) != 0 && errno == EBUSY && tries++ < BUSY_TRIES)
        (void)poll(NULL, 0, BUSY_MS);
    return rc;
}

static int try_mount(const char *dev, bool writable, struct err *e)
{
    static const char *const types[] = {"ext4", "f2fs", "btrfs", "ubifs"};
    unsigned long flags = MS_NODEV | MS_NOSUID | MS_NOEXEC | MS_NOATIME | (writable ? 0 : MS_RDONLY);
    int last = ENODEV;

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (mount_patiently(dev, types[i], flags) == 0)
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

static int unmount(struct err *e)
{
    return umount2(MOUNT_DIR, UMOUNT_NOFOLLOW) != 0 ? err_errno(e, "%s: unmount", MOUNT_DIR) : 0;
}

static int find_unmounted(const char *place, char dev[PLACE_DEV_MAX], struct err *e)
{
    int rc = place_device(place, dev, e);
    if (rc == 0 && place_is_mounted(dev))
        rc = err_set(e, ERR_STATE, "%s: is mounted", dev);
    return rc;
}

/* --- the keeper -------------------------------------------------------------------------------------------------- */

/* A process that is confined may not mount. Its child, the keeper, still may, and does it for the one device that it was
 * started for, where both see it. It is asked with one byte, answers with a struct err, and dies with its parent. */
static int keeper = -1;

enum { KEEPER_ENTER = 'e', KEEPER_MOUNT = 'm', KEEPER_MOUNT_WRITABLE = 'w', KEEPER_UNMOUNT = 'u' };

/* The parent's private root, before the parent itself is in it. */
static int enter(struct err *e)
{
    char root[REACH_PATH_MAX];

    return chroot(reach_at("/", root)) != 0 || chdir("/") != 0 ? err_errno(e, "sandbox: the keeper's root")
                                                               : 0;
}

static int keeper_do(char what, const char *dev, struct err *e)
{
    switch (what) {
    case KEEPER_ENTER:
        return enter(e);
    case KEEPER_UNMOUNT:
        return unmount(e);
    default:
        return try_mount(dev, what == KEEPER_MOUNT_WRITABLE, e);
    }
}

static void keep(int asked, const char *dev)
{
    struct err e;
    char what;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (int fd = STDERR_FILENO + 1; fd < 256; fd++)
        if (fd != asked)
            close(fd);
    while (io_read_full(asked, &what, 1) == 1) {
        e = (struct err){0};
        (void)keeper_do(what, dev, &e);
        if (io_write_full(asked, &e, sizeof e) != 0)
            break;
    }
    _exit(0);
}

static int ask(char what, struct err *e)
{
    struct err answer;

    if (io_write_full(keeper, &what, 1) != 0 || io_read_full(keeper, &answer, sizeof answer) != sizeof answer)
        return err_set(e, ERR_PEER, "%s: the process that mounts it is gone", MOUNT_DIR);
    if (answer.code != 0)
        *e = answer;
    return answer.code;
}

static int linux_confine(const char *place, struct err *e)
{
    char dev[PLACE_DEV_MAX];
    int ends[2];
    int rc = find_unmounted(place, dev, e);
    if (rc == 0)
        rc = reach_let(dev, REACH_DEVICE, e);
    if (rc == 0)
        rc = reach_let_new(MOUNT_DIR, e);
    if (rc != 0)
        return rc;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return err_errno(e, "socketpair");
    pid_t pid = fork();
    if (pid == 0)
        keep(ends[1], dev);
    close(ends[1]);
    if (pid < 0) {
        err_errno(e, "fork");
        close(ends[0]);
        return e->code;
    }
    keeper = ends[0];
    return ask(KEEPER_ENTER, e);
}

/* --- open and close ---------------------------------------------------------------------------------------------- */

static int mount_here(const char *place, bool writable, struct err *e)
{
    char dev[PLACE_DEV_MAX];
    int rc = clean_up(e);
    if (rc == 0)
        rc = find_unmounted(place, dev, e);
    if (rc != 0)
        return rc;
    if ((mkdir("/run/slipway", 0700) != 0 && errno != EEXIST) ||
        (mkdir(MOUNT_DIR, 0700) != 0 && errno != EEXIST))
        return err_errno(e, "%s", MOUNT_DIR);
    return try_mount(dev, writable, e);
}

static int linux_open(const char *place, bool writable, int *root_fd, struct err *e)
{
    struct err ignored;
    int rc =
        keeper < 0 ? mount_here(place, writable, e) : ask(writable ? KEEPER_MOUNT_WRITABLE : KEEPER_MOUNT, e);
    if (rc != 0)
        return rc;
    *root_fd = IO_RETRY(open(MOUNT_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (*root_fd >= 0)
        return 0;
    err_errno(e, "%s", MOUNT_DIR);
    (void)(keeper < 0 ? unmount(&ignored) : ask(KEEPER_UNMOUNT, &ignored));
    return e->code;
}

static int linux_close(int root_fd, struct err *e)
{
    int rc = close(root_fd) != 0 ? err_errno(e, "close") : 0;
    int gone = keeper < 0 ? unmount(e) : ask(KEEPER_UNMOUNT, e);
    return gone != 0 ? gone : rc;
}

const struct tree_ops tree_linux = {
    .caps = {.close_drops_cache = true},
    .confine = linux_confine,
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
