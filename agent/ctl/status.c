#include "ctl/status.h"

#include "ctl/json.h"

static const char *const slot_names[SLOT_CNT] = {"A", "B"};

void status_digest_add(struct json *j, struct cJSON *to, const char *key, const struct digest *d)
{
    char text[DIGEST_TEXT_LEN];

    if (digest_is_zero(d)) {
        json_put_null(j, to, key);
        return;
    }
    digest_format(d, text);
    json_put_text(j, to, key, text);
}

/* Times and counts of which one value means "unknown" are null there. */
static void integer_or_null(struct json *j, cJSON *to, const char *key, int64_t value, int64_t unknown)
{
    if (value == unknown)
        json_put_null(j, to, key);
    else
        json_put_integer(j, to, key, value);
}

static void board_add(struct json *j, cJSON *to, const struct status *s)
{
    json_put_text(j, to, "agent_version", s->agent_version);
    json_put_text(j, to, "board", s->board);
    json_put_text(j, to, "device_id", s->device_id);
    json_put_text(j, to, "reset_cause", s->reset_cause);
    json_put_integer(j, to, "uptime_s", (int64_t)s->uptime_s);
    json_put_integer(j, to, "watchdog_s", s->watchdog_s);
}

static void follow_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *follow = json_put_object(j, to, "follow");
    json_put_text(j, follow, "image", s->image);
    json_put_bool(j, follow, "plain_http", s->plain_http);
    json_put_text(j, follow, "signatures", s->unsigned_ok ? "off" : "required");
    status_digest_add(j, follow, "digest", &s->tag_digest);
}

static void update_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *update = json_put_object(j, to, "update");

    json_put_text(j, update, "state", s->state);
    json_put_bool(j, update, "held", s->held);
    json_put_text(j, update, "detail", s->detail);
    json_put_integer(j, update, "percent", s->percent);
    json_put_bool(j, update, "scrubbing", s->scrubbing);
    integer_or_null(j, update, "last_poll_s", s->last_poll_s, 0);
    integer_or_null(j, update, "next_poll_in_s", s->next_poll_in_s, -1);
    integer_or_null(j, update, "waits_until_s", s->waits_until_s, 0);
    json_put_integer(j, update, "today_bytes", (int64_t)s->today_bytes);
}

static void slots_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *slots;

    json_put_text(j, to, "booted", slot_names[s->booted == SLOT_B]);
    slots = json_put_array(j, to, "slots");
    for (int i = 0; i < SLOT_CNT; i++) {
        const struct status_slot *slot = &s->slots[i];
        cJSON *o = json_put_object(j, slots, NULL);

        json_put_text(j, o, "name", slot_names[i]);
        json_put_text(j, o, "state", slot->state);
        json_put_bool(j, o, "known", slot->known);
        if (!slot->known)
            continue;
        status_digest_add(j, o, "digest", &slot->digest);
        json_put_text(j, o, "version", slot->version);
        integer_or_null(j, o, "installed_s", slot->installed_s, 0);
        json_put_integer(j, o, "tries_left", slot->tries_left);
        integer_or_null(j, o, "scrubbed_s", slot->scrubbed_s, 0);
        json_put_integer(j, o, "damaged", slot->damaged);
    }
}

static void bounds_add(struct json *j, cJSON *app, const struct status *s)
{
    cJSON *memory = json_put_object(j, app, "memory");
    cJSON *pids = json_put_object(j, app, "pids");

    integer_or_null(j, memory, "limit_kib", s->app.memory_limit_kib, 0);
    integer_or_null(j, memory, "now_kib", (int64_t)s->app.memory_kib, -1);
    integer_or_null(j, memory, "peak_kib", (int64_t)s->app.memory_peak_kib, -1);
    json_put_integer(j, memory, "oom_kills", (int64_t)s->app.oom_kills);
    integer_or_null(j, pids, "limit", s->app.pids_limit, 0);
    integer_or_null(j, pids, "now", (int64_t)s->app.pids, -1);
    json_put_integer(j, pids, "refused", (int64_t)s->app.pids_hits);
}

static void app_add(struct json *j, cJSON *to, const struct status *s)
{
    const struct app_exit *end = &s->app.last_exit;
    cJSON *app = json_put_object(j, to, "app");
    cJSON *o;

    json_put_text(j, app, "state", s->app.state);
    integer_or_null(j, app, "pid", s->app.pid, 0);
    json_put_integer(j, app, "up_s", (int64_t)s->app.up_s);
    json_put_integer(j, app, "restarts", s->app.restarts);
    json_put_text(j, app, "weaker", s->app.weaker);
    json_put_text(j, app, "says", s->app.says);
    bounds_add(j, app, s);
    if (!end->valid) {
        json_put_null(j, app, "last_exit");
        return;
    }
    o = json_put_object(j, app, "last_exit");
    json_put_integer(j, o, end->by_signal ? "signal" : "code", end->code);
    json_put_integer(j, o, "ran_ms", (int64_t)end->ran_ms);
    json_put_text(j, o, "cause", app_cause_words(end->cause));
}

static void failure_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *o;

    if (s->last_failure.text[0] == '\0') {
        json_put_null(j, to, "last_failure");
        return;
    }
    o = json_put_object(j, to, "last_failure");
    json_put_text(j, o, "event", s->last_failure.event);
    json_put_text(j, o, "cause", s->last_failure.cause);
    json_put_text(j, o, "text", s->last_failure.text);
    integer_or_null(j, o, "when_s", s->last_failure.when_s, 0);
    status_digest_add(j, o, "digest", &s->last_failure.digest);
}

/* What the device itself says of its age, or null. */
static void wear_add(struct json *j, cJSON *flash, const struct wear *w)
{
    static const char *const spares[] = {"unknown", "normal", "low", "gone"};
    cJSON *o;

    if (w->kind == WEAR_UNKNOWN) {
        json_put_null(j, flash, "wear");
        return;
    }
    o = json_put_object(j, flash, "wear");
    json_put_text(j, o, "kind", w->kind == WEAR_EMMC ? "emmc" : "ubi");
    if (w->kind == WEAR_UBI) {
        json_put_integer(j, o, "erased_max", w->erased_max);
        return;
    }
    integer_or_null(j, o, "used_a_percent", w->used_percent[0], 0);
    integer_or_null(j, o, "used_b_percent", w->used_percent[1], 0);
    json_put_text(j, o, "spare", spares[w->spare <= WEAR_SPARE_GONE ? w->spare : 0]);
}

static void cost_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *flash = json_put_object(j, to, "flash");
    cJSON *roles = json_put_array(j, to, "roles");
    cJSON *hash = json_put_object(j, to, "hash");

    json_put_integer(j, flash, "slot_bytes_written", (int64_t)s->slot_bytes_written);
    json_put_integer(j, flash, "slot_bytes_kept", (int64_t)s->slot_bytes_kept);
    json_put_integer(j, flash, "slot_bytes_read", (int64_t)s->slot_bytes_read);
    json_put_integer(j, flash, "state_writes", s->state_writes);
    wear_add(j, flash, &s->wear);
    for (size_t i = 0; i < sizeof s->roles / sizeof s->roles[0]; i++) {
        cJSON *o;

        if (s->roles[i].name[0] == '\0')
            continue;
        o = json_put_object(j, roles, NULL);
        json_put_text(j, o, "name", s->roles[i].name);
        json_put_integer(j, o, "limit_kib", s->roles[i].limit_kib);
        json_put_integer(j, o, "peak_kib", s->roles[i].peak_kib);
    }
    json_put_text(j, hash, "engine", s->hash_engine);
    json_put_integer(j, hash, "kib_s", s->hash_kib_s);
    json_put_text(j, to, "sandbox", s->sandbox);
}

static void beside_add(struct json *j, cJSON *to, const struct status *s)
{
    cJSON *apps = json_put_array(j, to, "apps");

    for (uint32_t i = 0; i < s->beside_cnt; i++) {
        const struct status_beside *b = &s->beside[i];
        cJSON *o = json_put_object(j, apps, NULL);

        json_put_text(j, o, "name", b->name);
        json_put_text(j, o, "app", b->app);
        json_put_text(j, o, "update", b->update);
        json_put_text(j, o, "version", b->version);
        json_put_bool(j, o, "failing", b->failing);
    }
}

void status_add(struct json *j, cJSON *to, const struct status *s, bool why)
{
    json_put_integer(j, to, "schema", STATUS_SCHEMA);
    json_put_text(j, to, "target", s->target);
    integer_or_null(j, to, "now_s", s->now_s, 0);
    if (!why)
        board_add(j, to, s);
    follow_add(j, to, s);
    update_add(j, to, s);
    slots_add(j, to, s);
    app_add(j, to, s);
    beside_add(j, to, s);
    failure_add(j, to, s);
    if (!why)
        cost_add(j, to, s);
}

void status_event_add(struct json *j, cJSON *to, const struct event *e)
{
    char slot[2] = {(char)e->slot, '\0'};

    integer_or_null(j, to, "when_s", e->when_s, 0);
    json_put_text(j, to, "what", e->what);
    json_put_text(j, to, "slot", slot);
    json_put_text(j, to, "version", e->version);
    status_digest_add(j, to, "digest", &e->digest);
    if (e->code == 0) {
        json_put_null(j, to, "cause");
        return;
    }
    json_put_text(j, to, "cause", err_name(e->code));
    json_put_text(j, to, "text", e->text);
}

int status_to_json(const struct status *s, char *out, size_t cap)
{
    struct json j;
    cJSON *root = json_start(&j);

    status_add(&j, root, s, false);
    return json_finish(&j, out, cap);
}
