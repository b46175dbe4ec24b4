/* Nodes by descriptor and name. Owner first, then mode (chown clears setuid), then attributes (chown clears file
 * capabilities), times last. */
#include "hal/linux/tree_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"

int tree_posix_space(int root_fd, struct tree_space *out, struct err *e)
{
    struct statvfs v;
    if (IO_RETRY(fstatvfs(root_fd, &v)) != 0)
        return err_errno(e, "statvfs");
    out->bytes_free = (uint64_t)v.f_bavail * v.f_frsize;
    out->bytes_total = (uint64_t)v.f_blocks * v.f_frsize;
    out->nodes_free = v.f_favail;
    out->nodes_total = v.f_files;
    return 0;
}

static mode_t type_bits(enum node_type type)
{
    switch (type) {
    case NODE_CHAR:
        return S_IFCHR;
    case NODE_BLOCK:
        return S_IFBLK;
    case NODE_FIFO:
        return S_IFIFO;
    default:
        return 0;
    }
}

int tree_posix_make(int dir_fd, const char *name, const struct node *n, int *file_fd, struct err *e)
{
    int rc;

    switch (n->type) {
    case NODE_FILE:
        rc = IO_RETRY(openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                             0600 | (n->mode & 0777)));
        if (rc >= 0)
            *file_fd = rc;
        break;
    case NODE_DIR:
        rc = mkdirat(dir_fd, name, 0700 | (n->mode & 0777));
        break;
    case NODE_SYMLINK:
        rc = symlinkat(n->target, dir_fd, name);
        break;
    default:
        rc = mknodat(dir_fd, name, type_bits(n->type) | 0600, makedev(n->dev_major, n->dev_minor));
        break;
    }
    return rc < 0 ? err_errno(e, "make") : 0;
}

int tree_posix_reopen(int dir_fd, const char *name, int *file_fd, struct err *e)
{
    int fd = IO_RETRY(openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NOATIME));
    if (fd < 0)
        return err_errno(e, "open");
    *file_fd = fd;
    return 0;
}

static bool is_wanted(const struct node *n, const char *name)
{
    struct node_xattr x;

    for (uint32_t at = 0; node_xattr_next(n, &at, &x);)
        if (strcmp(x.name, name) == 0)
            return true;
    return strcmp(name, "security.selinux") == 0;
}

/* Of a node that was there before. */
static int drop_xattrs(int dir_fd, const char *name, int fd, const struct node *n, struct err *e)
{
    char path[NODE_NAME_MAX + 48], list[XATTR_LIST_MAX];

    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir_fd, name);
    ssize_t len = fd >= 0 ? flistxattr(fd, list, sizeof list) : llistxattr(path, list, sizeof list);
    if (len < 0)
        return errno == ENOTSUP ? 0 : err_errno(e, "attributes");
    for (const char *at = list; at < list + len; at += strlen(at) + 1) {
        if (is_wanted(n, at))
            continue;
        if ((fd >= 0 ? fremovexattr(fd, at) : lremovexattr(path, at)) != 0 && errno != ENODATA)
            return err_errno(e, "remove attribute %s", at);
    }
    return 0;
}

/* A node that can't be opened is reached through /proc: setxattrat(2) is too new. */
static int set_xattrs(int dir_fd, const char *name, int fd, const struct node *n, struct err *e)
{
    char path[NODE_NAME_MAX + 48];
    struct node_xattr x;
    uint32_t at = 0;

    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir_fd, name);
    for (int i = 0; i < n->xattr_cnt; i++) {
        if (!node_xattr_next(n, &at, &x))
            return err_set(e, ERR_FORMAT, "attributes end early");
        int rc = fd >= 0 ? fsetxattr(fd, x.name, x.value, x.value_len, 0)
                         : lsetxattr(path, x.name, x.value, x.value_len, 0);
        if (rc != 0)
            return err_errno(e, "attribute %s", x.name);
    }
    return 0;
}

/* Most nodes were made as they should be; looking costs a tenth of setting. */
static int set_owner_and_mode(int dir_fd, const char *name, int file_fd, const struct node *n, struct err *e)
{
    struct stat st;
    int rc = file_fd >= 0 ? fstat(file_fd, &st) : fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

    if (rc != 0)
        return err_errno(e, "stat");
    if (st.st_uid != n->uid || st.st_gid != n->gid) {
        rc = file_fd >= 0 ? fchown(file_fd, n->uid, n->gid)
                          : fchownat(dir_fd, name, n->uid, n->gid, AT_SYMLINK_NOFOLLOW);
        if (rc != 0)
            return err_errno(e, "chown");
        st.st_mode = 0; /* the kernel may have changed it */
    }
    if (n->type == NODE_SYMLINK || (st.st_mode & 07777) == (n->mode & 07777))
        return 0;
    rc = file_fd >= 0 ? fchmod(file_fd, n->mode & 07777) : fchmodat(dir_fd, name, n->mode & 07777, 0);
    return rc != 0 ? err_errno(e, "chmod") : 0;
}

int tree_posix_settle(int dir_fd, const char *name, int file_fd, const struct node *n, struct err *e)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                      {.tv_sec = (time_t)n->mtime_s, .tv_nsec = (long)n->mtime_ns}};
    int rc = set_owner_and_mode(dir_fd, name, file_fd, n, e);

    if (rc != 0)
        return rc;
    rc = drop_xattrs(dir_fd, name, file_fd, n, e);
    if (rc != 0)
        return rc;
    if (n->xattr_cnt > 0) {
        rc = set_xattrs(dir_fd, name, file_fd, n, e);
        if (rc != 0)
            return rc;
    }
    rc = file_fd >= 0 ? futimens(file_fd, times) : utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW);
    return rc != 0 ? err_errno(e, "times") : 0;
}

int tree_posix_link(int from_dir_fd, const char *from, int to_dir_fd, const char *to, struct err *e)
{
    return linkat(from_dir_fd, from, to_dir_fd, to, 0) != 0 ? err_errno(e, "link") : 0;
}

int tree_posix_remove(int dir_fd, const char *name, bool is_dir, struct err *e)
{
    return unlinkat(dir_fd, name, is_dir ? AT_REMOVEDIR : 0) != 0 ? err_errno(e, "remove") : 0;
}

int tree_posix_sync(int root_fd, struct err *e)
{
    return IO_RETRY(syncfs(root_fd)) != 0 ? err_errno(e, "syncfs") : 0;
}
