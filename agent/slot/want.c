/* Content that no slot holds: pieces to be fetched, listed in a nameless file beside the TOC. Of a large file that has
 * an older version, the chunks that this version has are taken from there, and only the others are listed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/priv.h"

int slot_want_begin(struct slot_tree *s, struct err *e)
{
    s->want.open = false;
    return pieces_begin(&s->want.list, s->toc_path, e);
}

void slot_want_drop(struct slot_tree *s)
{
    struct patch *p = &s->want.patch;
    pieces_drop(&s->want.list);
    if (p->fd >= 0)
        close(p->fd);
    if (p->source >= 0)
        close(p->source);
    p->fd = p->source = -1;
    s->want.open = false;
}

void slot_want_add(struct slot_tree *s, uint32_t toc, uint64_t size, const struct entry_place *place)
{
    struct want *w = &s->want;
    w->open = true;
    w->patching = w->asked = false;
    w->patch = (struct patch){.list = &w->list,
                              .io = &s->range,
                              .fd = -1,
                              .source = -1,
                              .size = size,
                              .end = place->end,
                              .has_last = true,
                              .last = {.toc = toc,
                                       .flags = SLOT_PIECE_WHOLE | SLOT_PIECE_LAST,
                                       .len = size,
                                       .offset = place->offset,
                                       .end = place->end,
                                       .digest = place->digest}};
}

/* --- a file from an older version's chunks -------------------------------------------------------------------------- */

/* All its chunks are there: does that make the file? */
static int finish(struct slot_tree *s, uint32_t toc, int fd, struct err *e)
{
    struct toc_item it;
    struct digest got;
    struct sum sum;
    if (s->dry)
        return 0;
    int rc = toc_read(&s->toc, toc, &it, e);
    if (rc != 0)
        return rc;
    const struct node n = toc_node(&it);
    sum_begin(&sum);
    rc = range_digest(&s->range, fd, 0, n.size, &got, &sum, e);
    if (rc == 0 && digest_compare(&got, &it.digest) != VERDICT_MATCH)
        rc = err_set(e, ERR_DIGEST, "%s: its chunks are not what its digest says", it.path);
    if (rc == 0)
        rc = slot_settle_changed(s, it.path, fd, &n, e);
    return rc != 0 ? rc : toc_fill(&s->toc, toc, sum_end(&sum), e);
}

/* Open the file of a record, as it was placed. *old: what it holds now. */
static int reopen(struct slot_tree *s, const struct toc_item *it, int *fd, uint64_t *old, struct err *e)
{
    const struct node n = toc_node(it);
    struct stat st;
    int dir = slot_parent_fd(s, it->path, e);
    bool there = dir >= 0 && fstatat(dir, path_name(it->path), &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!there && s->dry) {
        *old = 0;
        *fd = -1;
        return 0;
    }
    if (!there)
        return dir < 0 ? dir : err_errno(e, "%s", it->path);
    *old = (uint64_t)st.st_size;
    return slot_reopen(s, it->path, &n, *old, fd, e);
}

/* Is there anything to take chunks from? Opens the file and the active slot's version of it. */
static int begin_patch(struct slot_tree *s, struct err *e)
{
    struct want *w = &s->want;
    struct patch *p = &w->patch;
    struct toc_item it;
    struct stat st;
    uint64_t old = 0;
    int rc = toc_read(&s->toc, p->last.toc, &it, e);
    if (rc == 0)
        rc = reopen(s, &it, &p->fd, &old, e);
    if (rc != 0)
        return rc;
    w->asked = true;
    p->source = slot_reuse_open(s, REUSE_ACTIVE, it.path, &st);
    p->source_len = p->source >= 0 ? (uint64_t)st.st_size : 0;
    w->patching = p->source >= 0 || old > 0;
    p->has_last = !w->patching;
    if (w->patching && !s->dry && IO_RETRY(ftruncate(p->fd, (off_t)p->size)) != 0)
        return err_errno(e, "%s: truncate", it.path);
    return 0;
}

int slot_tree_chunk(struct slot_tree *s, const struct entry_chunk *chunk, struct err *e)
{
    struct want *w = &s->want;
    int rc = w->open && !w->asked ? begin_patch(s, e) : 0;
    return rc == 0 && w->open && w->patching ? patch_chunk(&w->patch, chunk, e) : rc;
}

int slot_want_close(struct slot_tree *s, struct err *e)
{
    struct want *w = &s->want;
    struct patch *p = &w->patch;
    bool listed = false;
    if (!w->open)
        return 0;
    w->open = false;
    s->stats.found.chunks += p->found;
    int rc = patch_end(p, &listed, e);
    s->stats.found.files_wanted += listed;
    if (rc == 0 && !listed)
        rc = finish(s, p->last.toc, p->fd, e);
    if (p->fd >= 0) {
        posix_fadvise(p->fd, 0, 0, POSIX_FADV_DONTNEED);
        close(p->fd);
    }
    if (p->source >= 0)
        close(p->source);
    p->fd = p->source = -1;
    return rc;
}

int slot_tree_want_end(struct slot_tree *s, struct pieces **list, struct err *e)
{
    int rc = slot_want_close(s, e);
    s->stats.found.wanted += s->want.list.content;
    *list = &s->want.list;
    return rc;
}

/* --- what was fetched ------------------------------------------------------------------------------------------------ */

static int fill_piece(struct slot_tree *s, const struct slot_piece *p, const char *path, int fd, uint64_t old,
                      struct content *c, struct entry_end *end, struct err *e)
{
    struct digest got;
    struct hash h;
    struct compare k = {.digest = &h};
    if (c->left != p->len)
        return err_set(e, ERR_SIZE, "%s: want %llu bytes, got %llu", path, (unsigned long long)p->len,
                       (unsigned long long)c->left);
    hash_begin(&h);
    int rc = slot_fill(s, fd, p->at, p->len, old, &k, c, e);
    hash_end(&h, &got);
    if (rc == 0)
        rc = content_end(c, end, e);
    return rc != 0 ? rc : patch_check(p, &got, path, e);
}

int slot_tree_fill(struct slot_tree *s, const struct slot_piece *p, struct content *c, struct err *e)
{
    struct toc_item it;
    struct entry_end end = {0};
    uint64_t old = 0, before = s->stats.bytes.written;
    int fd = -1, rc = toc_read(&s->toc, p->toc, &it, e);
    if (rc == 0)
        rc = reopen(s, &it, &fd, &old, e);
    if (rc != 0)
        return rc;
    rc = fill_piece(s, p, it.path, fd, old > p->at ? old - p->at : 0, c, &end, e);
    if (rc == 0 && (p->flags & SLOT_PIECE_WHOLE) != 0) {
        const struct node n = toc_node(&it);
        rc = slot_settle_changed(s, it.path, fd, &n, e);
        if (rc == 0)
            rc = toc_fill(&s->toc, p->toc, end.xxh64, e);
    } else if (rc == 0 && (p->flags & SLOT_PIECE_LAST) != 0) {
        rc = finish(s, p->toc, fd, e);
    }
    if (rc == 0)
        return slot_let_go(s, fd, p->len, s->stats.bytes.written > before, e);
    close(fd);
    return rc;
}
