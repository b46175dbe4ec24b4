/* The feed gives decode what a layer's table of contents needs: bytes of a file, or cut-outs of a body that fetch sends.
 * As with the pump, whoever waits for decode's entries keeps the bytes moving meanwhile. Unlike there nothing is hashed: what comes out is checked by the digest of each file.
 */
#ifndef SLIPWAY_UPDATE_FEED_H
#define SLIPWAY_UPDATE_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/job.h"
#include "update/said.h"

struct feed {
    struct said said; /* by decode; first, for its wait() */
    int body_fd, raw_fd;
    int file_fd;             /* where the job's bytes come from; -1: from the body */
    uint64_t skip, take;     /* bytes to drop, and then to hand on, until the job has all of its own */
    bool job;                /* the end of the job's bytes was not told yet */
    uint32_t raw_left;       /* of the present FRAME_RAW */
    uint32_t body_left;      /* of the present FRAME_BODY */
    uint64_t *bytes;         /* counts what came of bodies */
    void (*tick)(void *ctx); /* called now and then while a body goes to a file; NULL: nobody */
    void *tick_ctx;
};

void feed_init(struct feed *f, int body_fd, int raw_fd, int entries_fd, uint64_t *bytes);
/* Have decode do `job` with the job->size bytes of `fd`, from its file position on. */
int feed_file(struct feed *f, const struct job *job, int fd, struct err *e);
/* A request was sent to fetch: wait for the body's first bytes, or for the reason why there are none. */
int feed_body_begin(struct feed *f, struct err *e);
/* Drop `skip` bytes of the body and have decode do `job` with the next job->size. The job before must have ended. */
int feed_body_job(struct feed *f, const struct job *job, uint64_t skip, struct err *e);
/* The body must end here. */
int feed_body_end(struct feed *f, struct err *e);
/* Copy the whole body, at most `max` bytes, to a file; decode has no part in it. */
int feed_body_to_file(struct feed *f, int fd, uint64_t max, struct digest *digest, struct err *e);

#endif
