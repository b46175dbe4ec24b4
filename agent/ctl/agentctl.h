/* agentctl: the operator's tool, on the device over its socket or from a laptop over a serial line. */
#ifndef SLIPWAY_CTL_AGENTCTL_H
#define SLIPWAY_CTL_AGENTCTL_H

/* Exit codes, for scripts (README.md). */
enum agentctl_exit {
    AGENTCTL_OK = 0,
    AGENTCTL_REFUSED = 1,     /* the agent understood and said no */
    AGENTCTL_USAGE = 2,       /* the command line is wrong */
    AGENTCTL_UNREACHABLE = 3, /* no agent answered */
    AGENTCTL_BROKEN = 4,      /* an answer came that is none */
    AGENTCTL_FAILING = 5,     /* status and why: the last update failed or the app is down */
};

/* argv[0] is "agentctl". Prints to stdout and stderr. */
int agentctl_main(int argc, char **argv);

#endif
