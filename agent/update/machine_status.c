#include <stdio.h>
#include <string.h>

#include "update/machine.h"
#include "update/machine_scrub.h"
#include "update/manners.h"
#include "update/patience.h"
#include "update/target.h"

const char *machine_state_name(enum machine_state s)
{
    static const char *const names[MACHINE_STATE_CNT] = {
        [MACHINE_IDLE] = "idle",           [MACHINE_POLLING] = "polling", [MACHINE_INSTALLING] = "installing",
        [MACHINE_REBOOTING] = "rebooting", [MACHINE_TRIAL] = "trial",     [MACHINE_PLANNING] = "planning",
    };

    return names[s];
}

static void slot_status(const struct machine *m, enum slot_id slot, struct status_slot *out)
{
    static const char *const names[] = {"empty", "writing", "good", "bad", "damaged"};
    const struct slot_record *s = &m->store.slots[slot];
    const char *name = names[s->condition];

    if (slot == m->booted)
        name = m->state == MACHINE_TRIAL ? "trial" : "active";
    snprintf(out->state, sizeof out->state, "%s", name);
    out->known = s->condition != SLOT_EMPTY;
    out->digest = s->tag;
    memcpy(out->version, s->version, sizeof out->version);
    out->installed_s = s->installed_s;
}

static void detail_fill(const struct machine *m, struct status *out)
{
    static const char *const phases[] = {"", "reading the manifest", "", "sealing", "reading back"};
    const struct stage_progress *p = &m->progress;

    if (m->state == MACHINE_IDLE && m->poll_cause.code)
        snprintf(out->detail, sizeof out->detail, "poll failed: %s", m->poll_cause.text);
    else if (m->state == MACHINE_IDLE && m->waiting.code)
        snprintf(out->detail, sizeof out->detail, "waiting: %s", m->waiting.text);
    else if (m->state == MACHINE_IDLE && m->tag.expired_s)
        snprintf(out->detail, sizeof out->detail,
                 "ALARM: the registry's certificate expired %lld days ago: renew it (updates go on, they are "
                 "signed)",
                 (long long)((patience_now_s(m) - m->tag.expired_s) / 86400));
    else if (m->state == MACHINE_IDLE && patience_is_out(m))
        snprintf(out->detail, sizeof out->detail, "the tag has not moved for %llu h, longer than max_age",
                 (unsigned long long)patience_age_s(m) / 3600);
    if (m->state != MACHINE_INSTALLING)
        return;
    if (p->phase == STAGE_LAYERS)
        snprintf(out->detail, sizeof out->detail, "layer %u of %u, %.1f of %.1f MB", p->layer, p->layer_cnt,
                 (double)p->bytes / 1e6, (double)p->bytes_total / 1e6);
    else if (p->phase <= STAGE_VERIFYING)
        snprintf(out->detail, sizeof out->detail, "%s", phases[p->phase]);
    if (p->bytes_total)
        out->percent = (uint32_t)(p->bytes * 100 / p->bytes_total);
}

static void roles_fill(const struct machine *m, struct status *out)
{
    for (int i = 0; i < WORKER_ENVELOPE; i++) {
        struct status_role *r = &out->roles[1 + i];

        snprintf(r->name, sizeof r->name, "%s", worker_role_name((enum worker_role)i));
        r->limit_kib = worker_role_limit_kib((enum worker_role)i);
        r->peak_kib = m->worker->peak_kib[i];
    }
    /* decode once more, for what nobody signed, and never while there is much to do */
    if (m->worker->peak_kib[WORKER_ENVELOPE] > out->roles[1 + WORKER_DECODE].peak_kib)
        out->roles[1 + WORKER_DECODE].peak_kib = m->worker->peak_kib[WORKER_ENVELOPE];
}

static void bounds_fill(struct app *a, struct status *out)
{
    struct cgroup_usage u;

    app_usage(a, &u);
    out->app.memory_kib = u.memory_kb;
    out->app.memory_peak_kib = a->memory_peak_kb ? a->memory_peak_kb : UINT64_MAX;
    out->app.memory_limit_kib = a->cgroup.memory ? a->memory_limit_kb : 0;
    out->app.oom_kills = a->oom_kills;
    out->app.pids = u.pids;
    out->app.pids_limit = a->cgroup.pids ? a->policy.pids : 0;
    out->app.pids_hits = a->pids_hits + (u.pids_hits == UINT64_MAX ? 0 : u.pids_hits);
}

static void app_fill(struct machine *m, struct status *out)
{
    snprintf(out->app.state, sizeof out->app.state, "%s",
             m->store.slots[m->booted].app_cnt ? app_state_name(m->app.state) : "none");
    out->app.pid = m->app.pid;
    if (m->app.pid)
        out->app.up_s = (m->loop->now_ms() - m->app.started_ms) / 1000;
    out->app.restarts = m->app.restarts;
    out->app.last_exit = m->app.last_exit;
    if (m->store.slots[m->booted].app_cnt)
        app_missing(&m->app, out->app.weaker, sizeof out->app.weaker);
    memcpy(out->app.says, m->app.status, sizeof out->app.says);
    bounds_fill(&m->app, out);
}

static bool is_failing(const struct machine *m)
{
    const struct state_failure *f = &m->store.state.failure;
    enum app_state s = m->app.state;
    bool down = m->store.slots[m->booted].app_cnt && (s == APP_DOWN || s == APP_BACKOFF || s == APP_FAILED);
    bool fell_back =
        m->store.slots[slot_other(m->booted)].condition == SLOT_BAD && strcmp(f->event, "rollback") != 0;
    bool refused =
        !strcmp(f->event, "install") && digest_compare(&f->digest, &m->tag.digest) == VERDICT_MATCH;

    return down || fell_back || refused;
}

static void beside_fill(struct machine *lead, struct status *out)
{
    for (const struct machine *m = lead->next; m; m = m->next) {
        const struct slot_record *s = &m->store.slots[m->booted];
        struct status_beside *b = &out->beside[out->beside_cnt++];

        snprintf(b->name, sizeof b->name, "%s", m->conf->target);
        snprintf(b->app, sizeof b->app, "%s", s->app_cnt ? app_state_name(m->app.state) : "none");
        snprintf(b->update, sizeof b->update, "%s", machine_state_name(m->state));
        memcpy(b->version, s->version, sizeof b->version);
        b->failing = is_failing(m);
    }
}

static void failure_fill(const struct machine *m, struct status *out)
{
    const struct state_failure *f = &m->store.state.failure;

    snprintf(out->last_failure.cause, sizeof out->last_failure.cause, "%s", err_name(f->code));
    memcpy(out->last_failure.text, f->text, sizeof out->last_failure.text);
    memcpy(out->last_failure.event, f->event, sizeof out->last_failure.event);
    out->last_failure.when_s = f->when_s;
    out->last_failure.digest = f->digest;
}

void machine_status(struct machine *m, struct status *out)
{
    const struct conf_registry *r = &m->conf->registry;
    struct bootrec rec;
    struct bootrec_health health;
    struct target_boot boot = target_boot(m->conf);
    struct err e;

    memcpy(out->target, m->conf->target, sizeof out->target);

    if (r->host[0])
        snprintf(out->image, sizeof out->image, "%s/%s:%s", r->host, r->repository, r->tag);
    out->plain_http = r->plain_http;
    out->unsigned_ok = !m->conf->trust.required;
    out->held = machine_is_held(m);
    snprintf(out->state, sizeof out->state, "%s", machine_state_name(m->state));
    detail_fill(m, out);
    if (m == m->lead) {
        scrubs_status(m, out);
        beside_fill(m, out);
    }
    out->last_poll_s = m->polled_s;
    out->next_poll_in_s = -1;
    manners_count(m);
    out->today_bytes = m->lead->store.state.day_bytes;
    if (m->state == MACHINE_IDLE && m->waiting.code && m->again_ms > m->loop->now_ms())
        out->waits_until_s = board.clock->wall_s() + (int64_t)(m->again_ms - m->loop->now_ms()) / 1000;
    if (m->poll_timer.armed && m->poll_timer.at_ms > m->loop->now_ms())
        out->next_poll_in_s = (int64_t)(m->poll_timer.at_ms - m->loop->now_ms()) / 1000;
    out->tag_digest = m->tag.digest;
    out->booted = m->booted;
    slot_status(m, SLOT_A, &out->slots[SLOT_A]);
    slot_status(m, SLOT_B, &out->slots[SLOT_B]);
    if (boot.ops->load(boot.arg, &rec, &health, &e) == 0)
        for (int i = 0; i < SLOT_CNT; i++)
            out->slots[i].tries_left = rec.left[i];
    app_fill(m, out);
    failure_fill(m, out);
    roles_fill(m, out);
    out->slot_bytes_written = m->store.state.slot_bytes_written;
    out->slot_bytes_kept = m->store.state.slot_bytes_kept;
    out->slot_bytes_read = m->store.state.slot_bytes_read;
    out->state_writes = m->store.state.writes;
    if (board.wear->read(target_place(m->conf, m->booted), &out->wear, &e) < 0)
        out->wear.kind = WEAR_UNKNOWN;
}
