/* WWW-Authenticate: a list of challenges, each a scheme and parameters (RFC 9110, 11.6.1). */
#include <string.h>
#include <strings.h>

#include "oci/auth.h"

static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip(const char *p, const char *what)
{
    return p + strspn(p, what);
}

static const char *token_take(const char *p, char *out, size_t cap)
{
    size_t used = 0;

    for (; is_token_char(*p); p++)
        if (used + 1 < cap)
            out[used++] = *p;
    out[used] = '\0';
    return p;
}

/* A token or quoted string; NULL when the quote never ends or the value does not fit. */
static const char *value_take(const char *p, char *out, size_t cap)
{
    size_t used = 0;
    bool quoted = *p == '"';

    for (p += quoted; *p && (quoted ? *p != '"' : is_token_char(*p) || strchr("/:=@", *p) != NULL); p++) {
        if (quoted && *p == '\\' && *++p == '\0')
            return NULL;
        if (used + 1 >= cap)
            return NULL;
        out[used++] = *p;
    }
    out[used] = '\0';
    if (!quoted)
        return p;
    return *p == '"' ? p + 1 : NULL;
}

static void parameter_keep(struct auth_challenge *c, const char *name, const char *value)
{
    const struct {
        const char *name;
        char *at;
        size_t cap;
    } known[] = {
        {"realm", c->realm, sizeof c->realm},
        {"service", c->service, sizeof c->service},
        {"scope", c->scope, sizeof c->scope},
        {"error", c->error, sizeof c->error},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strcasecmp(name, known[i].name) && strlen(value) < known[i].cap)
            memcpy(known[i].at, value, strlen(value) + 1);
}

static void challenge_begin(struct auth_challenge *c, const char *scheme)
{
    memset(c, 0, sizeof *c);
    if (!strcasecmp(scheme, "Bearer"))
        c->scheme = AUTH_BEARER;
    else if (!strcasecmp(scheme, "Basic"))
        c->scheme = AUTH_BASIC;
}

static void challenge_keep(struct auth_challenge *best, const struct auth_challenge *c)
{
    if (c->scheme > best->scheme)
        *best = *c;
}

bool auth_challenge_parse(const char *text, struct auth_challenge *out)
{
    struct auth_challenge now = {0};
    char name[32], value[512];

    memset(out, 0, sizeof *out);
    for (const char *p = skip(text, " \t,"); *p; p = skip(p, " \t,")) {
        const char *after;

        p = token_take(p, name, sizeof name);
        after = skip(p, " \t");
        if (name[0] == '\0')
            break;
        if (*after != '=') { /* a word alone is the scheme of the next challenge */
            challenge_keep(out, &now);
            challenge_begin(&now, name);
            continue;
        }
        p = value_take(skip(after + 1, " \t"), value, sizeof value);
        if (!p)
            break;
        parameter_keep(&now, name, value);
    }
    challenge_keep(out, &now);
    return out->scheme != AUTH_NONE;
}
