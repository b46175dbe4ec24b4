/* What goes over the sockets of fetch: counted, held to a rate, and ended where it may go no further.
 *
 * Counted is what TCP carries, TLS and all, without the heads of packets; the kernel tells it since Linux 4.1. The meter is
 * memory that agentd reads while it grows, so that what came is known however this process ends.
 */
#ifndef SLIPWAY_OCI_TRAFFIC_H
#define SLIPWAY_OCI_TRAFFIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct traffic_bounds {
    uint32_t rate_kib_s; /* 0: as fast as it comes */
    uint64_t bytes;      /* so many from now on; 0: any number */
    uint32_t time_s;     /* so long from now on; 0: always */
};

#define TRAFFIC_SOCKET_MAX 8 /* libcurl keeps two, and tries a few addresses at a time */

struct traffic {
    struct {
        int fd; /* -1: free */
        uint64_t counted;
    } sockets[TRAFFIC_SOCKET_MAX];
    uint64_t bytes; /* since traffic_begin() */
    struct traffic_bounds bounds;
    uint64_t end_ms, due_us;  /* by the clock that goes on while the board sleeps */
    volatile uint32_t *meter; /* the same modulo 2^32; NULL: nobody looks */
};

/* Count what the sockets of `easy`, a CURL, carry. Both live as long. */
void traffic_begin(struct traffic *t, void *easy);
/* From now on. `meter` is added to. */
void traffic_bind(struct traffic *t, const struct traffic_bounds *bounds, volatile uint32_t *meter);
/* Look at the sockets; returns the sum. */
uint64_t traffic_count(struct traffic *t);
/* ERR_HELD when nothing more may come. */
int traffic_check(struct traffic *t, struct err *e);
/* So many bytes came: wait as long as the rate wants. Short: they come in pieces of TRAFFIC_PIECES a second. */
void traffic_pace(struct traffic *t, size_t len);
#define TRAFFIC_PIECES 4

#endif
