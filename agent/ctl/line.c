#include "ctl/line.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "ctl/json.h"

struct verb;

/* What a verb works on. A verb adds its part of the answer to `to`, or fails with *e set. */
struct request {
    const struct verb *verb;
    const struct ctl_owner *owner;
    void *target;
    const cJSON *args;
    bool ascii;
    struct json *json;
    cJSON *to;
};

struct verb {
    const char *name;
    int (*run)(struct request *r, struct err *e);
    enum ctl_order order; /* of verb_order; all others change nothing */
};

static int status_answer(struct request *r, bool why)
{
    static struct status s;

    memset(&s, 0, sizeof s);
    r->owner->status(r->target, &s);
    status_add(r->json, json_put_object(r->json, r->to, r->verb->name), &s, why);
    return 0;
}

static int verb_status(struct request *r, struct err *e)
{
    (void)e;
    return status_answer(r, false);
}

static int verb_why(struct request *r, struct err *e)
{
    (void)e;
    return status_answer(r, true);
}

static int verb_planned(struct request *r, struct err *e)
{
    static struct plan p;

    (void)e;
    r->owner->plan(r->target, &p);
    plan_add(r->json, json_put_object(r->json, r->to, "planned"), &p);
    return 0;
}

static int verb_order(struct request *r, struct err *e)
{
    const cJSON *source = cJSON_GetObjectItemCaseSensitive(r->args, "source");

    if (source && !cJSON_IsString(source))
        return err_set(e, ERR_FORMAT, "\"source\" is no string");
    return r->owner->order(r->target, r->verb->order, source ? source->valuestring : "", e);
}

/* "from" of the question: a count of bytes or events that stays exact in JSON. */
static int from_read(const struct request *r, uint64_t *out, struct err *e)
{
    const cJSON *from = cJSON_GetObjectItemCaseSensitive(r->args, "from");

    if (from && !(cJSON_IsNumber(from) && from->valuedouble >= 0 && from->valuedouble < 1e15))
        return err_set(e, ERR_FORMAT, "\"from\" is not a position");
    *out = from ? (uint64_t)from->valuedouble : 0;
    return 0;
}

static int verb_history(struct request *r, struct err *e)
{
    static struct event events[CTL_EVENT_CHUNK_MAX];
    uint64_t asked;
    uint32_t from;
    cJSON *list;
    size_t cnt;

    if (from_read(r, &asked, e) < 0)
        return e->code;
    from = asked < UINT32_MAX ? (uint32_t)asked : UINT32_MAX;
    cnt = r->owner->history(r->target, &from, events, CTL_EVENT_CHUNK_MAX);
    json_put_integer(r->json, r->to, "at", from);
    json_put_integer(r->json, r->to, "next", from + (int64_t)cnt);
    list = json_put_array(r->json, r->to, "history");
    for (size_t i = 0; i < cnt; i++)
        status_event_add(r->json, json_put_object(r->json, list, NULL), &events[i]);
    return 0;
}

/* Values from the from-th on, until the answer is full enough. */
struct config_chunk {
    struct request *request;
    cJSON *list;
    uint64_t from, next, at;
    size_t len;
};

static void config_see(void *ctx, const struct conf_value *v)
{
    struct config_chunk *c = ctx;
    struct json *j = c->request->json;
    size_t len = 2 * strlen(v->text) + 96; /* as JSON, at most */
    cJSON *o;

    if (c->at++ != c->next || c->at <= c->from || (c->len > 0 && c->len + len > CTL_CONFIG_CHUNK_MAX))
        return;
    c->next++;
    c->len += len;
    o = json_put_object(j, c->list, NULL);
    json_put_text(j, o, "section", v->section);
    json_put_text(j, o, "key", v->key);
    json_put_text(j, o, "value", v->text);
    if (v->line)
        json_put_integer(j, o, "line", v->line);
    else
        json_put_null(j, o, "line");
}

static int verb_config(struct request *r, struct err *e)
{
    struct config_chunk c = {.request = r};
    const char *path = "";
    bool changed = false;
    int rc = from_read(r, &c.from, e);

    if (rc < 0)
        return rc;
    c.next = c.from;
    c.list = json_put_array(r->json, r->to, "config");
    rc = r->owner->config(r->owner->ctx, config_see, &c, &path, &changed, e);
    if (rc < 0)
        return rc;
    json_put_integer(r->json, r->to, "at", (int64_t)c.from);
    json_put_integer(r->json, r->to, "next", (int64_t)c.next);
    json_put_text(r->json, r->to, "path", path);
    json_put_bool(r->json, r->to, "changed", changed);
    return 0;
}

/* "since" of the question, in seconds before now, begins no earlier than then. */
static int since_read(const struct request *r, const struct app_log *log, uint64_t *from, struct err *e)
{
    const cJSON *since = cJSON_GetObjectItemCaseSensitive(r->args, "since");
    struct timespec now;
    uint64_t first;

    if (!since)
        return 0;
    if (!cJSON_IsNumber(since) || since->valuedouble < 0 || since->valuedouble > 1e9)
        return err_set(e, ERR_FORMAT, "\"since\" is no number of seconds");
    clock_gettime(CLOCK_REALTIME, &now);
    first = app_log_find(log, ((int64_t)now.tv_sec - (int64_t)since->valuedouble) * 1000);
    if (*from < first)
        *from = first;
    return 0;
}

static int verb_logs(struct request *r, struct err *e)
{
    char data[CTL_LOG_CHUNK_MAX + 1];
    const struct app_log *log = r->owner->log(r->target);
    uint64_t from, at = 0;
    size_t len;
    size_t cut;

    if (from_read(r, &from, e) < 0 || since_read(r, log, &from, e) < 0)
        return e->code;
    len = app_log_read(log, from, data, CTL_LOG_CHUNK_MAX, &at);
    cut = json_utf8_cut(data, len);
    if (cut < len) /* the rest of the character comes with the next chunk */
        len -= cut;
    json_make_safe(data, len, r->ascii);
    data[len] = '\0';
    json_put_integer(r->json, r->to, "at", (int64_t)at);
    json_put_integer(r->json, r->to, "next", (int64_t)(at + len));
    json_put_integer(r->json, r->to, "end", (int64_t)log->end);
    if (!cJSON_AddStringToObject(r->to, "data", data))
        r->json->failed = true;
    return 0;
}

static const struct verb verbs[] = {
    {"status", verb_status, CTL_NO_ORDER}, {"why", verb_why, CTL_NO_ORDER},
    {"logs", verb_logs, CTL_NO_ORDER},     {"history", verb_history, CTL_NO_ORDER},
    {"plan", verb_order, CTL_PLAN},        {"planned", verb_planned, CTL_NO_ORDER},
    {"update", verb_order, CTL_UPDATE},    {"downgrade", verb_order, CTL_DOWNGRADE},
    {"confirm", verb_order, CTL_CONFIRM},  {"rollback", verb_order, CTL_ROLLBACK},
    {"hold", verb_order, CTL_HOLD},        {"release", verb_order, CTL_RELEASE},
    {"scrub", verb_order, CTL_SCRUB},      {"config", verb_config, CTL_NO_ORDER},
};

static const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* cJSON stops at the end of the value; behind it only blanks may stand. */
static cJSON *line_parse(const char *line, size_t len)
{
    const char *end = NULL;
    cJSON *args = cJSON_ParseWithLengthOpts(line, len, &end, 0);

    while (args && end < line + len && (*end == ' ' || *end == '\t' || *end == '\r'))
        end++;
    if (args && end == line + len && cJSON_IsObject(args))
        return args;
    cJSON_Delete(args);
    return NULL;
}

static const struct verb *request_check(const cJSON *args, struct err *e)
{
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(args, "v");
    const cJSON *cmd = cJSON_GetObjectItemCaseSensitive(args, "cmd");
    const struct verb *verb;

    if (!args || !cJSON_IsNumber(version) || !cJSON_IsString(cmd)) {
        err_set(e, ERR_FORMAT, "not a request; one looks like {\"v\":1,\"cmd\":\"status\"}");
        return NULL;
    }
    if (version->valuedouble < CTL_VERSION || version->valuedouble > CTL_VERSION) {
        err_set(e, ERR_UNSUPPORTED, "this agent speaks version %d of the control protocol", CTL_VERSION);
        return NULL;
    }
    verb = verb_find(cmd->valuestring);
    if (!verb)
        err_set(e, ERR_UNSUPPORTED, "unknown verb: %.40s", cmd->valuestring);
    return verb;
}

/* Whom the question is about. */
static int target_find(struct request *r, struct err *e)
{
    const cJSON *app = cJSON_GetObjectItemCaseSensitive(r->args, "app");

    if (app && !cJSON_IsString(app))
        return err_set(e, ERR_FORMAT, "\"app\" is no string");
    r->target = r->owner->target(r->owner->ctx, app ? app->valuestring : "", e);
    return r->target ? 0 : e->code;
}

size_t ctl_line_refuse(int code, const char *why, char *out, size_t cap)
{
    struct json j;
    cJSON *root = json_start(&j);
    int len;

    json_put_integer(&j, root, "v", CTL_VERSION);
    json_put_bool(&j, root, "ok", false);
    json_put_text(&j, root, "code", err_name(code));
    json_put_text(&j, root, "error", why);
    len = json_finish(&j, out, cap);
    if (len < 0) /* no memory for even that, and nothing in this text needs escaping */
        len = snprintf(out, cap,
                       "{\"v\":1,\"ok\":false,\"code\":\"limit\",\"error\":\"agentd is out of memory\"}");
    return (size_t)len;
}

size_t ctl_line_answer(const struct ctl_owner *owner, const char *line, size_t len, bool ascii,
                       const char *via, char *out, size_t cap)
{
    cJSON *args = line_parse(line, len);
    struct err e = {.code = ERR_STATE, .text = "refused"};
    const struct verb *verb = request_check(args, &e);
    struct json j;
    struct request r = {verb, owner, NULL, args, ascii, &j, json_start(&j)};
    int rc = verb ? target_find(&r, &e) : e.code;
    int n;

    json_put_integer(&j, r.to, "v", CTL_VERSION);
    json_put_bool(&j, r.to, "ok", true);
    if (verb && verb->order)
        log_info("%s asked for over %s", verb->name, via);
    if (rc == 0)
        rc = verb->run(&r, &e);
    cJSON_Delete(args);
    n = json_finish(&j, out, cap);
    if (rc < 0)
        return ctl_line_refuse(rc, e.text, out, cap);
    if (n < 0)
        return ctl_line_refuse(ERR_LIMIT, "the answer does not fit", out, cap);
    return (size_t)n;
}
