#include "base/conf.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/conf_app.h"
#include "base/io.h"
#include "base/word.h"

#define CONF_FILE_MAX (16 * 1024)
#define STR_(x) #x
#define STR(x) STR_(x)

/* How a value is written, and what it becomes. */
enum kind {
    KIND_TEXT,       /* char[max + 1], as it stands */
    KIND_PATH,       /* the same, absolute */
    KIND_PROXY,      /* the same, http://host[:port] */
    KIND_SECONDS,    /* uint32_t, min..max; "90", "90s", "5m", "2h" */
    KIND_NUMBER,     /* uint32_t, min..max */
    KIND_YES_NO,     /* bool */
    KIND_SLOTS,      /* bool disk */
    KIND_APP,        /* a part of struct conf_app (base/conf_app.h) */
    KIND_IMAGE,      /* host, repository and tag of struct conf_registry */
    KIND_MIRRORS,    /* char[CONF_MIRROR_MAX][CONF_HOST_MAX] */
    KIND_POLICY,     /* bool required */
    KIND_EXPIRED,    /* bool expired_is_ok */
    KIND_KEYS,       /* char[CONF_KEY_MAX][CONF_PATH_MAX] */
    KIND_REPOSITORY, /* char[max + 1], the name of a repository, or "any" */
};

struct key {
    const char *section;
    const char *name;
    const char *preset; /* the default, written as in the file; NULL: empty, 0, no */
    enum kind kind;
    size_t offset;
    uint32_t min;
    uint32_t max;
};

#define AT(field) offsetof(struct conf, field)
#define LEN(field) 0, sizeof((struct conf *)0)->field - 1

static const struct key keys[] = {
    {"registry", "image", NULL, KIND_IMAGE, AT(registry), 0, 0},
    {"registry", "mirrors", NULL, KIND_MIRRORS, AT(registry.mirrors), 0, 0},
    {"registry", "ca", NULL, KIND_PATH, AT(registry.ca), LEN(registry.ca)},
    {"registry", "client_cert", NULL, KIND_PATH, AT(registry.client_cert), LEN(registry.client_cert)},
    {"registry", "client_key", NULL, KIND_PATH, AT(registry.client_key), LEN(registry.client_key)},
    {"registry", "credentials", NULL, KIND_PATH, AT(registry.credentials), LEN(registry.credentials)},
    {"registry", "proxy", NULL, KIND_PROXY, AT(registry.proxy), LEN(registry.proxy)},
    {"registry", "plain_http", "no", KIND_YES_NO, AT(registry.plain_http), 0, 0},
    {"update", "poll_interval", STR(CONFIG_POLL_INTERVAL_S), KIND_SECONDS, AT(update.poll_interval_s), 0,
     604800},
    {"update", "stable", STR(CONFIG_STABLE_S), KIND_SECONDS, AT(update.stable_s), 1, 86400},
    {"update", "tries", STR(CONFIG_TRIAL_TRIES), KIND_NUMBER, AT(update.tries), 1, 9},
    {"update", "automatic", "yes", KIND_YES_NO, AT(update.automatic), 0, 0},
    {"update", "full_verification", "no", KIND_YES_NO, AT(update.full_verification), 0, 0},
    {"trust", "policy", "required", KIND_POLICY, AT(trust.required), 0, 0},
    {"trust", "keys", NULL, KIND_KEYS, AT(trust.keys), 0, 0},
    {"trust", "threshold", "1", KIND_NUMBER, AT(trust.threshold), 1, CONF_KEY_MAX},
    {"trust", "repository", NULL, KIND_REPOSITORY, AT(trust.repository), LEN(trust.repository)},
    {"trust", "min_age", "0", KIND_SECONDS, AT(trust.min_age_s), 0, 2592000},
    {"trust", "max_age", "0", KIND_SECONDS, AT(trust.max_age_s), 0, 31536000},
    {"trust", "expired_certificate", "alarm", KIND_EXPIRED, AT(trust.expired_is_ok), 0, 0},
    {"slots", "a", NULL, KIND_TEXT, AT(slots.a), LEN(slots.a)},
    {"slots", "b", NULL, KIND_TEXT, AT(slots.b), LEN(slots.b)},
    {"slots", "kind", "tree", KIND_SLOTS, AT(slots.disk), 0, 0},
    {"app", "stop_timeout", "10", KIND_SECONDS, AT(app.stop_timeout_s), 0, 3600},
    {"app", "start_timeout", "60", KIND_SECONDS, AT(app.start_timeout_s), 1, 3600},
    {"app", "watchdog", "0", KIND_SECONDS, AT(app.watchdog_s), 0, 3600},
    {"app", "pids", STR(CONFIG_APP_PIDS), KIND_NUMBER, AT(app.pids), 1, 4194304},
    {"app", "user", NULL, KIND_TEXT, AT(app.user), LEN(app.user)},
    {"app", "restart", "always", KIND_APP, AT(app), 0, 0},
    {"app", "network", "host", KIND_APP, AT(app), 0, 0},
    {"app", "ready", "auto", KIND_APP, AT(app), 0, 0},
    {"app", "memory", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "tmpfs", STR(CONFIG_APP_TMPFS_KB) "K", KIND_APP, AT(app), 0, 0},
    {"app", "cpu", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "args", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "env", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "volumes", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "devices", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "capabilities", NULL, KIND_APP, AT(app), 0, 0},
    {"control", "socket", "/run/slipway/agentd.sock", KIND_PATH, AT(control.socket), LEN(control.socket)},
    {"control", "serial", NULL, KIND_PATH, AT(control.serial), LEN(control.serial)},
    {"control", "serial_baud", "115200", KIND_NUMBER, AT(control.serial_baud), 1200, 4000000},
    {"agent", "state_dir", "/data/slipway", KIND_PATH, AT(agent.state_dir), LEN(agent.state_dir)},
    {"agent", "watchdog", "1m", KIND_SECONDS, AT(agent.watchdog_s), 0, 3600},
    {"agent", "worker_uid", "65534", KIND_NUMBER, AT(agent.worker_uid), 1, 2147483647},
};

#define KEY_CNT (sizeof keys / sizeof keys[0])

struct parser {
    const char *path;
    struct conf *conf;
    struct err *err;
    const char *section; /* of keys[]; NULL before the first */
    unsigned line;
    unsigned seen_at[KEY_CNT]; /* line; 0: not seen */
};

/* --- characters ---------------------------------------------------------------------------------------------------- */

static bool is_lower(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_lower(c) || (c >= 'A' && c <= 'Z') || is_digit(c);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Cut white space off both ends, in place. */
static char *trim(char *s)
{
    size_t len;

    while (is_space(*s))
        s++;
    for (len = strlen(s); len && is_space(s[len - 1]); len--)
        s[len - 1] = '\0';
    return s;
}

/* Decimal digits up to what is not one. Returns the number of digits, 0 when none or above UINT32_MAX. */
static size_t digits_read(const char *s, uint32_t *out)
{
    uint64_t value = 0;
    size_t n;

    for (n = 0; is_digit(s[n]); n++) {
        value = value * 10 + (uint64_t)(s[n] - '0');
        if (value > UINT32_MAX)
            return 0;
    }
    *out = (uint32_t)value;
    return n;
}

/* --- references: OCI distribution specification, "Pulling manifests" ------------------------------------------------ */

static bool port_valid(const char *s)
{
    uint32_t port;
    size_t n = digits_read(s, &port);

    return n && !s[n] && port >= 1 && port <= 65535;
}

/* host[:port]: a name, an IPv4 address, or an IPv6 address in brackets. */
static bool host_valid(const char *s)
{
    if (*s == '[') {
        size_t n = 1 + strspn(s + 1, "0123456789abcdefABCDEF:.");

        if (n < 3 || s[n] != ']')
            return false;
        return !s[n + 1] || (s[n + 1] == ':' && port_valid(s + n + 2));
    }
    if (!is_alnum(*s))
        return false;
    for (const char *start = s; *s && *s != ':'; s++) {
        bool edge = s == start || s[-1] == '.' || !s[1] || s[1] == ':' || s[1] == '.';

        if (!is_alnum(*s) && (edge || (*s != '-' && *s != '.')))
            return false;
    }
    return !*s || (s[1] && port_valid(s + 1));
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, of which several with "/" between them. */
static bool repository_valid(const char *s)
{
    for (;;) {
        size_t n = 0;

        while (is_lower(s[n]) || is_digit(s[n]))
            n++;
        if (!n)
            return false;
        s += n;
        if (!*s)
            return true;
        if (*s == '/' || *s == '.')
            s++;
        else if (*s == '_')
            s += s[1] == '_' ? 2 : 1;
        else if (*s == '-')
            s += strspn(s, "-");
        else
            return false;
    }
}

/* [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}; the length is the caller's to check. */
static bool tag_valid(const char *s)
{
    if (!is_alnum(*s) && *s != '_')
        return false;
    for (; *s; s++)
        if (!is_alnum(*s) && !strchr("._-", *s))
            return false;
    return true;
}

/* --- values -------------------------------------------------------------------------------------------------------- */

static int text_put(char *out, size_t cap, const char *value, const char *what, struct err *e)
{
    size_t len = strlen(value);

    if (len >= cap)
        return err_set(e, ERR_CONFIG, "%s is %zu characters long; there is room for %zu", what, len, cap - 1);
    memcpy(out, value, len + 1);
    return 0;
}

static bool path_valid(const char *s)
{
    return *s == '/';
}

static int path_put(const struct key *k, char *out, const char *value, struct err *e)
{
    if (*value && !path_valid(value))
        return err_set(e, ERR_CONFIG, "%s must be an absolute path, got \"%.80s\"", k->name, value);
    return text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static int proxy_put(const struct key *k, char *out, const char *value, struct err *e)
{
    if (*value && (strncmp(value, "http://", 7) || !value[7]))
        return err_set(e, ERR_CONFIG, "%s must be http://host[:port], got \"%.80s\"", k->name, value);
    return text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static int number_put(const struct key *k, uint32_t *out, const char *value, struct err *e)
{
    static const struct {
        const char *unit;
        uint32_t factor;
    } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}};
    size_t unit_cnt = k->kind == KIND_SECONDS ? sizeof units / sizeof units[0] : 1;
    uint32_t number = 0;
    size_t n = digits_read(value, &number);

    for (size_t i = 0; n && i < unit_cnt; i++) {
        uint64_t total = (uint64_t)number * units[i].factor;

        if (strcmp(value + n, units[i].unit))
            continue;
        if (total < k->min || total > k->max)
            break;
        *out = (uint32_t)total;
        return 0;
    }
    return err_set(e, ERR_CONFIG, "%s must be %u to %u%s, got \"%.80s\"", k->name, k->min, k->max,
                   unit_cnt > 1 ? " seconds, as in 90, 90s, 5m, 2h" : "", value);
}

static int bool_put(const struct key *k, bool *out, const char *off, const char *on, const char *value,
                    struct err *e)
{
    if (strcmp(value, off) && strcmp(value, on))
        return err_set(e, ERR_CONFIG, "%s must be %s or %s, got \"%.80s\"", k->name, off, on, value);
    *out = !strcmp(value, on);
    return 0;
}

static int image_check(const struct conf_registry *r, struct err *e)
{
    if (!host_valid(r->host))
        return err_set(e, ERR_CONFIG, "image: \"%s\" is not host[:port] of a registry", r->host);
    if (!repository_valid(r->repository))
        return err_set(
            e, ERR_CONFIG,
            "image: \"%.120s\" is not the name of a repository (lower case, digits, '.', '_', '-', '/')",
            r->repository);
    if (!tag_valid(r->tag))
        return err_set(e, ERR_CONFIG, "image: \"%s\" is not a tag (letters, digits, '_', '.', '-')", r->tag);
    return 0;
}

/* host[:port]/repository[:tag]; cuts `value` up. */
static int image_put(struct conf_registry *r, char *value, struct err *e)
{
    char *repository = strchr(value, '/');
    char *tag;

    if (!*value)
        return 0;
    if (strstr(value, "://"))
        return err_set(e, ERR_CONFIG, "image: \"%.80s\" is an address; leave out what is before the host",
                       value);
    if (strchr(value, '@'))
        return err_set(e, ERR_CONFIG,
                       "image: a digest names one image for ever, and this agent follows a tag; "
                       "write host[:port]/repository:tag");
    if (!repository)
        return err_set(e, ERR_CONFIG,
                       "image: \"%.80s\" names no registry; write host[:port]/repository[:tag]", value);
    *repository++ = '\0';
    if (!strcmp(value, "docker.io") || !strcmp(value, "index.docker.io"))
        return err_set(e, ERR_CONFIG,
                       "image: %s is no registry but a name for one; write registry-1.docker.io/%s%.80s",
                       value, strchr(repository, '/') ? "" : "library/", repository);
    tag = strchr(repository, ':');
    if (tag)
        *tag++ = '\0';
    if (text_put(r->host, sizeof r->host, value, "image: the host", e) ||
        text_put(r->repository, sizeof r->repository, repository, "image: the repository", e) ||
        text_put(r->tag, sizeof r->tag, tag ? tag : "latest", "image: the tag", e))
        return e->code;
    return image_check(r, e);
}

/* A list, "x, y", of at most `max` items of `cap` characters each; cuts `value` up. */
static int list_put(const struct key *k, char *out, size_t max, size_t cap, bool (*valid)(const char *),
                    const char *want, char *value, struct err *e)
{
    for (size_t cnt = 0; value && *value; cnt++) {
        char *next = strchr(value, ',');

        if (next)
            *next++ = '\0';
        value = trim(value);
        if (cnt == max)
            return err_set(e, ERR_CONFIG, "%s: more than %zu", k->name, max);
        if (!*value || !valid(value) || (next && !*trim(next)))
            return err_set(e, ERR_CONFIG, "%s: \"%.80s\" is not %s", k->name, *value ? value : ",", want);
        if (text_put(out + cnt * cap, cap, value, k->name, e))
            return e->code;
        value = next;
    }
    return 0;
}

static int repository_put(const struct key *k, char *out, const char *value, struct err *e)
{
    if (*value && !repository_valid(value))
        return err_set(e, ERR_CONFIG,
                       "%s must be the name of a repository without its host, or any, got \"%.80s\"", k->name,
                       value);
    return text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static int value_put(const struct key *k, struct conf *c, char *value, struct err *e)
{
    void *at = (char *)c + k->offset;

    switch (k->kind) {
    case KIND_TEXT:
        return text_put(at, (size_t)k->max + 1, value, k->name, e);
    case KIND_PATH:
        return path_put(k, at, value, e);
    case KIND_PROXY:
        return proxy_put(k, at, value, e);
    case KIND_SECONDS:
    case KIND_NUMBER:
        return number_put(k, at, value, e);
    case KIND_YES_NO:
        return bool_put(k, at, "no", "yes", value, e);
    case KIND_SLOTS:
        return bool_put(k, at, "tree", "disk", value, e);
    case KIND_APP:
        return conf_app_put(&c->app, k->name, value, e);
    case KIND_IMAGE:
        return image_put(at, value, e);
    case KIND_MIRRORS:
        return list_put(k, at, CONF_MIRROR_MAX, CONF_HOST_MAX, host_valid, "host[:port]", value, e);
    case KIND_POLICY:
        return bool_put(k, at, "off", "required", value, e);
    case KIND_EXPIRED:
        return bool_put(k, at, "refuse", "alarm", value, e);
    case KIND_KEYS:
        return list_put(k, at, CONF_KEY_MAX, CONF_PATH_MAX, path_valid, "an absolute path", value, e);
    case KIND_REPOSITORY:
        return repository_put(k, at, value, e);
    }
    return err_set(e, ERR_CONFIG, "%s: no such kind of value", k->name);
}

static int presets_put(struct conf *c, struct err *e)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < KEY_CNT; i++) {
        char value[64];

        if (!keys[i].preset)
            continue;
        if (text_put(value, sizeof value, keys[i].preset, keys[i].name, e) ||
            value_put(&keys[i], c, value, e))
            return e->code;
    }
    return 0;
}

/* --- names --------------------------------------------------------------------------------------------------------- */

static const char *name_of(const struct key *k, bool section)
{
    return section ? k->section : k->name;
}

/* The known name nearest to `name` and not further than a slip of the fingers; of keys, those of `section` only. */
static const char *name_nearest(const char *name, const char *section)
{
    unsigned least = strlen(name) < 5 ? 2 : 4;
    const char *nearest = NULL;

    for (size_t i = 0; i < KEY_CNT; i++) {
        const char *candidate = name_of(&keys[i], !section);
        unsigned distance = word_distance(name, candidate);

        if ((section && strcmp(keys[i].section, section)) || distance >= least)
            continue;
        least = distance;
        nearest = candidate;
    }
    return nearest;
}

static int key_refuse(const char *name, const char *section, struct err *e)
{
    const char *nearest = name_nearest(name, section);

    if (nearest)
        return err_set(e, ERR_CONFIG, "unknown key \"%.40s\" in [%s]; did you mean \"%s\"?", name, section,
                       nearest);
    for (size_t i = 0; i < KEY_CNT; i++)
        if (!strcmp(keys[i].name, name))
            return err_set(e, ERR_CONFIG, "unknown key \"%.40s\" in [%s]; it belongs into [%s]", name,
                           section, keys[i].section);
    return err_set(e, ERR_CONFIG, "unknown key \"%.40s\" in [%s]", name, section);
}

/* --- lines --------------------------------------------------------------------------------------------------------- */

static int section_parse(struct parser *p, char *line)
{
    size_t len = strlen(line);
    const char *nearest;
    char *name;

    if (line[len - 1] != ']')
        return err_set(p->err, ERR_CONFIG, "\"%.40s\" has no closing ]", line);
    line[len - 1] = '\0';
    name = trim(line + 1);
    for (size_t i = 0; i < KEY_CNT; i++)
        if (!strcmp(keys[i].section, name)) {
            p->section = keys[i].section;
            return 0;
        }
    nearest = name_nearest(name, NULL);
    if (nearest)
        return err_set(p->err, ERR_CONFIG, "unknown section [%.40s]; did you mean [%s]?", name, nearest);
    return err_set(p->err, ERR_CONFIG, "unknown section [%.40s]", name);
}

static int pair_parse(struct parser *p, char *line)
{
    char *value = strchr(line, '=');
    char *name;

    if (!value)
        return err_set(p->err, ERR_CONFIG, "\"%.40s\" is neither [section] nor key = value", line);
    *value++ = '\0';
    name = trim(line);
    value = trim(value);
    if (!p->section)
        return err_set(p->err, ERR_CONFIG, "\"%.40s\" stands before the first [section]", name);
    for (size_t i = 0; i < KEY_CNT; i++) {
        if (strcmp(keys[i].section, p->section) || strcmp(keys[i].name, name))
            continue;
        if (p->seen_at[i])
            return err_set(p->err, ERR_CONFIG, "%s is already set in line %u", name, p->seen_at[i]);
        p->seen_at[i] = p->line;
        return value_put(&keys[i], p->conf, value, p->err);
    }
    return key_refuse(name, p->section, p->err);
}

static int line_parse(struct parser *p, char *line)
{
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 && !is_space(*c))
            return err_set(p->err, ERR_CONFIG, "control character 0x%02x", (unsigned)*c);
        if (*c == '#' && (c == line || is_space(c[-1]))) {
            *c = '\0';
            break;
        }
    }
    line = trim(line);
    if (!*line)
        return 0;
    return *line == '[' ? section_parse(p, line) : pair_parse(p, line);
}

static int lines_parse(struct parser *p, char *text)
{
    while (text) {
        char *end = strchr(text, '\n');

        if (end)
            *end++ = '\0';
        p->line++;
        if (line_parse(p, text))
            return err_prefix(p->err, "%s:%u", p->path, p->line);
        text = end;
    }
    return 0;
}

/* A board that follows no image yet needs no keys. */
static int trust_check(const struct conf *c, const char *path, struct err *e)
{
    uint32_t cnt = 0;

    while (cnt < CONF_KEY_MAX && c->trust.keys[cnt][0])
        cnt++;
    if (!c->trust.required || !c->registry.host[0])
        return 0;
    if (cnt == 0)
        return err_set(e, ERR_CONFIG,
                       "%s: [trust] names no keys: list the PEM files of the public keys that sign images, "
                       "keys = /etc/slipway/release.pem, or write policy = off to take unsigned ones",
                       path);
    if (c->trust.threshold > cnt)
        return err_set(e, ERR_CONFIG, "%s: [trust] threshold is %u, but there are only %u keys", path,
                       c->trust.threshold, cnt);
    return 0;
}

static int conf_check(const struct conf *c, const char *path, struct err *e)
{
    const struct conf_registry *r = &c->registry;

    if (!*r->client_cert != !*r->client_key)
        return err_set(e, ERR_CONFIG, "%s: [registry] has %s without %s; mutual TLS needs both", path,
                       *r->client_cert ? "client_cert" : "client_key",
                       *r->client_cert ? "client_key" : "client_cert");
    if (!*c->slots.a != !*c->slots.b)
        return err_set(e, ERR_CONFIG, "%s: [slots] needs a and b, or neither", path);
    if (*c->slots.a && !strcmp(c->slots.a, c->slots.b))
        return err_set(e, ERR_CONFIG, "%s: [slots] a and b are the same place", path);
    if (!*c->control.socket || !*c->agent.state_dir)
        return err_set(e, ERR_CONFIG, "%s: %s may not be empty", path,
                       *c->control.socket ? "[agent] state_dir" : "[control] socket");
    return trust_check(c, path, e);
}

int conf_load(const char *path, struct conf *out, struct err *e)
{
    static char text[CONF_FILE_MAX + 1];
    struct parser p = {.path = path, .conf = out, .err = e};
    ssize_t len;

    if (presets_put(out, e))
        return err_prefix(e, "built-in default");
    len = io_read_file(path, text, sizeof text);
    if (len < 0 && errno == EFBIG)
        return err_set(e, ERR_CONFIG, "%s: larger than %d bytes", path, CONF_FILE_MAX);
    if (len < 0) {
        err_errno(e, "%s", path);
        e->code = ERR_CONFIG;
        return ERR_CONFIG;
    }
    if (strlen(text) != (size_t)len)
        return err_set(e, ERR_CONFIG, "%s: not text: it has a NUL byte", path);
    if (lines_parse(&p, text))
        return e->code;
    return conf_check(out, path, e);
}
