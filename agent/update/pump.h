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
#define PUMP_STATES 32 /* of the hash that are remembered, each at least a piece after the one before */

enum pump_state { PUMP_IDLE = 0, PUMP_HEAD, PUMP_PAYLOAD, PUMP_DONE };

/* Where a blob's hash can be gone on with, by another process of this build. What decode says may come from any byte that it
 * was given, so a place also tells all that had been given by then: whoever goes on there has to see the same bytes again. */
struct pump_place {
    struct hash hash;         /* of the blob's first hash.len bytes, */
    uint64_t given;           /* and of these, which are more, */
    struct digest given_hash; /* the digest */
};

struct pump {
    struct said said; /* by decode; first, for its wait() */
    int body_fd, raw_fd;
    enum pump_state state;
    bool raw_full;     /* decode is behind: wait for room, not for more bytes */
    uint32_t left;     /* of the present FRAME_BODY */
    uint64_t size_max; /* of the blob */
    struct hash hash;
    uint64_t hash_from; /* where in the blob this stream of it begins */
    bool portable;      /* places are wanted */
    struct hash states[PUMP_STATES];
    uint32_t state_cnt; /* so far; the last PUMP_STATES are there */
    uint64_t given;     /* see struct pump_place; 0: seen again, or there are none */
    struct digest given_hash;
    bool fetch_failed;       /* the error that ended the body was fetch's, and so the network's */
    struct digest got;       /* PUMP_DONE */
    uint32_t media;          /* PUMP_DONE: what the transport called the body */
    uint64_t bytes_total;    /* of all blobs so far */
    uint64_t bytes_hashed;   /* the same, and what decode hashed of them */
    void (*tick)(void *ctx); /* called now and then while bytes move */
    void *tick_ctx;
    uint8_t piece[PUMP_PIECE]; /* of the body */
};

void pump_init(struct pump *p, int body_fd, int raw_fd, int entries_fd);
/* A request was sent to fetch and a job to decode: move the body from now on, at most size_max bytes. `portable`: places will
 * be wanted. */
void pump_begin(struct pump *p, uint64_t size_max, bool portable);
/* Right behind that: the body begins with byte from->hash.len of the blob. ERR_DIGEST will come when it is another blob than
 * the one whose first part was seen before. */
void pump_go_on(struct pump *p, const struct pump_place *from);
/* The last place that is not behind byte `at`. False: there is none, or the stream has not yet shown what it owes to the place
 * that it began at. */
bool pump_place(const struct pump *p, uint64_t at, struct pump_place *out);
/* Move what is left of the body, throw away what decode says meanwhile, and compare its digest with `want`; NULL: it
 * was asked for by name, and may be anything. */
int pump_finish(struct pump *p, const struct digest *want, struct err *e);

#endif
