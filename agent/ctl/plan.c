#include "ctl/plan.h"

#include "ctl/json.h"
#include "ctl/status.h"

static void text_or_null(struct json *j, cJSON *to, const char *key, const char *text)
{
    if (text[0] != '\0')
        json_put_text(j, to, key, text);
    else
        json_put_null(j, to, key);
}

static void download_add(struct json *j, cJSON *to, const struct plan *p)
{
    const struct plan_cost *c = &p->cost;
    cJSON *o = json_put_object(j, to, "download");

    json_put_integer(j, o, "bytes", (int64_t)c->download);
    json_put_integer(j, o, "requests", c->requests);
    if (p->fetch_bytes_s)
        json_put_integer(j, o, "seconds", (int64_t)((c->download + p->fetch_bytes_s - 1) / p->fetch_bytes_s));
    else
        json_put_null(j, o, "seconds");
}

static void cost_add(struct json *j, cJSON *to, const struct plan *p)
{
    const struct plan_cost *c = &p->cost;
    cJSON *o, *cost;

    if (!p->counted) {
        json_put_null(j, to, "cost");
        return;
    }
    cost = json_put_object(j, to, "cost");
    download_add(j, cost, p);
    if (c->layers_whole)
        json_put_null(j, cost, "write_bytes");
    else
        json_put_integer(j, cost, "write_bytes", (int64_t)c->write);
    o = json_put_object(j, cost, "layers");
    json_put_integer(j, o, "all", c->layers);
    json_put_integer(j, o, "streamed", c->layers_whole);
    json_put_integer(j, o, "local", c->layers_local);
    o = json_put_object(j, cost, "files");
    json_put_integer(j, o, "kept", c->files_kept);
    json_put_integer(j, o, "copied", c->files_copied);
    json_put_integer(j, o, "fetched", c->files_fetched);
    o = json_put_object(j, cost, "content_bytes");
    json_put_integer(j, o, "kept", (int64_t)c->kept);
    json_put_integer(j, o, "copied", (int64_t)c->copied);
    json_put_integer(j, o, "chunks", (int64_t)c->chunks);
    json_put_integer(j, o, "fetched", (int64_t)c->fetched);
}

void plan_add(struct json *j, struct cJSON *to, const struct plan *p)
{
    char slot[2] = {(char)('A' + (int)p->slot), '\0'};

    json_put_integer(j, to, "schema", PLAN_SCHEMA);
    json_put_text(j, to, "state", p->state);
    text_or_null(j, to, "error", p->error);
    json_put_text(j, to, "image", p->image);
    status_digest_add(j, to, "digest", &p->digest);
    json_put_bool(j, to, "current", p->current);
    text_or_null(j, to, "version", p->counted ? p->version : "");
    text_or_null(j, to, "waiting", p->waiting);
    json_put_text(j, to, "slot", slot);
    json_put_text(j, to, "activation", p->current ? "none" : p->reboots ? "reboot" : "restart");
    cost_add(j, to, p);
}
