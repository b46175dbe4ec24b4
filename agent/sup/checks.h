/* Checks of the system that is on trial, which the image brings: the executables in CHECKS_DIR of its root, in the order of their
 * names. Each is run like an app, in a jail of its own, as root and with the board's network; it has a time limit, and says by
 * its exit code whether all is well. The first that does not ends the trial.
 */
#ifndef SLIPWAY_SUP_CHECKS_H
#define SLIPWAY_SUP_CHECKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"

#define CHECKS_DIR "usr/lib/slipway/health.d"
#define CHECK_MAX 16
#define CHECK_NAME_MAX 64

struct checks {
    struct loop *loop;
    uint32_t limit_s;      /* of each */
    const char *state_dir; /* the app's; lives as long as this */
    void (*done)(void *ctx, const struct err *failure);
    void *ctx;
    char root[CONF_PATH_MAX];
    char names[CHECK_MAX][CHECK_NAME_MAX];
    uint32_t cnt, at;
    bool running; /* some are left */
    bool late;    /* the present one was killed for its time */
    pid_t pid;    /* 0: none runs */
    int out_fd;   /* what it prints; -1: none runs */
    struct loop_timer timer;
};

/* `done` is told once per checks_start(), from the loop: NULL when all went well, else which check did not, and how. */
void checks_init(struct checks *c, struct loop *loop, uint32_t limit_s, const char *state_dir,
                 void (*done)(void *ctx, const struct err *failure), void *ctx);
/* Begin with those of the system at `root`. Nothing when they run already. No folder: all is well. */
void checks_start(struct checks *c, const char *root);
/* End them without a word. */
void checks_stop(struct checks *c);
/* A child of agentd ended; true when it was a check. */
bool checks_reap(struct checks *c, pid_t pid, int status);

#endif
