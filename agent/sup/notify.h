/* The socket of sd_notify(3): an app says that it is ready, that it lives, and what it does. Datagrams of lines
 * "NAME=value"; what is not known is passed over. Only the app's mount namespace has the socket in reach.
 */
#ifndef SLIPWAY_SUP_NOTIFY_H
#define SLIPWAY_SUP_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/err.h"
#include "base/loop.h"

struct notify_message {
    bool ready;         /* READY=1 */
    bool alive;         /* WATCHDOG=1 */
    bool failing;       /* WATCHDOG=trigger */
    uint64_t extend_us; /* EXTEND_TIMEOUT_USEC; 0: not in it */
    char status[80];    /* STATUS, printable ASCII; "": not in it */
};

struct notify {
    struct loop *loop;
    int fd;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": there is no socket */
    void (*told)(void *ctx, const struct notify_message *m);
    void *ctx;
};

/* Make the socket in `folder`, which is made and nobody else's. Without it (its name is too long, nothing can be written
 * there) the app gets none, and this is warned of. */
void notify_open(struct notify *n, struct loop *loop, const char *folder,
                 void (*told)(void *ctx, const struct notify_message *m), void *ctx);
/* Throw away what an app that has ended sent last. */
void notify_drain(struct notify *n);

#endif
