#include "update/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"
#include "base/version.h"
#include "update/activate.h"

#define FIRST_POLL_MAX_S 10
#define BACKOFF_MAX_S 3600
#define RETRY_MAX_S 86400
#define RESTART_MS 200
#define RESTART_AGAIN_MS 60000
#define WAIT_MAX_S 86400 /* longest that a registry may ask to be left alone */

_Static_assert(WORKER_ROLE_CNT <= STATE_ROLE_MAX, "the peaks of all roles can be kept");

static void machine_event(struct machine *m, enum machine_event ev);

static struct slot_record *booted_slot(struct machine *m)
{
    return &m->store.slots[m->booted];
}

static struct slot_record *other_slot(struct machine *m)
{
    return &m->store.slots[slot_other(m->booted)];
}

/* --- records ------------------------------------------------------------------------------------------------------ */

/* Nothing here can be undone by stopping: a state that can't be saved is said and the machine goes on. */
static void state_keep(struct machine *m)
{
    struct err e;

    if (state_save(&m->store, &e) < 0)
        log_error("%s", e.text);
}

static void slot_keep(struct machine *m, enum slot_id slot)
{
    struct err e;

    if (state_slot_save(&m->store, slot, &e) < 0)
        log_error("%s", e.text);
}

/* `tag` is what the slot holds, or was to hold. */
static void event_note_of(struct machine *m, const char *what, enum slot_id slot, const struct digest *tag,
                          const struct err *cause)
{
    const struct slot_record *s = &m->store.slots[slot];
    struct event event = {.when_s = board.clock->wall_s(), .slot = 'A' + slot, .digest = *tag};

    snprintf(event.what, sizeof event.what, "%s", what);
    if (digest_compare(tag, &s->tag) == VERDICT_MATCH)
        snprintf(event.version, sizeof event.version, "%.31s", s->version);
    if (cause) {
        event.code = cause->code;
        snprintf(event.text, sizeof event.text, "%.159s", cause->text);
    }
    history_add(&m->history, &event);
}

static void event_note(struct machine *m, const char *what, enum slot_id slot, const struct err *cause)
{
    event_note_of(m, what, slot, &m->store.slots[slot].tag, cause);
}

static void failure_record(struct machine *m, const char *event, const struct err *cause, enum slot_id slot,
                           const struct digest *tag)
{
    struct state_failure *f = &m->store.state.failure;

    memset(f, 0, sizeof *f);
    f->code = cause->code;
    snprintf(f->event, sizeof f->event, "%s", event);
    memcpy(f->text, cause->text, sizeof f->text);
    f->when_s = board.clock->wall_s();
    f->digest = *tag;
    log_error("%s: %s", event, cause->text);
    event_note_of(m, event, slot, tag, cause);
}

/* --- time ------------------------------------------------------------------------------------------------------- */

/* Boards without a battery start in 1970, but it is never earlier than the floor. */
static void time_floor_raise(struct machine *m, int64_t to_s)
{
    struct state_trust *t = &m->store.trust;

    if (to_s > t->time_floor_s)
        t->time_floor_s = to_s;
    if (t->time_floor_s > m->worker.time_floor_s)
        m->worker.time_floor_s = t->time_floor_s;
}

static int64_t time_now_s(const struct machine *m)
{
    int64_t clock = board.clock->wall_s();

    return clock > m->worker.time_floor_s ? clock : m->worker.time_floor_s;
}

/* --- polling ------------------------------------------------------------------------------------------------------ */

static uint32_t random_below(uint32_t bound)
{
    uint32_t r = 0;

    if (bound == 0 || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return r % bound;
}

/* The interval, give or take a tenth, so that boards started together drift apart; after failures a full-jitter
 * back-off instead, and never sooner than the registry asked. */
static void poll_plan(struct machine *m)
{
    uint32_t interval = m->conf->update.poll_interval_s;
    uint32_t shift = m->failures < 12 ? m->failures : 12;
    uint64_t backoff_s = (uint64_t)interval << shift;
    uint32_t wait_ms, asked_ms;

    if (interval == 0 || !m->conf->registry.host[0])
        return;
    if (m->failures == 0) {
        loop_timer_set(m->loop, &m->poll_timer, interval * 900ull + random_below(interval * 200u));
        return;
    }
    if (backoff_s > BACKOFF_MAX_S)
        backoff_s = BACKOFF_MAX_S > interval ? BACKOFF_MAX_S : interval;
    wait_ms = 1000 + random_below((uint32_t)backoff_s * 1000u);
    asked_ms = m->wait_s * 1000u + random_below(m->wait_s * 100u);
    loop_timer_set(m->loop, &m->poll_timer, wait_ms > asked_ms ? wait_ms : asked_ms);
}

static void failure_count(struct machine *m)
{
    m->failures++;
    m->wait_s = m->cause.after_s < WAIT_MAX_S ? m->cause.after_s : WAIT_MAX_S;
    poll_plan(m);
}

static void poll_due(void *ctx)
{
    machine_event(ctx, EVENT_POLL_DUE);
}

/* A registry out of reach is no failure of a version: it is shown while it lasts and takes no other's place. */
static enum machine_state act_poll_failed(struct machine *m)
{
    log_warning("poll: %s", m->cause.text);
    m->poll_cause = m->cause;
    m->asked = false;
    failure_count(m);
    return MACHINE_IDLE;
}

static enum machine_state act_poll(struct machine *m)
{
    struct err e;

    loop_timer_clear(m->loop, &m->poll_timer);
    if (worker_poll(&m->worker, &e) == 0)
        return MACHINE_POLLING;
    m->cause = e;
    return act_poll_failed(m);
}

static enum machine_state act_ask(struct machine *m)
{
    m->asked = true;
    return act_poll(m);
}

/* A poll runs already: what it finds is wanted now. */
static enum machine_state act_ask_while_polling(struct machine *m)
{
    m->asked = true;
    return MACHINE_POLLING;
}

/* --- installing --------------------------------------------------------------------------------------------------- */

/* What the last deployment did to the slot, however it ended. A cut of power loses the count of one. */
static void wear_count(struct machine *m)
{
    struct slot_bytes *n = &m->progress.slot;

    m->store.state.slot_bytes_written += n->written;
    m->store.state.slot_bytes_kept += n->kept;
    m->store.state.slot_bytes_read += n->read;
    memset(n, 0, sizeof *n);
}

/* The same version refused once more for the same reason is no news, and not worth a write to flash. */
static bool failure_is_known(const struct machine *m)
{
    const struct state_failure *f = &m->store.state.failure;

    return digest_compare(&f->digest, &m->tag.digest) == VERDICT_MATCH && f->code == m->cause.code &&
           !strcmp(f->event, "install") && !strcmp(f->text, m->cause.text);
}

/* An image that can't be installed costs a download each time: its pause doubles from the poll's interval up to a day. */
static void retry_plan(struct machine *m)
{
    bool same = digest_compare(&m->retry.digest, &m->tag.digest) == VERDICT_MATCH;
    uint64_t pause_s = m->conf->update.poll_interval_s;

    m->retry.cnt = same ? m->retry.cnt + 1 : 1;
    m->retry.digest = m->tag.digest;
    for (uint32_t i = 1; i < m->retry.cnt && pause_s < RETRY_MAX_S; i++)
        pause_s *= 2;
    if (pause_s > RETRY_MAX_S)
        pause_s = RETRY_MAX_S;
    m->retry.again_ms = m->loop->now_ms() + pause_s * 1000;
}

static bool is_to_wait(struct machine *m)
{
    uint64_t now = m->loop->now_ms();

    if (digest_compare(&m->retry.digest, &m->tag.digest) != VERDICT_MATCH || now >= m->retry.again_ms)
        return false;
    err_set(&m->waiting, ERR_HELD, "its install failed %u times; tried again in %llu s", m->retry.cnt,
            (unsigned long long)(m->retry.again_ms - now) / 1000);
    return true;
}

static enum machine_state install_failed(struct machine *m)
{
    bool wrote = m->progress.slot.written > 0;

    wear_count(m);
    if (m->cause.code == ERR_HELD) {
        m->waiting = m->cause;
        log_info("waiting: %s", m->cause.text);
        failure_count(m);
        return MACHINE_IDLE;
    }
    if (failure_is_known(m) && !wrote) {
        log_warning("install: as before: %s", m->cause.text);
    } else {
        failure_record(m, "install", &m->cause, slot_other(m->booted), &m->tag.digest);
        state_keep(m);
    }
    retry_plan(m);
    failure_count(m);
    return MACHINE_IDLE;
}

static enum machine_state install_begin(struct machine *m)
{
    uint64_t floor = m->older ? 0 : m->store.trust.floor;

    m->asked = m->older = false;
    memset(&m->progress, 0, sizeof m->progress);
    if (worker_deploy(&m->worker, slot_other(m->booted), &m->tag.digest, m->tag.media,
                      m->conf->trust.required, floor, &m->cause) < 0)
        return install_failed(m);
    return MACHINE_INSTALLING;
}

/* stage found nothing to refuse, and wants to write. Until here the other slot was left as it was. */
static int slot_mark(struct machine *m, struct err *e)
{
    enum slot_id slot = slot_other(m->booted);
    struct slot_record *s = &m->store.slots[slot];
    int rc = activate_disarm(&board, slot, e);

    if (rc < 0)
        return rc;
    memset(s, 0, sizeof *s);
    s->condition = SLOT_WRITING;
    s->tag = m->tag.digest;
    rc = state_slot_save(&m->store, slot, e);
    if (rc == 0)
        log_info("installing into slot %c", 'A' + (int)slot);
    return rc;
}

/* --- how long the tag has named this ---------------------------------------------------------------------------- */

static bool sight_wanted(const struct machine *m)
{
    return m->conf->trust.min_age_s || m->conf->trust.max_age_s;
}

/* Remember when this device first saw what the tag names; what an image says of its own age can be forged. */
static void sight_note(struct machine *m)
{
    struct state_trust *t = &m->store.trust;
    struct err e;

    if (!sight_wanted(m) || digest_compare(&t->seen, &m->tag.digest) == VERDICT_MATCH)
        return;
    t->seen = m->tag.digest;
    t->seen_s = time_now_s(m);
    m->seen_ms = board.clock->boot_ms();
    if (state_trust_save(&m->store, &e) < 0)
        log_error("%s", e.text);
}

/* By the clock that can't be set while agentd has been running since, and by the wall's otherwise. */
static uint64_t sight_age_s(const struct machine *m)
{
    int64_t now = time_now_s(m);

    if (m->seen_ms)
        return (board.clock->boot_ms() - m->seen_ms) / 1000;
    return now > m->store.trust.seen_s ? (uint64_t)(now - m->store.trust.seen_s) : 0;
}

static bool is_too_young(struct machine *m)
{
    uint64_t age = sight_age_s(m), min = m->conf->trust.min_age_s;

    if (age >= min)
        return false;
    err_set(&m->waiting, ERR_HELD, "seen %llu s ago, to be installed after %llu s (min_age)",
            (unsigned long long)age, (unsigned long long)min);
    return true;
}

static bool is_frozen(const struct machine *m)
{
    return m->conf->trust.max_age_s && !digest_is_zero(&m->store.trust.seen) &&
           sight_age_s(m) > m->conf->trust.max_age_s;
}

static enum machine_state act_resolved(struct machine *m)
{
    bool same = digest_compare(&m->tag.digest, &booted_slot(m)->tag) == VERDICT_MATCH;
    bool failed = state_digest_failed(&m->store.state, &m->tag.digest);
    bool wanted = !same && !m->store.state.held && (m->asked || (m->conf->update.automatic && !failed));

    m->failures = 0;
    m->poll_cause = (struct err){0};
    m->waiting = (struct err){0};
    m->polled_s = board.clock->wall_s();
    sight_note(m);
    if (m->tag.expired_s)
        log_warning(
            "ALARM: the registry's certificate has expired: renew it. Images are signed, so updates go on");
    if (is_frozen(m))
        log_warning("the tag has not moved for %llu s (max_age)", (unsigned long long)sight_age_s(m));
    if (wanted && (m->asked || (!is_too_young(m) && !is_to_wait(m)))) {
        state_digest_forgive(&m->store.state, &m->tag.digest);
        return install_begin(m);
    }
    m->asked = m->older = false;
    poll_plan(m);
    return MACHINE_IDLE;
}

static enum machine_state act_install_failed(struct machine *m)
{
    return install_failed(m);
}

/* The app's end comes as an event, perhaps before app_stop() returns. */
static enum machine_state reboot_begin(struct machine *m)
{
    loop_timer_clear(m->loop, &m->poll_timer);
    loop_timer_clear(m->loop, &m->health_timer);
    m->state = MACHINE_REBOOTING;
    app_stop(&m->app);
    return m->state;
}

/* A store that failed may have changed the boot record all the same. When that can't be undone either, the trial stays
 * pending: whichever slot starts next, it is not taken for confirmed. */
static void arm_undo(struct machine *m, enum slot_id slot)
{
    struct err e;

    if (activate_disarm(&board, slot, &e) == 0)
        m->store.state.trial_slot = 0;
    else
        log_error("%s", e.text);
}

/* The slot holds the image and was read back. Order matters: first remember, then arm, so that a cut between the two
 * finds a verified slot and only has to arm it again. */
static enum machine_state act_installed(struct machine *m)
{
    enum slot_id slot = slot_other(m->booted);
    struct slot_record *s = &m->store.slots[slot];
    const struct stage_done *d = m->installed;

    s->condition = SLOT_GOOD;
    s->manifest = d->manifest;
    memcpy(s->version, d->version, sizeof s->version);
    s->installed_s = board.clock->wall_s();
    s->app = d->app;
    s->app_cnt = d->app.arg_cnt > 0;
    wear_count(m);
    memcpy(m->store.state.peak_kib, m->worker.peak_kib, sizeof m->worker.peak_kib);
    m->store.state.trial_slot = 1 + (uint32_t)slot;
    m->store.trust.slot_version[slot] = d->trust_version;
    time_floor_raise(m, d->signed_s);
    if (state_slot_save(&m->store, slot, &m->cause) < 0 || state_trust_save(&m->store, &m->cause) < 0 ||
        state_save(&m->store, &m->cause) < 0 ||
        activate_arm(&board, slot, (uint8_t)m->conf->update.tries, &m->cause) < 0) {
        arm_undo(m, slot);
        return install_failed(m);
    }
    log_info("slot %c is verified and armed: %s", 'A' + (int)slot, s->version);
    event_note(m, "installed", slot, NULL);
    return reboot_begin(m);
}

static void restart_due(void *ctx)
{
    struct machine *m = ctx;
    struct err e;

    if (board.reset->restart(&e) < 0) {
        log_error("restart: %s", e.text);
        loop_timer_set(m->loop, &m->restart_timer, RESTART_AGAIN_MS);
    }
}

/* Whoever ordered this gets an answer first. */
static enum machine_state act_restart(struct machine *m)
{
    loop_timer_set(m->loop, &m->restart_timer, RESTART_MS);
    return MACHINE_REBOOTING;
}

/* --- trial -------------------------------------------------------------------------------------------------------- */

/* What has proven itself is what the device does not go back under, and it is not earlier than now. Kept before the trial's end is: a cut between the
 * two confirms again. */
static void floor_raise(struct machine *m)
{
    struct state_trust *t = &m->store.trust;
    struct err e;

    if (t->slot_version[m->booted] > t->floor)
        t->floor = t->slot_version[m->booted];
    time_floor_raise(m, board.clock->wall_s());
    if (state_trust_save(&m->store, &e) < 0)
        log_error("%s", e.text);
}

/* A boot record that can't be stored is no reason not to run: it is tried again after the stable time. */
static void boot_record_failed(struct machine *m, const struct err *e)
{
    log_error("%s", e->text);
    m->unconfirmed = true;
    loop_timer_set(m->loop, &m->health_timer, m->conf->update.stable_s * 1000ull);
}

/* The booted slot is the one to stay with, and has all its tries. */
static void booted_confirm(struct machine *m)
{
    struct err e;

    if (activate_confirm(&board, m->booted, (uint8_t)m->conf->update.tries, &e) < 0)
        boot_record_failed(m, &e);
}

static enum machine_state act_confirm(struct machine *m)
{
    if (activate_confirm(&board, m->booted, (uint8_t)m->conf->update.tries, &m->cause) < 0) {
        if (!m->unconfirmed)
            failure_record(m, "confirm", &m->cause, m->booted, &booted_slot(m)->tag);
        boot_record_failed(m, &m->cause);
        return MACHINE_TRIAL;
    }
    floor_raise(m);
    m->unconfirmed = false;
    m->store.state.trial_slot = 0;
    state_keep(m);
    loop_timer_clear(m->loop, &m->health_timer);
    log_info("slot %c is confirmed", 'A' + (int)m->booted);
    event_note(m, "confirmed", m->booted, NULL);
    poll_plan(m);
    return MACHINE_IDLE;
}

/* Remember why before the boot record changes: a cut between the two finds a bad slot booted and goes back then. */
static enum machine_state roll_back(struct machine *m, const char *event)
{
    failure_record(m, event, &m->cause, m->booted, &booted_slot(m)->tag);
    state_digest_fail(&m->store.state, &booted_slot(m)->tag);
    booted_slot(m)->condition = SLOT_BAD;
    m->store.state.trial_slot = 0;
    slot_keep(m, m->booted);
    state_keep(m);
    if (activate_roll_back(&board, m->booted, (uint8_t)m->conf->update.tries, &m->cause) < 0)
        log_error("roll back: %s", m->cause.text);
    return reboot_begin(m);
}

static enum machine_state act_trial_failed(struct machine *m)
{
    return roll_back(m, "trial");
}

static enum machine_state act_rollback(struct machine *m)
{
    worker_cancel(&m->worker);
    err_set(&m->cause, ERR_APP, "rolled back by hand");
    return roll_back(m, "rollback");
}

/* After its trial an app that is given up stays down until someone looks; the board is not switched under them. */
static enum machine_state act_app_failed(struct machine *m)
{
    failure_record(m, "app", &m->cause, m->booted, &booted_slot(m)->tag);
    state_keep(m);
    return m->state;
}

/* A slot without a record is the one that was flashed at the factory. */
static bool slot_bootable(const struct slot_record *s)
{
    return s->condition == SLOT_GOOD || s->condition == SLOT_EMPTY;
}

/* The booted slot was given up, and there is another one. */
static bool is_to_leave(struct machine *m)
{
    return booted_slot(m)->condition == SLOT_BAD && slot_bootable(other_slot(m));
}

static bool booted_leave(struct machine *m)
{
    struct err e;

    if (activate_roll_back(&board, m->booted, (uint8_t)m->conf->update.tries, &e) == 0)
        return true;
    boot_record_failed(m, &e);
    return false;
}

/* What the start could not store. */
static enum machine_state act_healthy(struct machine *m)
{
    if (!m->unconfirmed)
        return MACHINE_IDLE;
    m->unconfirmed = false;
    if (!is_to_leave(m))
        booted_confirm(m);
    else if (booted_leave(m))
        return reboot_begin(m);
    return MACHINE_IDLE;
}

static enum machine_state act_healthy_later(struct machine *m)
{
    if (m->unconfirmed)
        loop_timer_set(m->loop, &m->health_timer, m->conf->update.stable_s * 1000ull);
    return m->state;
}

static enum machine_state act_none(struct machine *m)
{
    return m->state;
}

/* --- the table ---------------------------------------------------------------------------------------------------- */

typedef enum machine_state (*action)(struct machine *m);

/* NULL: the event can't happen in that state, or is refused there when a person asks for it. */
static const action table[MACHINE_STATE_CNT][MACHINE_EVENT_CNT] = {
    [MACHINE_IDLE] =
        {
            [EVENT_POLL_DUE] = act_poll,
            [EVENT_ASKED] = act_ask,
            [EVENT_HEALTHY] = act_healthy,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_ROLLBACK] = act_rollback,
        },
    [MACHINE_POLLING] =
        {
            [EVENT_ASKED] = act_ask_while_polling,
            [EVENT_RESOLVED] = act_resolved,
            [EVENT_WORKER_FAILED] = act_poll_failed,
            [EVENT_HEALTHY] = act_healthy_later,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_ROLLBACK] = act_rollback,
        },
    [MACHINE_INSTALLING] =
        {
            [EVENT_INSTALLED] = act_installed,
            [EVENT_WORKER_FAILED] = act_install_failed,
            [EVENT_HEALTHY] = act_healthy_later,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
        },
    [MACHINE_REBOOTING] =
        {
            [EVENT_HEALTHY] = act_none,
            [EVENT_UNHEALTHY] = act_none,
            [EVENT_APP_STOPPED] = act_restart,
        },
    [MACHINE_TRIAL] =
        {
            [EVENT_HEALTHY] = act_confirm,
            [EVENT_UNHEALTHY] = act_trial_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_CONFIRM] = act_confirm,
            [EVENT_ROLLBACK] = act_rollback,
        },
};

static const char *const state_names[MACHINE_STATE_CNT] = {
    [MACHINE_IDLE] = "idle",           [MACHINE_POLLING] = "polling", [MACHINE_INSTALLING] = "installing",
    [MACHINE_REBOOTING] = "rebooting", [MACHINE_TRIAL] = "trial",
};

static void machine_event(struct machine *m, enum machine_event ev)
{
    action act = table[m->state][ev];

    ASSERT(act);
    m->state = act(m);
}

/* --- what others tell --------------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const struct stage_progress *p)
{
    ((struct machine *)ctx)->progress = *p;
}

static int on_ready(void *ctx, struct err *e)
{
    return slot_mark(ctx, e);
}

static void on_resolved(void *ctx, const struct fetch_resolved *r)
{
    struct machine *m = ctx;

    m->tag = *r;
    machine_event(m, EVENT_RESOLVED);
}

static void on_done(void *ctx, const struct stage_done *d)
{
    struct machine *m = ctx;

    m->installed = d;
    machine_event(m, EVENT_INSTALLED);
}

static void on_failed(void *ctx, const struct err *cause)
{
    struct machine *m = ctx;

    m->cause = *cause;
    machine_event(m, EVENT_WORKER_FAILED);
}

static void exit_describe(const struct app *a, struct err *e)
{
    const struct app_exit *x = &a->last_exit;

    if (a->start_err.code)
        err_set(e, ERR_APP, "%s, %u times in a row", a->start_err.text, a->crashes);
    else
        err_set(e, ERR_APP, "app %s%s%s %d after %llu.%llu s, %u times in a row",
                x->cause ? app_cause_words(x->cause) : "", x->cause ? ": " : "",
                x->by_signal ? "was ended by signal" : "exited with code", x->code,
                (unsigned long long)(x->ran_ms / 1000), (unsigned long long)(x->ran_ms % 1000 / 100),
                a->crashes);
}

static void on_app(void *ctx, enum app_notice n)
{
    struct machine *m = ctx;

    switch (n) {
    case APP_IS_STABLE:
        machine_event(m, EVENT_HEALTHY);
        break;
    case APP_CRASHED:
        exit_describe(&m->app, &m->cause);
        log_warning("%s", m->cause.text);
        break;
    case APP_GAVE_UP:
        exit_describe(&m->app, &m->cause);
        machine_event(m, EVENT_UNHEALTHY);
        break;
    case APP_STOPPED:
        if (m->ending)
            loop_stop(m->loop);
        else
            machine_event(m, EVENT_APP_STOPPED);
        break;
    }
}

static void health_due(void *ctx)
{
    machine_event(ctx, EVENT_HEALTHY);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

/* A trial is pending, but was never armed: a cut or a failure came between. What is armed must be whole; and a trial
 * whose failure could not be remembered might be repeated for ever. */
static int trial_resume(struct machine *m, enum slot_id slot, struct err *e)
{
    uint8_t tries = (uint8_t)m->conf->update.tries;
    bool whole = m->store.slots[slot].condition == SLOT_GOOD;

    m->store.state.trial_slot = whole ? 1 + (uint32_t)slot : 0;
    if (state_save(&m->store, e) < 0)
        log_error("slot %c is not armed: %s", 'A' + (int)slot, e->text);
    else if (whole) {
        log_info("slot %c was verified but not armed: arming it now", 'A' + (int)slot);
        if (activate_arm(&board, slot, tries, e) == 0)
            m->state = MACHINE_REBOOTING;
        else
            boot_record_failed(m, e);
        return 0;
    }
    booted_confirm(m);
    return 0;
}

/* A version was armed, but the other slot is running: either it was never started, or the boot loader used up its
 * tries. */
static int trial_missed(struct machine *m, struct err *e)
{
    enum slot_id slot = slot_other(m->booted);
    struct bootrec r;
    struct bootrec_health health;
    int rc = board.bootrec->load(board.bootrec_arg, &r, &health, e);

    if (rc < 0)
        return rc;
    if (r.first != slot)
        return trial_resume(m, slot, e);
    err_set(&m->cause, ERR_BOOT,
            "slot %c never got as far as a confirmation in %u starts; the boot loader fell back to slot %c",
            'A' + (int)slot, m->conf->update.tries, 'A' + (int)m->booted);
    failure_record(m, "trial", &m->cause, slot, &other_slot(m)->tag);
    state_digest_fail(&m->store.state, &other_slot(m)->tag);
    other_slot(m)->condition = SLOT_BAD;
    m->store.state.trial_slot = 0;
    slot_keep(m, slot);
    state_keep(m);
    if (activate_roll_back(&board, slot, (uint8_t)m->conf->update.tries, e) < 0)
        boot_record_failed(m, e);
    return 0;
}

/* What does it mean that this slot was booted? Leaves m->state at IDLE, TRIAL or REBOOTING. */
static int boot_judge(struct machine *m, struct err *e)
{
    uint32_t trial = m->store.state.trial_slot;

    if (trial == 1 + (uint32_t)m->booted) {
        m->state = MACHINE_TRIAL;
        return 0;
    }
    if (trial)
        return trial_missed(m, e);
    if (!is_to_leave(m))
        booted_confirm(m);
    else if (booted_leave(m))
        m->state = MACHINE_REBOOTING;
    return 0;
}

/* What belongs to the app and goes with the board's power lies beside the control socket. */
static void app_setup(struct machine *m)
{
    static char run_dir[CONF_PATH_MAX];
    const struct conf *c = m->conf;
    const char *slash = strrchr(c->control.socket, '/');
    const struct app_setup setup = {
        &c->app, c->update.stable_s, CONFIG_APP_CRASH_BUDGET, c->agent.state_dir, run_dir, on_app, m};

    snprintf(run_dir, sizeof run_dir, "%.*s", slash ? (int)(slash - c->control.socket) : 0,
             c->control.socket);
    app_init(&m->app, m->loop, &setup);
}

static void app_begin(struct machine *m)
{
    static char root[CONF_PATH_MAX];
    struct err e = {0};
    int rc;

    if (!booted_slot(m)->app_cnt) {
        if (m->state == MACHINE_TRIAL)
            loop_timer_set(m->loop, &m->health_timer, m->conf->update.stable_s * 1000ull);
        return;
    }
    rc = board.app_root(m->booted, root, sizeof root, &e);
    if (rc == 0)
        rc = app_start(&m->app, &booted_slot(m)->app, root, &e);
    if (rc < 0)
        log_error("app: %s", e.text);
}

int machine_start(struct machine *m, struct loop *loop, const struct conf *conf, const char *conf_path,
                  struct err *e)
{
    const struct worker_owner owner = {m, on_progress, on_ready, on_resolved, on_done, on_failed};
    int rc;

    memset(m, 0, sizeof *m);
    m->loop = loop;
    m->conf = conf;
    m->poll_timer = (struct loop_timer){.due = poll_due, .ctx = m};
    m->health_timer = (struct loop_timer){.due = health_due, .ctx = m};
    m->restart_timer = (struct loop_timer){.due = restart_due, .ctx = m};
    state_open(&m->store, board.store, conf->agent.state_dir);
    history_open(&m->history, board.store, conf->agent.state_dir);
    worker_init(&m->worker, loop, conf_path, &owner);
    m->worker.time_floor_s = SLIPWAY_RELEASED_S;
    time_floor_raise(m, 0);
    memcpy(m->worker.peak_kib, m->store.state.peak_kib, sizeof m->worker.peak_kib);
    app_setup(m);
    rc = board.bootrec->booted(board.bootrec_arg, &m->booted, e);
    if (rc == 0)
        rc = boot_judge(m, e);
    if (rc < 0)
        return rc;
    if (m->state == MACHINE_REBOOTING) {
        machine_event(m, EVENT_APP_STOPPED);
        return 0;
    }
    app_begin(m);
    if (m->state == MACHINE_IDLE && conf->update.poll_interval_s && conf->registry.host[0])
        loop_timer_set(loop, &m->poll_timer, 1000 + random_below(FIRST_POLL_MAX_S * 1000));
    return 0;
}

/* --- what people ask ---------------------------------------------------------------------------------------------- */

static int machine_ask(struct machine *m, enum machine_event ev, struct err *e)
{
    if (!table[m->state][ev])
        return err_set(e, ERR_STATE, "not while the agent is %s", state_names[m->state]);
    machine_event(m, ev);
    return 0;
}

int machine_update(struct machine *m, bool older, struct err *e)
{
    if (!m->conf->registry.host[0])
        return err_set(e, ERR_CONFIG, "no image to follow: set image under [registry] in agent.conf");
    if (m->store.state.held)
        return err_set(e, ERR_STATE, "updates are held; `agentctl release` lets them go on");
    m->older = older;
    return machine_ask(m, EVENT_ASKED, e);
}

int machine_confirm(struct machine *m, struct err *e)
{
    if (m->state != MACHINE_TRIAL)
        return err_set(e, ERR_STATE, "there is no version on trial");
    return machine_ask(m, EVENT_CONFIRM, e);
}

int machine_rollback(struct machine *m, struct err *e)
{
    /* a board with no record at all was never updated: its other slot really is empty */
    bool never_updated = booted_slot(m)->condition == SLOT_EMPTY && other_slot(m)->condition == SLOT_EMPTY;

    if (never_updated || !slot_bootable(other_slot(m)))
        return err_set(e, ERR_STATE, "slot %c holds no good version to go back to",
                       'A' + (int)slot_other(m->booted));
    return machine_ask(m, EVENT_ROLLBACK, e);
}

int machine_hold(struct machine *m, bool hold, struct err *e)
{
    int rc;

    if (m->store.state.held == hold)
        return 0;
    m->store.state.held = hold;
    rc = state_save(&m->store, e);
    if (rc < 0) {
        m->store.state.held = !hold;
        return rc;
    }
    event_note(m, hold ? "held" : "released", m->booted, NULL);
    return 0;
}

void machine_reap(struct machine *m, pid_t pid, int status, long maxrss_kib)
{
    if (!worker_reap(&m->worker, pid, status, maxrss_kib))
        (void)app_reap(&m->app, pid, status);
}

void machine_stop(struct machine *m)
{
    m->ending = true;
    worker_cancel(&m->worker);
    app_stop(&m->app);
}

/* --- status ------------------------------------------------------------------------------------------------------- */

static void slot_status(const struct machine *m, enum slot_id slot, struct status_slot *out)
{
    static const char *const names[] = {"empty", "writing", "good", "bad"};
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
                 (long long)((time_now_s(m) - m->tag.expired_s) / 86400));
    else if (m->state == MACHINE_IDLE && is_frozen(m))
        snprintf(out->detail, sizeof out->detail, "the tag has not moved for %llu h, longer than max_age",
                 (unsigned long long)sight_age_s(m) / 3600);
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
        r->peak_kib = m->worker.peak_kib[i];
    }
    /* decode once more, for what nobody signed, and never while there is much to do */
    if (m->worker.peak_kib[WORKER_ENVELOPE] > out->roles[1 + WORKER_DECODE].peak_kib)
        out->roles[1 + WORKER_DECODE].peak_kib = m->worker.peak_kib[WORKER_ENVELOPE];
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
    struct err e;

    if (r->host[0])
        snprintf(out->image, sizeof out->image, "%s/%s:%s", r->host, r->repository, r->tag);
    out->plain_http = r->plain_http;
    out->unsigned_ok = !m->conf->trust.required;
    out->held = m->store.state.held;
    snprintf(out->state, sizeof out->state, "%s", state_names[m->state]);
    detail_fill(m, out);
    out->last_poll_s = m->polled_s;
    out->next_poll_in_s = -1;
    if (m->poll_timer.armed && m->poll_timer.at_ms > m->loop->now_ms())
        out->next_poll_in_s = (int64_t)(m->poll_timer.at_ms - m->loop->now_ms()) / 1000;
    out->tag_digest = m->tag.digest;
    out->booted = m->booted;
    slot_status(m, SLOT_A, &out->slots[SLOT_A]);
    slot_status(m, SLOT_B, &out->slots[SLOT_B]);
    if (board.bootrec->load(board.bootrec_arg, &rec, &health, &e) == 0)
        for (int i = 0; i < SLOT_CNT; i++)
            out->slots[i].tries_left = rec.left[i];
    app_fill(m, out);
    failure_fill(m, out);
    roles_fill(m, out);
    out->slot_bytes_written = m->store.state.slot_bytes_written;
    out->slot_bytes_kept = m->store.state.slot_bytes_kept;
    out->slot_bytes_read = m->store.state.slot_bytes_read;
    out->state_writes = m->store.state.writes;
}
