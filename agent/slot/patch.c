#include "slot/patch.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/node.h"

/* --- the list ------------------------------------------------------------------------------------------------------- */

int pieces_file(const char *beside, struct err *e)
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

int pieces_begin(struct pieces *l, const char *beside, struct err *e)
{
    int fd = l->fd >= 0 ? l->fd : pieces_file(beside, e);
    *l = (struct pieces){.fd = fd};
    return fd < 0 ? fd : 0;
}

int pieces_put(struct pieces *l, const struct slot_piece *p, struct err *e)
{
    if (io_pwrite_full(l->fd, p, sizeof *p, (off_t)l->len) != 0)
        return err_errno(e, "list of what to fetch");
    l->len += sizeof *p;
    l->cnt++;
    l->bytes += p->end - p->offset;
    l->content += p->len;
    return 0;
}

int pieces_next(const struct pieces *l, uint64_t *pos, struct slot_piece *out, struct err *e)
{
    if (*pos == l->len)
        return 0;
    ssize_t n = io_pread_full(l->fd, out, sizeof *out, (off_t)*pos);
    if (n < 0)
        return err_errno(e, "list of what to fetch");
    if ((size_t)n != sizeof *out)
        return err_set(e, ERR_FORMAT, "list of what to fetch ends early");
    *pos += sizeof *out;
    return 1;
}

void pieces_drop(struct pieces *l)
{
    if (l->fd >= 0)
        close(l->fd);
    *l = (struct pieces){.fd = -1};
}

/* --- chunks ---------------------------------------------------------------------------------------------------------- */

static bool same(const struct digest *a, const struct digest *b)
{
    return digest_compare(a, b) == VERDICT_MATCH;
}

static int recorded(struct patch *p, bool source, const struct entry_chunk *c, uint64_t *from)
{
    return p->recorded != NULL ? p->recorded(p->ctx, source, c, from) : -1;
}

static int holds(struct patch *p, int fd, uint64_t off, const struct entry_chunk *c, struct err *e)
{
    struct digest got;
    int rc = range_digest(p->io, fd, off, c->len, &got, NULL, e);
    if (rc != 0)
        return rc == ERR_FLASH ? 0 : rc;
    return same(&got, &c->digest);
}

static int is_in_place(struct patch *p, const struct entry_chunk *c, struct err *e)
{
    uint64_t from = 0;
    int known = p->fd >= 0 ? recorded(p, false, c, &from) : 0;
    return known >= 0 ? known > 0 && from == c->at : holds(p, p->fd, c->at, c, e);
}

/* 1 when it was what the record said; else what was written will be replaced by what is fetched. */
static int copy_recorded(struct patch *p, const struct entry_chunk *c, uint64_t from, struct err *e)
{
    struct digest got;
    struct hash h;
    struct compare k = {.dry = p->io->dry, .digest = &h};
    if (from > p->source_len || c->len > p->source_len - from)
        return 0;
    hash_begin(&h);
    int rc = range_copy(p->io, p->source, from, p->fd, c->at, c->len, c->len, &k, e);
    hash_end(&h, &got);
    p->shift = (int64_t)(from - c->at);
    return rc != 0 ? rc : same(&got, &c->digest);
}

/* What no record knows is looked for at its own place, as far off as the last one was, or off by what the file has
 * grown. */
static int copy_searched(struct patch *p, const struct entry_chunk *c, struct err *e)
{
    const int64_t shifts[] = {p->shift, 0, (int64_t)p->source_len - (int64_t)p->size};
    for (int i = 0; i < 3; i++) {
        struct compare k = {.dry = p->io->dry};
        int64_t from = (int64_t)c->at + shifts[i];
        if ((i > 0 && shifts[i] == shifts[0]) || from < 0 || (uint64_t)from + c->len > p->source_len)
            continue;
        int rc = holds(p, p->source, (uint64_t)from, c, e);
        if (rc > 0)
            rc = range_copy(p->io, p->source, (uint64_t)from, p->fd, c->at, c->len, c->len, &k, e);
        else if (rc == 0)
            continue;
        p->shift = shifts[i];
        return rc != 0 ? rc : 1;
    }
    return 0;
}

/* 1 when the chunk is in its place now. */
static int have_chunk(struct patch *p, const struct entry_chunk *c, struct err *e)
{
    uint64_t from = 0;
    if (c->zeros != 0) {
        int rc = range_zero(p->io, p->fd, c->at, c->len, e);
        return rc != 0 ? rc : 1;
    }
    int rc = is_in_place(p, c, e);
    if (rc > 0)
        p->io->bytes->kept += c->len;
    if (rc != 0 || p->source < 0)
        return rc;
    if (recorded(p, true, c, &from) > 0)
        rc = copy_recorded(p, c, from, e);
    return rc == 0 || rc == ERR_FLASH ? copy_searched(p, c, e) : rc;
}

int patch_chunk(struct patch *p, const struct entry_chunk *c, struct err *e)
{
    if (c->at != p->covered || c->len == 0 || c->len > p->size - p->covered)
        return err_set(e, ERR_PEER, "chunks out of order");
    p->covered += c->len;
    if (p->has_last && p->last.end == 0)
        p->last.end = c->offset;
    int rc = have_chunk(p, c, e);
    if (rc > 0)
        p->found += c->len;
    if (rc != 0)
        return rc > 0 ? 0 : rc;
    if (p->has_last)
        rc = pieces_put(p->list, &p->last, e);
    p->has_last = true;
    p->last = (struct slot_piece){
        .toc = p->last.toc, .at = c->at, .len = c->len, .offset = c->offset, .digest = c->digest};
    return rc;
}

int patch_end(struct patch *p, bool *listed, struct err *e)
{
    *listed = p->has_last;
    if (!p->has_last)
        return 0;
    if (p->last.end == 0)
        p->last.end = p->end;
    p->last.flags |= SLOT_PIECE_LAST;
    p->has_last = false;
    return pieces_put(p->list, &p->last, e);
}

int patch_check(const struct slot_piece *piece, const struct digest *got, const char *name, struct err *e)
{
    return same(got, &piece->digest)
               ? 0
               : err_set(e, ERR_DIGEST, "%s: content is not what the table of contents says", name);
}
