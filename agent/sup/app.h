/* The supervisor of one app: a state table (agent/DESIGN.md, "Supervisor"). Knows pids and times, never images.
 *
 *     DOWN -> STARTING -> UP -> STOPPING -> DOWN
 *                 \        \-> BACKOFF -> STARTING      restart with exponential back-off
 *                  \-> BACKOFF ... -> FAILED            crash budget used up
 */
#ifndef SLIPWAY_SUP_APP_H
#define SLIPWAY_SUP_APP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/app_spec.h"
#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"
#include "sup/log.h"

enum app_state { APP_DOWN = 0, APP_STARTING, APP_UP, APP_STOPPING, APP_BACKOFF, APP_FAILED, APP_STATE_CNT };

/* What the owner is told. */
enum app_notice {
    APP_IS_STABLE, /* it stayed up for the stable time; told once per start */
    APP_CRASHED,   /* it ended by itself; `app_exit` says how; it will be started again */
    APP_GAVE_UP,   /* it ended by itself and will not be started again (crash budget, or policy) */
    APP_STOPPED,   /* the end that app_stop() asked for */
};

struct app_exit {
    bool valid;
    bool by_signal;
    int code; /* exit code or signal number */
    uint64_t ran_ms;
};

struct app {
    struct loop *loop;
    const struct app_spec *spec;
    const char *root; /* "/": no chroot */
    struct conf_app policy;
    uint32_t stable_s;
    uint32_t crash_budget; /* unstable ends in a row before it is given up; 0: never */
    void (*notice)(void *ctx, enum app_notice n);
    void *ctx;

    enum app_state state;
    pid_t pid; /* 0: none */
    int out_fd;
    uint64_t started_ms;
    uint32_t crashes;  /* unstable ends in a row */
    uint32_t restarts; /* since agentd started */
    struct app_exit last_exit;
    struct err start_err; /* why the last start failed; code 0: it did not */
    struct loop_timer timer;
    struct app_log log;
};

void app_init(struct app *a, struct loop *loop, const struct conf_app *policy, uint32_t stable_s,
              uint32_t crash_budget, void (*notice)(void *ctx, enum app_notice n), void *ctx);
/* Start `spec` in `root`. Both live as long as the app runs. An app that can't be started (no such file, unknown
 * user) counts as one that crashed, its reason in the log ring and in *e; the notice follows from the loop, once its
 * child was reaped. ERR_STATE when it runs already. */
int app_start(struct app *a, const struct app_spec *spec, const char *root, struct err *e);
/* Ask it to end: stop signal to its process group, SIGKILL after the stop time-out. APP_STOPPED follows, at once
 * when it was not running. */
void app_stop(struct app *a);
/* A child of agentd ended, `status` from waitpid; true when it was the app's. What is left of its process group is
 * killed. Notices may come from within, and may call app_start or app_stop. */
bool app_reap(struct app *a, pid_t pid, int status);
const char *app_state_name(enum app_state s);

#endif
