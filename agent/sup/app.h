/* The supervisor of one app: a state table (agent/DESIGN.md, "Supervisor"). Knows pids and times, never images.
 *
 *     DOWN -> STARTING -> READY -> STOPPING -> DOWN
 *                 \           \-> BACKOFF -> STARTING   restart with exponential back-off
 *                  \-> BACKOFF ... -> FAILED            crash budget used up
 *
 * An app that must be ended since it fails (late, unhealthy, silent) is STOPPING on its way to BACKOFF or FAILED. It
 * never outlives agentd: the kernel ends it with its agent, and what might be left is ended before the next start.
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
#include "sup/cgroup.h"
#include "sup/health.h"
#include "sup/jail.h"
#include "sup/log.h"
#include "sup/notify.h"
#include "sup/publish.h"

enum app_state {
    APP_DOWN = 0,
    APP_STARTING,
    APP_READY,
    APP_STOPPING,
    APP_BACKOFF,
    APP_FAILED,
    APP_STATE_CNT
};

/* What the owner is told. */
enum app_notice {
    APP_IS_STABLE, /* it stayed ready for the stable time; told once per start */
    APP_CRASHED, /* it ended by itself, or for a cause below; `last_exit` says how; it will be started again */
    APP_GAVE_UP, /* the same, and it will not be started again (crash budget, or policy) */
    APP_STOPPED, /* the end that app_stop() asked for */
};

/* Why it ended. */
enum app_cause {
    CAUSE_ITSELF = 0, /* it exited, or a signal of its own or of a person ended it */
    CAUSE_MEMORY,     /* over its memory budget, ended by the kernel */
    CAUSE_LATE,       /* not ready within the start time-out */
    CAUSE_UNHEALTHY,  /* its health check failed too often */
    CAUSE_SILENT,     /* no WATCHDOG=1 in time, or WATCHDOG=trigger */
};

struct app_exit {
    bool valid;
    bool by_signal;
    int code; /* exit code or signal number */
    enum app_cause cause;
    uint64_t ran_ms;
};

struct app_setup {
    const struct conf_app *policy;
    const char *name;   /* "": the system's */
    uint32_t others_kb; /* what the budgets of all other apps take */
    uint32_t stable_s;
    uint32_t crash_budget; /* unstable ends in a row before it is given up; 0: never */
    const char *state_dir; /* volumes; lives as long as the app */
    const char *run_dir;   /* on a tmpfs: its log and its socket */
    void (*notice)(void *ctx, enum app_notice n);
    void *ctx;
    uint32_t forward_uid; /* that the process which carries its ports runs as */
};

struct app {
    struct loop *loop;
    char label[CONF_NAME_MAX + 8]; /* "app" or "app NAME", in the agent's log */
    struct conf_app policy;
    uint32_t others_kb;
    uint32_t stable_s;
    uint32_t crash_budget;
    void (*notice)(void *ctx, enum app_notice n);
    void *ctx;

    const struct app_spec *image;
    struct app_spec spec; /* the image's with the device's over it */
    const char *root;     /* "/": the system's own */
    struct jail jail;
    struct cgroup cgroup;
    struct notify notify;
    struct health health;
    struct publish publish;

    enum app_state state;
    pid_t pid; /* 0: none */
    int out_fd;
    uint64_t out_until_ms, out_bytes; /* of the present slice of time, for the limit of the log's rate */
    uint64_t started_ms;
    bool stable;          /* APP_IS_STABLE was told of this start */
    enum app_cause cause; /* why it is being ended; CAUSE_ITSELF: it is not */
    bool failing;         /* STOPPING is not what app_stop() asked for */
    uint32_t crashes;     /* unstable ends in a row */
    uint32_t restarts;    /* since agentd started */
    struct app_exit last_exit;
    struct err start_err; /* why the last start failed; code 0: it did not */
    struct loop_timer timer, watchdog, out_timer;
    char status[80]; /* STATUS of sd_notify(3) */
    uint32_t memory_limit_kb;
    uint64_t memory_peak_kb;       /* of all runs; 0: unknown */
    uint64_t oom_kills, pids_hits; /* of all runs that have ended */
    struct app_log log;
};

/* Ends what an agent that was killed left behind. */
void app_init(struct app *a, struct loop *loop, const struct app_setup *setup);
/* Start `spec` in `root`. Both live as long as the app runs. An app that can't be started (no such file, unknown
 * user, more memory than there is) counts as one that crashed, its reason in the log ring and in *e; the notice follows
 * from the loop, once its child was reaped. ERR_STATE when it runs already. */
int app_start(struct app *a, const struct app_spec *spec, const char *root, struct err *e);
/* Ask it to end: stop signal to its process group, SIGKILL to all of it after the stop time-out. APP_STOPPED follows,
 * at once when it was not running. */
void app_stop(struct app *a);
/* A child of agentd ended, `status` from waitpid; true when it was the app's. What is left of its processes is killed.
 * Notices may come from within, and may call app_start or app_stop. */
bool app_reap(struct app *a, pid_t pid, int status);
/* What it uses now; also notes the peak. */
void app_usage(struct app *a, struct cgroup_usage *out);
const char *app_state_name(enum app_state s);
/* "by itself", "over its memory budget", ... */
const char *app_cause_words(enum app_cause c);
/* How it is weaker held than it ought to be, into `out`; "": in nothing. */
void app_missing(const struct app *a, char *out, size_t cap);

#endif
