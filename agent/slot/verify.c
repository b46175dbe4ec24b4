/* Read back: each record of the TOC against the slot, then each node of the slot against the TOC. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "slot/priv.h"

#define DIFF(e, path, what, fmt, want, got)                                                                  \
    err_set(e, ERR_FLASH, "%s: %s: want " fmt ", got " fmt, (path)[0] != '\0' ? (path) : "/", what, want, got)

static mode_t mode_of(const struct node *n)
{
    static const mode_t bits[] = {0, S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO};
    return bits[n->type] | (n->type == NODE_SYMLINK ? 0777 : n->mode);
}

/* A filesystem may keep whole seconds only, and clamps what it can't hold to the ends of 32 (or ext4's 34) bits. */
static bool same_time(const struct node *n, const struct timespec *got)
{
    int64_t s = got->tv_sec;
    if (s == n->mtime_s)
        return (uint32_t)got->tv_nsec == n->mtime_ns || got->tv_nsec == 0;
    if (n->mtime_s < s)
        return s == INT32_MIN || (s == 0 && got->tv_nsec == 0);
    return s == INT32_MAX || s == UINT32_MAX || s == 0x37fffffff;
}

static int check_meta(const char *path, const struct node *n, const struct stat *st, struct err *e)
{
    if (st->st_mode != mode_of(n))
        return DIFF(e, path, "mode", "%o", (unsigned)mode_of(n), (unsigned)st->st_mode);
    if (st->st_uid != n->uid || st->st_gid != n->gid)
        return err_set(e, ERR_FLASH, "%s: owner: want %u:%u, got %u:%u", path, n->uid, n->gid, st->st_uid,
                       st->st_gid);
    if (!same_time(n, &st->st_mtim))
        return err_set(e, ERR_FLASH, "%s: mtime: want %lld.%09u, got %lld.%09u", path, (long long)n->mtime_s,
                       n->mtime_ns, (long long)st->st_mtim.tv_sec, (unsigned)st->st_mtim.tv_nsec);
    if (n->type == NODE_FILE && (uint64_t)st->st_size != n->size)
        return DIFF(e, path, "size", "%llu", (unsigned long long)n->size, (unsigned long long)st->st_size);
    if ((n->type == NODE_CHAR || n->type == NODE_BLOCK) && st->st_rdev != makedev(n->dev_major, n->dev_minor))
        return err_set(e, ERR_FLASH, "%s: device: want %u:%u, got %u:%u", path, n->dev_major, n->dev_minor,
                       major(st->st_rdev), minor(st->st_rdev));
    return 0;
}

static int check_target(struct slot_tree *s, int dir, const char *path, const struct node *want,
                        struct err *e)
{
    ssize_t n = readlinkat(dir, path_name(path), (char *)s->io, NODE_PATH_MAX);
    if (n < 0)
        return err_errno(e, "%s: readlink", path);
    if ((size_t)n != strlen(want->target) || memcmp(s->io, want->target, (size_t)n) != 0)
        return err_set(e, ERR_FLASH, "%s: target: want %s, got %.*s", path, want->target, (int)n,
                       (const char *)s->io);
    return 0;
}

/* --- extended attributes -------------------------------------------------------------------------------------------- */

/* The node: open, or by a path through /proc, which follows no link of the content. */
struct attr_place {
    int fd; /* -1: it is not open */
    char path[NODE_NAME_MAX + 48];
};

static int check_one_attr(struct slot_tree *s, const struct attr_place *at, const char *path,
                          const struct node_xattr *x, struct err *e)
{
    ssize_t n = at->fd >= 0 ? fgetxattr(at->fd, x->name, s->io, sizeof s->io)
                            : lgetxattr(at->path, x->name, s->io, sizeof s->io);
    if (n < 0)
        return errno == ENODATA ? err_set(e, ERR_FLASH, "%s: attribute %s is missing", path, x->name)
                                : err_errno(e, "%s: attribute %s", path, x->name);
    if ((size_t)n != x->value_len || memcmp(s->io, x->value, x->value_len) != 0)
        return err_set(e, ERR_FLASH, "%s: attribute %s differs", path, x->name);
    return 0;
}

static int check_attrs(struct slot_tree *s, int dir, int fd, const char *path, const struct node *want,
                       struct err *e)
{
    struct attr_place at = {.fd = fd};
    struct node_xattr x;
    uint32_t pos = 0;
    unsigned cnt = 0;

    if (fd < 0)
        snprintf(at.path, sizeof at.path, "/proc/self/fd/%d/%s", dir,
                 path[0] != '\0' ? path_name(path) : ".");
    ssize_t n = fd >= 0 ? flistxattr(fd, (char *)s->io, sizeof s->io)
                        : llistxattr(at.path, (char *)s->io, sizeof s->io);
    if (n < 0 && errno != ENOTSUP)
        return err_errno(e, "%s: attributes", path);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen((char *)s->io + i) + 1)
        cnt += strcmp((char *)s->io + i, "security.selinux") != 0;
    if (cnt != want->xattr_cnt)
        return DIFF(e, path, "attributes", "%u", (unsigned)want->xattr_cnt, cnt);
    for (unsigned i = 0; i < want->xattr_cnt; i++) {
        int rc = node_xattr_next(want, &pos, &x) ? check_one_attr(s, &at, path, &x, e)
                                                 : err_set(e, ERR_FORMAT, "TOC: %s: bad attributes", path);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int slot_check_node(struct slot_tree *s, int dir, int fd, const char *path, const struct node *want,
                    const struct stat *st, struct err *e)
{
    int rc = check_meta(path, want, st, e);
    if (rc == 0)
        rc = check_attrs(s, dir, fd, path, want, e);
    if (rc == 0 && want->type == NODE_SYMLINK)
        rc = check_target(s, dir, path, want, e);
    return rc;
}

/* --- content ------------------------------------------------------------------------------------------------------- */

/* What programs have mapped stays in memory whatever is asked of the kernel; a tree that is in use is read past that, where
 * its filesystem can. */
static int content_open(const struct slot_tree *s, int dir, const char *name)
{
    static const int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOATIME;
    int fd = -1;

    if (s->scrub && s->scrub->active)
        fd = IO_RETRY(openat(dir, name, flags | O_DIRECT));
    return fd >= 0 ? fd : IO_RETRY(openat(dir, name, flags));
}

static int check_content(struct slot_tree *s, int fd, const struct toc_item *it, struct err *e)
{
    struct sum sum;
    uint64_t off = 0;
    ssize_t n = 0;
    if (!s->ops->caps.close_drops_cache)
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    sum_begin(&sum);
    while (off < it->r.size && (n = IO_RETRY(read(fd, s->io, sizeof s->io))) > 0) {
        sum_update(&sum, s->io, (size_t)n);
        off += (uint64_t)n;
        s->stats.bytes.read += (uint64_t)n;
        if (off % PIECE_LEN == 0)
            posix_fadvise(fd, (off_t)(off - PIECE_LEN), PIECE_LEN, POSIX_FADV_DONTNEED);
        if (s->scrub)
            s->scrub->tick(s->scrub->ctx, (uint64_t)n);
    }
    if (n < 0)
        err_errno(e, "%s: read", it->path);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (n < 0)
        return e->code;
    if (sum_end(&sum) != it->r.xxh64)
        return DIFF(e, it->path, "content", "xxh64 %016llx", (unsigned long long)it->r.xxh64,
                    (unsigned long long)sum_end(&sum));
    return 0;
}

/* --- records -------------------------------------------------------------------------------------------------------- */

static int stat_path(struct slot_tree *s, const char *path, int *dir, struct stat *st, struct err *e)
{
    *dir = path_dirs_open(&s->dirs, path, path_parent_len(path), e);
    if (*dir < 0)
        return *dir == -ENOENT || *dir == -ENOTDIR || *dir == -ELOOP
                   ? err_set(e, ERR_FLASH, "%s: node: want one, got nothing", path)
                   : *dir;
    if (fstatat(*dir, path[0] != '\0' ? path_name(path) : ".", st, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    return errno == ENOENT ? err_set(e, ERR_FLASH, "%s: node: want one, got nothing", path)
                           : err_errno(e, "%s", path);
}

static int check_hardlink(struct slot_tree *s, const struct toc_item *it, struct err *e)
{
    struct stat a, b;
    int dir;
    int rc = stat_path(s, it->path, &dir, &a, e);
    if (rc == 0)
        rc = stat_path(s, it->target, &dir, &b, e);
    if (rc == 0 && (a.st_dev != b.st_dev || a.st_ino != b.st_ino))
        return err_set(e, ERR_FLASH, "%s: inode: want that of %s, got another", it->path, it->target);
    return rc;
}

int slot_check_item(struct slot_tree *s, const struct toc_item *it, struct err *e)
{
    struct stat st;
    int dir, fd = -1;
    if (it->r.type == TOC_HARDLINK)
        return check_hardlink(s, it, e);
    const struct node want = toc_node(it);
    bool is_file = it->r.type == NODE_FILE;
    int rc = stat_path(s, it->path, &dir, &st, e);
    if (rc == 0 && is_file && S_ISREG(st.st_mode)) {
        fd = content_open(s, dir, path_name(it->path));
        if (fd < 0)
            return err_errno(e, "%s: open", it->path);
    }
    if (rc == 0)
        rc = slot_check_node(s, dir, fd, it->path, &want, &st, e);
    if (rc == 0 && is_file)
        rc = check_content(s, fd, it, e);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* The claims serve as the set of paths that the TOC names. */
static int check_known(struct slot_tree *s, bool dir, struct err *e)
{
    (void)dir;
    if (claims_find(&s->claims, s->path, strlen(s->path)) == NULL && strcmp(s->path, "lost+found") != 0)
        return err_set(e, ERR_FLASH, "%s: node: want nothing, got one", s->path);
    return 0;
}

int slot_check_rest(struct slot_tree *s, struct err *e)
{
    return slot_walk(s, check_known, e);
}

static int verify(struct slot_tree *s, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc;
    while ((rc = toc_next(&s->toc, &pos, &it, e)) > 0) {
        if (!toc_is_live(&it))
            continue;
        if (claims_put(&s->claims, it.path, it.r.path_len, e) == NULL)
            return e->code;
        rc = slot_check_item(s, &it, e);
        if (rc != 0)
            return rc;
    }
    return rc == 0 ? slot_check_rest(s, e) : rc;
}

int slot_tree_verify(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                     struct err *e)
{
    slot_tree_abort(s);
    int rc = toc_open(&s->toc, toc_path, e);
    if (rc == 0 && ops->open(place, false, &s->root, e) != 0) {
        s->root = -1;
        rc = e->code;
    }
    if (rc == 0) {
        s->ops = ops;
        claims_reset(&s->claims);
        path_dirs_start(&s->dirs, s->root);
        rc = verify(s, e);
    }
    slot_tree_abort(s);
    return rc != 0 ? err_prefix(e, "verify") : 0;
}
