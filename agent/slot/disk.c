#include "slot/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "slot/pages.h"
#include "slot/sum.h"

#define PIECE_LEN COMPARE_PIECE

enum { OLD, ACTIVE }; /* of s->was */

bool slot_disk_init(struct slot_disk *s)
{
    s->fd = s->toc.fd = s->was[OLD].fd = s->was[ACTIVE].fd = s->list.fd = s->patch.source = -1;
    return index_new(&s->index);
}

static void toc_try(struct toc *t, const char *path)
{
    struct err e;
    if (toc_open(t, path, &e) != 0)
        toc_close(t);
}

int slot_disk_begin(struct slot_disk *s, const struct disk_ops *ops, const char *place, const char *toc_path,
                    bool dry, struct err *e)
{
    slot_disk_abort(s);
    s->ops = ops;
    s->place = place;
    s->toc_path = toc_path;
    s->dry = dry;
    s->len = s->xxh64 = s->passed = 0;
    s->digest = (struct digest){{0}};
    s->bytes = (struct slot_bytes){0};
    s->range = (struct range_io){.bytes = &s->bytes, .buf = s->io, .dry = dry};
    if (ops->open(place, !dry, &s->fd, &s->size, e) != 0) {
        s->fd = -1;
        return err_prefix(e, "slot %s", place);
    }
    toc_try(&s->was[OLD], toc_path);
    if (!dry && unlink(toc_path) != 0 && errno != ENOENT)
        return err_errno(e, "%s", toc_path);
    return 0;
}

void slot_disk_abort(struct slot_disk *s)
{
    struct err e;
    if (s->fd >= 0)
        s->ops->close(s->fd, &e);
    if (s->patch.source >= 0)
        s->ops->close(s->patch.source, &e);
    s->fd = s->patch.source = -1;
    toc_close(&s->toc);
    toc_close(&s->was[OLD]);
    toc_close(&s->was[ACTIVE]);
    pieces_drop(&s->list);
    index_clear(&s->index);
}

/* --- content --------------------------------------------------------------------------------------------------------- */

/* Start the piece on its way to the medium, and forget the one before, which is there by now. */
static int send(int fd, uint64_t off, uint64_t len, struct err *e)
{
    int rc = pages_push(fd, off, len, e);
    return rc == 0 && off >= PIECE_LEN ? pages_forget(fd, off - PIECE_LEN, PIECE_LEN, e) : rc;
}

static int put(struct slot_disk *s, uint64_t at, uint64_t len, struct compare *k, struct content *c,
               struct err *e)
{
    if (lseek(s->fd, (off_t)at, SEEK_SET) < 0)
        return err_errno(e, "seek");
    for (uint64_t off = at; off < at + len;) {
        uint64_t n = at + len - off < PIECE_LEN ? at + len - off : PIECE_LEN;
        int rc = compare_move(k, c, s->fd, off, (uint32_t)n, s->size - off, &s->bytes, e);
        if (rc == 0)
            rc = send(s->fd, off, n, e);
        if (rc != 0)
            return rc;
        off += n;
    }
    return 0;
}

static int write_all(struct slot_disk *s, struct content *c, struct err *e)
{
    struct compare k = {0};
    struct entry_end end = {0};
    int rc = put(s, 0, s->len, &k, c, e);
    if (rc == 0)
        rc = content_end(c, &end, e);
    s->xxh64 = end.xxh64;
    return rc;
}

/* --- chunks ---------------------------------------------------------------------------------------------------------- */

/* The record of a chunk like `c` on one side, next after *at. */
static bool find(struct slot_disk *s, int side, const struct entry_chunk *c, uint32_t *at,
                 struct toc_item *it)
{
    struct err e;
    uint32_t where;
    while (index_find(&s->index, &c->digest, sizeof c->digest, at, &where))
        if ((int)(where & 1) == side && toc_read(&s->was[side], where >> 1, it, &e) == 0 &&
            it->r.type == TOC_CHUNK && it->r.size == c->len &&
            digest_compare(&it->digest, &c->digest) == VERDICT_MATCH)
            return true;
    return false;
}

/* For struct patch. What the slot holds counts only in its place, as it is written to while this goes on. */
static int recorded(void *ctx, bool source, const struct entry_chunk *c, uint64_t *from)
{
    struct slot_disk *s = ctx;
    struct toc_item it;
    uint32_t at = UINT32_MAX;
    int side = source ? ACTIVE : OLD;
    if (s->was[side].fd < 0)
        return -1;
    while (find(s, side, c, &at, &it))
        if (source || it.r.xxh64 == c->at) {
            *from = it.r.xxh64;
            return 1;
        }
    return 0;
}

static int index_side(struct slot_disk *s, int side, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc;
    while ((rc = toc_next(&s->was[side], &pos, &it, e)) > 0)
        if (it.r.type == TOC_CHUNK)
            index_add(&s->index, &it.digest, sizeof it.digest, it.at << 1 | (uint32_t)side);
    return rc;
}

/* A record that turns out damaged at its end leaves hints to nothing. */
static void index_records(struct slot_disk *s)
{
    struct err e;
    for (int side = OLD; side <= ACTIVE; side++)
        if (s->was[side].fd >= 0 && index_side(s, side, &e) != 0) {
            log_info("record of the %s slot: %s", side == OLD ? "inactive" : "active", e.text);
            toc_close(&s->was[side]);
        }
}

void slot_disk_reuse(struct slot_disk *s, int fd, uint64_t len, const char *active_toc)
{
    s->patch.source = fd;
    s->patch.source_len = len;
    if (fd >= 0)
        toc_try(&s->was[ACTIVE], active_toc);
}

static int begin_chunks(struct slot_disk *s, const struct entry_place *place, struct err *e)
{
    int fd = s->dry ? pieces_file(s->toc_path, e) : 0;
    int rc = fd < 0   ? fd
             : s->dry ? toc_create_fd(&s->toc, fd, CONFIG_SLOT_ENTRY_MAX, e)
                      : toc_create(&s->toc, s->toc_path, CONFIG_SLOT_ENTRY_MAX, e);
    if (rc == 0)
        rc = pieces_begin(&s->list, s->toc_path, e);
    index_records(s);
    s->digest = place->digest;
    s->patch = (struct patch){.list = &s->list,
                              .io = &s->range,
                              .fd = s->fd,
                              .source = s->patch.source,
                              .source_len = s->patch.source_len,
                              .size = s->len,
                              .last = {.offset = place->offset},
                              .end = place->end,
                              .recorded = recorded,
                              .ctx = s};
    return rc;
}

static int entry(struct slot_disk *s, const struct entry *en, struct content *c, struct err *e)
{
    uint64_t len = en->node.size;
    if (en->type != ENTRY_NODE || en->node.type != NODE_FILE)
        return err_set(e, ERR_POLICY, "%s is not a regular file", en->path);
    if (c == NULL || c->left != len)
        return err_set(e, ERR_SIZE, "want %llu bytes of content, got %llu", (unsigned long long)len,
                       c != NULL ? (unsigned long long)c->left : 0);
    if (len > s->size)
        return err_set(e, ERR_SPACE, "need %llu bytes, have %llu", (unsigned long long)len,
                       (unsigned long long)s->size);
    if (c->place != NULL && s->len > 0)
        return err_set(e, ERR_POLICY, "%s is there twice", en->path);
    s->len = len;
    if (c->place == NULL)
        return write_all(s, c, e);
    return len > 0 ? begin_chunks(s, c->place, e) : 0;
}

int slot_disk_entry(struct slot_disk *s, const struct entry *en, struct content *c, struct err *e)
{
    return entry(s, en, c, e) != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

/* The pages of what is behind us go to the medium, and out of memory. */
static int pass(struct slot_disk *s, uint64_t to, struct err *e)
{
    int rc = 0;
    for (; rc == 0 && to - s->passed >= PIECE_LEN; s->passed += PIECE_LEN)
        rc = s->dry ? 0 : send(s->fd, s->passed, PIECE_LEN, e);
    if (s->dry)
        posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (s->patch.source >= 0)
        posix_fadvise(s->patch.source, 0, 0, POSIX_FADV_DONTNEED);
    return rc;
}

static int chunk_take(struct slot_disk *s, const struct entry_chunk *c, struct err *e)
{
    const struct node n = {.size = c->len};
    uint32_t at;
    int rc = patch_chunk(&s->patch, c, e);
    if (rc == 0 && c->zeros == 0)
        rc = toc_add(&s->toc, "", &n, TOC_CHUNK, 0, c->at, &c->digest, &at, e);
    if (rc == 0 && c->at + c->len - s->passed >= PIECE_LEN)
        rc = pass(s, c->at + c->len, e);
    return rc;
}

int slot_disk_chunk(struct slot_disk *s, const struct entry_chunk *chunk, struct err *e)
{
    return chunk_take(s, chunk, e) != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

int slot_disk_want_end(struct slot_disk *s, struct pieces **list, struct err *e)
{
    bool listed;
    int rc = 0;
    *list = &s->list;
    if (s->len == 0)
        return 0;
    if (s->patch.covered == 0) { /* it is one chunk */
        const struct entry_chunk all = {.digest = s->digest, .len = s->len, .offset = s->patch.last.offset};
        rc = slot_disk_chunk(s, &all, e);
    }
    return rc != 0 ? rc : patch_end(&s->patch, &listed, e);
}

static int fill(struct slot_disk *s, const struct slot_piece *p, struct content *c, struct err *e)
{
    struct entry_end end;
    struct digest got;
    struct hash h;
    struct compare k = {.digest = &h};
    if (c->left != p->len)
        return err_set(e, ERR_SIZE, "want %llu bytes, got %llu", (unsigned long long)p->len,
                       (unsigned long long)c->left);
    hash_begin(&h);
    int rc = put(s, p->at, p->len, &k, c, e);
    hash_end(&h, &got);
    if (rc == 0)
        rc = content_end(c, &end, e);
    return rc != 0 ? rc : patch_check(p, &got, "chunk", e);
}

int slot_disk_fill(struct slot_disk *s, const struct slot_piece *p, struct content *c, struct err *e)
{
    return fill(s, p, c, e) != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

/* --- the end --------------------------------------------------------------------------------------------------------- */

static int seal_record(struct slot_disk *s, struct err *e)
{
    struct toc_item it;
    uint64_t pos = 0;
    int rc = 0;
    if (s->toc.fd < 0)
        return 0;
    while ((rc = toc_next(&s->toc, &pos, &it, e)) > 0) /* sums it up */
        ;
    return rc != 0 ? rc : toc_seal(&s->toc, e);
}

int slot_disk_seal(struct slot_disk *s, struct err *e)
{
    int rc = seal_record(s, e);
    if (rc == 0)
        rc = s->ops->sync(s->fd, e);
    int fd = s->fd;
    if (rc == 0) {
        s->fd = -1;
        rc = s->ops->close(fd, e);
    }
    slot_disk_abort(s);
    return rc != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

/* Where there is no SHA-256 of the image, the flash alone is distrusted. */
static int content_check(struct slot_disk *s, const struct digest *digest, uint64_t xxh64, struct err *e)
{
    if (!digest_is_zero(&s->digest)) {
        if (digest_compare(digest, &s->digest) != VERDICT_MATCH)
            return err_set(e, ERR_FLASH, "content is not what the table of contents says");
        s->xxh64 = xxh64;
    }
    return xxh64 == s->xxh64 ? 0
                             : err_set(e, ERR_FLASH, "content: want xxh64 %016llx, got %016llx",
                                       (unsigned long long)s->xxh64, (unsigned long long)xxh64);
}

static int read_back(struct slot_disk *s, struct err *e)
{
    bool by_digest = !digest_is_zero(&s->digest);
    struct digest digest;
    struct hash h;
    struct sum sum;
    sum_begin(&sum);
    hash_begin(&h);
    if (s->size < s->len)
        return err_set(e, ERR_FLASH, "size: want %llu, got %llu", (unsigned long long)s->len,
                       (unsigned long long)s->size);
    posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (uint64_t off = 0; off < s->len;) {
        size_t n = s->len - off < RANGE_BUF_LEN ? (size_t)(s->len - off) : RANGE_BUF_LEN;
        ssize_t got = io_pread_full(s->fd, s->io, n, (off_t)off);
        if (got < 0)
            return err_errno(e, "read at %llu", (unsigned long long)off);
        if ((size_t)got != n)
            return err_set(e, ERR_FLASH, "ends at %llu, want %llu", (unsigned long long)off + (unsigned)got,
                           (unsigned long long)s->len);
        if (by_digest)
            hash_update(&h, s->io, n);
        sum_update(&sum, s->io, n);
        off += n;
        s->bytes.read += n;
        if (s->tick)
            s->tick(s->tick_ctx, n);
        if (off % PIECE_LEN == 0)
            posix_fadvise(s->fd, (off_t)(off - PIECE_LEN), PIECE_LEN, POSIX_FADV_DONTNEED);
    }
    hash_end(&h, &digest);
    return content_check(s, &digest, sum_end(&sum), e);
}

int slot_disk_verify(struct slot_disk *s, struct err *e)
{
    if (s->ops->open(s->place, false, &s->fd, &s->size, e) != 0) {
        s->fd = -1;
        return err_prefix(e, "verify %s", s->place);
    }
    int rc = read_back(s, e);
    slot_disk_abort(s);
    return rc != 0 ? err_prefix(e, "verify %s", s->place) : 0;
}
