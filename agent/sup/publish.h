/* The published ports of an app whose network is private: agentd's part. It makes the app's network namespace, opens the ports
 * on the board, and keeps the process that carries what comes to them (sup/forward.h). All of it stays when the app is started
 * anew, so that a port never changes hands; it goes with agentd.
 */
#ifndef SLIPWAY_SUP_PUBLISH_H
#define SLIPWAY_SUP_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"

struct publish {
    struct loop *loop;
    const struct conf_port *ports; /* of the configuration; CONF_APP_PORT_MAX of them */
    uint32_t uid;                  /* that the process runs as */
    int net_fd;                    /* the app's network namespace; 0: there is none (yet) */
    int fds[CONF_APP_PORT_MAX];    /* the ports; 0: not open */
    pid_t pid;                     /* 0: none runs */
    struct loop_timer timer;       /* until it is started anew */
};

void publish_init(struct publish *p, struct loop *loop, const struct conf_port *ports, uint32_t uid);
/* What is not there yet of the above, for an app that is to start. Nothing when no ports are published. Fails when a port is
 * taken, or where there are no network namespaces. */
int publish_open(struct publish *p, struct err *e);
/* A child of agentd ended; true when it was this one's. It is started again, the app goes on. */
bool publish_reap(struct publish *p, pid_t pid);

#endif
