#include "sup/app.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "sup/budget.h"
#include "sup/child.h"
#include "sup/effective.h"

#define BACKOFF_FIRST_S 1u
#define BACKOFF_MAX_S 60u
#define DRAIN_MAX (256 * 1024)
/* An app that prints more is held up by its own pipe, and agentd stays free for others. */
#define OUT_SLICE_MS 100u
#define OUT_SLICE_MAX (32u * 1024)
#define EXTEND_MAX_MS 3600000u

/* What happens to an app. How an end counts is decided before the table sees it (end_judge). */
enum app_event {
    EV_START,     /* the owner's app_start */
    EV_STOP,      /* the owner's app_stop */
    EV_READY,     /* it is what it shall be: by itself, by its check, or since nothing is asked of it */
    EV_FAILING,   /* a->cause says what is wrong with it */
    EV_END_AGAIN, /* ended by itself, to be started again */
    EV_END_FINAL, /* ended by itself, crash budget used up or restarts not wanted */
    EV_END_DONE,  /* ended as asked for, or by itself with success, and that is the end of it */
    EV_TIMER,
    EV_CNT
};

struct step {
    void (*action)(struct app *a);
    enum app_state next;
};

static void app_event(struct app *a, enum app_event ev);

static void tell(struct app *a, enum app_notice n)
{
    if (a->notice)
        a->notice(a->ctx, n);
}

/* --- output -------------------------------------------------------------------------------------------------------- */

static int64_t wall_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A line of the agent's own among those of the app. */
static void complain(void *ctx, const char *words)
{
    struct app *a = ctx;
    char line[ERR_TEXT_MAX + 16];
    int len = snprintf(line, sizeof line, "%sslipway: %s\n", a->log.line_open ? "\n" : "", words);

    log_warning("%s: %s", a->label, words);
    app_log_stamp(&a->log, wall_ms(), line, len < (int)sizeof line ? (size_t)len : sizeof line - 1);
}

static void output_close(struct app *a)
{
    if (a->out_fd < 0)
        return;
    loop_timer_clear(a->loop, &a->out_timer);
    loop_fd_remove(a->loop, a->out_fd);
    close(a->out_fd);
    a->out_fd = -1;
}

/* One read. Returns the bytes, 0 when there are none at the moment, -1 at the end. */
static ssize_t output_read(struct app *a)
{
    char buf[4096];
    ssize_t n = IO_RETRY(read(a->out_fd, buf, sizeof buf));

    if (n > 0)
        app_log_stamp(&a->log, wall_ms(), buf, (size_t)n);
    if (n < 0 && errno == EAGAIN)
        return 0;
    return n > 0 ? n : -1;
}

static void output_ready(void *ctx, short revents)
{
    struct app *a = ctx;
    uint64_t now = a->loop->now_ms();
    ssize_t n = output_read(a);

    (void)revents;
    if (n < 0) {
        output_close(a);
        return;
    }
    if (now >= a->out_until_ms) {
        a->out_until_ms = now + OUT_SLICE_MS;
        a->out_bytes = 0;
    }
    a->out_bytes += (uint64_t)n;
    if (a->out_bytes < OUT_SLICE_MAX)
        return;
    loop_fd_remove(a->loop, a->out_fd);
    loop_timer_set(a->loop, &a->out_timer, a->out_until_ms - now);
}

static void output_resume(void *ctx)
{
    struct app *a = ctx;

    loop_fd_add(a->loop, a->out_fd, POLLIN, output_ready, a);
}

/* What is left in the pipe; bounded, since one that left the group may write on for ever. */
static void output_drain(struct app *a)
{
    for (size_t done = 0; a->out_fd >= 0 && done < DRAIN_MAX;) {
        ssize_t n = output_read(a);

        if (n <= 0)
            break;
        done += (size_t)n;
    }
    output_close(a);
}

/* --- actions ------------------------------------------------------------------------------------------------------- */

static void do_nothing(struct app *a)
{
    (void)a;
}

static void group_signal(struct app *a, int sig)
{
    if (a->pid > 0 && kill(-a->pid, sig) && errno == EINVAL)
        (void)kill(-a->pid, SIGTERM);
}

static void all_kill(struct app *a)
{
    group_signal(a, SIGKILL);
    cgroup_kill(&a->cgroup);
}

/* What is to run, and room for it. */
static int run_prepare(struct app *a, struct err *e)
{
    const struct conf_app *p = &a->policy;
    uint64_t total_kb;

    if (effective_spec(a->image, p, &a->spec, e) || budget_total(&total_kb, e) ||
        budget_fit(p->memory_kb, p->ports[0].host ? CONFIG_MEM_FORWARD_KB : 0, a->others_kb, total_kb,
                   &a->memory_limit_kb, e) ||
        publish_open(&a->publish, e))
        return e->code;
    a->jail.net_fd = a->publish.net_fd;
    if (cgroup_make(&a->cgroup, a->memory_limit_kb, p->cpu_percent, p->pids, e))
        return e->code;
    a->jail.data_kb = a->cgroup.memory ? 0 : a->memory_limit_kb;
    a->jail.nproc = a->cgroup.pids ? 0 : p->pids;
    return 0;
}

static void start_failed(struct app *a, struct err *e)
{
    complain(a, e->text);
    err_prefix(e, "app");
    a->start_err = *e;
    if (!a->pid)
        loop_timer_set(a->loop, &a->timer, 0);
}

/* A child that could not exec ends and is reaped like any other; without a child the timer stands in for its end. */
static void spawn(struct app *a)
{
    const struct child_plan plan = {.spec = &a->spec, .root = a->root, .jail = &a->jail};
    struct child_plan check = plan;
    struct err e = {0};

    a->started_ms = a->loop->now_ms();
    a->stable = a->failing = false;
    a->cause = CAUSE_ITSELF;
    a->status[0] = '\0';
    a->start_err.code = 0;
    notify_drain(&a->notify);
    if (run_prepare(a, &e) || child_start(&plan, &a->pid, &a->out_fd, &e)) {
        start_failed(a, &e);
        return;
    }
    loop_fd_add(a->loop, a->out_fd, POLLIN, output_ready, a);
    loop_timer_set(a->loop, &a->timer, (uint64_t)a->policy.start_timeout_s * 1000);
    if (a->policy.watchdog_s)
        loop_timer_set(a->loop, &a->watchdog, (uint64_t)a->policy.watchdog_s * 1000);
    check.beside = a->pid;
    if (a->spec.health_cnt)
        health_start(&a->health, &check);
    else if (!a->policy.ready_by_notify)
        app_event(a, EV_READY);
}

static void start_first(struct app *a)
{
    loop_timer_clear(a->loop, &a->timer);
    a->crashes = 0;
    spawn(a);
}

static void start_again(struct app *a)
{
    a->restarts++;
    spawn(a);
}

static void watch(struct app *a)
{
    loop_timer_set(a->loop, &a->timer, (uint64_t)a->stable_s * 1000);
}

static void tell_stable(struct app *a)
{
    a->crashes = 0;
    a->stable = true;
    tell(a, APP_IS_STABLE);
}

static void checks_end(struct app *a)
{
    loop_timer_clear(a->loop, &a->watchdog);
    health_stop(&a->health);
}

static void end_ask(struct app *a)
{
    checks_end(a);
    if (!a->pid) {
        app_event(a, EV_END_DONE);
        return;
    }
    loop_timer_set(a->loop, &a->timer, (uint64_t)a->policy.stop_timeout_s * 1000);
    group_signal(a, a->spec.stop_signal ? a->spec.stop_signal : SIGTERM);
}

static void end_failing(struct app *a)
{
    a->failing = true;
    complain(a, app_cause_words(a->cause));
    end_ask(a);
}

/* It is ended already, since it fails, and now shall stay down. */
static void end_for_good(struct app *a)
{
    a->failing = false;
    a->cause = CAUSE_ITSELF;
}

static void end_force(struct app *a)
{
    log_warning("%s: still there after %u s, killed", a->label, (unsigned)a->policy.stop_timeout_s);
    all_kill(a);
}

static void tell_stopped(struct app *a)
{
    loop_timer_clear(a->loop, &a->timer);
    tell(a, APP_STOPPED);
}

static void back_off(struct app *a)
{
    uint32_t after_s = BACKOFF_FIRST_S;

    for (uint32_t i = 1; i < a->crashes && after_s < BACKOFF_MAX_S; i++)
        after_s *= 2;
    if (after_s > BACKOFF_MAX_S)
        after_s = BACKOFF_MAX_S;
    loop_timer_set(a->loop, &a->timer, (uint64_t)after_s * 1000);
    tell(a, APP_CRASHED);
}

static void give_up(struct app *a)
{
    loop_timer_clear(a->loop, &a->timer);
    tell(a, APP_GAVE_UP);
}

/* EV_TIMER in STARTING: a start without a child counts as an end, one that takes too long as a failure. */
static void start_timed_out(struct app *a);

/* --- the table ----------------------------------------------------------------------------------------------------- */

#define NONE(state)                                                                                          \
    {                                                                                                        \
        do_nothing, state                                                                                    \
    }

/* clang-format off */
static const struct step steps[APP_STATE_CNT][EV_CNT] = {
    [APP_DOWN] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_READY] = NONE(APP_DOWN),                [EV_FAILING] = NONE(APP_DOWN),
        [EV_END_AGAIN] = NONE(APP_DOWN),            [EV_END_FINAL] = NONE(APP_DOWN),
        [EV_END_DONE] = NONE(APP_DOWN),             [EV_TIMER] = NONE(APP_DOWN),
    },
    [APP_STARTING] = {
        [EV_START] = NONE(APP_STARTING),            [EV_STOP] = {end_ask, APP_STOPPING},
        [EV_READY] = {watch, APP_READY},            [EV_FAILING] = {end_failing, APP_STOPPING},
        [EV_END_AGAIN] = {back_off, APP_BACKOFF},   [EV_END_FINAL] = {give_up, APP_FAILED},
        [EV_END_DONE] = {give_up, APP_DOWN},        [EV_TIMER] = {start_timed_out, APP_STARTING},
    },
    [APP_READY] = {
        [EV_START] = NONE(APP_READY),               [EV_STOP] = {end_ask, APP_STOPPING},
        [EV_READY] = NONE(APP_READY),               [EV_FAILING] = {end_failing, APP_STOPPING},
        [EV_END_AGAIN] = {back_off, APP_BACKOFF},   [EV_END_FINAL] = {give_up, APP_FAILED},
        [EV_END_DONE] = {give_up, APP_DOWN},        [EV_TIMER] = {tell_stable, APP_READY},
    },
    [APP_STOPPING] = {
        [EV_START] = NONE(APP_STOPPING),            [EV_STOP] = {end_for_good, APP_STOPPING},
        [EV_READY] = NONE(APP_STOPPING),            [EV_FAILING] = NONE(APP_STOPPING),
        [EV_END_AGAIN] = {back_off, APP_BACKOFF},   [EV_END_FINAL] = {give_up, APP_FAILED},
        [EV_END_DONE] = {tell_stopped, APP_DOWN},   [EV_TIMER] = {end_force, APP_STOPPING},
    },
    [APP_BACKOFF] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_READY] = NONE(APP_BACKOFF),             [EV_FAILING] = NONE(APP_BACKOFF),
        [EV_END_AGAIN] = NONE(APP_BACKOFF),         [EV_END_FINAL] = NONE(APP_BACKOFF),
        [EV_END_DONE] = NONE(APP_BACKOFF),          [EV_TIMER] = {start_again, APP_STARTING},
    },
    [APP_FAILED] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_READY] = NONE(APP_FAILED),              [EV_FAILING] = NONE(APP_FAILED),
        [EV_END_AGAIN] = NONE(APP_FAILED),          [EV_END_FINAL] = NONE(APP_FAILED),
        [EV_END_DONE] = NONE(APP_FAILED),           [EV_TIMER] = NONE(APP_FAILED),
    },
};
/* clang-format on */

/* The new state stands before the action runs, so an owner that is told something may call back at once. An action
 * does that last. */
static void app_event(struct app *a, enum app_event ev)
{
    const struct step *s = &steps[a->state][ev];

    a->state = s->next;
    s->action(a);
}

static void timer_due(void *ctx)
{
    app_event(ctx, EV_TIMER);
}

/* --- ends ---------------------------------------------------------------------------------------------------------- */

/* Failures in a row that are one too many; 0: none is. */
static uint32_t crash_limit(const struct app *a)
{
    uint32_t by_policy =
        a->policy.restart == RESTART_ON_FAILURE && a->policy.restart_max ? a->policy.restart_max + 1 : 0;

    if (!by_policy || (a->crash_budget && a->crash_budget < by_policy))
        return a->crash_budget;
    return by_policy;
}

/* What the policy makes of an end. One that was asked for is no crash. */
static enum app_event end_judge(struct app *a)
{
    const struct app_exit *x = &a->last_exit;
    bool failed = !x->valid || x->by_signal || x->code || x->cause != CAUSE_ITSELF;

    if (a->state == APP_STOPPING && !a->failing)
        return EV_END_DONE;
    if (!failed && a->policy.restart != RESTART_ALWAYS)
        return EV_END_DONE;
    a->crashes = a->stable ? 0 : a->crashes + 1;
    if (a->policy.restart == RESTART_NO)
        return EV_END_FINAL;
    return crash_limit(a) && a->crashes >= crash_limit(a) ? EV_END_FINAL : EV_END_AGAIN;
}

static void fail(struct app *a, enum app_cause cause)
{
    if (a->state != APP_STARTING && a->state != APP_READY)
        return;
    a->cause = cause;
    app_event(a, EV_FAILING);
}

static void start_timed_out(struct app *a)
{
    if (a->pid) {
        fail(a, CAUSE_LATE);
        return;
    }
    a->last_exit = (struct app_exit){.valid = false};
    cgroup_remove(&a->cgroup);
    app_event(a, end_judge(a));
}

void app_usage(struct app *a, struct cgroup_usage *out)
{
    cgroup_usage(&a->cgroup, out);
    if (out->memory_peak_kb == UINT64_MAX) /* before Linux 5.19 */
        out->memory_peak_kb = out->memory_kb;
    if (out->memory_peak_kb != UINT64_MAX && out->memory_peak_kb > a->memory_peak_kb)
        a->memory_peak_kb = out->memory_peak_kb;
}

/* Count what the group counted, before it goes. */
static void usage_keep(struct app *a)
{
    struct cgroup_usage u;

    app_usage(a, &u);
    if (u.oom_kills != UINT64_MAX && u.oom_kills) {
        a->oom_kills += u.oom_kills;
        if (a->cause == CAUSE_ITSELF)
            a->cause = CAUSE_MEMORY;
    }
    if (u.pids_hits != UINT64_MAX)
        a->pids_hits += u.pids_hits;
    cgroup_remove(&a->cgroup);
}

/* All goes with the app's first process: what it left behind would hold ports and files of the next start. */
static void end_record(struct app *a, int status)
{
    checks_end(a);
    all_kill(a);
    a->pid = 0;
    output_drain(a);
    usage_keep(a);
    a->last_exit = (struct app_exit){
        .valid = true,
        .by_signal = WIFSIGNALED(status),
        .code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
        .cause = a->cause,
        .ran_ms = a->loop->now_ms() - a->started_ms,
    };
}

/* --- what the app and its check say ---------------------------------------------------------------------------------- */

static void on_verdict(void *ctx, bool healthy)
{
    struct app *a = ctx;

    if (!healthy)
        fail(a, CAUSE_UNHEALTHY);
    else if (!a->policy.ready_by_notify)
        app_event(a, EV_READY);
}

static void on_silence(void *ctx)
{
    fail(ctx, CAUSE_SILENT);
}

static void on_message(void *ctx, const struct notify_message *m)
{
    struct app *a = ctx;
    uint64_t extend_ms = m->extend_us / 1000;

    if (m->status[0])
        memcpy(a->status, m->status, sizeof a->status);
    if (extend_ms && (a->state == APP_STARTING || a->state == APP_STOPPING) && a->pid)
        loop_timer_set(a->loop, &a->timer, extend_ms < EXTEND_MAX_MS ? extend_ms : EXTEND_MAX_MS);
    if (m->alive && a->watchdog.armed)
        loop_timer_set(a->loop, &a->watchdog, (uint64_t)a->policy.watchdog_s * 1000);
    if (m->failing)
        fail(a, CAUSE_SILENT);
    else if (m->ready && a->policy.ready_by_notify)
        app_event(a, EV_READY);
}

/* --- for the owner ------------------------------------------------------------------------------------------------- */

void app_init(struct app *a, struct loop *loop, const struct app_setup *setup)
{
    const char *dash = setup->name[0] ? "-" : "";
    char folder[CONF_PATH_MAX + CONF_NAME_MAX + 8], path[sizeof folder + 8];

    memset(a, 0, sizeof *a);
    a->loop = loop;
    a->policy = *setup->policy;
    a->others_kb = setup->others_kb;
    snprintf(a->label, sizeof a->label, "app%s%s", setup->name[0] ? " " : "", setup->name);
    a->stable_s = setup->stable_s;
    a->crash_budget = setup->crash_budget;
    a->notice = setup->notice;
    a->ctx = setup->ctx;
    a->out_fd = -1;
    a->timer = (struct loop_timer){.due = timer_due, .ctx = a};
    a->watchdog = (struct loop_timer){.due = on_silence, .ctx = a};
    a->out_timer = (struct loop_timer){.due = output_resume, .ctx = a};
    snprintf(folder, sizeof folder, "%s/app%s%s", setup->run_dir, dash, setup->name);
    snprintf(path, sizeof path, "%s.log", folder);
    app_log_open(&a->log, path);
    cgroup_open(&a->cgroup, setup->state_dir);
    notify_open(&a->notify, loop, folder, on_message, a);
    health_init(&a->health, loop, on_verdict, complain, a);
    publish_init(&a->publish, loop, a->policy.ports, setup->forward_uid);
    jail_probe(&a->jail, a->policy.network);
    a->jail.cgroup = a->cgroup.dir;
    a->jail.conf = &a->policy;
    a->jail.state_dir = setup->state_dir;
    a->jail.notify = a->notify.path;
    if (a->jail.missing[0])
        log_warning("%s: isolation: %s", a->label, a->jail.missing);
}

int app_start(struct app *a, const struct app_spec *spec, const char *root, struct err *e)
{
    if (a->state == APP_STARTING || a->state == APP_READY || a->state == APP_STOPPING)
        return err_set(e, ERR_STATE, "app: it is %s", app_state_name(a->state));
    a->image = spec;
    a->root = root;
    app_event(a, EV_START);
    if (a->start_err.code)
        *e = a->start_err;
    return a->start_err.code;
}

void app_stop(struct app *a)
{
    app_event(a, EV_STOP);
}

bool app_reap(struct app *a, pid_t pid, int status)
{
    if (pid <= 0 || !(WIFEXITED(status) || WIFSIGNALED(status)))
        return false;
    if (health_reap(&a->health, pid, status) || publish_reap(&a->publish, pid))
        return true;
    if (pid != a->pid)
        return false;
    end_record(a, status);
    app_event(a, end_judge(a));
    return true;
}

const char *app_state_name(enum app_state s)
{
    static const char *const names[APP_STATE_CNT] = {"down",     "starting", "ready",
                                                     "stopping", "backoff",  "failed"};

    return s < APP_STATE_CNT ? names[s] : "?";
}

const char *app_cause_words(enum app_cause c)
{
    static const char *const words[] = {"by itself", "over its memory budget", "not ready in time",
                                        "unhealthy", "its watchdog ran out"};

    return (size_t)c < sizeof words / sizeof words[0] ? words[c] : "?";
}

void app_missing(const struct app *a, char *out, size_t cap)
{
    snprintf(out, cap, "%s%s%s", a->jail.missing, a->jail.missing[0] && a->cgroup.missing[0] ? ", " : "",
             a->cgroup.missing);
}
