#include "base/conf_app.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf_key.h"
#include "base/path.h"

#define SIZE_MIN_KB 1024u
#define SIZE_MAX_KB (1u << 30)

/* --- parts --------------------------------------------------------------------------------------------------------- */

/* The next item of a list that is parted by commas, without blanks around it; NULL at the end. */
static char *item_next(char **rest)
{
    char *item = *rest, *end;

    if (!item)
        return NULL;
    *rest = strchr(item, ',');
    if (*rest)
        *(*rest)++ = '\0';
    item += strspn(item, " \t");
    for (end = item + strlen(item); end > item && (end[-1] == ' ' || end[-1] == '\t'); end--)
        end[-1] = '\0';
    return *item || *rest ? item : NULL;
}

/* A whole number of up to 9 digits; *end is what stands behind it. */
static bool number_read(const char *s, uint32_t *out, const char **end)
{
    size_t n = strspn(s, "0123456789");

    *end = s + n;
    *out = n && n <= 9 ? (uint32_t)strtoul(s, NULL, 10) : 0;
    return n && n <= 9;
}

static int either_put(const char *key, const char *first, const char *second, const char *value,
                      struct err *e)
{
    if (!strcmp(value, first) || !strcmp(value, second))
        return !strcmp(value, second);
    return err_set(e, ERR_CONFIG, "%s must be %s or %s, got \"%.80s\"", key, first, second, value);
}

/* --- words --------------------------------------------------------------------------------------------------------- */

static int network_put(struct conf_app *a, char *value, struct err *e)
{
    static const char *const words[] = {"host", "none", "private"};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strcmp(words[i], value)) {
            a->network = (enum conf_network)i;
            return 0;
        }
    return err_set(e, ERR_CONFIG, "network must be host, none or private, got \"%.80s\"", value);
}

static int ready_put(struct conf_app *a, char *value, struct err *e)
{
    int at = either_put("ready", "auto", "notify", value, e);

    if (at < 0)
        return at;
    a->ready_by_notify = at == 1;
    return 0;
}

/* Docker's words. Nothing but a new configuration stops an app for good, so unless-stopped is always. */
static int restart_put(struct conf_app *a, char *value, struct err *e)
{
    static const char *const words[] = {"no", "on-failure", "always", "unless-stopped"};
    static const enum conf_restart means[] = {RESTART_NO, RESTART_ON_FAILURE, RESTART_ALWAYS, RESTART_ALWAYS};
    char *colon = strchr(value, ':');
    const char *end = "";

    a->restart_max = 0;
    if (colon)
        *colon++ = '\0';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(value, words[i]))
            continue;
        if (colon && (means[i] != RESTART_ON_FAILURE || !number_read(colon, &a->restart_max, &end) || *end ||
                      !a->restart_max || a->restart_max > 1000))
            break;
        a->restart = means[i];
        return 0;
    }
    return err_set(e, ERR_CONFIG,
                   "restart must be no, on-failure, on-failure:1 to on-failure:1000, always or "
                   "unless-stopped, got \"%.40s%s%.40s\"",
                   value, colon ? ":" : "", colon ? colon : "");
}

/* --- numbers ------------------------------------------------------------------------------------------------------- */

static int memory_put(struct conf_app *a, char *value, struct err *e)
{
    return conf_size_put("memory", SIZE_MIN_KB, SIZE_MAX_KB, &a->memory_kb, value, e);
}

static int tmpfs_put(struct conf_app *a, char *value, struct err *e)
{
    return conf_size_put("tmpfs", SIZE_MIN_KB, SIZE_MAX_KB, &a->tmpfs_kb, value, e);
}

/* Processors and hundredths of one: 0.25, 2, 1.5. */
static int cpu_put(struct conf_app *a, char *value, struct err *e)
{
    uint32_t whole, part = 0;
    const char *end, *tail = "";
    bool good = number_read(value, &whole, &end) && whole <= 1024;

    if (good && *end == '.') {
        good = number_read(end + 1, &part, &tail) && tail - end <= 3 && !*tail;
        part = tail - end == 2 ? part * 10 : part;
    } else if (*end) {
        good = false;
    }
    if (!good || (!whole && !part))
        return err_set(e, ERR_CONFIG, "cpu must be a number of processors, as in 0.25, 1, 1.5; got \"%.80s\"",
                       value);
    a->cpu_percent = whole * 100 + part;
    return 0;
}

/* --- lists --------------------------------------------------------------------------------------------------------- */

/* Words parted by blanks; "a word" in quotes may have blanks, and \" and \\ within. */
static int words_put(const char *key, struct conf_words *w, const char *s, struct err *e)
{
    size_t len = 0;

    memset(w, 0, sizeof *w);
    for (s += strspn(s, " \t"); *s; s += strspn(s, " \t")) {
        bool quoted = *s == '"';

        for (s += quoted; *s && (quoted ? *s != '"' : *s != ' ' && *s != '\t'); s++) {
            s += quoted && *s == '\\' && (s[1] == '"' || s[1] == '\\');
            if (len + 2 > sizeof w->text)
                return err_set(e, ERR_CONFIG, "%s has more than %zu characters", key, sizeof w->text - 1);
            w->text[len++] = *s;
        }
        if (quoted && (*s != '"' || (s[1] && s[1] != ' ' && s[1] != '\t')))
            return err_set(e, ERR_CONFIG, "%s: a quote must end a word", key);
        s += quoted;
        if (len + 2 > sizeof w->text)
            return err_set(e, ERR_CONFIG, "%s has more than %zu characters", key, sizeof w->text - 1);
        w->text[len++] = '\0';
        w->cnt++;
    }
    return 0;
}

static int args_put(struct conf_app *a, char *value, struct err *e)
{
    return words_put("args", &a->args, value, e);
}

static int env_put(struct conf_app *a, char *value, struct err *e)
{
    const char *at = a->env.text;

    if (words_put("env", &a->env, value, e))
        return e->code;
    for (uint32_t i = 0; i < a->env.cnt; i++, at += strlen(at) + 1)
        if (!strchr(at, '=') || *at == '=')
            return err_set(e, ERR_CONFIG, "env wants NAME=value, got \"%.80s\"", at);
    return 0;
}

static bool path_valid(const char *s)
{
    return s[0] == '/' && s[1] && path_is_plain(s + 1);
}

static bool volume_name_valid(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");

    return n && !s[n] && s[0] != '.' && s[0] != '-';
}

/* FROM:TO[:ro|:rw], as `docker run -v`: FROM is a name or an absolute path. */
static int volume_put(struct conf_volume *v, char *item, struct err *e)
{
    char *to = strchr(item, ':');
    char *mode = to ? strchr(to + 1, ':') : NULL;

    if (to)
        *to++ = '\0';
    if (mode)
        *mode++ = '\0';
    v->read_only = mode && !strcmp(mode, "ro");
    if (!to || !path_valid(to) || (mode && !v->read_only && strcmp(mode, "rw") != 0) ||
        !(path_valid(item) || volume_name_valid(item)))
        return err_set(e, ERR_CONFIG,
                       "volumes wants name:/path or /path:/path, with :ro if so; got \"%.60s%s%.60s\"", item,
                       to ? ":" : "", to ? to : "");
    if (snprintf(v->from, sizeof v->from, "%s", item) >= (int)sizeof v->from ||
        snprintf(v->to, sizeof v->to, "%s", to) >= (int)sizeof v->to)
        return err_set(e, ERR_CONFIG, "volumes: \"%.60s\" is too long", item);
    return 0;
}

static int volumes_put(struct conf_app *a, char *value, struct err *e)
{
    size_t cnt = 0;

    for (char *item; (item = item_next(&value)); cnt++) {
        if (cnt == CONF_APP_VOLUME_MAX)
            return err_set(e, ERR_CONFIG, "volumes: more than %d", CONF_APP_VOLUME_MAX);
        if (volume_put(&a->volumes[cnt], item, e))
            return e->code;
    }
    return 0;
}

static bool port_read(const char *s, uint16_t *out, const char **end)
{
    uint32_t number;
    bool good = number_read(s, &number, end) && number >= 1 && number <= 65535;

    *out = good ? (uint16_t)number : 0;
    return good;
}

/* [2001:db8::1] or 192.0.2.1, ended where a port follows. Returns what is behind its colon, or NULL. */
static char *address_read(struct conf_port *p, char *s)
{
    char *end = *s == '[' ? strchr(s, ']') : strchr(s, ':');

    if (!end)
        return NULL;
    if (*s == '[') {
        *end++ = '\0';
        return *end == ':' && inet_pton(AF_INET6, s + 1, p->address) == 1 ? end + 1 : NULL;
    }
    *end = '\0';
    p->address[10] = p->address[11] = 0xff;
    return inet_pton(AF_INET, s, p->address + 12) == 1 ? end + 1 : NULL;
}

/* [ADDRESS:]PORT:PORT[/udp|/tcp], as `docker run -p`. */
static int port_put(struct conf_port *p, char *item, struct err *e)
{
    char whole[80];
    const char *end = NULL;

    snprintf(whole, sizeof whole, "%s", item);
    if (*item == '[' || strspn(item, "0123456789") != strcspn(item, ":"))
        item = address_read(p, item);
    if (!item || !port_read(item, &p->host, &end) || *end != ':' || !port_read(end + 1, &p->app, &end) ||
        (*end && strcmp(end, "/udp") && strcmp(end, "/tcp")))
        return err_set(
            e, ERR_CONFIG,
            "ports wants PORT:PORT, ADDRESS:PORT:PORT or [ADDRESS]:PORT:PORT, with /udp if so, the "
            "board's port first; got \"%s\"",
            whole);
    p->udp = !strcmp(end, "/udp");
    return 0;
}

static int ports_put(struct conf_app *a, char *value, struct err *e)
{
    size_t cnt = 0;

    memset(a->ports, 0, sizeof a->ports);
    for (char *item; (item = item_next(&value)); cnt++) {
        if (cnt == CONF_APP_PORT_MAX)
            return err_set(e, ERR_CONFIG, "ports: more than %d", CONF_APP_PORT_MAX);
        if (port_put(&a->ports[cnt], item, e))
            return e->code;
    }
    return 0;
}

int conf_app_check(const struct conf_app *a, struct err *e)
{
    if (a->ports[0].host && a->network != NETWORK_PRIVATE)
        return err_set(e, ERR_CONFIG,
                       "ports needs network = private; with host the app's own ports are the board's");
    return 0;
}

static int devices_put(struct conf_app *a, char *value, struct err *e)
{
    size_t cnt = 0;

    for (char *item; (item = item_next(&value)); cnt++) {
        if (cnt == CONF_APP_DEVICE_MAX)
            return err_set(e, ERR_CONFIG, "devices: more than %d", CONF_APP_DEVICE_MAX);
        if (strncmp(item, "/dev/", 5) || !path_valid(item) || strlen(item) >= sizeof a->devices[0])
            return err_set(e, ERR_CONFIG, "devices wants /dev/NAME, got \"%.80s\"", item);
        snprintf(a->devices[cnt], sizeof a->devices[0], "%s", item);
    }
    return 0;
}

/* In the order of their numbers (linux/capability.h). */
static const char *const capabilities[] = {
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
};

static int capability_find(const char *name)
{
    name += strncmp(name, "CAP_", 4) ? 0 : 4;
    for (int i = 0; i < (int)(sizeof capabilities / sizeof capabilities[0]); i++)
        if (!strcmp(capabilities[i], name))
            return i;
    return -1;
}

/* +NET_RAW, -CHOWN, -ALL: taken away first and then added, so that "-ALL, +CHOWN" leaves one. */
static int capabilities_put(struct conf_app *a, char *value, struct err *e)
{
    a->caps_add = a->caps_drop = 0;
    for (char *item; (item = item_next(&value));) {
        uint64_t *set = *item == '+' ? &a->caps_add : &a->caps_drop;
        int cap = capability_find(item + 1);

        if (*item == '-' && !strcmp(item + 1, "ALL"))
            a->caps_drop = UINT64_MAX;
        else if ((*item == '+' || *item == '-') && cap >= 0)
            *set |= 1ull << cap;
        else
            return err_set(e, ERR_CONFIG,
                           "capabilities wants +NAME, -NAME or -ALL, as in \"-ALL, +NET_RAW\"; got \"%.40s\"",
                           item);
    }
    return 0;
}

int conf_app_put(struct conf_app *a, const char *name, char *value, struct err *e)
{
    static const struct {
        const char *name;
        int (*put)(struct conf_app *a, char *value, struct err *e);
    } keys[] = {
        {"restart", restart_put}, {"network", network_put}, {"ports", ports_put},
        {"ready", ready_put},     {"memory", memory_put},   {"tmpfs", tmpfs_put},
        {"cpu", cpu_put},         {"args", args_put},       {"env", env_put},
        {"volumes", volumes_put}, {"devices", devices_put}, {"capabilities", capabilities_put},
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (!strcmp(keys[i].name, name))
            return keys[i].put(a, value, e);
    return err_set(e, ERR_CONFIG, "%s: no such kind of value", name);
}
