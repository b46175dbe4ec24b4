#include "trust/notice.h"

#include <mbedtls/base64.h>
#include <stdbool.h>
#include <string.h>

struct notice {
    const char *at;
    const char *end;
    char line[320];
    const char *value; /* after the first blank of `line`, which is cut there */
};

/* The next line, as word and value. Returns 1, 0 at the end, or an error. */
static int line_next(struct notice *n, struct err *e)
{
    size_t len = 0;
    char *blank;

    if (n->at == n->end)
        return 0;
    while (n->at + len < n->end && n->at[len] != '\n')
        if (n->at[len] < 0x20 || n->at[len++] > 0x7e)
            return err_set(e, ERR_FORMAT, "not printable ASCII");
    if (n->at + len == n->end || len >= sizeof n->line)
        return err_set(e, ERR_FORMAT, "a line that has no end, or is longer than %zu characters",
                       sizeof n->line - 1);
    memcpy(n->line, n->at, len);
    n->line[len] = '\0';
    n->at += len + 1;
    blank = strchr(n->line, ' ');
    if (!blank || !blank[1])
        return err_set(e, ERR_FORMAT, "\"%.40s\": want a word and a value", n->line);
    *blank = '\0';
    n->value = blank + 1;
    return 1;
}

/* Give each line after the first one to `word`. */
static int notice_read(const char *text, size_t len, const char *kind,
                       int (*word)(const struct notice *n, void *out, struct err *e), void *out,
                       struct err *e)
{
    struct notice n = {.at = text, .end = text + len};
    int rc = line_next(&n, e);

    if (rc < 0)
        return rc;
    if (rc == 0 || strcmp(n.line, "slipway") != 0 || strcmp(n.value, kind) != 0)
        return err_set(e, ERR_FORMAT, "want \"slipway %s\" in the first line", kind);
    while ((rc = line_next(&n, e)) == 1) {
        rc = word(&n, out, e);
        if (rc < 0)
            return rc;
    }
    return rc;
}

static int number_read(const struct notice *n, uint32_t *out, struct err *e)
{
    uint64_t value = 0;

    if (*out)
        return err_set(e, ERR_FORMAT, "%s: given twice", n->line);
    for (const char *c = n->value; *c; c++) {
        if (*c < '0' || *c > '9' || (value = value * 10 + (uint64_t)(*c - '0')) > UINT32_MAX)
            return err_set(e, ERR_FORMAT, "%s: want a whole number from 1 to 4294967295, got \"%.20s\"",
                           n->line, n->value);
    }
    if (value == 0)
        return err_set(e, ERR_FORMAT, "%s: may not be 0", n->line);
    *out = (uint32_t)value;
    return 0;
}

static int key_read(const struct notice *n, struct notice_root *out, struct err *e)
{
    size_t len = 0;

    if (out->key_cnt == CONF_KEY_MAX)
        return err_set(e, ERR_LIMIT, "more than %d keys", CONF_KEY_MAX);
    if (mbedtls_base64_decode(out->keys[out->key_cnt].der, NOTICE_KEY_LEN_MAX, &len,
                              (const uint8_t *)n->value, strlen(n->value)))
        return err_set(e, ERR_FORMAT, "key %u: not the base64 of at most %d bytes", out->key_cnt + 1,
                       NOTICE_KEY_LEN_MAX);
    out->keys[out->key_cnt++].len = (uint32_t)len;
    return 0;
}

static int root_word(const struct notice *n, void *ctx, struct err *e)
{
    struct notice_root *out = ctx;

    if (!strcmp(n->line, "version"))
        return number_read(n, &out->version, e);
    if (!strcmp(n->line, "threshold"))
        return number_read(n, &out->threshold, e);
    if (!strcmp(n->line, "key"))
        return key_read(n, out, e);
    return err_set(e, ERR_FORMAT, "unknown word \"%.40s\"", n->line);
}

int notice_root_parse(const char *text, size_t len, struct notice_root *out, struct err *e)
{
    int rc;

    memset(out, 0, sizeof *out);
    rc = notice_read(text, len, "root", root_word, out, e);
    if (rc == 0 && (!out->version || !out->threshold || out->threshold > out->key_cnt))
        rc = err_set(e, ERR_FORMAT, "want a version, a threshold, and at least as many keys");
    return rc ? err_prefix(e, "root") : 0;
}

static int text_read(const struct notice *n, char *out, size_t cap, struct err *e)
{
    size_t len = strlen(n->value);

    if (*out || len >= cap)
        return err_set(e, ERR_FORMAT, "%s: given twice, or longer than %zu characters", n->line, cap - 1);
    memcpy(out, n->value, len + 1);
    return 0;
}

static int brake_word(const struct notice *n, void *ctx, struct err *e)
{
    struct notice_brake *out = ctx;

    if (!strcmp(n->line, "repository"))
        return text_read(n, out->repository, sizeof out->repository, e);
    if (!strcmp(n->line, "reason"))
        return text_read(n, out->reason, sizeof out->reason, e);
    return err_set(e, ERR_FORMAT, "unknown word \"%.40s\"", n->line);
}

int notice_brake_parse(const char *text, size_t len, struct notice_brake *out, struct err *e)
{
    int rc;

    memset(out, 0, sizeof *out);
    rc = notice_read(text, len, "brake", brake_word, out, e);
    if (rc == 0 && (!out->repository[0] || !out->reason[0]))
        rc = err_set(e, ERR_FORMAT, "want a repository and a reason");
    return rc ? err_prefix(e, "brake") : 0;
}
