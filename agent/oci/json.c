#include "oci/json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define UINT_MAX_EXACT 9007199254740991.0 /* 2^53 - 1 */

/* What cJSON does not look at, before it sees the text. */
struct scan {
    const char *text;
    size_t len;
    size_t at;
    unsigned depth;
    unsigned values;
};

static int scan_string(struct scan *s, struct err *e)
{
    for (s->at++; s->at < s->len; s->at++) {
        unsigned char c = (unsigned char)s->text[s->at];

        if (c == '"')
            return 0;
        if (c < 0x20)
            return err_set(e, ERR_FORMAT, "JSON: control character in a string, byte %zu", s->at);
        if (c != '\\')
            continue;
        if (s->len - s->at > 5 && !memcmp(s->text + s->at, "\\u0000", 6))
            return err_set(e, ERR_FORMAT, "JSON: \\u0000 in a string, byte %zu", s->at);
        s->at++;
    }
    return err_set(e, ERR_FORMAT, "JSON: the text ends inside a string");
}

static int scan_byte(struct scan *s, struct err *e)
{
    switch (s->text[s->at]) {
    case '"':
        return scan_string(s, e);
    case '{':
    case '[':
        s->values++;
        if (++s->depth > JSON_DEPTH_MAX)
            return err_set(e, ERR_FORMAT, "JSON: more than %d levels deep", JSON_DEPTH_MAX);
        return 0;
    case '}':
    case ']':
        if (s->depth-- == 0)
            return err_set(e, ERR_FORMAT, "JSON: unexpected bracket, byte %zu", s->at);
        return 0;
    case ',':
        s->values++;
        return 0;
    case '\0':
        return err_set(e, ERR_FORMAT, "JSON: a NUL, byte %zu", s->at);
    default:
        return 0;
    }
}

static int text_check(const char *text, size_t len, struct err *e)
{
    struct scan s = {.text = text, .len = len};

    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
        return err_set(e, ERR_FORMAT, "JSON: begins with a byte order mark");
    for (; s.at < len; s.at++) {
        int rc = scan_byte(&s, e);

        if (rc)
            return rc;
        if (s.values > JSON_VALUE_MAX)
            return err_set(e, ERR_LIMIT, "JSON: more than %d values", JSON_VALUE_MAX);
    }
    return 0;
}

static int keys_check(const cJSON *object, struct err *e)
{
    unsigned cnt = 0;

    for (const cJSON *a = object->child; a; a = a->next) {
        if (++cnt > JSON_KEY_MAX)
            return err_set(e, ERR_LIMIT, "JSON: more than %d keys in one object", JSON_KEY_MAX);
        for (const cJSON *b = object->child; b != a; b = b->next)
            if (!strcmp(a->string, b->string))
                return err_set(e, ERR_FORMAT, "JSON: key \"%.60s\" twice in one object", a->string);
    }
    return 0;
}

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

/* Move past the next number in the text; true when it is digits alone, without a leading zero. */
static bool number_next_is_plain(struct scan *s)
{
    size_t start;
    bool plain = true;

    for (; s->at < s->len; s->at++) {
        char c = s->text[s->at];
        struct err ignored;

        if (c == '"')
            scan_string(s, &ignored);
        else if (c == '-' || (c >= '0' && c <= '9'))
            break;
    }
    for (start = s->at; s->at < s->len && is_number_char(s->text[s->at]); s->at++)
        if (s->text[s->at] < '0' || s->text[s->at] > '9')
            plain = false;
    return plain && (s->at - start == 1 || s->text[start] != '0');
}

/* Walk text and tree side by side: both have the numbers in the same order. One that is not plain becomes a NaN,
 * which json_uint() refuses where a whole number belongs, and only there. Depth is bounded by text_check(). */
static int tree_check(cJSON *value, struct scan *s, struct err *e)
{
    int rc = cJSON_IsObject(value) ? keys_check(value, e) : 0;

    if (rc)
        return rc;
    if (cJSON_IsNumber(value) && !number_next_is_plain(s))
        value->valuedouble = NAN;
    for (cJSON *child = value->child; child; child = child->next) {
        rc = tree_check(child, s, e);
        if (rc)
            return rc;
    }
    return 0;
}

static bool only_blanks(const char *text, const char *end)
{
    for (; text < end; text++)
        if (*text != ' ' && *text != '\t' && *text != '\n' && *text != '\r')
            return false;
    return true;
}

int json_parse(const char *text, size_t len, cJSON **out, struct err *e)
{
    struct scan s = {.text = text, .len = len};
    const char *end = NULL;
    cJSON *root;
    int rc;

    *out = NULL;
    rc = text_check(text, len, e);
    if (rc)
        return rc;
    errno = 0;
    root = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!root && errno == ENOMEM)
        return err_set(e, ERR_LIMIT, "JSON: no memory for a document of %zu bytes", len);
    if (!root)
        return err_set(e, ERR_FORMAT, "not JSON from byte %zu on", end ? (size_t)(end - text) : 0);
    if (!only_blanks(end, text + len))
        rc = err_set(e, ERR_FORMAT, "JSON: text after the end, byte %zu", (size_t)(end - text));
    else if (!cJSON_IsObject(root))
        rc = err_set(e, ERR_FORMAT, "JSON: want an object, got %s", json_kind(root));
    else
        rc = tree_check(root, &s, e);
    if (rc) {
        cJSON_Delete(root);
        return rc;
    }
    *out = root;
    return 0;
}

void json_free(cJSON *root)
{
    cJSON_Delete(root);
}

const char *json_kind(const cJSON *value)
{
    if (cJSON_IsObject(value))
        return "an object";
    if (cJSON_IsArray(value))
        return "an array";
    if (cJSON_IsString(value))
        return "a string";
    if (cJSON_IsNumber(value))
        return "a number";
    if (cJSON_IsBool(value))
        return "a boolean";
    return cJSON_IsNull(value) ? "null" : "nothing";
}

/* Sets *out to the member, NULL when it is absent or null and may be. `is` tells the kind wanted. */
static int member(const cJSON *parent, const char *key, enum json_need need, cJSON_bool (*is)(const cJSON *),
                  const char *want, const cJSON **out, struct err *e)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(parent, key);

    *out = NULL;
    if (value && is(value)) {
        *out = value;
        return 0;
    }
    if (need == JSON_OPTIONAL && (!value || cJSON_IsNull(value)))
        return 0;
    return err_set(e, ERR_FORMAT, "%s: want %s, got %s", key, want, json_kind(value));
}

int json_object(const cJSON *parent, const char *key, enum json_need need, const cJSON **out, struct err *e)
{
    return member(parent, key, need, cJSON_IsObject, "an object", out, e);
}

int json_array(const cJSON *parent, const char *key, enum json_need need, const cJSON **out, struct err *e)
{
    return member(parent, key, need, cJSON_IsArray, "an array", out, e);
}

int json_string(const cJSON *parent, const char *key, enum json_need need, const char **out, struct err *e)
{
    const cJSON *value;
    int rc = member(parent, key, need, cJSON_IsString, "a string", &value, e);

    *out = value ? value->valuestring : NULL;
    return rc;
}

int json_uint(const cJSON *parent, const char *key, enum json_need need, uint64_t *out, struct err *e)
{
    const cJSON *value;
    int rc = member(parent, key, need, cJSON_IsNumber, "a number", &value, e);

    *out = 0;
    if (rc || !value)
        return rc;
    if (!(value->valuedouble >= 0 && value->valuedouble <= UINT_MAX_EXACT))
        return err_set(e, ERR_FORMAT, "%s: want a whole number from 0 to 2^53 - 1", key);
    *out = (uint64_t)value->valuedouble;
    return 0;
}

int json_digest(const cJSON *parent, const char *key, struct digest *out, struct err *e)
{
    const char *text;
    int rc = json_string(parent, key, JSON_REQUIRED, &text, e);

    if (!rc && !digest_parse(text, strlen(text), out))
        rc =
            err_set(e, ERR_FORMAT, "%s: want sha256: and 64 lower-case hex digits, got \"%.80s\"", key, text);
    return rc;
}

bool json_digits(const char *text, uint64_t *out)
{
    bool zero = *text == '0';
    uint64_t value = 0;

    for (; *text >= '0' && *text <= '9' && value <= (uint64_t)UINT_MAX_EXACT; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    *out = value;
    return !*text && !zero && value > 0 && value <= (uint64_t)UINT_MAX_EXACT;
}
