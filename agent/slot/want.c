/* Content that no slot holds: pieces to be fetched, listed in a nameless file beside the TOC. Of a large file that has
 * an older version, the chunks that this version has are taken from there, and only the others are listed. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/priv.h"

static int list_put(struct slot_tree *s, const struct slot_piece *p, struct err *e)
{
    struct want *w = &s->want;
    if (io_pwrite_full(w->list, p, sizeof *p, (off_t)w->list_len) != 0)
        return err_errno(e, "list of what to fetch");
    w->list_len += sizeof *p;
    return 0;
}

int slot_nameless(const char *beside, struct err *e)
{
    char name[NODE_PATH_MAX];
    const char *slash = strrchr(beside, '/');
    size_t len = slash != NULL ? (size_t)(slash - beside) : 0;
    if (len >= sizeof name)
        return err_set(e, ERR_CONFIG, "%s: too long", beside);
    memcpy(name, beside, len);
    name[len] = '\0';
    int fd = IO_RETRY(open(len > 0 ? name : ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    return fd < 0 ? err_errno(e, "%s: a file without a name", name) : fd;
}

int slot_want_begin(struct slot_tree *s, struct err *e)
{
    struct want *w = &s->want;
    w->list_len = 0;
    w->open = false;
    if (w->list < 0)
        w->list = slot_nameless(s->toc_path, e);
    return w->list < 0 ? e->code : 0;
}

void slot_want_drop(struct slot_tree *s)
{
    struct want *w = &s->want;
    int *fds[] = {&w->list, &w->fd, &w->source};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    w->open = false;
}

void slot_want_add(struct slot_tree *s, uint32_t toc, uint64_t size, const struct entry_place *place)
{
    struct want *w = &s->want;
    w->open = true;
    w->patching = w->asked = false;
    w->has_last = true;
    w->covered = 0;
    w->shift = 0;
    w->last = (struct slot_piece){.toc = toc,
                                  .flags = SLOT_PIECE_WHOLE | SLOT_PIECE_LAST,
                                  .len = size,
                                  .offset = place->offset,
                                  .end = place->end,
                                  .digest = place->digest};
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
    rc = slot_range_digest(s, fd, 0, n.size, &got, &sum, e);
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
    struct toc_item it;
    struct stat st;
    uint64_t old = 0;
    int rc = toc_read(&s->toc, w->last.toc, &it, e);
    if (rc == 0)
        rc = reopen(s, &it, &w->fd, &old, e);
    if (rc != 0)
        return rc;
    w->asked = true;
    w->file_end = w->last.end;
    w->source = slot_reuse_open(s, REUSE_ACTIVE, it.path, &st);
    w->source_len = w->source >= 0 ? (uint64_t)st.st_size : 0;
    w->patching = w->source >= 0 || old > 0;
    w->has_last = !w->patching;
    if (w->patching && !s->dry && IO_RETRY(ftruncate(w->fd, (off_t)it.r.size)) != 0)
        return err_errno(e, "%s: truncate", it.path);
    return 0;
}

static int end_patch(struct slot_tree *s, struct err *e)
{
    struct want *w = &s->want;
    int rc = 0;
    if (w->patching && !w->has_last)
        rc = finish(s, w->last.toc, w->fd, e);
    if (w->fd >= 0) {
        posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED);
        close(w->fd);
    }
    if (w->source >= 0)
        close(w->source);
    w->fd = w->source = -1;
    return rc;
}

static int make_zeros(struct slot_tree *s, const struct entry_chunk *c, struct err *e)
{
    struct compare k = {.dry = s->dry};
    memset(s->io, 0, COMPARE_WINDOW);
    for (uint64_t done = 0; done < c->len;) {
        uint32_t n = c->len - done < COMPARE_WINDOW ? (uint32_t)(c->len - done) : COMPARE_WINDOW;
        int rc = compare_put(&k, s->io, s->want.fd, c->at + done, n, n, &s->stats.bytes, e);
        if (rc != 0)
            return rc;
        done += n;
    }
    return 0;
}

static int holds(struct slot_tree *s, int fd, uint64_t off, const struct entry_chunk *c, struct err *e)
{
    struct digest got;
    if (fd < 0)
        return 0;
    int rc = slot_range_digest(s, fd, off, c->len, &got, NULL, e);
    if (rc != 0)
        return rc == ERR_FLASH ? 0 : rc;
    return digest_compare(&got, &c->digest) == VERDICT_MATCH;
}

/* In the active slot's version a chunk is at its own place, as far off as the last one was, or off by what the file has
 * grown. 1 when it was found and copied. */
static int take_from_source(struct slot_tree *s, const struct entry_chunk *c, uint64_t size, struct err *e)
{
    struct want *w = &s->want;
    const int64_t shifts[] = {w->shift, 0, (int64_t)w->source_len - (int64_t)size};
    for (int i = 0; i < 3; i++) {
        struct compare k = {.dry = s->dry};
        int64_t from = (int64_t)c->at + shifts[i];
        if ((i > 0 && shifts[i] == shifts[0]) || from < 0 || (uint64_t)from + c->len > w->source_len)
            continue;
        int rc = holds(s, w->source, (uint64_t)from, c, e);
        if (rc > 0)
            rc = slot_copy_range(s, w->source, (uint64_t)from, w->fd, c->at, c->len, c->len, &k, e);
        else if (rc == 0)
            continue;
        w->shift = shifts[i];
        return rc != 0 ? rc : 1;
    }
    return 0;
}

/* 1 when the chunk is in its place now. */
static int have_chunk(struct slot_tree *s, const struct entry_chunk *c, uint64_t size, struct err *e)
{
    if (c->zeros != 0) {
        int rc = make_zeros(s, c, e);
        return rc != 0 ? rc : 1;
    }
    int rc = holds(s, s->want.fd, c->at, c, e);
    if (rc > 0)
        s->stats.bytes.kept += c->len;
    return rc != 0 || s->want.source < 0 ? rc : take_from_source(s, c, size, e);
}

static int patch(struct slot_tree *s, const struct entry_chunk *c, struct err *e)
{
    struct want *w = &s->want;
    struct toc_item it;
    int rc = toc_read(&s->toc, w->last.toc, &it, e);
    if (rc == 0 && (c->at != w->covered || c->len == 0 || c->len > it.r.size - w->covered))
        rc = err_set(e, ERR_PEER, "%s: chunks out of order", it.path);
    if (rc != 0)
        return rc;
    uint64_t size = it.r.size;
    w->covered += c->len;
    if (w->has_last && w->last.end == 0)
        w->last.end = c->offset;
    rc = have_chunk(s, c, size, e);
    if (rc > 0)
        s->stats.found.chunks += c->len;
    if (rc != 0)
        return rc > 0 ? 0 : rc;
    if (w->has_last)
        rc = list_put(s, &w->last, e);
    w->has_last = true;
    w->last = (struct slot_piece){
        .toc = w->last.toc, .at = c->at, .len = c->len, .offset = c->offset, .digest = c->digest};
    return rc;
}

int slot_tree_chunk(struct slot_tree *s, const struct entry_chunk *chunk, struct err *e)
{
    struct want *w = &s->want;
    int rc = w->open && !w->asked ? begin_patch(s, e) : 0;
    return rc == 0 && w->open && w->patching ? patch(s, chunk, e) : rc;
}

int slot_want_close(struct slot_tree *s, struct err *e)
{
    struct want *w = &s->want;
    int rc = 0;
    if (!w->open)
        return 0;
    w->open = false;
    if (w->has_last && w->last.end == 0)
        w->last.end = w->file_end;
    if (w->has_last) {
        w->last.flags |= SLOT_PIECE_LAST;
        rc = list_put(s, &w->last, e);
    }
    int end = end_patch(s, e);
    return rc != 0 ? rc : end;
}

/* --- the list ------------------------------------------------------------------------------------------------------- */

int slot_tree_want_next(struct slot_tree *s, uint64_t *pos, struct slot_piece *out, struct err *e)
{
    if (*pos == s->want.list_len)
        return 0;
    ssize_t n = io_pread_full(s->want.list, out, sizeof *out, (off_t)*pos);
    if (n < 0)
        return err_errno(e, "list of what to fetch");
    if ((size_t)n != sizeof *out)
        return err_set(e, ERR_FORMAT, "list of what to fetch ends early");
    *pos += sizeof *out;
    return 1;
}

int slot_tree_want_end(struct slot_tree *s, uint32_t *pieces, uint64_t *bytes, struct err *e)
{
    struct slot_piece p;
    uint64_t pos = 0;
    int rc = slot_want_close(s, e);
    *pieces = 0;
    *bytes = 0;
    while (rc == 0 && (rc = slot_tree_want_next(s, &pos, &p, e)) > 0) {
        ++*pieces;
        *bytes += p.end - p.offset;
        s->stats.found.wanted += p.len;
        s->stats.found.files_wanted += (p.flags & SLOT_PIECE_LAST) != 0;
        rc = 0;
    }
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
    if (rc == 0 && digest_compare(&got, &p->digest) != VERDICT_MATCH)
        return err_set(e, ERR_DIGEST, "%s: content is not what the table of contents says", path);
    return rc;
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
