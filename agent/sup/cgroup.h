/* The app's group in cgroup v2: what it may use, what it used, and the way to end all of it at once. One folder below
 * the mount, named after the agent's state directory, so that agents beside each other (tests) do not meet.
 *
 * Without cgroup v2, or without some of its controllers, what can't be enforced is named in `missing`.
 */
#ifndef SLIPWAY_SUP_CGROUP_H
#define SLIPWAY_SUP_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"

struct cgroup {
    char root[160];          /* where cgroup2 is mounted */
    char dir[CONF_PATH_MAX]; /* "": there is no cgroup v2 here */
    bool memory, cpu, pids;  /* controllers that are on */
    char missing[128];       /* for people; "": nothing */
};

struct cgroup_usage { /* UINT64_MAX: unknown */
    uint64_t memory_kb;
    uint64_t memory_peak_kb;
    uint64_t pids;
    uint64_t oom_kills; /* these two of this run */
    uint64_t pids_hits; /* forks refused */
};

/* Where the group will be. Ends what an agent that was killed left in it. */
void cgroup_open(struct cgroup *g, const char *state_dir);
/* Make it for one run of the app. 0 for no limit. memory.high is left alone: there is no swap, so that it would only
 * stall what memory.max ends. */
int cgroup_make(struct cgroup *g, uint32_t memory_kb, uint32_t cpu_percent, uint32_t pids, struct err *e);
void cgroup_remove(const struct cgroup *g);
/* End all that is in it. They may still be there for a moment. */
void cgroup_kill(const struct cgroup *g);
void cgroup_usage(const struct cgroup *g, struct cgroup_usage *out);

#endif
