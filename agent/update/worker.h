/* The update worker: the short-lived processes that agentd starts, watches and reaps. Each role is this same binary
 * executed again, with its own ceiling on anonymous memory (RLIMIT_DATA, CONFIG_MEM_*_KB); when it ends, its memory
 * is gone. One worker at a time: either a poll (fetch alone) or a deployment (fetch, stage, decode, and envelope, which
 * is gone before the first layer). A scrub, which no update needs, is another worker of its owner.
 */
#ifndef SLIPWAY_UPDATE_WORKER_H
#define SLIPWAY_UPDATE_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/loop.h"
#include "base/plan.h"
#include "hal/bootrec.h"
#include "oci/fetch.h"
#include "update/scrub.h"
#include "update/stage.h"

#define WORKER_SOURCE_MAX 256

/* WORKER_TOLD: the owner knows, or there never was a worker. */
enum worker_end {
    WORKER_TOLD = 0,
    WORKER_RUNS,
    WORKER_RESOLVED,
    WORKER_PLANNED,
    WORKER_SCRUBBED,
    WORKER_DONE,
    WORKER_FAILED
};

enum worker_role { WORKER_FETCH = 0, WORKER_STAGE, WORKER_DECODE, WORKER_ENVELOPE, WORKER_ROLE_CNT };

/* What the owner is told. Every worker that was started and not cancelled ends in exactly one of the last five, told
 * when its last process is gone: from then on nobody writes to the slot, and its peaks are known. */
struct worker_owner {
    void *ctx;
    void (*progress)(void *ctx, const struct stage_progress *p);
    /* The image may be installed: mark the slot, which will be written from now on. An error ends the worker. */
    int (*ready)(void *ctx, struct err *e);
    void (*resolved)(void *ctx, const struct fetch_resolved *r);
    void (*planned)(void *ctx, const struct plan_found *p);
    void (*scrubbed)(void *ctx, const struct scrubbed *s);
    void (*done)(void *ctx, const struct stage_done *d);
    void (*failed)(void *ctx, const struct err *cause);
};

struct worker {
    struct loop *loop;
    const char *conf_path;
    struct worker_owner owner;
    int64_t time_floor_s; /* it is not earlier than this; kept by the owner */
    const char *app;      /* the target: the name of an app, or "". These two are the owner's, too */
    const char *source;   /* an image layout in place of the registry (oci/layout.h), or "" */
    uint64_t
        bytes_max; /* a deployment may fetch so much, and so long (oci/traffic.h); 0: no bound. The owner's */
    uint32_t time_max_s;
    int meter_fd;                   /* shared with fetch, and for the life of this process */
    const volatile uint32_t *meter; /* bytes that all fetch processes carried, modulo 2^32 */
    pid_t pids[WORKER_ROLE_CNT];    /* 0: not running */
    int report_fd;                  /* frames for agentd: of stage, or of fetch in a poll; -1: no worker */
    int request_fd;                 /* to fetch in a poll; -1 */
    struct loop_timer stall;        /* the roles have said nothing for CONFIG_STALL_S */
    uint32_t sessions_len;          /* TLS sessions of the last poll, for the next one */
    uint32_t sessions_uses;         /* polls in a row that went on with one */
    uint8_t sessions[FETCH_SESSIONS_MAX];
    union {
        struct stage_progress progress;
        struct fetch_resolved resolved;
        struct plan_found plan;
        struct scrubbed scrubbed;
        struct stage_done done;
    } report; /* the last one */
    enum worker_end end;
    struct err cause;                   /* of WORKER_FAILED */
    struct err casualty;                /* which role died of itself, and how; code 0: none did */
    uint32_t peak_kib[WORKER_ROLE_CNT]; /* highest resident size seen, over all runs */
};

int worker_init(struct worker *w, struct loop *loop, const char *conf_path, const struct worker_owner *owner,
                struct err *e);
bool worker_busy(const struct worker *w);
int worker_poll(struct worker *w, struct err *e);
/* `trust`: signatures are required. With job->look it ends in `planned`, and never asks whether it is `ready`. */
int worker_deploy(struct worker *w, const struct stage_job *job, bool trust, struct err *e);
/* Read a slot; ends in `scrubbed`, and is `ready` before it writes to a slot that is damaged. It counts as stage. */
int worker_scrub(struct worker *w, const struct scrub_job *job, struct err *e);
/* End it without telling the owner. */
void worker_cancel(struct worker *w);
/* The same, and wait until nothing of it runs any more. */
void worker_stop(struct worker *w);
/* A child of agentd ended, its peak resident size as wait4(2) gives it; true when it was the worker's. */
bool worker_reap(struct worker *w, pid_t pid, int status, long maxrss_kib);
const char *worker_role_name(enum worker_role r);
uint32_t worker_role_limit_kib(enum worker_role r);

#endif
