#include "stream/chunked.h"

#include <inttypes.h>
#include <mbedtls/base64.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/moment.h"
#include "stream/entry.h"
#include "stream/jstream.h"
#include "stream/rules.h"

#define TEXT_LEN (64 * 1024)

/* One element of "entries". Each key's bit in `seen`, so that none comes twice. */
enum key {
    KEY_TYPE,
    KEY_NAME,
    KEY_LINK,
    KEY_MODE,
    KEY_SIZE,
    KEY_UID,
    KEY_GID,
    KEY_MTIME,
    KEY_MAJOR,
    KEY_MINOR,
    KEY_XATTRS,
    KEY_DIGEST,
    KEY_OFFSET,
    KEY_END,
    KEY_CHUNK_SIZE,
    KEY_CHUNK_OFFSET,
    KEY_CHUNK_DIGEST,
    KEY_CHUNK_TYPE,
    KEY_CNT,
};

static const char *const keys[KEY_CNT] = {
    "type",   "name",      "linkName",  "mode",        "size",        "uid",
    "gid",    "modtime",   "devMajor",  "devMinor",    "xattrs",      "digest",
    "offset", "endOffset", "chunkSize", "chunkOffset", "chunkDigest", "chunkType",
};

struct line {
    uint32_t seen;
    uint64_t number[KEY_CNT]; /* of the keys that are numbers */
    char type[12];
    char name[NODE_PATH_MAX], link[NODE_PATH_MAX];
    int64_t mtime_s;
    uint32_t mtime_ns;
    struct digest digest, chunk_digest;
    bool zeros;
};

struct chunked {
    struct unpack *unpack;
    XXH64_state_t *sum;
    const struct job *job;
    struct frame_gather out;
    uint64_t raw_len; /* unpacked so far */
    bool passed_over; /* the present entry is not the only one that is asked for */
    struct line line;
    struct entry entry; /* its attributes are filled while the line is read */
    uint64_t passed;    /* in the blob: no later entry may begin before this */
    /* the file whose chunks come */
    uint64_t file_size, file_end, covered, chunk_at;
    struct jstream json;
    uint8_t text[TEXT_LEN]; /* unpacked: of the table, or of a piece */
};

struct chunked *chunked_new(struct unpack *u)
{
    struct chunked *c = calloc(1, sizeof *c);

    if (!c || !(c->sum = XXH64_createState()))
        return NULL;
    c->unpack = u;
    return c;
}

static int give(struct chunked *c, enum frame_type type, const void *data, uint32_t len, struct err *e)
{
    if (c->passed_over)
        return 0;
    return frame_gather_add(&c->out, type, &(struct iovec){(void *)(uintptr_t)data, len}, 1, e);
}

static ssize_t more(void *ctx, const uint8_t **block, struct err *e)
{
    struct chunked *c = ctx;
    ssize_t n = unpack_read(c->unpack, c->text, sizeof c->text, e);

    if (n <= 0)
        return n;
    *block = c->text;
    c->raw_len += (uint64_t)n;
    if (c->raw_len > c->job->content_max)
        return err_set(e, ERR_SIZE, "unpacks to more than the %" PRIu64 " bytes it should have",
                       c->job->content_max);
    return n;
}

/* --- values of a line ------------------------------------------------------------------------------------------------ */

static int text_take(struct chunked *c, char *out, size_t cap, struct err *e)
{
    int rc = jstream_expect(&c->json, JSTREAM_STRING, "a string", e);

    if (rc)
        return rc;
    if (c->json.len >= cap)
        return err_set(e, ERR_LIMIT, "%.80s...: longer than %zu bytes", c->json.text, cap - 1);
    /* Go's encoder puts U+FFFD in place of what is no UTF-8: the name that the tar has is lost. */
    if (strstr(c->json.text, "\xef\xbf\xbd"))
        return err_set(e, ERR_POLICY, "%.80s: a name that is no UTF-8 can't be told by a table of contents",
                       c->json.text);
    memcpy(out, c->json.text, c->json.len + 1);
    return 0;
}

static int digest_take(struct chunked *c, struct digest *out, struct err *e)
{
    int rc = jstream_expect(&c->json, JSTREAM_STRING, "a string", e);

    if (rc || digest_parse(c->json.text, c->json.len, out))
        return rc;
    return err_set(e, ERR_FORMAT, "digest: want sha256: and 64 hex digits, got \"%.80s\"", c->json.text);
}

static int time_take(struct chunked *c, struct err *e)
{
    int rc = jstream_expect(&c->json, JSTREAM_STRING, "a string", e);

    if (rc || moment_parse(c->json.text, &c->line.mtime_s, &c->line.mtime_ns))
        return rc;
    return err_set(e, ERR_FORMAT, "modtime: want RFC 3339, got \"%.60s\"", c->json.text);
}

static int xattrs_take(struct chunked *c, struct err *e)
{
    static uint8_t value[ENTRY_XATTR_MAX];
    char name[NODE_NAME_MAX + 1];
    int token, rc = jstream_expect(&c->json, JSTREAM_OBJECT, "an object", e);

    while (rc == 0 && (token = jstream_next(&c->json, e)) != JSTREAM_OBJECT_END) {
        size_t len = 0;

        if (token < 0)
            return token;
        if (c->json.len >= sizeof name)
            return err_set(e, ERR_LIMIT, "the name of an extended attribute is longer than %d",
                           NODE_NAME_MAX);
        memcpy(name, c->json.text, c->json.len + 1);
        rc = jstream_expect(&c->json, JSTREAM_STRING, "a string", e);
        if (rc)
            return rc;
        if (mbedtls_base64_decode(value, sizeof value, &len, (const uint8_t *)c->json.text, c->json.len))
            return err_set(e, ERR_FORMAT, "extended attribute %.60s: no base64, or longer than %d", name,
                           ENTRY_XATTR_MAX);
        rc = rules_xattr(&c->entry, name, value, len, e);
    }
    return rc;
}

static int value_take(struct chunked *c, enum key key, struct err *e)
{
    static const uint64_t max[KEY_CNT] = {
        [KEY_MODE] = UINT32_MAX,        [KEY_SIZE] = INT64_MAX,   [KEY_UID] = UINT32_MAX - 1,
        [KEY_GID] = UINT32_MAX - 1,     [KEY_MAJOR] = UINT32_MAX, [KEY_MINOR] = UINT32_MAX,
        [KEY_OFFSET] = INT64_MAX,       [KEY_END] = INT64_MAX,    [KEY_CHUNK_SIZE] = INT64_MAX,
        [KEY_CHUNK_OFFSET] = INT64_MAX,
    };
    struct line *l = &c->line;
    int rc;

    switch (key) {
    case KEY_TYPE:
        return text_take(c, l->type, sizeof l->type, e);
    case KEY_NAME:
        return text_take(c, l->name, sizeof l->name, e);
    case KEY_LINK:
        return text_take(c, l->link, sizeof l->link, e);
    case KEY_MTIME:
        return time_take(c, e);
    case KEY_XATTRS:
        return xattrs_take(c, e);
    case KEY_DIGEST:
        return digest_take(c, &l->digest, e);
    case KEY_CHUNK_DIGEST:
        return digest_take(c, &l->chunk_digest, e);
    case KEY_CHUNK_TYPE:
        rc = jstream_expect(&c->json, JSTREAM_STRING, "a string", e);
        l->zeros = rc == 0 && strcmp(c->json.text, "zeros") == 0;
        return rc == 0 && !l->zeros && c->json.len > 0
                   ? err_set(e, ERR_POLICY, "chunkType: want \"zeros\", got \"%.40s\"", c->json.text)
                   : rc;
    default:
        return jstream_uint(&c->json, max[key], &l->number[key], e);
    }
}

static int line_take(struct chunked *c, struct err *e)
{
    int token, rc = 0;

    memset(&c->line, 0, sizeof c->line);
    c->entry.node.xattr_len = c->entry.node.xattr_cnt = 0;
    while (rc == 0 && (token = jstream_next(&c->json, e)) != JSTREAM_OBJECT_END) {
        int key = 0;

        if (token < 0)
            return token;
        while (key < KEY_CNT && strcmp(keys[key], c->json.text) != 0)
            key++;
        if (key == KEY_CNT) {
            rc = jstream_skip(&c->json, jstream_next(&c->json, e), e);
            continue;
        }
        if (c->line.seen >> key & 1)
            return err_set(e, ERR_FORMAT, "%.80s: key \"%s\" twice", c->line.name, keys[key]);
        c->line.seen |= 1u << key;
        rc = value_take(c, (enum key)key, e);
    }
    return rc;
}

/* --- entries --------------------------------------------------------------------------------------------------------- */

static int refuse(const struct chunked *c, const char *what, struct err *e)
{
    return err_set(e, ERR_POLICY, "%.120s: %s", c->line.name, what);
}

/* The chunks so far must make up their file before another entry comes. */
static int file_finish(struct chunked *c, struct err *e)
{
    bool ok = c->covered == c->file_size;

    c->file_size = c->covered = 0;
    return ok ? 0 : refuse(c, "the chunks of the file before do not add up to its size", e);
}

static int chunk_give(struct chunked *c, uint64_t at, struct err *e)
{
    const struct line *l = &c->line;
    struct entry_chunk chunk = {.digest = l->chunk_digest,
                                .at = at,
                                .len = l->number[KEY_CHUNK_SIZE],
                                .offset = l->number[KEY_OFFSET],
                                .zeros = l->zeros};

    if (chunk.at != c->covered || chunk.len == 0 || chunk.len > c->file_size - c->covered)
        return refuse(c, "its chunks do not add up to its size", e);
    if (chunk.at > 0 && (chunk.offset <= c->chunk_at || chunk.offset >= c->file_end))
        return refuse(c, "a chunk is outside its file's bytes", e);
    if (digest_is_zero(&chunk.digest))
        return refuse(c, "a chunk without digest", e);
    c->chunk_at = chunk.offset;
    c->covered += chunk.len;
    return give(c, FRAME_CHUNK, &chunk, sizeof chunk, e);
}

static int place_give(struct chunked *c, struct err *e)
{
    const struct line *l = &c->line;
    struct entry_place place = {
        .digest = l->digest, .offset = l->number[KEY_OFFSET], .end = l->number[KEY_END]};
    uint64_t size = l->number[KEY_SIZE];
    int rc;

    if (size == 0)
        return give(c, FRAME_PLACE, &(struct entry_place){0}, sizeof place, e);
    if (digest_is_zero(&place.digest))
        return refuse(c, "a file without digest", e);
    if (place.offset < c->passed || place.end <= place.offset)
        return refuse(c, "its bytes in the blob overlap those of another, or go backwards", e);
    c->passed = place.end;
    c->file_size = size;
    c->file_end = place.end;
    c->covered = 0;
    rc = give(c, FRAME_PLACE, &place, sizeof place, e);
    if (rc == 0 && l->number[KEY_CHUNK_SIZE] > 0 && l->number[KEY_CHUNK_SIZE] != size)
        return chunk_give(c, 0, e);
    c->covered = size;
    return rc;
}

static enum node_type type_of(const char *name)
{
    static const char *const names[] = {
        [NODE_FILE] = "reg",  [NODE_DIR] = "dir",     [NODE_SYMLINK] = "symlink",
        [NODE_CHAR] = "char", [NODE_BLOCK] = "block", [NODE_FIFO] = "fifo"};

    for (int i = NODE_FILE; i <= NODE_FIFO; i++)
        if (strcmp(names[i], name) == 0)
            return (enum node_type)i;
    return 0;
}

static int node_fill(struct chunked *c, enum node_type type, struct err *e)
{
    const struct line *l = &c->line;
    struct node *n = &c->entry.node;

    n->type = type;
    n->mode = l->number[KEY_MODE] & 07777;
    n->uid = (uint32_t)l->number[KEY_UID];
    n->gid = (uint32_t)l->number[KEY_GID];
    n->mtime_s = l->mtime_s;
    n->mtime_ns = l->mtime_ns;
    n->size = type == NODE_FILE ? l->number[KEY_SIZE] : 0;
    if (type != NODE_FILE && l->number[KEY_SIZE] > 0)
        return refuse(c, "an entry that is no file with content", e);
    if (type == NODE_SYMLINK)
        return rules_target(&c->entry, l->link, e);
    if (type == NODE_CHAR || type == NODE_BLOCK)
        return rules_device(&c->entry, l->number[KEY_MAJOR], l->number[KEY_MINOR], e);
    return 0;
}

/* A table has names as they are, so ".." in one is no sloppy tar but an attack. */
static bool has_dots(const char *name)
{
    for (const char *at = name; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (at[0] == '.' && at[1] == '.' && (at[2] == '/' || at[2] == '\0'))
            return true;
    }
    return false;
}

static int entry_give(struct chunked *c, struct err *e)
{
    struct line *l = &c->line;
    struct entry *en = &c->entry;
    bool hardlink = strcmp(l->type, "hardlink") == 0;
    enum node_type type = hardlink ? NODE_FILE : type_of(l->type);
    uint32_t xattr_len = en->node.xattr_len;
    uint16_t xattr_cnt = en->node.xattr_cnt;
    int rc;

    if (!type)
        return err_set(e, ERR_POLICY, "%.120s: entry of type \"%s\"", l->name, l->type);
    if (has_dots(l->name) || (hardlink && has_dots(l->link)))
        return refuse(c, "a name with ..", e);
    rc = rules_begin(en, l->name[0] == '\0' && type == NODE_DIR ? "." : l->name, type == NODE_DIR, e);
    if (rc == 0 && en->type == ENTRY_NODE && hardlink)
        rc = rules_hardlink(en, l->link, e);
    else if (rc == 0 && en->type == ENTRY_NODE)
        rc = node_fill(c, type, e);
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (en->type == ENTRY_NODE) {
        en->node.xattr_len = xattr_len;
        en->node.xattr_cnt = xattr_cnt;
    }
    c->passed_over = c->job->only[0] && strcmp(en->path, c->job->only) != 0;
    if (!c->passed_over)
        rc = entry_write(&c->out, en, e);
    if (rc == 0 && en->type == ENTRY_NODE && type == NODE_FILE)
        rc = place_give(c, e);
    return rc;
}

static int line_handle(struct chunked *c, struct err *e)
{
    int rc;

    if (strcmp(c->line.type, "chunk") == 0)
        return chunk_give(c, c->line.number[KEY_CHUNK_OFFSET], e);
    rc = file_finish(c, e);
    return rc ? rc : entry_give(c, e);
}

static int lines_take(struct chunked *c, struct err *e)
{
    int token, rc = jstream_expect(&c->json, JSTREAM_ARRAY, "a list of entries", e);

    while (rc == 0 && (token = jstream_next(&c->json, e)) != JSTREAM_ARRAY_END) {
        if (token < 0)
            return token;
        if (token != JSTREAM_OBJECT)
            return err_set(e, ERR_FORMAT, "JSON: want an entry");
        rc = line_take(c, e);
        if (rc == 0)
            rc = line_handle(c, e);
    }
    return rc ? rc : file_finish(c, e);
}

/* --- the whole table --------------------------------------------------------------------------------------------------- */

static int table_take(struct chunked *c, struct err *e)
{
    uint64_t version = 0;
    bool entries = false;
    int token, rc = jstream_expect(&c->json, JSTREAM_OBJECT, "an object", e);

    while (rc == 0 && (token = jstream_next(&c->json, e)) != JSTREAM_OBJECT_END) {
        if (token < 0)
            return token;
        if (strcmp(c->json.text, "version") == 0 && version == 0) {
            rc = jstream_uint(&c->json, UINT32_MAX, &version, e);
        } else if (strcmp(c->json.text, "entries") == 0 && !entries) {
            entries = true;
            rc = lines_take(c, e);
        } else if (strcmp(c->json.text, "version") == 0 || strcmp(c->json.text, "entries") == 0) {
            rc = err_set(e, ERR_FORMAT, "key \"%.10s\" twice", c->json.text);
        } else {
            rc = jstream_skip(&c->json, jstream_next(&c->json, e), e);
        }
    }
    if (rc == 0 && (version != 1 || !entries))
        rc = err_set(e, ERR_FORMAT, "want version 1 and entries, got version %" PRIu64, version);
    return rc ? rc : jstream_expect(&c->json, JSTREAM_END, "the end", e);
}

int chunked_toc(struct chunked *c, const struct job *job, const struct source *blob, int out_fd,
                struct err *e)
{
    int rc = unpack_begin(c->unpack, (enum codec)job->codec, blob, e);

    c->job = job;
    c->out.fd = out_fd;
    c->out.len = 0; /* a refused table leaves some */
    c->raw_len = c->passed = c->file_size = c->covered = 0;
    jstream_begin(&c->json, more, c);
    if (rc == 0)
        rc = table_take(c, e);
    if (rc == 0)
        rc = frame_gather_flush(&c->out, e);
    if (rc == 0 && c->raw_len != job->content_max)
        rc =
            err_set(e, ERR_SIZE, "unpacks to %" PRIu64 " bytes, want %" PRIu64, c->raw_len, job->content_max);
    return rc ? err_prefix(e, "table of contents") : 0;
}

int chunked_piece(struct chunked *c, const struct job *job, const struct source *blob, int out_fd,
                  struct err *e)
{
    struct entry_end end;
    uint64_t done = 0;
    ssize_t n = 0;
    int rc = unpack_begin(c->unpack, (enum codec)job->codec, blob, e);

    c->out.fd = out_fd;
    c->out.len = 0;
    c->passed_over = false;
    XXH64_reset(c->sum, 0);
    while (rc == 0 && (n = unpack_read(c->unpack, c->text, sizeof c->text, e)) > 0) {
        done += (uint64_t)n;
        if (done > job->content_max)
            rc = err_set(e, ERR_SIZE, "content is longer than the %" PRIu64 " bytes it should have",
                         job->content_max);
        if (rc == 0) {
            XXH64_update(c->sum, c->text, (size_t)n);
            rc = give(c, FRAME_DATA, c->text, (uint32_t)n, e);
        }
    }
    if (rc == 0 && n < 0)
        rc = (int)n;
    if (rc == 0 && done != job->content_max)
        rc = err_set(e, ERR_SIZE, "content of %" PRIu64 " bytes, want %" PRIu64, done, job->content_max);
    end.xxh64 = XXH64_digest(c->sum);
    if (rc == 0)
        rc = give(c, FRAME_ENTRY_END, &end, sizeof end, e);
    return rc ? rc : frame_gather_flush(&c->out, e);
}
