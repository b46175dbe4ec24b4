#include "stream/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "stream/tar_guard.h"

#define WHITEOUT ".wh."
#define WHITEOUT_LEN 4
#define WHITEOUT_OPAQUE ".wh..wh..opq"
#define WHITEOUT_META ".wh..wh."
/* of the kernel's dev_t */
#define DEV_MAJOR_MAX 0xfff
#define DEV_MINOR_MAX 0xfffff

struct tar {
    struct unpack *unpack;
    const struct job *job;
    struct hash diff_id;
    struct tar_guard guard;
    XXH64_state_t *sum;
    bool at_end;
    struct err cause; /* of a failed read, which libarchive only passes on as "failed" */
    struct entry entry;
};

struct tar *tar_new(void)
{
    struct tar *t = calloc(1, sizeof *t);

    if (!t || !(t->unpack = unpack_new()) || !(t->sum = XXH64_createState()))
        return NULL;
    return t;
}

/* --- bytes of the tar ---------------------------------------------------------------------------------------------- */

/* Every byte of the tar comes through here, and so through the diff_id, its bound and the guard. */
static ssize_t tar_bytes(struct tar *t, uint8_t **block)
{
    ssize_t n = t->at_end ? 0 : unpack_read(t->unpack, block, &t->cause);

    if (n <= 0) {
        t->at_end = true;
        return n;
    }
    if (t->diff_id.len + (uint64_t)n > t->job->content_max)
        return err_set(&t->cause, ERR_SPACE, "layer unpacks to more than the slot's %" PRIu64 " bytes",
                       t->job->content_max);
    hash_update(&t->diff_id, *block, (size_t)n);
    if (tar_guard_pass(&t->guard, *block, (size_t)n, &t->cause) < 0)
        return t->cause.code;
    return n;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **block)
{
    struct tar *t = ctx;
    uint8_t *bytes = NULL;
    ssize_t n = tar_bytes(t, &bytes);

    if (n < 0) {
        archive_set_error(a, EIO, "read");
        return ARCHIVE_FATAL;
    }
    *block = bytes;
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
    return err_set(e, ERR_FORMAT, "tar: %s: %s", where, words ? words : "damaged");
}

/* --- names --------------------------------------------------------------------------------------------------------- */

/* Normalise `in` into `out`. Returns its length, or an error. */
static int path_normalise(const char *in, char out[NODE_PATH_MAX], struct err *e)
{
    size_t len = 0;

    if (in[0] == '\0')
        return err_set(e, ERR_POLICY, "tar: entry with an empty name");
    for (const char *at = in; *at;) {
        size_t part = strcspn(at, "/");

        if (part == 2 && at[0] == '.' && at[1] == '.') {
            char *slash;

            if (len == 0)
                return err_set(e, ERR_POLICY, "tar: %.80s: leaves the root", in);
            out[len] = '\0';
            slash = strrchr(out, '/');
            len = slash ? (size_t)(slash - out) : 0;
        } else if (part > 0 && !(part == 1 && at[0] == '.')) {
            if (part > NODE_NAME_MAX || len + part + 2 > NODE_PATH_MAX)
                return err_set(e, ERR_LIMIT, "tar: %.80s...: name longer than %d or path longer than %d", in,
                               NODE_NAME_MAX, NODE_PATH_MAX - 1);
            if (len)
                out[len++] = '/';
            memcpy(out + len, at, part);
            len += part;
        }
        at += part;
        at += strspn(at, "/");
    }
    out[len] = '\0';
    return (int)len;
}

/* Turn a whiteout's name into its meaning. Returns 1 when the entry means nothing (other tools' marks). */
static int whiteout_apply(struct entry *en, bool is_dir, struct err *e)
{
    char *slash = strrchr(en->path, '/');
    char *name = slash ? slash + 1 : en->path;

    if (strncmp(en->path, WHITEOUT, WHITEOUT_LEN) && !strstr(en->path, "/" WHITEOUT))
        return 0;
    if (strncmp(en->path, WHITEOUT_META, strlen(WHITEOUT_META)) == 0 && strcmp(en->path, WHITEOUT_OPAQUE))
        return 1;
    if (strncmp(name, WHITEOUT, WHITEOUT_LEN))
        return err_set(e, ERR_POLICY, "tar: %.120s: below a whiteout", en->path);
    if (is_dir)
        return err_set(e, ERR_POLICY, "tar: %.120s: a directory named as a whiteout", en->path);
    if (strcmp(name, WHITEOUT_OPAQUE) == 0) {
        en->type = ENTRY_OPAQUE;
        *(slash ? slash : en->path) = '\0';
        return 0;
    }
    if (strncmp(name, WHITEOUT_META, strlen(WHITEOUT_META)) == 0)
        return 1;
    name += WHITEOUT_LEN;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return err_set(e, ERR_POLICY, "tar: %.120s: a whiteout of nothing", en->path);
    en->type = ENTRY_WHITEOUT;
    memmove(name - WHITEOUT_LEN, name, strlen(name) + 1);
    return 0;
}

/* --- one entry ----------------------------------------------------------------------------------------------------- */

/* The same attribute twice in one header: readers differ on which one counts. */
static bool xattr_is_there(const struct entry *en, const char *name)
{
    const uint8_t *at = en->xattrs;

    for (uint16_t i = 0; i < en->node.xattr_cnt; i++) {
        uint16_t name_len;
        uint32_t value_len;

        memcpy(&name_len, at, sizeof name_len);
        memcpy(&value_len, at + 2, sizeof value_len);
        if (name_len == strlen(name) && memcmp(at + 6, name, name_len) == 0)
            return true;
        at += 6u + name_len + value_len;
    }
    return false;
}

static int xattr_add(struct entry *en, const char *name, const void *value, size_t len, struct err *e)
{
    uint16_t name_len = (uint16_t)strlen(name);
    uint32_t value_len = (uint32_t)len;
    uint8_t *at = en->xattrs + en->node.xattr_len;

    if (xattr_is_there(en, name))
        return err_set(e, ERR_POLICY, "tar: %.120s: extended attribute %.60s comes twice", en->path, name);
    if (!entry_xattr_allowed(name, strlen(name)))
        return err_set(e, ERR_POLICY, "tar: %.120s: extended attribute %.60s is not allowed", en->path, name);
    if (sizeof name_len + sizeof value_len + name_len + len > ENTRY_XATTR_MAX - en->node.xattr_len)
        return err_set(e, ERR_LIMIT, "tar: %.120s: extended attributes of more than %d bytes", en->path,
                       ENTRY_XATTR_MAX);
    memcpy(at, &name_len, sizeof name_len);
    memcpy(at + 2, &value_len, sizeof value_len);
    memcpy(at + 6, name, name_len);
    memcpy(at + 6 + name_len, value, len);
    en->node.xattr_len += 6u + name_len + value_len;
    en->node.xattr_cnt++;
    return 0;
}

static int xattrs_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    const char *name;
    const void *value;
    size_t len;
    int rc = 0;

    archive_entry_xattr_reset(ae);
    while (rc == 0 && archive_entry_xattr_next(ae, &name, &value, &len) == ARCHIVE_OK)
        rc = xattr_add(en, name, value, len, e);
    return rc;
}

static int device_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    uint64_t major = (uint64_t)archive_entry_rdevmajor(ae), minor = (uint64_t)archive_entry_rdevminor(ae);

    if (major > DEV_MAJOR_MAX || minor > DEV_MINOR_MAX)
        return err_set(e, ERR_POLICY,
                       "tar: %.120s: device number %" PRIu64 ":%" PRIu64 ", Linux has up to %d:%d", en->path,
                       major, minor, DEV_MAJOR_MAX, DEV_MINOR_MAX);
    if (en->node.type == NODE_CHAR && major == 0 && minor == 0)
        return err_set(e, ERR_POLICY, "tar: %.120s: device 0:0 is overlayfs's whiteout", en->path);
    en->node.dev_major = (uint32_t)major;
    en->node.dev_minor = (uint32_t)minor;
    return 0;
}

static int type_read(struct entry *en, struct archive_entry *ae, uint64_t content_max, struct err *e)
{
    struct node *n = &en->node;

    switch (archive_entry_filetype(ae)) {
    case AE_IFREG:
        n->type = NODE_FILE;
        if (archive_entry_size(ae) < 0)
            return err_set(e, ERR_FORMAT, "tar: %.120s: negative size", en->path);
        if ((uint64_t)archive_entry_size(ae) > content_max)
            return err_set(e, ERR_SPACE, "tar: %.120s: file of %" PRId64 " bytes, the slot has %" PRIu64,
                           en->path, (int64_t)archive_entry_size(ae), content_max);
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
        return err_set(e, ERR_POLICY, "tar: %.120s: entry of an unknown type", en->path);
    }
    if (n->type != NODE_FILE && archive_entry_size(ae) > 0)
        return err_set(e, ERR_POLICY, "tar: %.120s: entry that is no file with content", en->path);
    return 0;
}

static int target_read(struct entry *en, const char *target, struct err *e)
{
    if (!target || !target[0] || strlen(target) >= sizeof en->target)
        return err_set(e, ERR_POLICY, "tar: %.120s: link target empty or longer than %d", en->path,
                       NODE_PATH_MAX - 1);
    memcpy(en->target, target, strlen(target) + 1);
    return 0;
}

static int owner_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    int64_t uid = archive_entry_uid(ae), gid = archive_entry_gid(ae);

    if (uid < 0 || uid > UINT32_MAX - 1 || gid < 0 || gid > UINT32_MAX - 1)
        return err_set(e, ERR_POLICY, "tar: %.120s: owner %" PRId64 ":%" PRId64 ", want 0 to 4294967294",
                       en->path, uid, gid);
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

static int hardlink_read(struct entry *en, struct archive_entry *ae, struct err *e)
{
    char raw[NODE_PATH_MAX];
    int rc;

    en->type = ENTRY_HARDLINK;
    rc = target_read(en, archive_entry_hardlink(ae), e);
    if (rc < 0)
        return rc;
    memcpy(raw, en->target, strlen(en->target) + 1);
    rc = path_normalise(raw, en->target, e);
    if (rc == 0)
        return err_set(e, ERR_POLICY, "tar: %.120s: hard link to the root", en->path);
    return rc < 0 ? rc : 0;
}

/* Fill t->entry. Returns 1 when there is nothing to hand on. */
static int entry_fill(struct tar *t, struct archive_entry *ae, struct err *e)
{
    struct entry *en = &t->entry;
    const char *name = archive_entry_pathname(ae);
    int rc;

    memset(&en->node, 0, sizeof en->node);
    en->type = ENTRY_NODE;
    en->target[0] = '\0';
    en->node.target = en->target;
    en->node.xattrs = en->xattrs;
    if (!name)
        return err_set(e, ERR_FORMAT, "tar: entry without a readable name");
    /* a directory of old tars; libarchive sees this too, but not in a pax header's name */
    if (archive_entry_filetype(ae) == AE_IFREG && name[0] && name[strlen(name) - 1] == '/')
        archive_entry_set_filetype(ae, AE_IFDIR);
    rc = path_normalise(name, en->path, e);
    if (rc >= 0)
        rc = whiteout_apply(en, archive_entry_filetype(ae) == AE_IFDIR, e);
    if (rc != 0 || en->type != ENTRY_NODE)
        return rc;
    if (en->path[0] == '\0' && archive_entry_filetype(ae) != AE_IFDIR)
        return err_set(e, ERR_POLICY, "tar: the root is not a directory");
    if (archive_entry_hardlink(ae))
        return hardlink_read(en, ae, e);
    rc = type_read(en, ae, t->job->content_max, e);
    if (rc == 0 && en->node.type == NODE_SYMLINK)
        rc = target_read(en, archive_entry_symlink(ae), e);
    if (rc == 0)
        rc = owner_read(en, ae, e);
    if (rc == 0)
        rc = xattrs_read(en, ae, e);
    return rc;
}

static int content_write(struct tar *t, struct archive *a, int out_fd, struct err *e)
{
    struct entry_end end;
    uint64_t done = 0;
    const void *block;
    la_int64_t at;
    size_t len;
    int rc;

    XXH64_reset(t->sum, 0);
    while ((rc = archive_read_data_block(a, &block, &len, &at)) == ARCHIVE_OK) {
        if ((uint64_t)at != done || done + len > t->entry.node.size)
            return err_set(e, ERR_POLICY, "tar: %.120s: content with holes", t->entry.path);
        done += len;
        if (len == 0)
            continue;
        XXH64_update(t->sum, block, len);
        if (frame_write(out_fd, FRAME_DATA, block, (uint32_t)len, e) < 0)
            return e->code;
    }
    if (rc != ARCHIVE_EOF)
        return archive_refused(t, a, t->entry.path, e);
    if (done != t->entry.node.size)
        return err_set(e, ERR_FORMAT, "tar: %.120s: %" PRIu64 " bytes, header says %" PRIu64, t->entry.path,
                       done, t->entry.node.size);
    end.xxh64 = XXH64_digest(t->sum);
    return frame_write(out_fd, FRAME_ENTRY_END, &end, sizeof end, e);
}

static int entry_hand_on(struct tar *t, struct archive *a, struct archive_entry *ae, int out_fd,
                         struct err *e)
{
    struct entry *en = &t->entry;
    int rc = entry_fill(t, ae, e);

    if (rc < 0)
        return rc;
    if (rc == 1 || (t->job->only[0] && strcmp(en->path, t->job->only)))
        return archive_read_data_skip(a) == ARCHIVE_OK ? 0 : archive_refused(t, a, en->path, e);
    rc = entry_write(out_fd, en, e);
    if (rc == 0 && en->type == ENTRY_NODE && en->node.type == NODE_FILE)
        rc = content_write(t, a, out_fd, e);
    return rc;
}

/* --- the whole layer ----------------------------------------------------------------------------------------------- */

static int entries_stream(struct tar *t, struct archive *a, int out_fd, struct err *e)
{
    struct archive_entry *ae;
    int rc;

    while ((rc = header_next(a, &ae)) == ARCHIVE_OK) {
        rc = entry_hand_on(t, a, ae, out_fd, e);
        if (rc < 0)
            return rc;
    }
    return rc == ARCHIVE_EOF ? 0 : archive_refused(t, a, "header", e);
}

/* What follows the end of the archive counts for the diff_id. */
static int rest_drain(struct tar *t, struct err *e)
{
    uint8_t *block;
    ssize_t n;

    do
        n = tar_bytes(t, &block);
    while (n > 0);
    if (n < 0)
        *e = t->cause;
    return (int)n;
}

static int diff_id_check(struct tar *t, const struct digest *got, struct err *e)
{
    char want_text[DIGEST_TEXT_LEN], got_text[DIGEST_TEXT_LEN];

    if (digest_compare(&t->job->diff_id, got) == VERDICT_MATCH)
        return 0;
    digest_format(&t->job->diff_id, want_text);
    digest_format(got, got_text);
    return err_set(e, ERR_DIGEST, "diff_id mismatch: want %s, got %s", want_text, got_text);
}

int tar_stream(struct tar *t, const struct job *job, const struct source *blob, int out_fd,
               struct job_end *end, struct err *e)
{
    struct archive *a = archive_read_new();
    struct digest got;
    int rc;

    if (!a)
        return err_set(e, ERR_LIMIT, "tar: decode is at its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    t->job = job;
    t->at_end = false;
    t->cause = (struct err){0};
    hash_begin(&t->diff_id);
    tar_guard_begin(&t->guard);
    rc = unpack_begin(t->unpack, (enum codec)job->codec, blob, e);
    if (rc == 0) {
        archive_read_support_format_tar(a);
        if (archive_read_open(a, t, NULL, on_read, NULL) != ARCHIVE_OK)
            rc = archive_refused(t, a, "start", e);
    }
    if (rc == 0)
        rc = entries_stream(t, a, out_fd, e);
    if (rc == 0)
        rc = rest_drain(t, e);
    archive_read_free(a);
    end->tar_len = t->diff_id.len;
    end->hash_kib_s = hash_engine_speed();
    hash_end(&t->diff_id, &got);
    return rc < 0 ? rc : diff_id_check(t, &got, e);
}
