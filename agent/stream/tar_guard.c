#include "stream/tar_guard.h"

#include <stdbool.h>
#include <string.h>

/* ustar's fields (POSIX.1-2017, pax, "ustar Interchange Format") */
#define FIELD_NAME_LEN 100
#define FIELD_SIZE 124
#define FIELD_SIZE_LEN 12
#define FIELD_SUM 148
#define FIELD_SUM_LEN 8
#define FIELD_TYPE 156

#define NO_SIZE (-1)

void tar_guard_begin(struct tar_guard *g)
{
    memset(g, 0, sizeof *g);
    g->size = NO_SIZE;
    g->ended = true;
}

bool tar_guard_is_sound(const struct tar_guard *g)
{
    return g->state <= GUARD_END && g->record <= RECORD_VALUE && g->key_len <= sizeof g->key &&
           g->head_len < TAR_BLOCK && g->headers_len <= TAR_HEADERS_MAX && g->size >= NO_SIZE;
}

/* --- pax records: "LENGTH KEY=VALUE\n" ------------------------------------------------------------------------------ */

static bool key_is(const struct tar_guard *g, const char *key)
{
    return g->key_len == strlen(key) && memcmp(g->key, key, g->key_len) == 0;
}

/* Attributes in a form of their own, and ACLs, which would change the mode. */
static bool key_is_foreign(const struct tar_guard *g)
{
    return key_is(g, "LIBARCHIVE.") || key_is(g, "SCHILY.acl.") || key_is(g, "RHT.");
}

static bool key_is_sparse(const struct tar_guard *g)
{
    return (g->key_len > 11 && memcmp(g->key, "GNU.sparse.", 11) == 0) || key_is(g, "SUN.holesdata") ||
           key_is(g, "SCHILY.realsize");
}

static int record_bad(struct err *e)
{
    return err_set(e, ERR_FORMAT, "tar: pax header: want \"LENGTH KEY=VALUE\", got something else");
}

static int length_byte(struct tar_guard *g, uint8_t c, struct err *e)
{
    g->record_at++;
    if (c == ' ' && g->record_len > g->record_at) {
        g->record = RECORD_KEY;
        g->key_len = 0;
        return 0;
    }
    if (c < '0' || c > '9' || g->record_len > TAR_PAX_MAX)
        return record_bad(e);
    g->record_len = g->record_len * 10 + (c - '0');
    return 0;
}

static int key_byte(struct tar_guard *g, uint8_t *c, struct err *e)
{
    if (++g->record_at == g->record_len || *c == '\0' || *c == '\n')
        return record_bad(e);
    if (*c == '=') {
        g->record = RECORD_VALUE;
        if (key_is_sparse(g))
            return err_set(e, ERR_POLICY, "tar: sparse file");
        if (key_is(g, "size"))
            g->size = 0;
        return 0;
    }
    if (g->key_len < sizeof g->key)
        g->key[g->key_len++] = (char)*c;
    if (key_is_foreign(g))
        *c = '_';
    return 0;
}

static int value_byte(struct tar_guard *g, uint8_t c, struct err *e)
{
    if (++g->record_at == g->record_len) {
        g->record = RECORD_LENGTH;
        g->record_len = g->record_at = 0;
        return c == '\n' ? 0 : record_bad(e);
    }
    if (c == '\0' && (key_is(g, "path") || key_is(g, "linkpath")))
        return err_set(e, ERR_POLICY, "tar: a name with a NUL");
    if (!key_is(g, "size"))
        return 0;
    if (c < '0' || c > '9' || g->size > INT64_MAX / 16)
        return err_set(e, ERR_FORMAT, "tar: pax header: size is negative or no number");
    g->size = g->size * 10 + (c - '0');
    return 0;
}

static int records_pass(struct tar_guard *g, uint8_t *bytes, size_t len, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < len; i++) {
        switch (g->record) {
        case RECORD_LENGTH:
            rc = length_byte(g, bytes[i], e);
            break;
        case RECORD_KEY:
            rc = key_byte(g, &bytes[i], e);
            break;
        case RECORD_VALUE:
            rc = value_byte(g, bytes[i], e);
            break;
        }
    }
    g->records -= len;
    if (rc == 0 && g->records == 0 && g->record_at > 0)
        return record_bad(e);
    return rc;
}

/* --- headers --------------------------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *block)
{
    return block[0] == 0 && memcmp(block, block + 1, TAR_BLOCK - 1) == 0;
}

/* Octal digits, or GNU's base 256. Negative for a negative number, INT64_MAX for one that is too large. */
static int64_t number_read(const uint8_t *p, size_t len)
{
    int64_t n = 0;
    size_t i = 0;

    if (p[0] & 0x80) {
        n = p[0] & 0x7f;
        for (i = 1; i < len && n <= INT64_MAX >> 8; i++)
            n = n * 256 + p[i];
        if (p[0] & 0x40)
            return -1;
        return i == len ? n : INT64_MAX;
    }
    while (i < len && (p[i] == ' ' || p[i] == '\t'))
        i++;
    for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
        n = n * 8 + (p[i] - '0');
    return n;
}

/* Old tars summed signed bytes. */
static bool sum_matches(const uint8_t *head)
{
    int64_t want = number_read(head + FIELD_SUM, FIELD_SUM_LEN);
    int64_t plain = 0, as_signed = 0;

    for (int i = 0; i < TAR_BLOCK; i++) {
        uint8_t c = i >= FIELD_SUM && i < FIELD_SUM + FIELD_SUM_LEN ? ' ' : head[i];

        plain += c;
        as_signed += (int8_t)c;
    }
    return want == plain || want == as_signed;
}

enum body { BODY_CONTENT, BODY_PAX, BODY_NAME };

static void body_begin(struct tar_guard *g, int64_t size, enum body body)
{
    g->left = ((uint64_t)size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    g->records = body == BODY_PAX ? (uint64_t)size : 0;
    g->state = size > 0 ? GUARD_BODY : GUARD_HEADER;
    g->is_content = body == BODY_CONTENT;
    g->ended = g->is_content && size == 0;
}

/* Entries other than regular files have no content. The size in their header is a word of the past, but where a pax
 * header says it, or at a hard link, readers differ. */
static int plain_begin(struct tar_guard *g, char type, int64_t size, struct err *e)
{
    if (type != '1')
        size = 0;
    if (g->size > 0)
        size = g->size;
    if (size > 0)
        return err_set(e, ERR_POLICY, "tar: %.*s: %s with content", FIELD_NAME_LEN, (char *)g->head,
                       type == '1' ? "hard link" : "entry that is no file");
    g->size = NO_SIZE;
    g->ended = true;
    return 0;
}

static int head_pass(struct tar_guard *g, struct err *e)
{
    int64_t size = number_read(g->head + FIELD_SIZE, FIELD_SIZE_LEN);
    char type = (char)g->head[FIELD_TYPE];

    if (is_zero(g->head)) {
        g->state = GUARD_END;
        return 0;
    }
    if (!sum_matches(g->head))
        return err_set(e, ERR_FORMAT, "tar: a header's checksum does not match, or this is no tar");
    if (size < 0)
        return err_set(e, ERR_FORMAT, "tar: %.*s: negative size", FIELD_NAME_LEN, (char *)g->head);
    switch (type) {
    case '\0':
    case '0':
        body_begin(g, g->size != NO_SIZE ? g->size : size, BODY_CONTENT);
        g->size = NO_SIZE;
        return 0;
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
        return plain_begin(g, type, size, e);
    case 'x':
        if (size > TAR_PAX_MAX)
            return err_set(e, ERR_LIMIT, "tar: pax header of %llu bytes, this build takes %u",
                           (unsigned long long)size, TAR_PAX_MAX);
        body_begin(g, size, BODY_PAX);
        return 0;
    case 'g': /* libarchive takes nothing from it */
    case 'L':
    case 'K':
        body_begin(g, size, BODY_NAME);
        return 0;
    default:
        return err_set(e, ERR_POLICY, "tar: %.*s: entry of type '%c', want one of 0 to 6", FIELD_NAME_LEN,
                       (char *)g->head, type);
    }
}

static void headers_keep(struct tar_guard *g, const uint8_t *bytes, size_t len)
{
    if (len > TAR_HEADERS_MAX || g->headers_len > TAR_HEADERS_MAX - len) {
        g->headers_len = TAR_HEADERS_MAX + 1;
        return;
    }
    memcpy(g->headers + g->headers_len, bytes, len);
    g->headers_len += (uint32_t)len;
}

/* Take up to len bytes. Returns how many, or an error. */
static int64_t step(struct tar_guard *g, uint8_t *bytes, size_t len, struct err *e)
{
    int rc = 0;

    switch (g->state) {
    case GUARD_HEADER:
        if (g->ended) {
            g->ended = false;
            g->headers_len = 0;
            g->content = 0;
        }
        if (len > TAR_BLOCK - g->head_len)
            len = TAR_BLOCK - g->head_len;
        headers_keep(g, bytes, len);
        memcpy(g->head + g->head_len, bytes, len);
        g->head_len += (uint32_t)len;
        if (g->head_len == TAR_BLOCK) {
            g->head_len = 0;
            rc = head_pass(g, e);
        }
        break;
    case GUARD_BODY:
        if (g->records > 0 && len > g->records)
            len = (size_t)g->records;
        if (len > g->left)
            len = (size_t)g->left;
        if (g->records > 0)
            rc = records_pass(g, bytes, len, e);
        if (g->is_content)
            g->content += len;
        else
            headers_keep(g, bytes, len);
        g->left -= len;
        if (g->left == 0) {
            g->state = GUARD_HEADER;
            g->ended = g->is_content;
        }
        break;
    case GUARD_END:
        break;
    }
    return rc < 0 ? rc : (int64_t)len;
}

int tar_guard_pass(struct tar_guard *g, uint8_t *bytes, size_t len, struct err *e)
{
    while (len > 0) {
        int64_t n = step(g, bytes, len, e);

        if (n < 0)
            return (int)n;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}
