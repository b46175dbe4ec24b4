#define XXH_STATIC_LINKING_ONLY /* for the state's fields */

#include "stream/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "stream/frame.h"
#include "stream/rules.h"
#include "stream/tar_guard.h"

/* Bytes that an XXH64_state_t holds back, less than a stripe. */
#define SUM_STRIPE 32
#if XXH_VERSION_NUMBER >= 803
#define SUM_BUFFERED bufferedSize
#else
#define SUM_BUFFERED memsize
#endif

/* Content shorter than this costs less to send than to lend. */
#define LEND_MIN 4096

struct tar_place {
    uint32_t open;
    XXH64_state_t sum; /* of what was handed on of the present entry's content, when that is `open` */
    struct hash diff_id;
    struct tar_guard guard; /* and with it the headers of that entry */
    struct unpack_place unpack;
};
_Static_assert(sizeof(struct tar_place) <= JOB_PLACE_MAX, "job.h promises it");

struct tar {
    struct unpack *unpack;
    struct blocks *blocks;
    uint8_t *block; /* the present one, or NULL */
    const struct job *job;
    struct hash diff_id;
    struct tar_guard guard;
    XXH64_state_t sum;
    bool at_end;
    bool open;     /* an entry's content is being handed on */
    bool again;    /* the first entry's content was, to a part, before this job */
    bool head_due; /* its headers, in place.guard, are the next that libarchive gets; then ... */
    uint64_t fill; /* ... so many zeros for the content it does not need */
    struct tar_place place;
    struct err cause; /* of a failed read, which libarchive only passes on as "failed" */
    struct entry entry;
    struct frame_gather out;
};

struct tar *tar_new(struct unpack *u, struct blocks *b)
{
    struct tar *t = calloc(1, sizeof *t);

    if (!t)
        return NULL;
    t->unpack = u;
    t->blocks = b;
    return t;
}

/* --- bytes of the tar ---------------------------------------------------------------------------------------------- */

/* Through with the present block: stage gets all that was said of it. */
static int block_end(struct tar *t, struct err *e)
{
    int rc = t->block ? frame_gather_add(&t->out, FRAME_BLOCK_END, NULL, 0, e) : 0;

    t->block = NULL;
    return rc == 0 ? frame_gather_flush(&t->out, e) : rc;
}

/* All bytes so far are through libarchive, and what it made of them was said. Where its own state is not empty, that is the
 * headers of the present entry, and how far it is in the content. */
static int checkpoint_offer(struct tar *t, struct err *e)
{
    struct tar_place *p = &t->place;
    struct job_checkpoint head = {.xxh64 = XXH64_digest(&t->sum), .open = t->open};

    if (t->guard.state == GUARD_END || (t->open && t->guard.ended) ||
        t->guard.headers_len > TAR_HEADERS_MAX || !unpack_place(t->unpack, &p->unpack))
        return 0;
    head.at = p->unpack.at;
    p->diff_id = t->diff_id;
    p->guard = t->guard;
    p->sum = t->sum;
    p->open = t->open;
    return frame_write_two(t->out.fd, FRAME_CHECKPOINT, &head, sizeof head, p, sizeof *p, e);
}

static ssize_t block_fill(struct tar *t, struct err *e)
{
    int rc = block_end(t, e);

    if (rc == 0)
        rc = checkpoint_offer(t, e);
    if (rc < 0)
        return rc;
    t->block = blocks_take(t->blocks, e);
    return t->block ? unpack_read(t->unpack, t->block, BLOCK_LEN, e) : e->code;
}

/* Every byte of the tar comes through here, and so through the diff_id, its bound and the guard. */
static ssize_t tar_bytes(struct tar *t)
{
    ssize_t n = t->at_end ? 0 : block_fill(t, &t->cause);

    if (n <= 0) {
        t->at_end = true;
        return n;
    }
    if (t->diff_id.len + (uint64_t)n > t->job->content_max)
        return err_set(&t->cause, ERR_SPACE, "layer unpacks to more than the slot's %" PRIu64 " bytes",
                       t->job->content_max);
    hash_update(&t->diff_id, t->block, (size_t)n);
    if (tar_guard_pass(&t->guard, t->block, (size_t)n, &t->cause) < 0)
        return t->cause.code;
    return n;
}

/* What libarchive must have seen to be where it was at the place. Neither hashed nor looked at: it was, before. */
static ssize_t before_place(struct tar *t, const void **block)
{
    static uint8_t zeros[16384];
    uint64_t n = t->fill < sizeof zeros ? t->fill : sizeof zeros;

    if (t->head_due) {
        t->head_due = false;
        *block = t->place.guard.headers;
        return t->place.guard.headers_len;
    }
    *block = zeros;
    t->fill -= n;
    return (ssize_t)n;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **block)
{
    struct tar *t = ctx;
    ssize_t n;

    if (t->head_due || t->fill > 0)
        return before_place(t, block);
    n = tar_bytes(t);
    if (n < 0) {
        archive_set_error(a, EIO, "read");
        return ARCHIVE_FATAL;
    }
    *block = t->block;
    return n;
}

/* decode runs in the C locale, where libarchive can't convert a pax header's name that is not ASCII: it keeps the bytes
 * and warns. Names are bytes here, so that is what we want; in a locale of UTF-8 it would compose their accents. */
static int header_next(struct archive *a, struct archive_entry **ae)
{
    int rc = archive_read_next_header(a, ae);

    return rc == ARCHIVE_WARN && archive_errno(a) == EILSEQ ? ARCHIVE_OK : rc;
}

static int archive_refused(struct tar *t, struct archive *a, const char *where, struct err *e)
{
    const char *words = archive_error_string(a);

    if (t->cause.code < 0) {
        *e = t->cause;
        return e->code;
    }
    if (archive_errno(a) == ENOMEM)
        return err_set(e, ERR_LIMIT, "tar: %s: decode is at its ceiling of %d KB", where,
                       CONFIG_MEM_DECODE_KB);
    return err_set(e, ERR_FORMAT, "tar: %s: %s", where, words ? words : "damaged");
}

/* --- one entry ----------------------------------------------------------------------------------------------------- */

static int xattrs_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    const char *name;
    const void *value;
    size_t len;
    int rc = 0;

    archive_entry_xattr_reset(ae);
    /* a pax value of no length means that there is none (POSIX), and all of Docker's family reads it so */
    while (rc == 0 && archive_entry_xattr_next(ae, &name, &value, &len) == ARCHIVE_OK)
        rc = len > 0 ? rules_xattr(en, name, value, len, e) : 0;
    return rc;
}

static int device_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    return rules_device(en, (uint64_t)archive_entry_rdevmajor(ae), (uint64_t)archive_entry_rdevminor(ae), e);
}

static int type_read(struct entry *en, struct archive_entry *ae, uint64_t content_max, struct err *e)
{
    struct node *n = &en->node;

    switch (archive_entry_filetype(ae)) {
    case AE_IFREG:
        n->type = NODE_FILE;
        if (archive_entry_size(ae) < 0)
            return err_set(e, ERR_FORMAT, "%.120s: negative size", en->path);
        if ((uint64_t)archive_entry_size(ae) > content_max)
            return err_set(e, ERR_SPACE, "%.120s: file of %" PRId64 " bytes, the slot has %" PRIu64, en->path,
                           (int64_t)archive_entry_size(ae), content_max);
        n->size = (uint64_t)archive_entry_size(ae);
        break;
    case AE_IFDIR:
        n->type = NODE_DIR;
        break;
    case AE_IFLNK:
        n->type = NODE_SYMLINK;
        break;
    case AE_IFCHR:
    case AE_IFBLK:
        n->type = archive_entry_filetype(ae) == AE_IFCHR ? NODE_CHAR : NODE_BLOCK;
        return device_read(en, ae, e);
    case AE_IFIFO:
        n->type = NODE_FIFO;
        break;
    default:
        return err_set(e, ERR_POLICY, "%.120s: entry of an unknown type", en->path);
    }
    if (n->type != NODE_FILE && archive_entry_size(ae) > 0)
        return err_set(e, ERR_POLICY, "%.120s: entry that is no file with content", en->path);
    return 0;
}

static int owner_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    int64_t uid = archive_entry_uid(ae), gid = archive_entry_gid(ae);

    if (uid < 0 || uid > UINT32_MAX - 1 || gid < 0 || gid > UINT32_MAX - 1)
        return err_set(e, ERR_POLICY, "%.120s: owner %" PRId64 ":%" PRId64 ", want 0 to 4294967294", en->path,
                       uid, gid);
    en->node.uid = (uint32_t)uid;
    en->node.gid = (uint32_t)gid;
    en->node.mode = (uint32_t)archive_entry_perm(ae) & 07777;
    en->node.mtime_s = archive_entry_mtime(ae);
    en->node.mtime_ns = (uint32_t)archive_entry_mtime_nsec(ae);
    /* libarchive (3.7) reads "-1.25" as -1 and +0.25 */
    if (en->node.mtime_s < 0 && en->node.mtime_ns > 0) {
        en->node.mtime_s--;
        en->node.mtime_ns = 1000000000 - en->node.mtime_ns;
    }
    return 0;
}

/* Fill t->entry. Returns 1 when there is nothing to hand on. */
static int entry_fill(struct tar *t, struct archive_entry *ae, struct err *e)
{
    struct entry *en = &t->entry;
    const char *name = archive_entry_pathname(ae);
    int rc;

    if (!name)
        return err_set(e, ERR_FORMAT, "entry without a readable name");
    /* a directory of old tars; libarchive sees this too, but not in a pax header's name */
    if (archive_entry_filetype(ae) == AE_IFREG && name[0] && name[strlen(name) - 1] == '/')
        archive_entry_set_filetype(ae, AE_IFDIR);
    rc = rules_begin(en, name, archive_entry_filetype(ae) == AE_IFDIR, e);
    if (rc != 0 || en->type != ENTRY_NODE)
        return rc;
    if (archive_entry_hardlink(ae))
        return rules_hardlink(en, archive_entry_hardlink(ae), e);
    rc = type_read(en, ae, t->job->content_max, e);
    if (rc == 0 && en->node.type == NODE_SYMLINK)
        rc = rules_target(en, archive_entry_symlink(ae), e);
    if (rc == 0)
        rc = owner_read(en, ae, e);
    if (rc == 0)
        rc = xattrs_read(en, ae, e);
    return rc;
}

static int content_give(struct tar *t, const void *bytes, size_t len, struct err *e)
{
    struct iovec data = {(void *)(uintptr_t)bytes, len};
    struct lent lent;

    if (len < LEND_MIN || !blocks_hold(t->blocks, bytes, len, &lent)) /* libarchive has copied it */
        return frame_gather_add(&t->out, FRAME_DATA, &data, 1, e);
    return frame_gather_add(&t->out, FRAME_LENT, &(struct iovec){&lent, sizeof lent}, 1, e);
}

static int content_write(struct tar *t, struct archive *a, struct err *e)
{
    struct entry_end end;
    uint64_t done = 0, known = t->again ? t->place.guard.content : 0;
    const void *block;
    la_int64_t at;
    size_t len;
    int rc;

    if (!t->again)
        XXH64_reset(&t->sum, 0);
    t->again = false;
    t->open = true;
    while ((rc = archive_read_data_block(a, &block, &len, &at)) == ARCHIVE_OK) {
        if ((uint64_t)at != done || done + len > t->entry.node.size)
            return err_set(e, ERR_POLICY, "tar: %.120s: content with holes", t->entry.path);
        done += len;
        if (done <= known) /* zeros in its place */
            continue;
        XXH64_update(&t->sum, block, len);
        if (content_give(t, block, len, e) < 0)
            return e->code;
    }
    t->open = false;
    if (rc != ARCHIVE_EOF)
        return archive_refused(t, a, t->entry.path, e);
    if (done != t->entry.node.size)
        return err_set(e, ERR_FORMAT, "tar: %.120s: %" PRIu64 " bytes, header says %" PRIu64, t->entry.path,
                       done, t->entry.node.size);
    end.xxh64 = XXH64_digest(&t->sum);
    return frame_gather_add(&t->out, FRAME_ENTRY_END, &(struct iovec){&end, sizeof end}, 1, e);
}

static int entry_hand_on(struct tar *t, struct archive *a, struct archive_entry *ae, struct err *e)
{
    struct entry *en = &t->entry;
    int rc = entry_fill(t, ae, e);

    if (rc < 0)
        return err_prefix(e, "tar");
    if (rc == 1 || (t->job->only[0] && strcmp(en->path, t->job->only)))
        return archive_read_data_skip(a) == ARCHIVE_OK ? 0 : archive_refused(t, a, en->path, e);
    rc = entry_write(&t->out, en, e);
    if (rc == 0 && en->type == ENTRY_NODE && en->node.type == NODE_FILE)
        rc = content_write(t, a, e);
    return rc;
}

/* --- the whole layer ----------------------------------------------------------------------------------------------- */

static int entries_stream(struct tar *t, struct archive *a, struct err *e)
{
    struct archive_entry *ae;
    int rc;

    while ((rc = header_next(a, &ae)) == ARCHIVE_OK) {
        rc = entry_hand_on(t, a, ae, e);
        if (rc < 0)
            return rc;
    }
    return rc == ARCHIVE_EOF ? 0 : archive_refused(t, a, "header", e);
}

/* What follows the end of the archive counts for the diff_id. */
static int rest_drain(struct tar *t, struct err *e)
{
    ssize_t n;

    do
        n = tar_bytes(t);
    while (n > 0);
    if (n < 0)
        *e = t->cause;
    return (int)n;
}

void *tar_place_room(struct tar *t, uint32_t *len)
{
    *len = sizeof t->place;
    return &t->place;
}

/* The place comes from a file, by way of stage, and from a decode that may have been another's by then. */
static int place_take(struct tar *t, const struct job *job, const struct source *blob, struct err *e)
{
    const struct tar_place *p = &t->place;

    if (!tar_guard_is_sound(&p->guard) || p->sum.SUM_BUFFERED >= SUM_STRIPE || p->open > 1)
        return err_set(e, ERR_FORMAT, "tar: no place to go on from");
    t->diff_id = p->diff_id;
    hash_go_on(&t->diff_id);
    t->guard = p->guard;
    t->sum = p->sum;
    t->again = p->open;
    t->head_due = !p->guard.ended && p->guard.headers_len > 0;
    t->fill = p->guard.ended ? 0 : p->guard.content;
    return unpack_resume(t->unpack, (enum codec)job->codec, blob, job->offset, &p->unpack, e);
}

static int place_begin(struct tar *t, const struct job *job, const struct source *blob, struct err *e)
{
    int rc;

    t->open = t->again = t->head_due = false;
    t->fill = 0;
    if (job->every > 0 || job->go_on)
        hash_begin_portable(&t->diff_id);
    else
        hash_begin(&t->diff_id);
    tar_guard_begin(&t->guard);
    rc = job->go_on ? place_take(t, job, blob, e) : unpack_begin(t->unpack, (enum codec)job->codec, blob, e);
    unpack_places(t->unpack, job->every);
    return rc;
}

int tar_stream(struct tar *t, const struct job *job, const struct source *blob, int out_fd,
               struct job_end *end, struct err *e)
{
    struct archive *a = archive_read_new();
    struct digest got;
    struct err late;
    int rc, ended;

    if (!a)
        return err_set(e, ERR_LIMIT, "tar: decode is at its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    t->job = job;
    t->at_end = false;
    t->cause = (struct err){0};
    t->out.fd = out_fd;
    rc = place_begin(t, job, blob, e);
    if (rc == 0) {
        archive_read_support_format_tar(a);
        if (archive_read_open(a, t, NULL, on_read, NULL) != ARCHIVE_OK)
            rc = archive_refused(t, a, "start", e);
    }
    if (rc == 0)
        rc = entries_stream(t, a, e);
    if (rc == 0)
        rc = rest_drain(t, e);
    archive_read_free(a);
    ended = block_end(t, &late);
    if (rc == 0 && ended < 0) {
        *e = late;
        rc = ended;
    }
    end->tar_len = t->diff_id.len;
    hash_end(&t->diff_id, &got);
    return rc < 0 ? rc : digest_check("diff_id", &job->diff_id, &got, e);
}
