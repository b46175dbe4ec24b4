#include "stream/jstream.h"

#include <string.h>

/* What may come next. */
enum want { WANT_VALUE = 1, WANT_FIRST, WANT_KEY, WANT_FIRST_KEY, WANT_COLON, WANT_COMMA, WANT_NOTHING };

void jstream_begin(struct jstream *j, ssize_t (*more)(void *ctx, const uint8_t **block, struct err *e),
                   void *ctx)
{
    j->more = more;
    j->ctx = ctx;
    j->at = j->end = j->block = NULL;
    j->passed = 0;
    j->depth = 0;
    j->want = WANT_VALUE;
    j->len = 0;
}

static int bad(const struct jstream *j, const char *what, struct err *e)
{
    return err_set(e, ERR_FORMAT, "JSON: %s, byte %llu", what,
                   (unsigned long long)(j->passed + (uint64_t)(j->at - j->block)));
}

/* The next byte without taking it; -1 at the end; below that an error. */
static int peek(struct jstream *j, struct err *e)
{
    if (j->at == j->end) {
        ssize_t n;

        j->passed += (uint64_t)(j->end - j->block);
        j->at = j->end = j->block;
        n = j->more(j->ctx, &j->block, e);
        if (n < 0)
            return (int)n;
        if (n == 0) {
            j->at = j->end = j->block;
            return -1;
        }
        j->at = j->block;
        j->end = j->block + n;
    }
    return *j->at;
}

static int take(struct jstream *j, struct err *e)
{
    int c = peek(j, e);

    if (c >= 0)
        j->at++;
    return c == -1 ? bad(j, "ends too early", e) : c;
}

static int skip_blanks(struct jstream *j, struct err *e)
{
    int c;

    while ((c = peek(j, e)) == ' ' || c == '\t' || c == '\n' || c == '\r')
        j->at++;
    return c;
}

static int put(struct jstream *j, int c, struct err *e)
{
    if (j->len == JSTREAM_TEXT_MAX)
        return err_set(e, ERR_LIMIT, "JSON: a string longer than %d bytes", JSTREAM_TEXT_MAX);
    j->text[j->len++] = (char)c;
    return 0;
}

static int put_utf8(struct jstream *j, uint32_t u, struct err *e)
{
    int rc = 0;

    if (u < 0x80)
        return put(j, (int)u, e);
    if (u >= 0x10000) {
        rc = put(j, (int)(0xf0 | u >> 18), e);
        rc = rc ? rc : put(j, (int)(0x80 | (u >> 12 & 0x3f)), e);
    } else if (u >= 0x800) {
        rc = put(j, (int)(0xe0 | u >> 12), e);
    } else {
        return (rc = put(j, (int)(0xc0 | u >> 6), e)) ? rc : put(j, (int)(0x80 | (u & 0x3f)), e);
    }
    rc = rc ? rc : put(j, (int)(0x80 | (u >> 6 & 0x3f)), e);
    return rc ? rc : put(j, (int)(0x80 | (u & 0x3f)), e);
}

static int take_hex4(struct jstream *j, uint32_t *out, struct err *e)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int c = take(j, e);

        if (c < 0)
            return c;
        if (c >= '0' && c <= '9')
            c -= '0';
        else if ((c | 32) >= 'a' && (c | 32) <= 'f')
            c = (c | 32) - 'a' + 10;
        else
            return bad(j, "\\u without four hex digits", e);
        *out = *out << 4 | (uint32_t)c;
    }
    return 0;
}

static int take_unicode(struct jstream *j, struct err *e)
{
    uint32_t u, low;
    int rc = take_hex4(j, &u, e);

    if (rc)
        return rc;
    if (u >= 0xd800 && u < 0xdc00) {
        if (take(j, e) != '\\' || take(j, e) != 'u' || take_hex4(j, &low, e) || low < 0xdc00 || low > 0xdfff)
            return bad(j, "half a surrogate pair", e);
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    } else if (u == 0 || (u >= 0xdc00 && u < 0xe000)) {
        return bad(j, "\\u0000 or half a surrogate pair", e);
    }
    return put_utf8(j, u, e);
}

static int take_escape(struct jstream *j, struct err *e)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = take(j, e);
    const char *found;

    if (c < 0)
        return c;
    if (c == 'u')
        return take_unicode(j, e);
    found = c ? strchr(from, c) : NULL;
    return found ? put(j, to[found - from], e) : bad(j, "unknown escape", e);
}

static int take_string(struct jstream *j, struct err *e)
{
    j->len = 0;
    j->at++;
    for (;;) {
        int c = take(j, e), rc;

        if (c < 0)
            return c;
        if (c == '"')
            break;
        if (c < 0x20)
            return bad(j, "control character in a string", e);
        rc = c == '\\' ? take_escape(j, e) : put(j, c, e);
        if (rc)
            return rc;
    }
    j->text[j->len] = '\0';
    return 0;
}

/* A number or a word: whatever stands up to the next mark. The caller looks at how it is written. */
static int take_bare(struct jstream *j, int first, struct err *e)
{
    int c;

    j->len = 0;
    while ((c = peek(j, e)) >= 0 && (c == '-' || c == '+' || c == '.' || (c >= '0' && c <= '9') ||
                                     ((c | 32) >= 'a' && (c | 32) <= 'z'))) {
        if (j->len == 32)
            return bad(j, "number too long", e);
        j->text[j->len++] = (char)c;
        j->at++;
    }
    if (c < -1)
        return c;
    j->text[j->len] = '\0';
    if (first == '-' || (first >= '0' && first <= '9'))
        return JSTREAM_NUMBER;
    if (strcmp(j->text, "true") != 0 && strcmp(j->text, "false") != 0 && strcmp(j->text, "null") != 0)
        return bad(j, "want a value", e);
    return JSTREAM_WORD;
}

static void value_ended(struct jstream *j)
{
    j->want = j->depth > 0 ? WANT_COMMA : WANT_NOTHING;
}

static int open_group(struct jstream *j, bool object, struct err *e)
{
    if (j->depth == JSTREAM_DEPTH_MAX)
        return bad(j, "too deep", e);
    j->at++;
    j->in_object[j->depth++] = object;
    j->want = object ? WANT_FIRST_KEY : WANT_FIRST;
    return object ? JSTREAM_OBJECT : JSTREAM_ARRAY;
}

static int close_group(struct jstream *j, int c, struct err *e)
{
    bool object = c == '}';

    if (j->depth == 0 || j->in_object[j->depth - 1] != object)
        return bad(j, "bracket out of place", e);
    j->at++;
    j->depth--;
    value_ended(j);
    return object ? JSTREAM_OBJECT_END : JSTREAM_ARRAY_END;
}

static int take_value(struct jstream *j, int c, struct err *e)
{
    int token = JSTREAM_STRING;

    if (c == '{' || c == '[')
        return open_group(j, c == '{', e);
    if (c == '"') {
        int rc = take_string(j, e);

        if (rc)
            return rc;
    } else {
        token = take_bare(j, c, e);
    }
    value_ended(j);
    return token;
}

static int take_key(struct jstream *j, int c, struct err *e)
{
    int rc = c == '"' ? take_string(j, e) : bad(j, "want a key", e);

    j->want = WANT_COLON;
    return rc ? rc : JSTREAM_KEY;
}

int jstream_next(struct jstream *j, struct err *e)
{
    for (;;) {
        int c = skip_blanks(j, e);

        if (c < -1)
            return c;
        if (c == -1)
            return j->want == WANT_NOTHING ? JSTREAM_END : bad(j, "ends too early", e);
        switch ((enum want)j->want) {
        case WANT_NOTHING:
            return bad(j, "text after the end", e);
        case WANT_COLON:
            if (c != ':')
                return bad(j, "want a colon", e);
            j->at++;
            j->want = WANT_VALUE;
            break;
        case WANT_COMMA:
            if (c != ',')
                return close_group(j, c, e);
            j->at++;
            j->want = j->in_object[j->depth - 1] ? WANT_KEY : WANT_VALUE;
            break;
        case WANT_FIRST_KEY:
            return c == '}' ? close_group(j, c, e) : take_key(j, c, e);
        case WANT_KEY:
            return take_key(j, c, e);
        case WANT_FIRST:
            if (c == ']')
                return close_group(j, c, e);
            return take_value(j, c, e);
        case WANT_VALUE:
            return take_value(j, c, e);
        }
    }
}

int jstream_skip(struct jstream *j, int token, struct err *e)
{
    unsigned open = 0;

    for (;;) {
        if (token < 0)
            return token;
        open += token == JSTREAM_OBJECT || token == JSTREAM_ARRAY;
        open -= token == JSTREAM_OBJECT_END || token == JSTREAM_ARRAY_END;
        if (open == 0)
            return 0;
        token = jstream_next(j, e);
    }
}

int jstream_expect(struct jstream *j, int want, const char *what, struct err *e)
{
    int token = jstream_next(j, e);

    if (token < 0 || token == want)
        return token < 0 ? token : 0;
    return err_set(e, ERR_FORMAT, "JSON: want %s", what);
}

int jstream_uint(struct jstream *j, uint64_t max, uint64_t *out, struct err *e)
{
    int rc = jstream_expect(j, JSTREAM_NUMBER, "a number", e);

    *out = 0;
    if (rc)
        return rc;
    for (size_t i = 0; i < j->len; i++) {
        if (j->text[i] < '0' || j->text[i] > '9' || (j->text[0] == '0' && j->len > 1) || i > 18)
            return err_set(e, ERR_FORMAT, "JSON: want a whole number, got %s", j->text);
        *out = *out * 10 + (uint64_t)(j->text[i] - '0');
    }
    return *out <= max ? 0
                       : err_set(e, ERR_LIMIT, "JSON: want a number up to %llu, got %s",
                                 (unsigned long long)max, j->text);
}
