/* The image's health check (Docker's HEALTHCHECK): a program that runs beside the app, every so often, and says by its
 * exit code how the app does. Tells its owner of the first success, and when it fails too often in a row.
 */
#ifndef SLIPWAY_SUP_HEALTH_H
#define SLIPWAY_SUP_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/loop.h"
#include "sup/child.h"

struct health {
    struct loop *loop;
    struct child_plan plan;
    void (*verdict)(void *ctx, bool healthy);
    /* A check failed; `words` for the app's log. */
    void (*complain)(void *ctx, const char *words);
    void *ctx;
    struct loop_timer timer; /* the next check, or the end of the running one's time */
    pid_t pid;               /* 0: none runs */
    bool late;               /* it was killed for its time */
    bool healthy;            /* it succeeded once */
    uint32_t fails;          /* in a row, those of the start period left out */
    uint64_t started_ms;
};

void health_init(struct health *h, struct loop *loop, void (*verdict)(void *ctx, bool healthy),
                 void (*complain)(void *ctx, const char *words), void *ctx);
/* Begin checking the app that `plan`, with plan->beside its pid, describes. It has a check. */
void health_start(struct health *h, const struct child_plan *plan);
/* No more checks; a running one is killed. */
void health_stop(struct health *h);
/* A child of agentd ended; true when it was the check. The verdict comes from within. */
bool health_reap(struct health *h, pid_t pid, int status);

#endif
