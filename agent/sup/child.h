/* The app's process between fork and exec: root, user, environment, descriptors. One way in, no way out but exec or a
 * reason on a pipe. Knows an app_spec and a root, never states.
 */
#ifndef SLIPWAY_SUP_CHILD_H
#define SLIPWAY_SUP_CHILD_H

#include <sys/types.h>

#include "base/app_spec.h"
#include "base/err.h"
#include "sup/jail.h"

struct child_plan {
    const struct app_spec *spec;
    const char *root;
    const struct jail *jail;
    pid_t beside; /* 0: the app itself; else the running app whose health check this is, in its namespaces */
};

/* Start the program in a session and process group of its own. Returns its pid once it has exec'ed, *out_fd is then the
 * non-blocking read end of its stdout and stderr; with out_fd NULL these go nowhere. On failure *e has the reason and
 * *pid may still be a child that is about to end and is the caller's to reap; it is 0 when there is none.
 *
 * The environment is the image's, with PATH and HOME where it names none, and what sd_notify(3) wants. The program is
 * looked for along that PATH inside the root; unlike execvp, a file without #! is refused and not given to a shell, as
 * under Docker. Resource limits on data that the agent keeps for itself are lifted. It is killed when agentd dies. */
int child_start(const struct child_plan *plan, pid_t *pid, int *out_fd, struct err *e);

#endif
