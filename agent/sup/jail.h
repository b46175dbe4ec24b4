/* What holds an app: its own pid, mount, ipc, uts, cgroup and (when asked) net namespaces, a read-only root with a
 * minimal /dev and a masked /proc, few capabilities, no way to gain more, a system call filter (agent/sup/README.md
 * compares it with `docker run`).
 *
 * What the kernel or the agent's rights do not allow is found out before the start (jail_probe) and shown in status.
 * What was found to be there has to work: its failure is the app's.
 */
#ifndef SLIPWAY_SUP_JAIL_H
#define SLIPWAY_SUP_JAIL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/app_spec.h"
#include "base/conf.h"
#include "base/err.h"

/* Where the app finds the socket of sd_notify(3). */
#define JAIL_NOTIFY_DIR "/run/slipway"
#define JAIL_NOTIFY_SOCKET JAIL_NOTIFY_DIR "/notify"

struct jail {
    int namespaces;          /* CLONE_NEW*; without CLONE_NEWNS there is only a chroot */
    bool seccomp;            /* the kernel has filters */
    char missing[128];       /* what is weaker than it ought to be, for people; "": nothing */
    const char *cgroup;      /* the app's folder in cgroup v2; "": none */
    uint32_t data_kb, nproc; /* limits of resources in place of cgroup v2; 0: none */
    const struct conf_app *conf;
    const char *state_dir; /* volumes are folders of state_dir/volumes */
    const char *notify;    /* path of the socket, outside; "": none */
    int net_fd;            /* the network namespace to join; 0: one of its own, where it has one */
};

/* Fill namespaces, seccomp and missing with what can be had here and `network` asks for. */
void jail_probe(struct jail *j, enum conf_network network);

/* Those that the app's child is cloned with. */
int jail_clone_flags(const struct jail *j);
/* In the child, while it has the agent's descriptors. */
int jail_net_join(const struct jail *j, struct err *e);
/* In the child, which was cloned with jail_clone_flags(). Leaves it at "/" of its own root. */
int jail_enter(const struct jail *j, const struct app_spec *spec, const char *root, struct err *e);
/* In a child that is to run beside the app `pid`: join its namespaces but that of pids, which only a parent can
 * choose (jail_pid_join). */
int jail_join(const struct jail *j, pid_t pid, struct err *e);
/* In agentd: the next child is born into the pid namespace of `pid`, or with 0 into agentd's own again. */
int jail_pid_join(pid_t pid, struct err *e);

/* The capabilities that the app keeps: a default set, and what agent.conf adds or takes away. */
uint64_t jail_capabilities(const struct conf_app *conf);
/* Two halves around the change of user: nothing outside `keep` can ever be had again; then only `keep` is had. */
int jail_bound(uint64_t keep, struct err *e);
int jail_drop(uint64_t keep, struct err *e);
/* No privileges by exec any more, and the system call filter. The last thing before exec. */
int jail_seal(const struct jail *j, uint64_t keep, struct err *e);

#endif
