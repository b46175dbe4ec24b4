#include "update/partial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "oci/fetch.h"
#include "stream/frame.h"
#include "update/stage.h"
#include "update/tables.h"

#define GAP_FIRST 4096
#define GAP_MAX 8192 /* what a request may cost on a link where bytes cost money */

/* --- slots ------------------------------------------------------------------------------------------------------------ */

static int tree_entry(void *slot, const struct entry *en, struct content *c, struct err *e)
{
    return slot_tree_entry(slot, en, c, e);
}

static int tree_chunk(void *slot, const struct entry_chunk *chunk, struct err *e)
{
    return slot_tree_chunk(slot, chunk, e);
}

static int tree_want_end(void *slot, struct pieces **list, struct err *e)
{
    return slot_tree_want_end(slot, list, e);
}

static int tree_fill(void *slot, const struct slot_piece *p, struct content *c, struct err *e)
{
    return slot_tree_fill(slot, p, c, e);
}

const struct partial_slot partial_tree = {tree_entry, tree_chunk, tree_want_end, tree_fill};

static int disk_entry(void *slot, const struct entry *en, struct content *c, struct err *e)
{
    return slot_disk_entry(slot, en, c, e);
}

static int disk_chunk(void *slot, const struct entry_chunk *chunk, struct err *e)
{
    return slot_disk_chunk(slot, chunk, e);
}

static int disk_want_end(void *slot, struct pieces **list, struct err *e)
{
    return slot_disk_want_end(slot, list, e);
}

static int disk_fill(void *slot, const struct slot_piece *p, struct content *c, struct err *e)
{
    return slot_disk_fill(slot, p, c, e);
}

const struct partial_slot partial_disk = {disk_entry, disk_chunk, disk_want_end, disk_fill};

/* --- the table -------------------------------------------------------------------------------------------------------- */

static int request_send(struct partial *p, uint64_t offset, uint64_t end, bool whole, struct err *e)
{
    const struct fetch_request q = {.kind = FETCH_PART,
                                    .digest = p->blob->digest,
                                    .size = p->blob->size,
                                    .offset = offset,
                                    .end = end,
                                    .whole = whole};

    return frame_write(STAGE_FD_REQUEST, FRAME_REQUEST, &q, sizeof q, e);
}

/* Open the table that is kept, if it is what the manifest says. -1: there is none. */
static int table_open(struct partial *p)
{
    const struct oci_toc *t = &p->blob->toc;
    struct table_path path = table_of_toc(p->dir, &t->digest);
    int fd = IO_RETRY(open(path.text, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    uint8_t buf[4096];
    struct digest got;
    struct hash h;
    uint64_t len = 0;
    ssize_t n;

    if (fd < 0)
        return -1;
    hash_begin(&h);
    while ((n = io_read_full(fd, buf, sizeof buf)) > 0 && (len += (uint64_t)n) <= t->len)
        hash_update(&h, buf, (size_t)n);
    hash_end(&h, &got);
    if (n == 0 && digest_compare(&got, &t->digest) == VERDICT_MATCH && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    close(fd);
    if (!p->cost)
        (void)unlink(path.text);
    return -1;
}

static int table_fetch(struct partial *p, int fd, struct err *e)
{
    const struct oci_toc *t = &p->blob->toc;
    struct digest got;
    int rc = request_send(p, t->offset, t->offset + t->len, false, e);

    if (rc == 0)
        rc = feed_body_to_file(&p->feed, fd, t->len, &got, e);
    return rc < 0 ? rc : digest_check("digest", &t->digest, &got, e);
}

/* For this look only: it has no name. */
static int table_get_for_now(struct partial *p, struct err *e)
{
    int rc, fd = IO_RETRY(open(p->dir, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));

    if (fd < 0)
        return err_errno(e, "%s", p->dir);
    rc = table_fetch(p, fd, e);
    if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
        rc = err_errno(e, "%s", p->dir);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    if (p->counted != p->blob) {
        p->cost->download += p->blob->toc.len;
        p->cost->requests++;
    }
    p->counted = p->blob;
    return fd;
}

static int table_get_to_keep(struct partial *p, struct err *e)
{
    struct table_path new = table_path(p->dir, "new");
    struct table_path path = table_of_toc(p->dir, &p->blob->toc.digest);
    int fd, rc = tables_begin(p->dir, e);
    if (rc < 0)
        return rc;
    fd = IO_RETRY(open(new.text, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (fd < 0)
        return err_errno(e, "%s", new.text);
    rc = table_fetch(p, fd, e);
    if (rc == 0 && (rename(new.text, path.text) < 0 || lseek(fd, 0, SEEK_SET) < 0))
        rc = err_errno(e, "%s", path.text);
    if (rc == 0)
        return fd;
    close(fd);
    (void)unlink(new.text);
    return rc;
}

/* A descriptor of the table, whose digest is right; or an error. Not a byte of it is looked at before. */
static int table_get(struct partial *p, struct err *e)
{
    int fd = table_open(p);

    if (fd >= 0)
        return fd;
    return p->cost ? table_get_for_now(p, e) : table_get_to_keep(p, e);
}

int partial_table(struct partial *p, const struct oci_blob *blob, bool *fetched, struct err *e)
{
    int fd;

    p->blob = blob;
    fd = table_open(p);
    *fetched = fd < 0;
    if (fd < 0)
        fd = table_get_to_keep(p, e);
    if (fd == ERR_UNSUPPORTED)
        return 1;
    if (fd < 0)
        return err_prefix(e, "table of contents");
    close(fd);
    return 0;
}

/* --- entries --------------------------------------------------------------------------------------------------------- */

/* decode gave up the job. */
static int job_refused(struct partial *p, const struct frame *head, struct err *e)
{
    struct err from;
    int rc = entry_pipe_fixed(&p->feed.said.pipe, head, &from, sizeof from, e);

    return rc < 0 ? rc : frame_take_err(&from, e);
}

/* The head of the job's last frame has come. */
static int job_finish(struct partial *p, const struct frame *head, struct err *e)
{
    struct job_end end;

    if (head->type == FRAME_ERR)
        return job_refused(p, head, e);
    if (head->type != FRAME_JOB_END)
        return err_set(e, ERR_PEER, "decode sent frame %u at the end of a job", head->type);
    return entry_pipe_fixed(&p->feed.said.pipe, head, &end, sizeof end, e);
}

static int place_read(struct partial *p, struct entry_place *place, struct err *e)
{
    struct frame head;
    int rc = entry_pipe_head(&p->feed.said.pipe, &head, e);

    if (rc == 0 && head.type == FRAME_ERR)
        return job_refused(p, &head, e);
    if (rc == 0 && head.type != FRAME_PLACE)
        rc = err_set(e, ERR_PEER, "decode sent frame %u where a place was expected", head.type);
    if (rc == 0)
        rc = entry_pipe_fixed(&p->feed.said.pipe, &head, place, sizeof *place, e);
    if (rc < 0)
        return rc;
    if (place->offset > place->end || place->end > p->blob->toc.offset)
        return err_set(e, ERR_POLICY, "table of contents: %.120s: its bytes are outside the blob's data",
                       p->entry->path);
    return 0;
}

static int entry_apply(struct partial *p, const struct frame *head, struct err *e)
{
    struct entry_place place = {0};
    struct content c = {.pipe = &p->feed.said.pipe, .place = &place};
    int rc = entry_read(&p->feed.said.pipe, head, p->entry, e);

    if (rc == 0 && p->entry->type == ENTRY_NODE && p->entry->node.type == NODE_FILE) {
        c.left = p->entry->node.size;
        rc = place_read(p, &place, e);
    }
    if (rc == 0 && c.left > 0 && place.offset == place.end)
        rc = err_set(e, ERR_PEER, "%.120s: a file without a place", p->entry->path);
    return rc < 0 ? rc : p->ops->entry(p->slot, p->entry, &c, e);
}

static int entries_apply(struct partial *p, int table, struct err *e)
{
    struct job job = {.kind = JOB_TOC,
                      .codec = p->blob->codec,
                      .size = p->blob->toc.len,
                      .content_max = p->blob->toc.raw_len};
    struct entry_chunk chunk;
    struct frame head;
    int rc;

    snprintf(job.only, sizeof job.only, "%s", p->only);
    rc = feed_file(&p->feed, &job, table, e);
    while (rc == 0 && (rc = entry_pipe_head(&p->feed.said.pipe, &head, e)) == 0) {
        switch (head.type) {
        case FRAME_ENTRY:
            rc = entry_apply(p, &head, e);
            p->tick(p->tick_ctx);
            break;
        case FRAME_CHUNK:
            rc = entry_pipe_fixed(&p->feed.said.pipe, &head, &chunk, sizeof chunk, e);
            if (rc == 0)
                rc = p->ops->chunk(p->slot, &chunk, e);
            break;
        default:
            return job_finish(p, &head, e);
        }
    }
    return rc;
}

/* --- pieces ---------------------------------------------------------------------------------------------------------- */

static int64_t now_us(void)
{
    struct timespec t = {0};

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int piece_take(struct partial *p, const struct slot_piece *piece, uint64_t at, struct err *e)
{
    const struct job job = {.kind = JOB_PIECE,
                            .codec = p->blob->codec,
                            .size = piece->end - piece->offset,
                            .content_max = piece->len};
    struct content c = {.pipe = &p->feed.said.pipe, .left = piece->len};
    struct frame head;
    int rc = feed_body_job(&p->feed, &job, piece->offset - at, e);

    if (rc == 0)
        rc = p->ops->fill(p->slot, piece, &c, e);
    if (rc == 0)
        rc = entry_pipe_head(&p->feed.said.pipe, &head, e);
    return rc < 0 ? rc : job_finish(p, &head, e);
}

/* The pieces from `pos` on that are worth one request: its bytes, and the position behind them. 0 when there are none. */
static int part_find(struct partial *p, uint64_t *pos, uint64_t *offset, uint64_t *end, struct err *e)
{
    struct slot_piece piece;
    uint64_t next = *pos;
    int rc = pieces_next(p->list, &next, &piece, e);

    if (rc <= 0)
        return rc;
    *offset = *end = piece.offset;
    do {
        if (piece.offset < *end || piece.end <= piece.offset || piece.end > p->blob->toc.offset)
            return err_set(e, ERR_PEER, "pieces out of order");
        if (!p->whole && piece.offset - *end > p->gap)
            break;
        *end = piece.end;
        *pos = next;
    } while ((rc = pieces_next(p->list, &next, &piece, e)) > 0);
    return rc < 0 ? rc : 1;
}

/* Another request costs a round trip, in which so many bytes would have come. */
static void gap_tune(struct partial *p, int64_t wait_us, int64_t all_us, uint64_t bytes)
{
    uint64_t gap = all_us > wait_us ? bytes * (uint64_t)wait_us / (uint64_t)(all_us - wait_us) : GAP_MAX;

    p->gap = gap > GAP_MAX ? GAP_MAX : gap < 1024 ? 1024 : (uint32_t)gap;
}

/* 1 when the registry sends no parts and nothing came. */
static int part_take(struct partial *p, uint64_t from, uint64_t to, uint64_t offset, uint64_t end,
                     struct err *e)
{
    struct slot_piece piece;
    uint64_t at = offset;
    int64_t sent = now_us(), came;
    int rc = request_send(p, offset, end, p->whole, e);

    if (rc == 0)
        rc = feed_body_begin(&p->feed, e);
    if (rc == ERR_UNSUPPORTED && !p->whole)
        return 1;
    came = now_us();
    while (rc == 0 && from < to) {
        rc = pieces_next(p->list, &from, &piece, e);
        rc = rc > 0 ? piece_take(p, &piece, at, e) : rc;
        at = piece.end;
        p->tick(p->tick_ctx);
    }
    if (rc == 0)
        rc = feed_body_end(&p->feed, e);
    p->us += now_us() - sent;
    if (rc == 0)
        gap_tune(p, came - sent, now_us() - sent, end - offset);
    return rc;
}

static int pieces_take(struct partial *p, struct err *e)
{
    uint64_t pos = 0, offset, end;
    int rc;

    p->parts = 0;
    for (;;) {
        uint64_t from = pos;

        rc = part_find(p, &pos, &offset, &end, e);
        if (rc <= 0)
            return rc;
        p->parts++;
        if (p->cost) {
            p->cost->requests++;
            p->cost->download += end - offset;
            continue;
        }
        rc = part_take(p, from, pos, offset, end, e);
        if (rc < 0)
            return rc;
        if (rc > 0) { /* once more, with all that is left in one part */
            p->whole = true;
            pos = from;
        }
    }
}

/* --- the layer ------------------------------------------------------------------------------------------------------- */

int partial_layer(struct partial *p, const struct oci_blob *blob, struct err *e)
{
    int rc, table;

    p->blob = blob;
    p->whole = false;
    p->gap = p->gap ? p->gap : GAP_FIRST;
    table = table_get(p, e);
    if (table == ERR_UNSUPPORTED)
        return 1;
    if (table < 0)
        return err_prefix(e, "table of contents");
    rc = entries_apply(p, table, e);
    close(table);
    if (rc == 0)
        rc = p->ops->want_end(p->slot, &p->list, e);
    if (rc == 0)
        rc = pieces_take(p, e);
    if (rc == 0 && !p->cost)
        log_info("%u pieces of %" PRIu64 " bytes fetched in %" PRIu64 " parts of a layer of %" PRIu64,
                 p->list->cnt, p->list->bytes, p->parts, blob->size);
    return rc;
}
