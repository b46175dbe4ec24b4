/* Walking a slot without a path per level in memory and without following anything. ".." is safe here: the mount is
 * ours alone. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "slot/priv.h"

struct dirent64 { /* as getdents64(2) gives it */
    uint64_t ino;
    int64_t next;
    uint16_t len;
    uint8_t type;
    char name[];
};

static long read_dir(int fd, void *buf, size_t cap)
{
    return IO_RETRY(syscall(SYS_getdents64, fd, buf, cap));
}

static bool is_dots(const char *name)
{
    return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int is_dir(int fd, const struct dirent64 *d)
{
    struct stat st;
    if (d->type != 0)
        return d->type == 4;
    return fstatat(fd, d->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int step_to(int *fd, const char *name, struct err *e)
{
    int next = IO_RETRY(openat(*fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (next < 0)
        return err_errno(e, "open directory %s", name);
    close(*fd);
    *fd = next;
    return 0;
}

/* The filesystem's own. */
static bool is_kept(bool at_root, const char *name)
{
    return is_dots(name) || (at_root && strcmp(name, "lost+found") == 0);
}

static int open_dir(struct slot_tree *s, const char *path, struct err *e)
{
    int dir = path_dirs_open(&s->dirs, path, strlen(path), e);
    int fd = dir < 0 ? dir : IO_RETRY(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd < 0 && dir >= 0 ? err_errno(e, "open directory %s", path) : fd;
}

int slot_is_empty(struct slot_tree *s, struct err *e)
{
    long n = 0;
    int empty = 1, fd = open_dir(s, "", e);
    while (fd >= 0 && empty && (n = read_dir(fd, s->io, sizeof s->io)) > 0)
        for (long at = 0; at < n; at += ((const struct dirent64 *)(s->io + at))->len)
            empty = empty && is_kept(true, ((const struct dirent64 *)(s->io + at))->name);
    if (fd < 0)
        return fd;
    close(fd);
    return n < 0 ? err_errno(e, "read directory") : empty;
}

/* --- removing ----------------------------------------------------------------------------------------------------- */

/* Remove what `fd` holds until a directory is met that is not empty: its name goes to `sub`. Returns 1 then, 0 when
 * nothing is left, or an error. */
static int remove_some(struct slot_tree *s, int fd, char *sub, struct err *e)
{
    _Alignas(struct dirent64) uint8_t buf[4096];
    for (;;) {
        bool any = false;
        if (lseek(fd, 0, SEEK_SET) < 0)
            return err_errno(e, "read directory");
        long n;
        while ((n = read_dir(fd, buf, sizeof buf)) > 0) {
            const struct dirent64 *d;
            for (long at = 0; at < n; at += d->len) {
                d = (const struct dirent64 *)(buf + at);
                if (is_dots(d->name))
                    continue;
                any = true;
                int rc = s->ops->remove(fd, d->name, is_dir(fd, d), e);
                if (rc != 0 && rc != -ENOTEMPTY && rc != -EEXIST)
                    return err_prefix(e, "%s", d->name);
                if (rc != 0) {
                    memcpy(sub, d->name, strlen(d->name) + 1);
                    return 1;
                }
            }
        }
        if (n < 0)
            return err_errno(e, "read directory");
        if (!any)
            return 0;
    }
}

static int empty_below(struct slot_tree *s, int dir, const char *name, struct err *e)
{
    char sub[NODE_NAME_MAX + 1];
    unsigned depth = 0;
    int fd = IO_RETRY(openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (fd < 0)
        return err_errno(e, "open directory %s", name);
    int rc;
    for (;;) {
        rc = remove_some(s, fd, sub, e);
        if (rc < 0 || (rc == 0 && depth == 0))
            break;
        depth += rc > 0 ? 1 : -1;
        rc = step_to(&fd, rc > 0 ? sub : "..", e);
        if (rc != 0)
            break;
    }
    close(fd);
    return rc != 0 ? err_prefix(e, "empty %s", name) : 0;
}

static int remove_entry(struct slot_tree *s, int dir, const char *name, bool is_dir, struct err *e)
{
    int rc = s->ops->remove(dir, name, is_dir, e);
    if (rc != -ENOTEMPTY && rc != -EEXIST)
        return rc;
    rc = empty_below(s, dir, name, e);
    return rc != 0 ? rc : s->ops->remove(dir, name, true, e);
}

int slot_remove_all(struct slot_tree *s, const char *path, struct err *e)
{
    struct stat st;
    if (s->dry)
        return 0;
    path_dirs_drop(&s->dirs);
    int dir = slot_parent_fd(s, path, e);
    if (dir < 0)
        return dir;
    if (fstatat(dir, path_name(path), &st, AT_SYMLINK_NOFOLLOW) != 0)
        return err_errno(e, "%s", path);
    return remove_entry(s, dir, path_name(path), S_ISDIR(st.st_mode), e) != 0 ? err_prefix(e, "%s", path) : 0;
}

int slot_sweep_dir(struct slot_tree *s, const char *path, struct err *e)
{
    char child[NODE_PATH_MAX];
    long n = 0;
    if (s->dry)
        return 0;
    int rc = 0, fd = open_dir(s, path, e);
    if (fd < 0)
        return fd;
    /* Removing what was read already disturbs no filesystem's reading on. */
    while (rc == 0 && (n = read_dir(fd, s->io, sizeof s->io)) > 0) {
        const struct dirent64 *d;
        for (long at = 0; at < n && rc == 0; at += d->len) {
            d = (const struct dirent64 *)(s->io + at);
            if (is_kept(path[0] == '\0', d->name))
                continue;
            rc = path_join(child, path, d->name, e);
            if (rc == 0 && !slot_is_present(s, child))
                rc = remove_entry(s, fd, d->name, is_dir(fd, d), e);
        }
    }
    if (n < 0)
        rc = err_errno(e, "read directory");
    close(fd);
    return rc != 0 ? err_prefix(e, "%s", path) : 0;
}

/* Before a directory is walked, it is swept: the walk itself meets no change. */
static int sweep_seen(struct slot_tree *s, bool dir, struct err *e)
{
    return dir && slot_is_present(s, s->path) ? slot_sweep_dir(s, s->path, e) : 0;
}

int slot_sweep(struct slot_tree *s, struct err *e)
{
    char path[NODE_PATH_MAX]; /* who needs room is in the middle of an entry */
    memcpy(path, s->path, sizeof path);
    path_dirs_drop(&s->dirs);
    int rc = slot_sweep_dir(s, "", e);
    if (rc == 0)
        rc = slot_walk(s, sweep_seen, e);
    path_dirs_drop(&s->dirs);
    memcpy(s->path, path, sizeof path);
    return rc != 0 ? err_prefix(e, "sweep") : 0;
}

/* --- walking ------------------------------------------------------------------------------------------------------ */

/* Names that were read in one piece of the directory that is being walked. */
struct names {
    long at, len; /* equal: none are left */
    _Alignas(8) uint8_t buf[4096];
};

/* The next name of r or, when none is left, at or after *cookie: 1 and its name and type, 0 at the end. */
static int next_name(int fd, struct names *r, uint64_t *cookie, char *name, bool *dir, struct err *e)
{
    const struct dirent64 *d;
    do {
        if (r->at == r->len) {
            r->at = r->len = 0;
            long n = lseek(fd, (off_t)*cookie, SEEK_SET) < 0 ? -1 : read_dir(fd, r->buf, sizeof r->buf);
            if (n <= 0)
                return n < 0 ? err_errno(e, "read directory") : 0;
            r->len = n;
        }
        d = (const struct dirent64 *)(r->buf + r->at);
        r->at += d->len;
        *cookie = (uint64_t)d->next;
    } while (is_dots(d->name));
    memcpy(name, d->name, strlen(d->name) + 1);
    *dir = is_dir(fd, d);
    return 1;
}

int slot_walk(struct slot_tree *s, int (*see)(struct slot_tree *s, bool dir, struct err *e), struct err *e)
{
    char name[NODE_NAME_MAX + 1];
    struct names names;
    bool dir = false;
    unsigned depth = 0;
    s->path[0] = '\0';
    s->cookie[0] = 0;
    names.at = names.len = 0;
    int fd = IO_RETRY(openat(s->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return err_errno(e, "open root");
    int rc;
    while ((rc = next_name(fd, &names, &s->cookie[depth], name, &dir, e)) >= 0) {
        if (rc == 0 && depth == 0)
            break;
        if (rc == 0) {
            depth--;
            names.at = names.len;
            s->path[path_parent_len(s->path)] = '\0';
            rc = step_to(&fd, "..", e);
            if (rc != 0)
                break;
            continue;
        }
        rc = path_join(s->path, s->path, name, e);
        if (rc == 0)
            rc = see(s, dir, e);
        if (rc != 0)
            break;
        if (dir && strcmp(s->path, "lost+found") != 0) {
            rc = depth + 1 < WALK_DEPTH_MAX ? step_to(&fd, name, e) : err_set(e, ERR_FLASH, "too deep");
            if (rc != 0)
                break;
            s->cookie[++depth] = 0;
            names.at = names.len;
            continue;
        }
        s->path[path_parent_len(s->path)] = '\0';
    }
    close(fd);
    return rc;
}
