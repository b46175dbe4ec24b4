/* The lines of agent.conf. */
#include "base/conf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/conf_app.h"
#include "base/conf_key.h"
#include "base/conf_target.h"
#include "base/io.h"
#include "base/word.h"

#define CONF_FILE_MAX (16 * 1024)

struct parser {
    const char *path;
    struct conf *conf;
    struct err *err;
    const char *section;        /* of conf_keys[]; NULL before the first */
    struct conf_target *target; /* of [app NAME], whose section is "app"; else NULL */
    unsigned line;
    const char *text; /* of the file, as far as it is not cut up */
    struct seen {
        unsigned line;                             /* 0: not seen */
        size_t at, len;                            /* of the value, in the file */
    } seen[1 + CONF_TARGET_MAX][CONF_KEY_CNT_MAX]; /* those of each target in a row of its own */
};

/* What is known of a key of the section that is read: the first row has all but those of the targets. */
static struct seen *seen_of(struct parser *p, const struct conf_target *t, size_t key)
{
    return &p->seen[t ? 1 + (t - p->conf->apps) : 0][key];
}

/* [app NAME] has the keys of [app], and some of its own. */
static bool key_is_of(const struct conf_key *k, const char *section, bool named)
{
    return !strcmp(k->section, section) || (named && !strcmp(k->section, CONF_NAMED));
}

/* Of all sections, or of the new target `t`. */
static int presets_put(struct conf *c, struct conf_target *t, struct err *e)
{
    for (size_t i = 0; i < conf_key_cnt; i++) {
        char value[64];

        if (!conf_keys[i].preset || (t && !key_is_of(&conf_keys[i], "app", true)))
            continue;
        if (conf_text_put(value, sizeof value, conf_keys[i].preset, conf_keys[i].name, e) ||
            conf_value_put(&conf_keys[i], c, t, value, e))
            return e->code;
    }
    return 0;
}

/* --- names --------------------------------------------------------------------------------------------------------- */

static const char *name_of(const struct conf_key *k, bool section)
{
    return section ? k->section : k->name;
}

/* The known name nearest to `name` and not further than a slip of the fingers; of keys, those of `section` only. */
static const char *name_nearest(const char *name, const char *section)
{
    unsigned least = strlen(name) < 5 ? 2 : 4;
    const char *nearest = NULL;

    for (size_t i = 0; i < conf_key_cnt; i++) {
        const char *candidate = name_of(&conf_keys[i], !section);
        unsigned distance = word_distance(name, candidate);

        if ((section && strcmp(conf_keys[i].section, section)) || distance >= least)
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
    for (size_t i = 0; i < conf_key_cnt; i++)
        if (!strcmp(conf_keys[i].name, name))
            return err_set(e, ERR_CONFIG, "unknown key \"%.40s\" in [%s]; it belongs into [%s]", name,
                           section, conf_keys[i].section);
    return err_set(e, ERR_CONFIG, "unknown key \"%.40s\" in [%s]", name, section);
}

/* --- targets ------------------------------------------------------------------------------------------------------- */

/* Letters, digits and '-', as in the names of folders and hosts. */
static bool target_name_valid(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

    return n > 0 && n < CONF_NAME_MAX && !s[n] && s[0] != '-';
}

/* The target of that name, made when there is none. */
static int target_take(struct parser *p, const char *name)
{
    struct conf_target *t = p->conf->apps;
    struct conf_target *end = t + CONFIG_APPS_MAX;

    if (!target_name_valid(name))
        return err_set(p->err, ERR_CONFIG,
                       "[app %.40s]: a name has up to %d lower case letters, digits and '-'", name,
                       CONF_NAME_MAX - 1);
    while (t < end && t->name[0] && strcmp(t->name, name) != 0)
        t++;
    if (t == end)
        return err_set(p->err, ERR_CONFIG,
                       "[app %s]: this build takes %d apps beside the system's (APPS_MAX)", name,
                       CONFIG_APPS_MAX);
    p->section = "app";
    p->target = t;
    if (t->name[0])
        return 0;
    snprintf(t->name, sizeof t->name, "%s", name);
    return presets_put(p->conf, t, p->err);
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
    name = conf_trim(line + 1);
    if (!strncmp(name, "app", 3) && conf_is_space(name[3]))
        return target_take(p, conf_trim(name + 3));
    p->target = NULL;
    for (size_t i = 0; i < conf_key_cnt; i++)
        if (!strcmp(conf_keys[i].section, name)) {
            p->section = conf_keys[i].section;
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
    name = conf_trim(line);
    value = conf_trim(value);
    if (!p->section)
        return err_set(p->err, ERR_CONFIG, "\"%.40s\" stands before the first [section]", name);
    for (size_t i = 0; i < conf_key_cnt; i++) {
        struct seen *seen = seen_of(p, p->target, i);

        if (!key_is_of(&conf_keys[i], p->section, p->target) || strcmp(conf_keys[i].name, name))
            continue;
        if (seen->line)
            return err_set(p->err, ERR_CONFIG, "%s is already set in line %u", name, seen->line);
        *seen = (struct seen){p->line, (size_t)(value - p->text), strlen(value)};
        return conf_value_put(&conf_keys[i], p->conf, p->target, value, p->err);
    }
    return key_refuse(name, p->section, p->err);
}

static int line_parse(struct parser *p, char *line)
{
    for (char *c = line; *c; c++) {
        if ((unsigned char)*c < 0x20 && !conf_is_space(*c))
            return err_set(p->err, ERR_CONFIG, "control character 0x%02x", (unsigned)*c);
        if (*c == '#' && (c == line || conf_is_space(c[-1]))) {
            *c = '\0';
            break;
        }
    }
    line = conf_trim(line);
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
    if (!c->trust.required || !(c->registry.host[0] || c->apps[0].name[0]))
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

static int conf_check(struct conf *c, const char *path, struct err *e)
{
    const struct conf_registry *r = &c->registry;
    struct conf_agent *a = &c->agent;

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
    if (snprintf(a->stage_dir, sizeof a->stage_dir, "%s/stage", a->state_dir) >= (int)sizeof a->stage_dir)
        return err_set(e, ERR_CONFIG, "%s: [agent] state_dir is too long", path);
    if (conf_app_check(&c->app, e))
        return err_prefix(e, "%s: [app]", path);
    memcpy(a->root_dir, a->stage_dir, sizeof a->root_dir);
    return trust_check(c, path, e) ? e->code : conf_targets_finish(c, path, e);
}

/* The file's text is copied to `whole`, where that is not NULL, before it is cut up. */
static int load(struct parser *p, char *whole)
{
    static char text[CONF_FILE_MAX + 1];
    const char *path = p->path;
    struct err *e = p->err;
    ssize_t len;

    memset(p->conf, 0, sizeof *p->conf);
    if (presets_put(p->conf, NULL, e))
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
    if (whole)
        memcpy(whole, text, (size_t)len + 1);
    p->text = text;
    if (lines_parse(p, text))
        return e->code;
    return conf_check(p->conf, path, e);
}

int conf_load(const char *path, struct conf *out, struct err *e)
{
    struct parser p = {.path = path, .conf = out, .err = e};

    return load(&p, NULL);
}

/* --- showing ------------------------------------------------------------------------------------------------------- */

/* NAME=* for each of the app's variables. */
static void env_text(const struct conf_words *env, char *out, size_t cap)
{
    const char *at = env->text;
    size_t len = 0;

    for (uint32_t i = 0; i < env->cnt && len < cap; i++, at += strlen(at) + 1)
        len +=
            (size_t)snprintf(out + len, cap - len, "%s%.*s=*", i > 0 ? " " : "", (int)strcspn(at, "="), at);
}

/* http://name:secret@host: what is before the last @ is not shown. */
static void proxy_text(const char *proxy, char *out, size_t cap)
{
    const char *at = strrchr(proxy, '@');

    snprintf(out, cap, "%s%s", at ? "http://*" : "", at ? at : proxy);
}

static void value_show(struct parser *p, const char *whole, const struct conf_target *t, size_t i,
                       struct conf_value *v)
{
    const struct conf_app *app = t ? &t->app : &p->conf->app;
    const struct seen *seen = seen_of(p, t, i);
    const struct conf_key *k = &conf_keys[i];

    snprintf(v->section, sizeof v->section, "%s%s", t ? "app " : k->section, t ? t->name : "");
    v->key = k->name;
    v->line = seen->line;
    if (!v->line)
        snprintf(v->text, sizeof v->text, "%s", k->preset ? k->preset : "");
    else if (k->kind == KIND_PROXY)
        proxy_text(p->conf->registry.proxy, v->text, sizeof v->text);
    else if (!strcmp(k->section, "app") && !strcmp(k->name, "env"))
        env_text(&app->env, v->text, sizeof v->text);
    else
        snprintf(v->text, sizeof v->text, "%.*s", (int)seen->len, whole + seen->at);
}

/* The keys of a target, or all others. */
static void values_show(struct parser *p, const char *whole, const struct conf_target *t,
                        void (*see)(void *ctx, const struct conf_value *v), void *ctx)
{
    struct conf_value v;

    for (size_t i = 0; i < conf_key_cnt; i++) {
        if (t ? !key_is_of(&conf_keys[i], "app", true) : !strcmp(conf_keys[i].section, CONF_NAMED))
            continue;
        memset(&v, 0, sizeof v);
        value_show(p, whole, t, i, &v);
        see(ctx, &v);
    }
}

int conf_show(const char *path, struct conf *out, void (*see)(void *ctx, const struct conf_value *v),
              void *ctx, struct err *e)
{
    char whole[CONF_FILE_MAX + 1]; /* not static: that would count to the ceiling of every role */
    struct parser p = {.path = path, .conf = out, .err = e};
    int rc = load(&p, whole);

    if (rc)
        return rc;
    values_show(&p, whole, NULL, see, ctx);
    for (const struct conf_target *t = out->apps; t < out->apps + CONFIG_APPS_MAX && t->name[0]; t++)
        values_show(&p, whole, t, see, ctx);
    return 0;
}
