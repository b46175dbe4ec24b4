#include "oci/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "oci/json.h"
#include "stream/frame.h"

#define DOCUMENT_MAX ((size_t)CONFIG_OCI_JSON_MAX_KB * 1024)
#define PIECE_LEN 65536 /* of DOCUMENT_MAX, which is no less */
#define NAME_MAX_LEN 96
#define TAR_BLOCK 512u

/* --- files of the layout ------------------------------------------------------------------------------------------ */

struct file {
    int fd;
    bool own; /* fd is to be closed */
    uint64_t at, len;
};

static void file_close(const struct file *f)
{
    if (f->own)
        close(f->fd);
}

/* A number of a tar header: octal digits, or with the highest bit set its last 8 bytes (GNU, for what is large). */
static uint64_t tar_number(const uint8_t *s, size_t len)
{
    uint64_t value = 0;

    if (s[0] & 0x80)
        for (size_t i = len - 8; i < len; i++)
            value = value << 8 | s[i];
    else
        for (size_t i = 0; i < len; i++)
            if (s[i] >= '0' && s[i] <= '7')
                value = value << 3 | (uint64_t)(s[i] - '0');
    return value;
}

/* By hand, since ranges are asked for, and libarchive tells nobody where in the file an entry's bytes lie. Names are short,
 * so that no header but the first block matters. 1 when found, 0, or an error. */
static int archive_find(int fd, const char *name, struct file *out, struct err *e)
{
    uint8_t head[TAR_BLOCK];
    uint64_t at = 0;
    ssize_t n;

    while ((n = io_pread_full(fd, head, sizeof head, (off_t)at)) == (ssize_t)sizeof head && head[0] != '\0') {
        const char *found = (const char *)head;
        uint64_t len = tar_number(head + 124, 12);

        found += strncmp(found, "./", 2) == 0 ? 2 : 0;
        if (memcmp(head + 257, "ustar", 5) != 0 || len > INT64_MAX / 2 - at)
            return err_set(e, ERR_FORMAT, "no tar of an image layout, or a damaged one");
        at += TAR_BLOCK;
        if ((head[156] == '0' || head[156] == '\0') && strncmp(found, name, 100) == 0) {
            *out = (struct file){.fd = fd, .at = at, .len = len};
            return 1;
        }
        at += (len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
    return n < 0 ? err_errno(e, "read") : 0;
}

static int file_open(const struct layout *l, const char *name, struct file *out, struct err *e)
{
    struct stat st;
    int rc;

    if (l->dir_fd < 0) {
        rc = archive_find(l->archive_fd, name, out, e);
        return rc == 0 ? err_set(e, ERR_ABSENT, "has no %s", name) : rc < 0 ? rc : 0;
    }
    *out = (struct file){.fd = IO_RETRY(openat(l->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK)),
                         .own = true};
    if (out->fd < 0 && errno == ENOENT)
        return err_set(e, ERR_ABSENT, "has no %s", name);
    if (out->fd < 0 && errno == EACCES)
        rc = err_set(e, -EACCES, "%s: Permission denied: it must be in this folder, and readable for all",
                     name);
    else if (out->fd < 0 || fstat(out->fd, &st) < 0)
        rc = err_errno(e, "%s", name);
    else if (!S_ISREG(st.st_mode))
        rc = err_set(e, ERR_FORMAT, "%s is no file", name);
    else {
        out->len = (uint64_t)st.st_size;
        return 0;
    }
    if (out->fd >= 0)
        close(out->fd);
    return rc;
}

static void blob_name(const struct digest *d, char out[NAME_MAX_LEN])
{
    char text[DIGEST_TEXT_LEN];

    digest_format(d, text);
    snprintf(out, NAME_MAX_LEN, "blobs/sha256/%s", text + strlen("sha256:"));
}

/* --- documents -------------------------------------------------------------------------------------------------- */

static int document_read(const struct layout *l, const char *name, cJSON **out, struct err *e)
{
    struct file f;
    ssize_t n = 0;
    int rc = file_open(l, name, &f, e);

    if (rc < 0)
        return rc;
    if (f.len > DOCUMENT_MAX)
        rc = err_set(e, ERR_LIMIT, "%s of %llu bytes, this build takes %zu", name, (unsigned long long)f.len,
                     DOCUMENT_MAX);
    else if ((n = io_pread_full(f.fd, l->text, (size_t)f.len, (off_t)f.at)) < 0)
        rc = err_errno(e, "%s", name);
    file_close(&f);
    if (rc == 0)
        rc = json_parse(l->text, (size_t)n, out, e);
    return rc < 0 ? err_prefix(e, "%s", name) : 0;
}

/* What a registry would call it: what it calls itself, or else what it looks like. */
static enum oci_media media_of(const cJSON *root)
{
    const char *type = NULL;
    struct err ignored;

    if (json_string(root, "mediaType", JSON_OPTIONAL, &type, &ignored) == 0 && type)
        return oci_media_parse(type, strlen(type));
    return cJSON_GetObjectItemCaseSensitive(root, "manifests") ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST;
}

static int media_read(const struct layout *l, const struct digest *d, uint32_t *out, struct err *e)
{
    char name[NAME_MAX_LEN];
    cJSON *root;
    int rc;

    blob_name(d, name);
    rc = document_read(l, name, &root, e);
    if (rc < 0)
        return rc;
    *out = media_of(root);
    json_free(root);
    return 0;
}

/* --- index.json --------------------------------------------------------------------------------------------------- */

static bool has_note(const cJSON *entry, const char *key, const char *value)
{
    const cJSON *notes = cJSON_GetObjectItemCaseSensitive(entry, "annotations");
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(notes, key));

    return text && strcmp(text, value) == 0;
}

/* The entry of that name, or of cosign's `kind` where that is not NULL. */
static const cJSON *entry_find(const cJSON *list, const char *name, const char *kind)
{
    const cJSON *entry;

    cJSON_ArrayForEach(entry, list)
    {
        if (has_note(entry, "org.opencontainers.image.ref.name", name) ||
            (kind && has_note(entry, "kind", kind)))
            return entry;
    }
    return NULL;
}

/* 1 and its digest, 0 when there is none, or an error. `alone`: the only entry will do, whatever it is called. */
static int index_find(const struct layout *l, const char *name, const char *kind, bool alone,
                      struct digest *out, struct err *e)
{
    const cJSON *list, *entry;
    cJSON *root;
    int rc = document_read(l, "index.json", &root, e);

    if (rc < 0)
        return rc;
    rc = json_array(root, "manifests", JSON_REQUIRED, &list, e);
    entry = rc < 0 ? NULL : entry_find(list, name, kind);
    if (rc == 0 && !entry && alone && cJSON_GetArraySize(list) == 1)
        entry = list->child;
    if (rc == 0 && entry)
        rc = json_digest(entry, "digest", out, e) < 0 ? e->code : 1;
    json_free(root);
    return rc;
}

/* --- serving ------------------------------------------------------------------------------------------------------ */

static int from_source(const struct layout *l, struct err *e)
{
    return err_prefix(e, "%s", l->source);
}

int layout_open(struct layout *l, const struct conf_registry *conf, const char *source, struct err *e)
{
    bool archive = strncmp(source, LAYOUT_ARCHIVE, strlen(LAYOUT_ARCHIVE)) == 0;
    const char *path = source + strlen(archive ? LAYOUT_ARCHIVE : LAYOUT_DIR);
    char at[REACH_PATH_MAX];
    int fd;

    if (!archive && reach_let(path, REACH_READ, e) < 0)
        return e->code;
    fd = IO_RETRY(open(archive ? path : reach_at(path, at),
                       O_RDONLY | O_CLOEXEC | O_NONBLOCK | (archive ? 0 : O_DIRECTORY)));
    if (fd < 0)
        return err_errno(e, "%s", source);
    *l = (struct layout){.text = malloc(DOCUMENT_MAX),
                         .conf = conf,
                         .source = source,
                         .dir_fd = archive ? -1 : fd,
                         .archive_fd = archive ? fd : -1};
    return l->text
               ? 0
               : err_set(e, ERR_LIMIT, "fetch does not fit under its ceiling of %d KB", CONFIG_MEM_FETCH_KB);
}

int layout_resolve(struct layout *l, struct fetch_resolved *out, struct err *e)
{
    int rc = index_find(l, l->conf->tag, "dev.cosignproject.cosign/image", true, &out->digest, e);

    *out = (struct fetch_resolved){.digest = out->digest};
    if (rc == 0)
        rc = err_set(e, ERR_ABSENT, "index.json names no image \"%s\", and not just one", l->conf->tag);
    if (rc > 0)
        rc = media_read(l, &out->digest, &out->media, e);
    return rc < 0 ? from_source(l, e) : 0;
}

static int range_send(const struct layout *l, const struct file *f, uint64_t at, uint64_t end, int fd,
                      struct err *e)
{
    while (at < end) {
        size_t want = end - at < PIECE_LEN ? (size_t)(end - at) : PIECE_LEN;
        ssize_t n = io_pread_full(f->fd, l->text, want, (off_t)(f->at + at));

        if (n < 0)
            return err_errno(e, "read");
        if ((size_t)n != want)
            return err_set(e, ERR_SIZE, "ends after %llu bytes", (unsigned long long)at + (unsigned)n);
        if (frame_write(fd, FRAME_BODY, l->text, (uint32_t)n, e) < 0)
            return err_set(e, ERR_PEER, "the reader of the body went away");
        at += (uint64_t)n;
    }
    return 0;
}

static int blob_send(const struct layout *l, const struct fetch_request *q, const struct digest *d, int fd,
                     struct err *e)
{
    bool is_blob = q->kind == FETCH_BLOB || q->kind == FETCH_PART;
    uint64_t from = is_blob ? q->offset : 0;
    char name[NAME_MAX_LEN];
    struct file f;
    int rc;

    blob_name(d, name);
    rc = file_open(l, name, &f, e);
    if (rc < 0)
        return rc;
    if (is_blob ? f.len != q->size : f.len > q->size)
        rc = err_set(e, ERR_SIZE, "%s: want %s%llu bytes, got %llu", name, is_blob ? "" : "at most ",
                     (unsigned long long)q->size, (unsigned long long)f.len);
    else if (from > f.len || (q->kind == FETCH_PART && (q->end > f.len || from >= q->end)))
        rc = err_set(e, ERR_STATE, "%s: no such part", name);
    else
        rc = range_send(l, &f, from, q->kind == FETCH_PART ? q->end : f.len, fd, e);
    file_close(&f);
    return rc;
}

/* 1 and the digest of what goes by the request's name, 0 when there is nothing, or an error. */
static int named_find(const struct layout *l, const struct fetch_request *q, struct digest *out,
                      struct err *e)
{
    char digest[DIGEST_TEXT_LEN], name[160];
    const char *hex = digest + strlen("sha256:");

    digest_format(&q->digest, digest);
    switch (q->kind) {
    case FETCH_SIGNATURES:
        snprintf(name, sizeof name, "sha256-%s.sig", hex);
        return index_find(l, name, "dev.cosignproject.cosign/sigs", false, out, e);
    case FETCH_REFERRERS:
        snprintf(name, sizeof name, "sha256-%s", hex);
        break;
    case FETCH_ROOT:
        snprintf(name, sizeof name, "slipway-root");
        break;
    default:
        snprintf(name, sizeof name, "%s.brake", l->conf->tag);
    }
    return index_find(l, name, NULL, false, out, e);
}

int layout_body(struct layout *l, const struct fetch_request *q, int fd, struct fetch_end *out, struct err *e)
{
    bool named = q->kind != FETCH_BLOB && q->kind != FETCH_PART && q->kind != FETCH_MANIFEST;
    struct digest d = q->digest;
    int rc = named ? named_find(l, q, &d, e) : 1;

    *out = (struct fetch_end){.tries = 1};
    if (rc > 0 && q->kind == FETCH_MANIFEST)
        rc = media_read(l, &d, &out->media, e) < 0 ? e->code : 1;
    if (rc > 0)
        rc = blob_send(l, q, &d, fd, e);
    return rc < 0 && rc != ERR_PEER ? from_source(l, e) : rc;
}
