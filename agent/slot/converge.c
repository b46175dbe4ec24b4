/* What of the slot's old content stays. The old content is a hint and no more: each node is compared with what the
 * layers say, and the read-back compares once more. Nothing here makes a slot good; until it is sealed and read back
 * it counts as half written, whatever a cut leaves. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "slot/priv.h"

/* What stands at `path`: 1, 0 for nothing, or an error. */
static int look(struct slot_tree *s, const char *path, struct stat *st, int *dir, struct err *e)
{
    *dir = slot_parent_fd(s, path, e);
    if (*dir < 0) /* in a look, what was to be made is not there */
        return s->dry ? 0 : *dir;
    if (fstatat(*dir, path[0] != '\0' ? path_name(path) : ".", st, AT_SYMLINK_NOFOLLOW) == 0)
        return 1;
    return errno == ENOENT ? 0 : err_errno(e, "%s", path);
}

/* An old inode with several names serves one new node only: the others would change with it. The claims remember
 * which are taken, under a name that no path has. Returns 1 when it was free, 0, or an error. */
static int take_inode(struct slot_tree *s, const struct stat *st, struct err *e)
{
    char name[1 + sizeof st->st_ino] = {0};
    if (st->st_nlink <= 1)
        return 1;
    memcpy(name + 1, &st->st_ino, sizeof st->st_ino);
    if (claims_find(&s->claims, name, sizeof name) != NULL)
        return 0;
    return claims_put(&s->claims, name, sizeof name, e) != NULL ? 1 : e->code;
}

static bool same_target(struct slot_tree *s, int dir, const char *path, const char *want)
{
    ssize_t n = readlinkat(dir, path_name(path), (char *)s->io, NODE_PATH_MAX);
    return n >= 0 && (size_t)n == strlen(want) && memcmp(s->io, want, (size_t)n) == 0;
}

/* Can the old node become the new one by changes of content and metadata alone? 1, 0, or an error. */
static int can_stay(struct slot_tree *s, int dir, const char *path, const struct node *n,
                    const struct stat *st, struct err *e)
{
    bool same = false;
    switch (n->type) {
    case NODE_DIR:
        return S_ISDIR(st->st_mode);
    case NODE_FILE:
        same = S_ISREG(st->st_mode);
        break;
    case NODE_SYMLINK:
        same = S_ISLNK(st->st_mode) && same_target(s, dir, path, n->target);
        break;
    case NODE_FIFO:
        same = S_ISFIFO(st->st_mode);
        break;
    case NODE_CHAR:
    case NODE_BLOCK:
        same = (n->type == NODE_CHAR ? S_ISCHR(st->st_mode) : S_ISBLK(st->st_mode)) &&
               st->st_rdev == makedev(n->dev_major, n->dev_minor);
        break;
    }
    return same ? take_inode(s, st, e) : 0;
}

int slot_stay(struct slot_tree *s, const char *path, const struct node *n, struct stat *st, struct err *e)
{
    int dir, rc = s->fresh ? 0 : look(s, path, st, &dir, e);
    if (rc <= 0)
        return rc;
    rc = can_stay(s, dir, path, n, st, e);
    return rc != 0 ? rc : slot_remove_all(s, path, e);
}

int slot_place(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, uint64_t *old,
               struct err *e)
{
    struct stat st;
    int rc = slot_stay(s, path, n, &st, e);
    if (rc > 0 && n->type != NODE_FILE)
        return 0;
    if (n->type == NODE_FILE)
        *old = rc > 0 ? (uint64_t)st.st_size : 0;
    if (rc > 0) {
        rc = slot_reopen(s, path, n, *old, file_fd, e);
        if (rc != -ENOENT) /* else making room took it away */
            return rc;
        *old = 0;
        rc = 0;
    }
    if (rc < 0)
        return rc;
    s->stats.nodes_changed++;
    return slot_make(s, path, n, file_fd, e);
}

int slot_settle_changed(struct slot_tree *s, const char *path, int file_fd, const struct node *n,
                        struct err *e)
{
    if (!s->fresh) {
        struct stat st;
        int dir, rc = look(s, path, &st, &dir, e);
        bool found = rc > 0;
        if (rc == 0 && !s->dry)
            rc = err_set(e, ERR_FLASH, "%s: vanished", path);
        if (rc > 0)
            rc = slot_check_node(s, dir, file_fd, path, n, &st, e);
        /* The read-back is content with what a filesystem makes of a time; the same time is not set again. */
        if (found && rc == 0 && st.st_mtim.tv_sec == n->mtime_s &&
            (uint32_t)st.st_mtim.tv_nsec == n->mtime_ns)
            return 0;
        if (rc != 0 && rc != ERR_FLASH)
            return rc;
    }
    s->stats.nodes_changed++;
    return slot_settle(s, path, file_fd, n, e);
}

int slot_place_link(struct slot_tree *s, const char *from, const char *to, struct err *e)
{
    if (!s->fresh && !s->dry) {
        struct stat a, b;
        int dir, rc = look(s, from, &a, &dir, e);
        if (rc >= 0)
            rc = look(s, to, &b, &dir, e);
        if (rc > 0 && a.st_ino == b.st_ino)
            return 0;
        if (rc > 0)
            rc = slot_remove_all(s, to, e);
        if (rc < 0)
            return rc;
    }
    s->stats.nodes_changed++;
    return slot_link(s, from, to, e);
}

bool slot_is_present(struct slot_tree *s, const char *path)
{
    const struct claim *p = claims_find(&s->claims, path, strlen(path));
    return p != NULL && p->present;
}
