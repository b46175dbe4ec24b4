/* The pump keeps stage's three pipes moving while the rest of stage is written as straight-line code: whoever waits
 * for decode's entries reads p->said, and meanwhile the bytes of the blob go from fetch to decode with tee(2) and into
 * the blob's hash.
 */
#ifndef SLIPWAY_UPDATE_PUMP_H
#define SLIPWAY_UPDATE_PUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "update/said.h"

#define PUMP_PIECE (64 * 1024)

enum pump_state { PUMP_IDLE = 0, PUMP_HEAD, PUMP_PAYLOAD, PUMP_DONE };

struct pump {
    struct said said; /* by decode; first, for its wait() */
    int body_fd, raw_fd;
    enum pump_state state;
    bool raw_full;     /* decode is behind: wait for room, not for more bytes */
    uint32_t left;     /* of the present FRAME_BODY */
    uint64_t size_max; /* of the blob */
    struct hash hash;
    struct digest got;       /* PUMP_DONE */
    uint32_t media;          /* PUMP_DONE: what the transport called the body */
    uint64_t bytes_total;    /* of all blobs so far */
    uint64_t bytes_hashed;   /* the same, and what decode hashed of them */
    void (*tick)(void *ctx); /* called now and then while bytes move */
    void *tick_ctx;
    uint8_t piece[PUMP_PIECE]; /* of the body */
};

void pump_init(struct pump *p, int body_fd, int raw_fd, int entries_fd);
/* A request was sent to fetch and a job to decode: move the body from now on, at most size_max bytes. */
void pump_begin(struct pump *p, uint64_t size_max);
/* Move what is left of the body, throw away what decode says meanwhile, and compare its digest with `want`; NULL: it
 * was asked for by name, and may be anything. */
int pump_finish(struct pump *p, const struct digest *want, struct err *e);

#endif
