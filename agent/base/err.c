#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void text_make_printable(char *s)
{
    for (; *s; s++)
        if (*s < 0x20 || *s > 0x7e)
            *s = '?';
}

static void text_format(struct err *e, const char *fmt, va_list ap)
{
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    text_make_printable(e->text);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    text_format(e, fmt, ap);
    va_end(ap);
    e->code = code;
    e->after_s = 0;
    return code;
}

int err_errno(struct err *e, const char *fmt, ...)
{
    int saved = errno ? errno : EIO;
    size_t len;
    va_list ap;

    va_start(ap, fmt);
    text_format(e, fmt, ap);
    va_end(ap);
    len = strlen(e->text);
    snprintf(e->text + len, sizeof e->text - len, ": %s", strerror(saved));
    e->code = -saved;
    e->after_s = 0;
    return e->code;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
    char inner[ERR_TEXT_MAX];
    size_t len;
    va_list ap;

    memcpy(inner, e->text, sizeof inner);
    va_start(ap, fmt);
    text_format(e, fmt, ap);
    va_end(ap);
    len = strlen(e->text);
    snprintf(e->text + len, sizeof e->text - len, ": %s", inner);
    return e->code;
}

int err_append(struct err *e, const char *fmt, ...)
{
    size_t len = strlen(e->text);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(e->text + len, sizeof e->text - len, fmt, ap);
    va_end(ap);
    text_make_printable(e->text);
    return e->code;
}

const char *err_name(int code)
{
    static const char *const names[] = {
        "digest", "size",  "format",      "limit",    "policy",    "platform", "space",  "network",
        "tls",    "auth",  "absent",      "registry", "flash",     "boot",     "config", "peer",
        "app",    "state", "unsupported", "unsigned", "signature", "older",    "held",
    };
    int at = ERR_DIGEST - code;

    if (code == 0)
        return "none";
    if (at >= 0 && at < (int)(sizeof names / sizeof names[0]))
        return names[at];
    return "system";
}
