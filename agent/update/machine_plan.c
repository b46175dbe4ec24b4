/* A plan: what the next update would do and why it does not do it by itself, on the machine's side. stage counts. */
#include "update/machine_plan.h"

#include <stdio.h>
#include <string.h>

#include "update/install.h"
#include "update/machine_scrub.h"
#include "update/manners.h"
#include "update/patience.h"

void plan_start(struct machine *m)
{
    m->plan = (struct machine_plan){.state = PLAN_MAKING};
}

void plan_fail(struct machine *m, const struct err *cause)
{
    if (m->plan.state != PLAN_MAKING)
        return;
    m->plan.state = PLAN_FAILED;
    m->plan.cause = *cause;
}

/* Why what the tag names is not installed by itself. */
static void waiting_find(struct machine *m)
{
    struct err *w = &m->plan.waiting;

    if (machine_is_held(m))
        err_set(w, ERR_HELD, "updates are held; `agentctl release` lets them go on");
    else if (state_digest_failed(&m->store.state, &m->tag.digest))
        err_set(
            w, ERR_HELD,
            "it failed its trial here; it is tried again when a person says `agentctl update`, or the tag "
            "moves");
    else if (!m->conf->update.automatic)
        err_set(w, ERR_HELD, "automatic = no: it waits for `agentctl update`");
    else if (patience_is_needed(m))
        *w = m->waiting;
}

bool plan_begin(struct machine *m)
{
    struct stage_job job = install_job(m);
    struct err e;

    job.look = true;
    m->plan.tag = m->tag.digest;
    m->plan.current = digest_compare(&m->tag.digest, &m->store.slots[m->booted].tag) == VERDICT_MATCH;
    if (m->plan.current) {
        m->plan.state = PLAN_READY;
        return false;
    }
    waiting_find(m);
    manners_bind(m, true);
    scrubs_end(m);
    if (worker_deploy(m->worker, &job, m->conf->trust.required, &e) == 0)
        return true;
    plan_fail(m, &e);
    return false;
}

void plan_finish(struct machine *m, const struct plan_found *found)
{
    m->plan.state = PLAN_READY;
    m->plan.current = found->same;
    m->plan.counted = !found->same;
    m->plan.found = *found;
    if (!m->plan.waiting.code)
        m->plan.waiting = found->waiting;
}

/* The brake is a reason to wait, everything else one to refuse the image. */
void plan_refused(struct machine *m)
{
    if (m->cause.code != ERR_HELD) {
        plan_fail(m, &m->cause);
        return;
    }
    m->plan.state = PLAN_READY;
    if (!m->plan.waiting.code)
        m->plan.waiting = m->cause;
}

void machine_plan(const struct machine *m, struct plan *out)
{
    static const char *const names[] = {"none", "making", "ready", "failed"};
    const struct machine_plan *p = &m->plan;
    const struct conf_registry *r = &m->conf->registry;

    memset(out, 0, sizeof *out);
    snprintf(out->state, sizeof out->state, "%s", names[p->state]);
    snprintf(out->image, sizeof out->image, "%s/%s:%s", r->host, r->repository, r->tag);
    snprintf(out->error, sizeof out->error, "%s", p->state == PLAN_FAILED ? p->cause.text : "");
    snprintf(out->waiting, sizeof out->waiting, "%s", p->waiting.code ? p->waiting.text : "");
    snprintf(out->version, sizeof out->version, "%s", p->found.version);
    out->digest = p->tag;
    out->current = p->current;
    out->slot = slot_other(m->booted);
    out->reboots = m == m->lead;
    out->counted = p->counted;
    out->cost = p->found.cost;
    out->fetch_bytes_s = m->store.state.fetch_bytes_s;
}
