/* What reaches the filesystem, and in what order its pages leave memory. A board has little of it: files are sent to
 * the medium soon after they are written, and forgotten once they are there. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/pages.h"
#include "slot/priv.h"

/* A full filesystem has a name of its own, whichever call found out. */
static int blame(const char *path, struct err *e)
{
    if (e->code == -ENOSPC || e->code == -EDQUOT)
        e->code = ERR_SPACE;
    return err_prefix(e, "%s", path[0] != '\0' ? path : "/");
}

int slot_parent_fd(struct slot_tree *s, const char *path, struct err *e)
{
    return path_dirs_open(&s->dirs, path, path_parent_len(path), e);
}

static const char *name_of(const char *path)
{
    return path[0] != '\0' ? path_name(path) : ".";
}

static int look_at_space(struct slot_tree *s, uint64_t *nodes_total, struct err *e)
{
    struct tree_space now = {0};
    int rc = s->ops->space(s->root, &now, e);
    s->bytes_free = now.bytes_free;
    s->nodes_free = now.nodes_total > 0 ? now.nodes_free : UINT64_MAX;
    *nodes_total = now.nodes_total;
    return rc;
}

/* Refuse what can't fit before its first byte. Old content that could have served a lower layer goes first. */
static int reserve(struct slot_tree *s, uint64_t need, struct err *e)
{
    uint64_t nodes_total = 0;
    int rc = 0;
    if (need <= s->bytes_free && s->nodes_free > 0)
        return 0;
    rc = look_at_space(s, &nodes_total, e);
    if (rc == 0 && (need > s->bytes_free || s->nodes_free == 0) && !s->fresh && !s->swept) {
        s->swept = true;
        rc = slot_sweep(s, e);
        if (rc == 0)
            rc = s->ops->sync(s->root, e); /* some filesystems free only then */
        if (rc == 0)
            rc = look_at_space(s, &nodes_total, e);
    }
    if (rc != 0)
        return rc;
    if (need > s->bytes_free)
        return err_set(e, ERR_SPACE, "need %llu bytes, have %llu", (unsigned long long)need,
                       (unsigned long long)s->bytes_free);
    if (s->nodes_free == 0)
        return err_set(e, ERR_SPACE, "need 1 inode, have 0 of %llu", (unsigned long long)nodes_total);
    return 0;
}

int slot_make(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, struct err *e)
{
    if (s->dry) {
        if (n->type == NODE_FILE)
            *file_fd = -1;
        return 0;
    }
    int rc = reserve(s, n->type == NODE_FILE ? n->size : 0, e);
    if (rc != 0)
        return blame(path, e);
    int dir = slot_parent_fd(s, path, e);
    if (dir < 0)
        return blame(path, e);
    rc = s->ops->make(dir, name_of(path), n, file_fd, e);
    if (rc != 0)
        return blame(path, e);
    s->nodes_free--;
    return 0;
}

int slot_reopen(struct slot_tree *s, const char *path, const struct node *n, uint64_t old, int *file_fd,
                struct err *e)
{
    if (s->dry) { /* to compare with */
        struct stat st;
        *file_fd = slot_reuse_open(s, REUSE_OLD, path, &st);
        return 0;
    }
    int rc = n->size > old ? reserve(s, n->size - old, e) : 0;
    int dir = rc == 0 ? slot_parent_fd(s, path, e) : rc;
    if (dir < 0)
        return blame(path, e);
    rc = s->ops->reopen(dir, name_of(path), file_fd, e);
    if (rc == 0 && n->size < old && IO_RETRY(ftruncate(*file_fd, (off_t)n->size)) != 0) {
        rc = err_errno(e, "truncate");
        close(*file_fd);
    }
    return rc != 0 ? blame(path, e) : 0;
}

int slot_settle(struct slot_tree *s, const char *path, int file_fd, const struct node *n, struct err *e)
{
    if (s->dry)
        return 0;
    int dir = slot_parent_fd(s, path, e);
    if (dir < 0 || s->ops->settle(dir, name_of(path), file_fd, n, e) != 0)
        return blame(path, e);
    return 0;
}

int slot_link(struct slot_tree *s, const char *from, const char *to, struct err *e)
{
    if (s->dry)
        return 0;
    int dir = slot_parent_fd(s, from, e);
    if (dir < 0)
        return blame(from, e);
    int from_dir = IO_RETRY(fcntl(dir, F_DUPFD_CLOEXEC, 0));
    if (from_dir < 0) {
        err_errno(e, "dup");
        return blame(from, e);
    }
    dir = slot_parent_fd(s, to, e);
    int rc = dir < 0 ? dir : s->ops->link(from_dir, name_of(from), dir, name_of(to), e);
    close(from_dir);
    return rc != 0 ? blame(to, e) : 0;
}

int slot_remove(struct slot_tree *s, const char *path, bool is_dir, struct err *e)
{
    if (s->dry)
        return 0;
    if (is_dir)
        path_dirs_drop(&s->dirs);
    int dir = slot_parent_fd(s, path, e);
    if (dir < 0 || s->ops->remove(dir, name_of(path), is_dir, e) != 0)
        return blame(path, e);
    return 0;
}

/* --- pages ------------------------------------------------------------------------------------------------------ */

/* How far behind the writing of a large file its pages are waited for and dropped: far enough that the medium seldom
 * has to be waited for. */
#define FORGET_LAG (4 * PIECE_LEN)

static void ring_close(struct ring *r, int half)
{
    for (int i = 0; i < r->cnt[half]; i++) {
        posix_fadvise(r->fd[half][i], 0, 0, POSIX_FADV_DONTNEED);
        close(r->fd[half][i]);
    }
    r->cnt[half] = 0;
}

/* Takes the descriptor. */
static int ring_add(struct ring *r, int fd, uint64_t len, struct err *e)
{
    int rc = 0;
    r->fd[r->filling][r->cnt[r->filling]++] = fd;
    r->bytes += len;
    if (r->cnt[r->filling] < RING_CNT && r->bytes < RING_BYTES)
        return 0;
    for (int i = 0; i < r->cnt[r->filling] && rc == 0; i++)
        rc = pages_push(r->fd[r->filling][i], 0, 0, e);
    r->filling = !r->filling;
    r->bytes = 0;
    ring_close(r, r->filling);
    return rc;
}

void slot_ring_drop(struct slot_tree *s)
{
    ring_close(&s->ring, 0);
    ring_close(&s->ring, 1);
    s->ring.bytes = 0;
}

/* `size` bytes from `at` on, over `old` bytes that the file holds there. */
int slot_fill(struct slot_tree *s, int fd, uint64_t at, uint64_t size, uint64_t old, struct compare *k,
              struct content *c, struct err *e)
{
    if (lseek(fd, (off_t)at, SEEK_SET) < 0)
        return err_errno(e, "seek");
    for (uint64_t done = 0; done < size; done += PIECE_LEN) {
        uint64_t n = size - done < PIECE_LEN ? size - done : PIECE_LEN, off = at + done;
        uint64_t before = s->stats.bytes.written;
        int rc = compare_move(k, c, fd, off, (uint32_t)n, old > done ? old - done : 0, &s->stats.bytes, e);
        if (rc != 0)
            return rc;
        n = s->stats.bytes.written - before;
        s->bytes_free -= n < s->bytes_free ? n : s->bytes_free;
        if (size > PIECE_LEN)
            rc = pages_push(fd, off, PIECE_LEN, e);
        if (rc == 0 && done >= FORGET_LAG)
            rc = pages_forget(fd, off - FORGET_LAG, PIECE_LEN, e);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Takes the descriptor. What was not written is not sent to the medium, only forgotten. */
int slot_let_go(struct slot_tree *s, int fd, uint64_t len, bool written, struct err *e)
{
    if (fd < 0) /* there is none in a look */
        return 0;
    if (written && !s->dry)
        return ring_add(&s->ring, fd, len, e);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    return 0;
}

static int write_content(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                         struct file_got *got, struct err *e)
{
    struct entry_end end = {0};
    struct compare k = {0};
    uint64_t old = 0, before = s->stats.bytes.written;
    int fd = -1;
    int rc = slot_place(s, path, n, &fd, &old, e);
    if (rc != 0)
        return rc;
    s->filling = path;
    if (old < c->begun)
        rc = err_set(e, ERR_STATE, "what was there of it is gone");
    else
        rc = slot_fill(s, fd, c->begun, n->size - c->begun, old - c->begun, &k, c, e);
    if (rc == 0)
        rc = content_end(c, &end, e);
    s->filling = NULL;
    if (rc != 0)
        blame(path, e);
    else
        rc = slot_settle_changed(s, path, fd, n, e);
    if (rc != 0) {
        close(fd);
        return e->code;
    }
    got->xxh64 = end.xxh64;
    return slot_let_go(s, fd, n->size, s->stats.bytes.written > before, e) != 0 ? blame(path, e) : 0;
}

/* By its digest: from what the slots hold, or it is wanted. Then the file is there already, for hard links to it. */
static int take_content(struct slot_tree *s, const char *path, const struct node *n,
                        const struct entry_place *place, struct file_got *got, struct err *e)
{
    uint64_t old;
    int fd = -1, rc = n->size > 0 ? slot_reuse_file(s, path, n, place, got, e) : 0;
    if (rc == 0 && n->size > 0 && s->known.of != NULL)
        rc = err_set(e, ERR_FLASH, "its content in the slots changed");
    if (rc != 0)
        return rc < 0 ? blame(path, e) : 0;
    rc = slot_place(s, path, n, &fd, &old, e);
    if (rc != 0)
        return rc;
    got->wanted = n->size > 0;
    got->xxh64 = sum_bytes("", 0, 0);
    rc = got->wanted ? 0 : slot_settle_changed(s, path, fd, n, e);
    if (fd >= 0)
        close(fd);
    return rc;
}

int slot_write_file(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                    struct file_got *got, struct err *e)
{
    *got = (struct file_got){0};
    if (c == NULL || c->begun > n->size || c->left != n->size - c->begun)
        return err_set(e, ERR_SIZE, "%s: want %llu bytes of content, got %llu", path,
                       (unsigned long long)n->size, c != NULL ? (unsigned long long)c->left : 0);
    ASSERT(!s->dry || c->place != NULL);
    if (c->place == NULL)
        return write_content(s, path, n, c, got, e);
    got->digest = c->place->digest;
    return take_content(s, path, n, c->place, got, e);
}
