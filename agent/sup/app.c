#include "sup/app.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "sup/child.h"

#define BACKOFF_FIRST_S 1u
#define BACKOFF_MAX_S 60u
#define DRAIN_MAX (256 * 1024)

/* What happens to an app. How an end counts is decided before the table sees it (end_judge). */
enum app_event {
    EV_START,     /* the owner's app_start */
    EV_STOP,      /* the owner's app_stop */
    EV_RUNS,      /* exec succeeded */
    EV_END_AGAIN, /* ended by itself, to be started again */
    EV_END_FINAL, /* ended by itself, crash budget used up or restarts not wanted */
    EV_END_DONE,  /* ended by itself with success, and that is the end of it */
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

static void output_close(struct app *a)
{
    if (a->out_fd < 0)
        return;
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
        app_log_append(&a->log, buf, (size_t)n);
    if (n < 0 && errno == EAGAIN)
        return 0;
    return n > 0 ? n : -1;
}

static void output_ready(void *ctx, short revents)
{
    struct app *a = ctx;

    (void)revents;
    if (output_read(a) < 0)
        output_close(a);
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

static void start_failed(struct app *a, struct err *e)
{
    err_prefix(e, "app");
    log_error("%s", e->text);
    app_log_append(&a->log, e->text, strlen(e->text));
    app_log_append(&a->log, "\n", 1);
    if (!a->pid)
        loop_timer_set(a->loop, &a->timer, 0);
}

/* A child that could not exec ends and is reaped like any other; without a child the timer stands in for its end. */
static void spawn(struct app *a)
{
    struct err e = {0};

    a->started_ms = a->loop->now_ms();
    if (child_start(a->spec, a->root, &a->pid, &a->out_fd, &e)) {
        start_failed(a, &e);
        a->start_err = e;
        return;
    }
    loop_fd_add(a->loop, a->out_fd, POLLIN, output_ready, a);
    app_event(a, EV_RUNS);
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
    tell(a, APP_IS_STABLE);
}

static void end_ask(struct app *a)
{
    if (!a->pid) {
        app_event(a, EV_END_DONE);
        return;
    }
    loop_timer_set(a->loop, &a->timer, (uint64_t)a->policy.stop_timeout_s * 1000);
    group_signal(a, a->spec->stop_signal ? a->spec->stop_signal : SIGTERM);
}

static void end_force(struct app *a)
{
    log_warning("app: still there after %u s, killed", (unsigned)a->policy.stop_timeout_s);
    group_signal(a, SIGKILL);
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

/* EV_TIMER in STARTING: the fork that failed counts as an end. */
static void count_fork_failure(struct app *a);

/* --- the table ----------------------------------------------------------------------------------------------------- */

#define NONE(state)                                                                                          \
    {                                                                                                        \
        do_nothing, state                                                                                    \
    }

/* clang-format off */
static const struct step steps[APP_STATE_CNT][EV_CNT] = {
    [APP_DOWN] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_RUNS] = NONE(APP_DOWN),                 [EV_END_AGAIN] = NONE(APP_DOWN),
        [EV_END_FINAL] = NONE(APP_DOWN),            [EV_END_DONE] = NONE(APP_DOWN),
        [EV_TIMER] = NONE(APP_DOWN),
    },
    [APP_STARTING] = {
        [EV_START] = NONE(APP_STARTING),            [EV_STOP] = {end_ask, APP_STOPPING},
        [EV_RUNS] = {watch, APP_UP},                [EV_END_AGAIN] = {back_off, APP_BACKOFF},
        [EV_END_FINAL] = {give_up, APP_FAILED},     [EV_END_DONE] = {give_up, APP_DOWN},
        [EV_TIMER] = {count_fork_failure, APP_STARTING},
    },
    [APP_UP] = {
        [EV_START] = NONE(APP_UP),                  [EV_STOP] = {end_ask, APP_STOPPING},
        [EV_RUNS] = NONE(APP_UP),                   [EV_END_AGAIN] = {back_off, APP_BACKOFF},
        [EV_END_FINAL] = {give_up, APP_FAILED},     [EV_END_DONE] = {give_up, APP_DOWN},
        [EV_TIMER] = {tell_stable, APP_UP},
    },
    [APP_STOPPING] = {
        [EV_START] = NONE(APP_STOPPING),            [EV_STOP] = NONE(APP_STOPPING),
        [EV_RUNS] = NONE(APP_STOPPING),             [EV_END_AGAIN] = {tell_stopped, APP_DOWN},
        [EV_END_FINAL] = {tell_stopped, APP_DOWN},  [EV_END_DONE] = {tell_stopped, APP_DOWN},
        [EV_TIMER] = {end_force, APP_STOPPING},
    },
    [APP_BACKOFF] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_RUNS] = NONE(APP_BACKOFF),              [EV_END_AGAIN] = NONE(APP_BACKOFF),
        [EV_END_FINAL] = NONE(APP_BACKOFF),         [EV_END_DONE] = NONE(APP_BACKOFF),
        [EV_TIMER] = {start_again, APP_STARTING},
    },
    [APP_FAILED] = {
        [EV_START] = {start_first, APP_STARTING},   [EV_STOP] = {tell_stopped, APP_DOWN},
        [EV_RUNS] = NONE(APP_FAILED),               [EV_END_AGAIN] = NONE(APP_FAILED),
        [EV_END_FINAL] = NONE(APP_FAILED),          [EV_END_DONE] = NONE(APP_FAILED),
        [EV_TIMER] = NONE(APP_FAILED),
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

/* What the policy makes of an end. One that was asked for is no crash. */
static enum app_event end_judge(struct app *a)
{
    const struct app_exit *x = &a->last_exit;
    bool failed = !x->valid || x->by_signal || x->code;

    if (a->state == APP_STOPPING)
        return EV_END_DONE;
    if (a->policy.restart == RESTART_NO)
        return failed ? EV_END_FINAL : EV_END_DONE;
    if (a->policy.restart == RESTART_ON_FAILURE && !failed)
        return EV_END_DONE;
    a->crashes = x->ran_ms < (uint64_t)a->stable_s * 1000 ? a->crashes + 1 : 0;
    return a->crash_budget && a->crashes >= a->crash_budget ? EV_END_FINAL : EV_END_AGAIN;
}

static void count_fork_failure(struct app *a)
{
    a->last_exit = (struct app_exit){.valid = false};
    app_event(a, end_judge(a));
}

/* The group goes with its leader: what it left behind would hold ports and files of the next start. */
static void end_record(struct app *a, int status)
{
    group_signal(a, SIGKILL);
    a->pid = 0;
    output_drain(a);
    a->last_exit = (struct app_exit){
        .valid = true,
        .by_signal = WIFSIGNALED(status),
        .code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
        .ran_ms = a->loop->now_ms() - a->started_ms,
    };
}

/* --- for the owner ------------------------------------------------------------------------------------------------- */

void app_init(struct app *a, struct loop *loop, const struct conf_app *policy, uint32_t stable_s,
              uint32_t crash_budget, void (*notice)(void *ctx, enum app_notice n), void *ctx)
{
    memset(a, 0, sizeof *a);
    a->loop = loop;
    a->policy = *policy;
    a->stable_s = stable_s;
    a->crash_budget = crash_budget;
    a->notice = notice;
    a->ctx = ctx;
    a->out_fd = -1;
    a->timer.due = timer_due;
    a->timer.ctx = a;
}

int app_start(struct app *a, const struct app_spec *spec, const char *root, struct err *e)
{
    if (a->state == APP_STARTING || a->state == APP_UP || a->state == APP_STOPPING)
        return err_set(e, ERR_STATE, "app: it is %s", app_state_name(a->state));
    a->spec = spec;
    a->root = root;
    a->start_err.code = 0;
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
    if (pid <= 0 || pid != a->pid || !(WIFEXITED(status) || WIFSIGNALED(status)))
        return false;
    end_record(a, status);
    app_event(a, end_judge(a));
    return true;
}

const char *app_state_name(enum app_state s)
{
    static const char *const names[APP_STATE_CNT] = {"down",     "starting", "up",
                                                     "stopping", "backoff",  "failed"};

    return s < APP_STATE_CNT ? names[s] : "?";
}
