#include "update/machine.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/version.h"
#include "update/activate.h"
#include "update/booted.h"
#include "update/install.h"
#include "update/keep.h"
#include "update/machine_plan.h"
#include "update/machine_scrub.h"
#include "update/manners.h"
#include "update/patience.h"
#include "update/target.h"

#define RESTART_MS 200
#define RESTART_AGAIN_MS 60000
#define TURN_MS 1000
#define ENDS_MS 50

_Static_assert(WORKER_ROLE_CNT <= STATE_ROLE_MAX, "the peaks of all roles can be kept");

static int begin(struct machine *m, struct err *e);

/* --- polling ------------------------------------------------------------------------------------------------------ */

/* What waited for its turn goes on as it was asked for. */
static void poll_due(void *ctx)
{
    struct machine *m = ctx;

    if (!m->queued)
        m->source[0] = '\0';
    machine_event(m, EVENT_POLL_DUE);
}

/* One target after the other. The system comes before its apps: nothing is begun that its restart would cut. */
static bool is_my_turn(const struct machine *m)
{
    return !worker_busy(m->worker) && (m == m->lead || m->lead->state == MACHINE_IDLE);
}

/* From here to the end of what the poll leads to, what the worker tells is for this machine. */
static void worker_take(struct machine *m)
{
    m->worker->owner.ctx = m;
    m->worker->app = m->conf->target;
    m->worker->source = m->source;
}

/* A registry out of reach is no failure of a version: it is shown while it lasts and takes no other's place. */
static enum machine_state act_poll_failed(struct machine *m)
{
    log_warning("%spoll: %s", m->label, m->cause.text);
    m->poll_cause = m->cause;
    m->asked = m->older = false;
    plan_fail(m, &m->cause);
    patience_failed(m);
    return MACHINE_IDLE;
}

static enum machine_state act_poll(struct machine *m)
{
    struct err e;

    loop_timer_clear(m->loop, &m->poll_timer);
    m->queued = !is_my_turn(m);
    if (m->queued) {
        loop_timer_set(m->loop, &m->poll_timer, TURN_MS);
        return MACHINE_IDLE;
    }
    worker_take(m);
    if (worker_poll(m->worker, &e) == 0)
        return MACHINE_POLLING;
    m->cause = e;
    return act_poll_failed(m);
}

static enum machine_state act_plan(struct machine *m)
{
    plan_start(m);
    return act_poll(m);
}

static enum machine_state act_plan_ended(struct machine *m)
{
    patience_poll(m);
    return MACHINE_IDLE;
}

static enum machine_state act_plan_failed(struct machine *m)
{
    plan_refused(m);
    return act_plan_ended(m);
}

static enum machine_state act_resolved(struct machine *m)
{
    bool same = digest_compare(&m->tag.digest, &machine_booted(m)->tag) == VERDICT_MATCH;
    bool failed = state_digest_failed(&m->store.state, &m->tag.digest);
    bool mend = same && scrubs_mend_is_due(m);
    bool wanted =
        (!same || mend) && !machine_is_held(m) && (m->asked || (m->conf->update.automatic && !failed));

    m->failures = 0;
    m->poll_cause = (struct err){0};
    m->waiting = (struct err){0};
    m->again_ms = 0;
    m->polled_s = board.clock->wall_s();
    patience_sight(m);
    if (m->tag.expired_s)
        log_warning(
            "ALARM: the registry's certificate has expired: renew it. Images are signed, so updates go on");
    if (patience_is_out(m))
        log_warning("the tag has not moved for %llu s (max_age)", (unsigned long long)patience_age_s(m));
    if (m->plan.state == PLAN_MAKING && !m->asked)
        return plan_begin(m) ? MACHINE_PLANNING : act_plan_ended(m);
    plan_fail(m, &(struct err){.code = ERR_STATE, .text = "an update was asked for meanwhile"});
    if (wanted && (m->asked || !patience_is_needed(m))) {
        state_digest_forgive(&m->store.state, &m->tag.digest);
        return install_begin(m, mend);
    }
    m->asked = m->older = false;
    patience_poll(m);
    m->state = MACHINE_IDLE;
    scrubs_idle(m->lead);
    return MACHINE_IDLE;
}

/* It does nothing more by itself. */
static void timers_clear(struct machine *m)
{
    loop_timer_clear(m->loop, &m->poll_timer);
    loop_timer_clear(m->loop, &m->health_timer);
    loop_timer_clear(m->loop, &m->restart_timer);
}

/* The apps beside the system end with it. */
static void beside_stop(struct machine *lead)
{
    for (struct machine *a = lead->next; a; a = a->next) {
        timers_clear(a);
        a->halted = true;
        app_stop(&a->app);
    }
}

static bool apps_have_ended(const struct machine *lead)
{
    for (const struct machine *m = lead; m; m = m->next)
        if (m->app.pid)
            return false;
    return true;
}

enum machine_state machine_reboot(struct machine *m)
{
    timers_clear(m);
    checks_stop(&m->checks);
    m->state = MACHINE_REBOOTING;
    if (m == m->lead) {
        scrubs_end(m);
        beside_stop(m);
    }
    app_stop(&m->app);
    return m->state;
}

static void board_restart(struct machine *m)
{
    struct err e;

    if (!apps_have_ended(m)) {
        loop_timer_set(m->loop, &m->restart_timer, ENDS_MS);
    } else if (board.reset->restart(&e) < 0) {
        log_error("restart: %s", e.text);
        loop_timer_set(m->loop, &m->restart_timer, RESTART_AGAIN_MS);
    }
}

/* The other tree of an app, and the same agent. */
static void app_restart(struct machine *m)
{
    struct err e;

    m->state = MACHINE_IDLE;
    if (begin(m, &e) == 0)
        return;
    log_error("%srestart: %s", m->label, e.text);
    m->state = MACHINE_REBOOTING;
    loop_timer_set(m->loop, &m->restart_timer, RESTART_AGAIN_MS);
}

static void restart_due(void *ctx)
{
    struct machine *m = ctx;

    if (m == m->lead)
        board_restart(m);
    else
        app_restart(m);
}

/* Whoever ordered that the board restarts gets an answer first. */
static enum machine_state act_restart(struct machine *m)
{
    loop_timer_set(m->loop, &m->restart_timer, m == m->lead ? RESTART_MS : 0);
    return MACHINE_REBOOTING;
}

/* --- trial -------------------------------------------------------------------------------------------------------- */

static enum machine_state act_confirm(struct machine *m)
{
    checks_stop(&m->checks);
    if (activate_confirm(m->conf, m->booted, (uint8_t)m->conf->update.tries, &m->cause) < 0) {
        if (!m->unconfirmed)
            keep_failure(m, "confirm", m->booted, &machine_booted(m)->tag);
        booted_record_failed(m, &m->cause);
        return MACHINE_TRIAL;
    }
    keep_floor(m);
    m->unconfirmed = false;
    m->store.state.trial_slot = 0;
    keep_state(m);
    loop_timer_clear(m->loop, &m->health_timer);
    log_info("%sslot %c is confirmed", m->label, 'A' + (int)m->booted);
    keep_event(m, "confirmed", m->booted);
    patience_first(m);
    return MACHINE_IDLE;
}

static enum machine_state roll_back(struct machine *m, const char *event)
{
    if (booted_give_up(m, event, m->booted, &m->cause) < 0)
        log_error("%sroll back: %s", m->label, m->cause.text);
    return machine_reboot(m);
}

static enum machine_state act_trial_failed(struct machine *m)
{
    return roll_back(m, "trial");
}

/* The app is well; now what the image says of its own. That of an app has no say outside of its bounds. */
static enum machine_state act_check(struct machine *m)
{
    char root[CONF_PATH_MAX];

    if (m != m->lead)
        return act_confirm(m);
    if (board.app_root(m->booted, root, sizeof root, &m->cause) < 0)
        return act_trial_failed(m);
    checks_start(&m->checks, root);
    return MACHINE_TRIAL;
}

static enum machine_state act_rollback(struct machine *m)
{
    if (m == m->lead || m->worker->owner.ctx == m)
        worker_cancel(m->worker);
    err_set(&m->cause, ERR_APP, "rolled back by hand");
    return roll_back(m, "rollback");
}

/* After its trial an app that is given up stays down until someone looks; the board is not switched under them. That the
 * app of a version fails that was given up already, and can't be left, is no news. */
static enum machine_state act_app_failed(struct machine *m)
{
    if (machine_booted(m)->condition == SLOT_BAD)
        return m->state;
    keep_failure(m, "app", m->booted, &machine_booted(m)->tag);
    keep_state(m);
    return m->state;
}

/* What the start could not store. */
static enum machine_state act_healthy(struct machine *m)
{
    if (!m->unconfirmed)
        return MACHINE_IDLE;
    m->unconfirmed = false;
    return booted_settle(m) ? machine_reboot(m) : MACHINE_IDLE;
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
            [EVENT_ASKED] = act_poll,
            [EVENT_PLAN] = act_plan,
            [EVENT_HEALTHY] = act_healthy,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_ROLLBACK] = act_rollback,
        },
    [MACHINE_POLLING] =
        {
            [EVENT_ASKED] = act_none, /* what the poll finds is wanted now */
            [EVENT_RESOLVED] = act_resolved,
            [EVENT_WORKER_FAILED] = act_poll_failed,
            [EVENT_HEALTHY] = act_healthy_later,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_ROLLBACK] = act_rollback,
        },
    [MACHINE_INSTALLING] =
        {
            [EVENT_INSTALLED] = install_done,
            [EVENT_WORKER_FAILED] = install_failed,
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
            [EVENT_HEALTHY] = act_check,
            [EVENT_CHECKED] = act_confirm,
            [EVENT_UNHEALTHY] = act_trial_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_CONFIRM] = act_confirm,
            [EVENT_ROLLBACK] = act_rollback,
        },
    [MACHINE_PLANNING] =
        {
            [EVENT_PLANNED] = act_plan_ended,
            [EVENT_WORKER_FAILED] = act_plan_failed,
            [EVENT_HEALTHY] = act_healthy_later,
            [EVENT_UNHEALTHY] = act_app_failed,
            [EVENT_APP_STOPPED] = act_none,
            [EVENT_ROLLBACK] = act_rollback,
        },
};

bool machine_fits(const struct machine *m, enum machine_event ev)
{
    return table[m->state][ev] != NULL;
}

void machine_event(struct machine *m, enum machine_event ev)
{
    action act = table[m->state][ev];

    ASSERT(act);
    m->state = act(m);
}

/* --- what others tell --------------------------------------------------------------------------------------------- */

static void on_progress(void *ctx, const struct stage_progress *p)
{
    ((struct machine *)ctx)->progress = *p;
    manners_progress(ctx);
}

static int on_ready(void *ctx, struct err *e)
{
    return install_mark(ctx, e);
}

static void on_resolved(void *ctx, const struct fetch_resolved *r)
{
    struct machine *m = ctx;

    m->tag = *r;
    machine_event(m, EVENT_RESOLVED);
}

static void on_planned(void *ctx, const struct plan_found *found)
{
    plan_finish(ctx, found);
    machine_event(ctx, EVENT_PLANNED);
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

    if (m->halted && n != APP_STOPPED)
        return;
    switch (n) {
    case APP_IS_STABLE:
        machine_event(m, EVENT_HEALTHY);
        break;
    case APP_CRASHED:
        exit_describe(&m->app, &m->cause);
        log_warning("%s%s", m->label, m->cause.text);
        break;
    case APP_GAVE_UP:
        exit_describe(&m->app, &m->cause);
        machine_event(m, EVENT_UNHEALTHY);
        break;
    case APP_STOPPED:
        if (m->lead->ending && apps_have_ended(m->lead))
            loop_stop(m->loop);
        else if (!m->lead->ending && !m->halted)
            machine_event(m, EVENT_APP_STOPPED);
        break;
    }
}

static void on_checked(void *ctx, const struct err *failure)
{
    struct machine *m = ctx;

    if (failure)
        m->cause = *failure;
    machine_event(m, failure ? EVENT_UNHEALTHY : EVENT_CHECKED);
}

static void health_due(void *ctx)
{
    machine_event(ctx, EVENT_HEALTHY);
}

/* --- start -------------------------------------------------------------------------------------------------------- */

/* What belongs to the app and goes with the board's power lies beside the control socket. */
static void app_setup(struct machine *m)
{
    const struct conf *c = m->conf;
    const char *slash = strrchr(c->control.socket, '/');
    char run_dir[CONF_PATH_MAX];
    const struct app_setup setup = {.policy = &c->app,
                                    .name = c->target,
                                    .others_kb = c->others_kb,
                                    .stable_s = c->update.stable_s,
                                    .crash_budget = CONFIG_APP_CRASH_BUDGET,
                                    .state_dir = c->agent.state_dir,
                                    .forward_uid = c->agent.worker_uid,
                                    .run_dir = run_dir,
                                    .notice = on_app,
                                    .ctx = m};

    snprintf(run_dir, sizeof run_dir, "%.*s", slash ? (int)(slash - c->control.socket) : 0,
             c->control.socket);
    app_init(&m->app, m->loop, &setup);
    checks_init(&m->checks, m->loop, c->update.check_timeout_s, c->agent.state_dir, on_checked, m);
}

static void app_begin(struct machine *m)
{
    struct err e = {0};
    int rc;

    if (!machine_booted(m)->app_cnt) {
        if (m->state == MACHINE_TRIAL)
            loop_timer_set(m->loop, &m->health_timer, m->conf->update.stable_s * 1000ull);
        return;
    }
    rc = target_root(m->conf, m->booted, m->root, sizeof m->root, &e);
    if (rc == 0)
        rc = app_start(&m->app, &machine_booted(m)->app, m->root, &e);
    if (rc < 0)
        log_error("%sapp: %s", m->label, e.text);
}

/* A version starts, or an agent that finds it running: which one is it, and what does that mean? */
static int begin(struct machine *m, struct err *e)
{
    int rc = target_booted(m->conf, m->store.state.trial_slot, &m->booted, e);

    if (rc == 0)
        rc = booted_judge(m, e);
    if (rc < 0)
        return rc;
    if (m->state == MACHINE_REBOOTING) {
        machine_event(m, EVENT_APP_STOPPED);
        return 0;
    }
    app_begin(m);
    if (m->state == MACHINE_IDLE)
        patience_first(m);
    return 0;
}

static void open_all(struct machine *m, struct loop *loop, const struct conf *conf)
{
    struct err e;

    m->loop = loop;
    m->conf = conf;
    m->poll_timer = (struct loop_timer){.due = poll_due, .ctx = m};
    m->health_timer = (struct loop_timer){.due = health_due, .ctx = m};
    m->restart_timer = (struct loop_timer){.due = restart_due, .ctx = m};
    if (target_folders_make(conf, &e) < 0)
        log_warning("%s", e.text);
    state_open(&m->store, board.store, conf->agent.state_dir);
    history_open(&m->history, board.store, conf->agent.state_dir);
}

int machine_start(struct machine *m, struct shared *shared, struct loop *loop, const struct conf *conf,
                  const char *conf_path, struct err *e)
{
    const struct worker_owner owner = {.ctx = m,
                                       .progress = on_progress,
                                       .ready = on_ready,
                                       .resolved = on_resolved,
                                       .planned = on_planned,
                                       .done = on_done,
                                       .failed = on_failed};
    int rc;

    memset(m, 0, sizeof *m);
    m->lead = m;
    m->worker = &shared->worker;
    m->manners = &shared->manners;
    m->scrubs = &shared->scrubs;
    open_all(m, loop, conf);
    rc = worker_init(m->worker, loop, conf_path, &owner, e);
    if (rc == 0)
        rc = scrubs_start(m, conf_path, e);
    if (rc < 0)
        return rc;
    manners_start(m);
    m->worker->time_floor_s = SLIPWAY_RELEASED_S;
    patience_time_raise(m, 0);
    memcpy(m->worker->peak_kib, m->store.state.peak_kib, sizeof m->worker->peak_kib);
    app_setup(m);
    return begin(m, e);
}

int machine_start_beside(struct machine *m, struct machine *lead, const struct conf *conf, struct err *e)
{
    struct machine *last = lead;

    memset(m, 0, sizeof *m);
    m->lead = lead;
    m->worker = lead->worker;
    m->manners = lead->manners;
    m->scrubs = lead->scrubs;
    snprintf(m->label, sizeof m->label, "app %s: ", conf->target);
    open_all(m, lead->loop, conf);
    patience_time_raise(m, 0);
    app_setup(m);
    while (last->next)
        last = last->next;
    last->next = m;
    m->halted = lead->state == MACHINE_REBOOTING;
    return m->halted ? 0 : begin(m, e);
}

struct machine *machine_find(struct machine *lead, const char *name)
{
    struct machine *m = lead;

    while (m && strcmp(m->conf->target, name) != 0)
        m = m->next;
    return m;
}

void machine_reap(struct machine *m, pid_t pid, int status, long maxrss_kib)
{
    if (worker_reap(m->worker, pid, status, maxrss_kib) ||
        worker_reap(&m->scrubs->worker, pid, status, maxrss_kib) || checks_reap(&m->checks, pid, status))
        return;
    while (m && !app_reap(&m->app, pid, status))
        m = m->next;
}

void machine_stop(struct machine *m)
{
    m->ending = true;
    checks_stop(&m->checks);
    worker_cancel(m->worker);
    worker_cancel(&m->scrubs->worker);
    timers_clear(m);
    beside_stop(m);
    app_stop(&m->app);
}
