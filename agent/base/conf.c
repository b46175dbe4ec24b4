/* The keys of agent.conf, and what their values may be. */
#include "base/conf.h"

#include <stddef.h>
#include <string.h>

#include "base/conf_app.h"
#include "base/conf_key.h"
#include "base/moment.h"

#define STR_(x) #x
#define STR(x) STR_(x)

#define AT(field) offsetof(struct conf, field)
#define LEN(field) 0, sizeof((struct conf *)0)->field - 1

const struct conf_key conf_keys[] = {
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
    {"update", "channel", "stable", KIND_TEXT, AT(update.channel), LEN(update.channel)},
    {"update", "check_timeout", "30", KIND_SECONDS, AT(update.check_timeout_s), 1, 3600},
    {"update", "automatic", "yes", KIND_YES_NO, AT(update.automatic), 0, 0},
    {"update", "full_verification", "no", KIND_YES_NO, AT(update.full_verification), 0, 0},
    {"update", "rate_limit", NULL, KIND_SIZE, AT(update.rate_kib_s), 16, 1u << 30},
    {"update", "daily_budget", NULL, KIND_SIZE, AT(update.budget_kib), 64, 1u << 30},
    {"update", "download_window", NULL, KIND_WINDOWS, AT(update.windows), 0, 0},
    {"update", "max_pressure", "20", KIND_NUMBER, AT(update.max_pressure), 1, 100},
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
    {"slots", "scrub", "monthly", KIND_SCRUB, AT(slots.scrub_s), 0, 0},
    {"app", "stop_timeout", "10", KIND_SECONDS, AT(app.stop_timeout_s), 0, 3600},
    {"app", "start_timeout", "60", KIND_SECONDS, AT(app.start_timeout_s), 1, 3600},
    {"app", "watchdog", "0", KIND_SECONDS, AT(app.watchdog_s), 0, 3600},
    {"app", "pids", STR(CONFIG_APP_PIDS), KIND_NUMBER, AT(app.pids), 1, 4194304},
    {"app", "user", NULL, KIND_TEXT, AT(app.user), LEN(app.user)},
    {"app", "restart", "always", KIND_APP, AT(app), 0, 0},
    {"app", "network", "host", KIND_APP, AT(app), 0, 0},
    {"app", "ports", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "ready", "auto", KIND_APP, AT(app), 0, 0},
    {"app", "memory", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "tmpfs", STR(CONFIG_APP_TMPFS_KB) "K", KIND_APP, AT(app), 0, 0},
    {"app", "cpu", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "args", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "env", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "volumes", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "devices", NULL, KIND_APP, AT(app), 0, 0},
    {"app", "capabilities", NULL, KIND_APP, AT(app), 0, 0},
    {CONF_NAMED, "image", NULL, KIND_IMAGE, offsetof(struct conf_target, registry), 0, 0},
    {"control", "socket", "/run/slipway/agentd.sock", KIND_PATH, AT(control.socket), LEN(control.socket)},
    {"control", "serial", NULL, KIND_PATH, AT(control.serial), LEN(control.serial)},
    {"control", "serial_baud", "115200", KIND_NUMBER, AT(control.serial_baud), 1200, 4000000},
    {"agent", "state_dir", "/data/slipway", KIND_PATH, AT(agent.state_dir), LEN(agent.state_dir)},
    {"agent", "watchdog", "1m", KIND_SECONDS, AT(agent.watchdog_s), 0, 3600},
    {"agent", "worker_uid", "65534", KIND_NUMBER, AT(agent.worker_uid), 1, 2147483647},
};

_Static_assert(sizeof conf_keys / sizeof conf_keys[0] <= CONF_KEY_CNT_MAX, "a parser holds all");
const size_t conf_key_cnt = sizeof conf_keys / sizeof conf_keys[0];

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

bool conf_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

char *conf_trim(char *s)
{
    size_t len;

    while (conf_is_space(*s))
        s++;
    for (len = strlen(s); len && conf_is_space(s[len - 1]); len--)
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

int conf_text_put(char *out, size_t cap, const char *value, const char *what, struct err *e)
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

static int path_put(const struct conf_key *k, char *out, const char *value, struct err *e)
{
    if (*value && !path_valid(value))
        return err_set(e, ERR_CONFIG, "%s must be an absolute path, got \"%.80s\"", k->name, value);
    return conf_text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static int proxy_put(const struct conf_key *k, char *out, const char *value, struct err *e)
{
    if (*value && (strncmp(value, "http://", 7) || !value[7]))
        return err_set(e, ERR_CONFIG, "%s must be http://host[:port], got \"%.80s\"", k->name, value);
    return conf_text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static int number_put(const struct conf_key *k, uint32_t *out, const char *value, struct err *e)
{
    bool seconds = k->kind == KIND_SECONDS;
    uint32_t number = 0;
    size_t n = seconds ? 0 : digits_read(value, &number);

    if ((seconds ? !seconds_parse(value, &number) : n == 0 || value[n]) || number < k->min || number > k->max)
        return err_set(e, ERR_CONFIG, "%s must be %u to %u%s, got \"%.80s\"", k->name, k->min, k->max,
                       seconds ? " seconds, as in 90, 90s, 5m, 2h" : "", value);
    *out = number;
    return 0;
}

int conf_size_put(const char *name, uint32_t min_kib, uint32_t max_kib, uint32_t *out_kib, const char *value,
                  struct err *e)
{
    static const char units[] = "kKmMgG";
    bool mega = min_kib % 1024 == 0;
    uint32_t number = 0;
    size_t n = digits_read(value, &number);
    const char *unit = n && value[n] && !value[n + 1] ? strchr(units, value[n]) : NULL;
    uint64_t kib = unit ? (uint64_t)number << 10 * ((unit - units) / 2) : 0;

    if (kib < min_kib || kib > max_kib)
        return err_set(e, ERR_CONFIG, "%s must be %u%c or more, as in 512K, 64M, 1G; got \"%.80s\"", name,
                       mega ? min_kib / 1024 : min_kib, mega ? 'M' : 'K', value);
    *out_kib = (uint32_t)kib;
    return 0;
}

/* Empty: none. */
static int windows_put(struct window *out, char *value, struct err *e)
{
    return *value ? window_list_parse(value, out, CONF_WINDOW_MAX, e) : 0;
}

static int bool_put(const struct conf_key *k, bool *out, const char *off, const char *on, const char *value,
                    struct err *e)
{
    if (strcmp(value, off) && strcmp(value, on))
        return err_set(e, ERR_CONFIG, "%s must be %s or %s, got \"%.80s\"", k->name, off, on, value);
    *out = !strcmp(value, on);
    return 0;
}

static int scrub_put(const struct conf_key *k, uint32_t *out_s, const char *value, struct err *e)
{
    static const struct {
        const char *word;
        uint32_t days;
    } words[] = {{"off", 0}, {"daily", 1}, {"weekly", 7}, {"monthly", 30}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(value, words[i].word)) {
            *out_s = words[i].days * 86400;
            return 0;
        }
    return err_set(e, ERR_CONFIG, "%s must be off, daily, weekly or monthly, got \"%.80s\"", k->name, value);
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
    if (conf_text_put(r->host, sizeof r->host, value, "image: the host", e) ||
        conf_text_put(r->repository, sizeof r->repository, repository, "image: the repository", e) ||
        conf_text_put(r->tag, sizeof r->tag, tag ? tag : "latest", "image: the tag", e))
        return e->code;
    return image_check(r, e);
}

/* A list, "x, y", of at most `max` items of `cap` characters each; cuts `value` up. */
static int list_put(const struct conf_key *k, char *out, size_t max, size_t cap, bool (*valid)(const char *),
                    const char *want, char *value, struct err *e)
{
    for (size_t cnt = 0; value && *value; cnt++) {
        char *next = strchr(value, ',');

        if (next)
            *next++ = '\0';
        value = conf_trim(value);
        if (cnt == max)
            return err_set(e, ERR_CONFIG, "%s: more than %zu", k->name, max);
        if (!*value || !valid(value) || (next && !*conf_trim(next)))
            return err_set(e, ERR_CONFIG, "%s: \"%.80s\" is not %s", k->name, *value ? value : ",", want);
        if (conf_text_put(out + cnt * cap, cap, value, k->name, e))
            return e->code;
        value = next;
    }
    return 0;
}

static int repository_put(const struct conf_key *k, char *out, const char *value, struct err *e)
{
    if (*value && !repository_valid(value))
        return err_set(e, ERR_CONFIG,
                       "%s must be the name of a repository without its host, or any, got \"%.80s\"", k->name,
                       value);
    return conf_text_put(out, (size_t)k->max + 1, value, k->name, e);
}

static void *place_of(const struct conf_key *k, struct conf *c, struct conf_target *t)
{
    if (!t)
        return (char *)c + k->offset;
    return strcmp(k->section, CONF_NAMED) ? (char *)&t->app + (k->offset - AT(app)) : (char *)t + k->offset;
}

int conf_value_put(const struct conf_key *k, struct conf *c, struct conf_target *t, char *value,
                   struct err *e)
{
    void *at = place_of(k, c, t);

    switch (k->kind) {
    case KIND_TEXT:
        return conf_text_put(at, (size_t)k->max + 1, value, k->name, e);
    case KIND_PATH:
        return path_put(k, at, value, e);
    case KIND_PROXY:
        return proxy_put(k, at, value, e);
    case KIND_SECONDS:
    case KIND_NUMBER:
        return number_put(k, at, value, e);
    case KIND_SIZE:
        return *value ? conf_size_put(k->name, k->min, k->max, at, value, e) : 0;
    case KIND_WINDOWS:
        return windows_put(at, value, e);
    case KIND_YES_NO:
        return bool_put(k, at, "no", "yes", value, e);
    case KIND_SLOTS:
        return bool_put(k, at, "tree", "disk", value, e);
    case KIND_SCRUB:
        return scrub_put(k, at, value, e);
    case KIND_APP:
        return conf_app_put(t ? &t->app : &c->app, k->name, value, e);
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
