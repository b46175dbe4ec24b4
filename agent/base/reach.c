#include "base/reach.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"

/* A directory that every kernel has. In our own namespace nobody misses it. */
#define NEW_ROOT "/proc/fs"

static bool begun;

bool reach_possible(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct have[2];

    return geteuid() == 0 && syscall(SYS_capget, &head, have) == 0 &&
           have[0].effective & 1u << CAP_SYS_ADMIN && access("/proc/self/ns/mnt", F_OK) == 0;
}

int reach_begin(struct err *e)
{
    if (!reach_possible())
        return 0;
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=64k") < 0)
        return err_errno(e, "sandbox: private root");
    begun = true;
    return 0;
}

const char *reach_at(const char *path, char out[REACH_PATH_MAX])
{
    if (!begun)
        return path;
    snprintf(out, REACH_PATH_MAX, NEW_ROOT "/%s", path);
    return out;
}

/* The directories above, and the last one too if it is to be one. */
static int place_make(char *path, bool is_dir)
{
    int fd;

    for (char *slash = strchr(path + strlen(NEW_ROOT) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return -1;
        *slash = '/';
    }
    if (is_dir)
        return mkdir(path, 0755) < 0 && errno != EEXIST ? -1 : 0;
    fd = IO_RETRY(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    return fd < 0 ? -1 : close(fd);
}

int reach_let_new(const char *path, struct err *e)
{
    char at[REACH_PATH_MAX];

    if (!begun)
        return 0;
    (void)reach_at(path, at);
    return place_make(at, true) < 0 ? err_errno(e, "sandbox: %s", path) : 0;
}

int reach_let_as(const char *path, const char *as, enum reach how, struct err *e)
{
    unsigned long flags = MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NOEXEC | (how == REACH_READ ? MS_RDONLY : 0) |
                          (how == REACH_DEVICE ? 0 : MS_NODEV);
    char at[REACH_PATH_MAX];
    struct stat st;

    if (!begun || stat(path, &st) < 0)
        return 0;
    (void)reach_at(as, at);
    if (place_make(at, S_ISDIR(st.st_mode)) < 0 || mount(path, at, NULL, MS_BIND, NULL) < 0 ||
        mount(NULL, at, NULL, flags, NULL) < 0)
        return err_errno(e, "sandbox: %s", path);
    return 0;
}

int reach_let(const char *path, enum reach how, struct err *e)
{
    return reach_let_as(path, path, how, e);
}

/* The working directory becomes the root, and what was the root is gone; it lies on top for a moment. What is no mount, an
 * initramfs, or a plain directory that somebody made the root, can't go: it stays below, out of reach. */
static int root_swap(void)
{
    if (syscall(SYS_pivot_root, ".", ".") == 0)
        return umount2(".", MNT_DETACH);
    return errno == EINVAL && mount(".", "/", NULL, MS_MOVE, NULL) == 0 ? chroot(".") : -1;
}

int reach_enter(struct err *e)
{
    if (!begun)
        return 0;
    begun = false;
    if (mount(NULL, NEW_ROOT, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
              NULL) < 0 ||
        chdir(NEW_ROOT) < 0 || root_swap() < 0 || chdir("/") < 0)
        return err_errno(e, "sandbox: private root");
    return 0;
}
