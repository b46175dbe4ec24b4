#include "update/machine_scrub.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "update/activate.h"
#include "update/keep.h"
#include "update/patience.h"

#define LOOK_MS 3600000 /* for boards that do not poll */

static bool is_running(const struct machine *m)
{
    return worker_busy(&m->scrubs->worker);
}

/* There is something on record to compare with, and a use for it. */
static bool is_readable(const struct machine *m, enum slot_id slot)
{
    uint32_t c = m->store.slots[slot].condition;

    return slot == m->booted ? c != SLOT_EMPTY : c == SLOT_GOOD;
}

/* --- one after the other -------------------------------------------------------------------------------------------- */

static void next(struct machine *m)
{
    for (int i = 0; i < SLOT_CNT; i++) {
        enum slot_id slot = (enum slot_id)i;
        const struct slot_record *r = &m->store.slots[slot];
        struct scrub_job job = {slot, slot == m->booted, r->disk_len, r->disk_xxh64};
        struct err e;

        if (!(m->scrubs->todo & 1u << slot))
            continue;
        m->scrubs->todo &= ~(1u << slot);
        m->scrubs->slot = slot;
        memset(&m->scrubs->progress, 0, sizeof m->scrubs->progress);
        if (worker_scrub(&m->scrubs->worker, &job, &e) == 0)
            return;
        log_error("scrub: %s", e.text);
    }
    keep_state(m);
}

/* What is known already is not worth another line of history. */
static void failure_tell(struct machine *m)
{
    const struct state_failure *f = &m->store.state.failure;

    if (strcmp(f->event, "scrub") != 0 || strcmp(f->text, m->cause.text) != 0)
        keep_failure(m, "scrub", m->scrubs->slot, &m->store.slots[m->scrubs->slot].tag);
    else
        log_warning("scrub: as before: %s", m->cause.text);
    keep_state(m);
}

static void on_progress(void *ctx, const struct stage_progress *p)
{
    ((struct machine *)ctx)->scrubs->progress = *p;
}

/* Damage in the slot that is not in use: nothing of it was changed so far. */
static int on_ready(void *ctx, struct err *e)
{
    struct machine *m = ctx;
    enum slot_id slot = m->scrubs->slot;
    int rc = slot == m->booted ? err_set(e, ERR_PEER, "a scrub wants to write to the active slot")
                               : activate_disarm(m->conf, slot, e);

    if (rc < 0)
        return rc;
    m->store.slots[slot].condition = SLOT_DAMAGED;
    return state_slot_save(&m->store, slot, e);
}

static void on_scrubbed(void *ctx, const struct scrubbed *s)
{
    struct machine *m = ctx;
    enum slot_id slot = m->scrubs->slot;

    m->store.state.scrub[slot].when_s = board.clock->wall_s();
    m->store.state.scrub[slot].files = s->files;
    m->store.state.slot_bytes_read += s->bytes;
    m->scrubs->read_ms[slot] = m->loop->now_ms();
    if (s->files > 0) {
        err_set(&m->cause, ERR_FLASH, "slot %c: %u damaged: %s", 'A' + (int)slot, s->files, s->first.text);
        failure_tell(m);
    } else {
        log_info("scrub: slot %c is as it was written", 'A' + (int)slot);
        if (m->scrubs->by_hand)
            keep_event(m, "scrubbed", slot);
    }
    if (m->store.slots[slot].condition == SLOT_DAMAGED)
        patience_first(m);
    next(m);
}

static void on_failed(void *ctx, const struct err *cause)
{
    struct machine *m = ctx;

    if (cause->code == ERR_ABSENT) {
        log_info("scrub: slot %c: %s", 'A' + (int)m->scrubs->slot, cause->text);
    } else {
        m->cause = *cause;
        err_prefix(&m->cause, "slot %c", 'A' + (int)m->scrubs->slot);
        failure_tell(m);
    }
    m->scrubs->read_ms[m->scrubs->slot] = m->loop->now_ms();
    next(m);
}

/* --- when ------------------------------------------------------------------------------------------------------------- */

/* Since it was read whole: by the clock on the wall where it is set, and by the other one otherwise. */
static uint64_t age_s(const struct machine *m, enum slot_id slot)
{
    int64_t now = board.clock->wall_s(), last = m->store.state.scrub[slot].when_s;
    uint64_t here = (m->loop->now_ms() - m->scrubs->read_ms[slot]) / 1000;

    if (m->store.slots[slot].installed_s > last)
        last = m->store.slots[slot].installed_s;
    return now >= m->worker->time_floor_s && now > last ? (uint64_t)(now - last) : here;
}

static void begin(struct machine *m, uint32_t todo, bool by_hand)
{
    m->scrubs->todo = todo;
    m->scrubs->by_hand = by_hand;
    next(m);
}

void scrubs_idle(struct machine *m)
{
    uint32_t due = 0;

    if (!m->conf->slots.scrub_s || m->state != MACHINE_IDLE || is_running(m) || worker_busy(m->worker))
        return;
    for (int i = 0; i < SLOT_CNT; i++)
        if (is_readable(m, (enum slot_id)i) && age_s(m, (enum slot_id)i) >= m->conf->slots.scrub_s)
            due |= 1u << i;
    if (due)
        begin(m, due, false);
}

static void on_look(void *ctx)
{
    struct machine *m = ctx;

    scrubs_idle(m);
    loop_timer_set(m->loop, &m->scrubs->timer, LOOK_MS);
}

int scrubs_start(struct machine *m, const char *conf_path, struct err *e)
{
    const struct worker_owner owner = {
        .ctx = m, .progress = on_progress, .ready = on_ready, .scrubbed = on_scrubbed, .failed = on_failed};
    int rc = worker_init(&m->scrubs->worker, m->loop, conf_path, &owner, e);

    for (int i = 0; i < SLOT_CNT; i++)
        m->scrubs->read_ms[i] = m->loop->now_ms();
    m->scrubs->timer = (struct loop_timer){.due = on_look, .ctx = m};
    if (rc == 0 && m->conf->slots.scrub_s)
        loop_timer_set(m->loop, &m->scrubs->timer, LOOK_MS);
    return rc;
}

void scrubs_end(struct machine *m)
{
    if (!is_running(m))
        return;
    log_info("scrub: ended, something else comes first");
    m->scrubs->todo = 0;
    worker_stop(&m->scrubs->worker);
}

int machine_scrub(struct machine *m, struct err *e)
{
    uint32_t todo = 0;

    if (m->state != MACHINE_IDLE && m->state != MACHINE_POLLING)
        return err_set(e, ERR_STATE, "not while the agent is %s", machine_state_name(m->state));
    if (m != m->lead)
        return err_set(e, ERR_STATE, "a scrub is of the system's slots, not of an app");
    if (is_running(m))
        return err_set(e, ERR_STATE, "a scrub is under way");
    for (const struct machine *a = m->next; a; a = a->next)
        if (a->state == MACHINE_INSTALLING || a->state == MACHINE_PLANNING)
            return err_set(e, ERR_STATE, "not while an app is %s", machine_state_name(a->state));
    for (int i = 0; i < SLOT_CNT; i++)
        if (is_readable(m, (enum slot_id)i))
            todo |= 1u << i;
    if (!todo)
        return err_set(e, ERR_STATE, "nothing is on record to compare the slots with");
    begin(m, todo, true);
    return 0;
}

bool scrubs_mend_is_due(const struct machine *m)
{
    const struct slot_record *s = &m->store.slots[slot_other(m->booted)];

    return s->condition == SLOT_DAMAGED && s->media != 0;
}

void scrubs_status(const struct machine *m, struct status *out)
{
    const struct stage_progress *p = &m->scrubs->progress;

    for (int i = 0; i < SLOT_CNT; i++) {
        out->slots[i].scrubbed_s = m->store.state.scrub[i].when_s;
        out->slots[i].damaged = m->store.state.scrub[i].files;
    }
    out->scrubbing = is_running(m);
    if (!out->scrubbing || out->detail[0])
        return;
    snprintf(out->detail, sizeof out->detail, "reading slot %c to see whether it is sound, %.1f of %.1f MB",
             'A' + (int)m->scrubs->slot, (double)p->bytes / 1e6, (double)p->bytes_total / 1e6);
}
