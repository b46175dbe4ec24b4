/* Frames: what the pipes between agentd, fetch, stage and decode carry.
 *
 * A frame is 8 bytes of head in the machine's own byte order (both ends are one binary on one machine) and `len`
 * bytes of payload. Bulk payload is never copied through user space where the kernel can move it: after a head was
 * read, the payload lies at the front of the pipe, ready for tee(2).
 * The reader never believes a head: the type must be one it expects and len within its own bound.
 */
#ifndef SLIPWAY_STREAM_FRAME_H
#define SLIPWAY_STREAM_FRAME_H

#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

enum frame_type {
    /* to fetch */
    FRAME_REQUEST = 1, /* struct fetch_request (oci/fetch.h) */
    /* from fetch */
    FRAME_RESOLVED, /* struct fetch_resolved */
    FRAME_BODY,     /* bytes of the body asked for */
    FRAME_BODY_END, /* struct fetch_end: the body was whole as far as HTTP can tell */
    /* to decode */
    FRAME_JOB, /* struct job (stream/job.h) */
    FRAME_RAW,
    FRAME_RAW_END, /* no payload: all bytes of the blob were sent */
    /* from decode */
    FRAME_ENTRY,     /* struct entry_head and its names (stream/entry.h) */
    FRAME_DATA,      /* the next bytes of the entry's content; see FRAME_LENT */
    FRAME_ENTRY_END, /* struct entry_end, after the content of a regular file */
    FRAME_JOB_END,   /* struct job_end: the job was done */
    FRAME_RESULT,    /* the struct that a JSON job yields (oci/image.h) */
    /* from stage to agentd */
    FRAME_PROGRESS, /* struct stage_progress (update/stage.h) */
    FRAME_DONE,     /* struct stage_done */
    /* from any */
    FRAME_ERR, /* struct err: the request or job failed; the next one may work */
    /* between stage and agentd, both without payload */
    FRAME_READY, /* the image may be installed, and the slot would be written next */
    FRAME_GO,    /* the slot is marked: write */
    /* between fetch and agentd, both ways */
    FRAME_SESSIONS, /* up to FETCH_SESSIONS_MAX opaque bytes (oci/fetch.h) */
    /* from decode, of JOB_TOC */
    FRAME_PLACE, /* struct entry_place: after the entry of a regular file */
    FRAME_CHUNK, /* struct entry_chunk: after that, of a large one */
    /* from stage to agentd, instead of FRAME_READY and all that follows */
    FRAME_PLAN, /* struct plan_found (base/plan.h) */
    /* from decode, of JOB_LAYER */
    FRAME_LENT,      /* struct lent (stream/blocks.h): as FRAME_DATA, but the bytes lie there */
    FRAME_BLOCK_END, /* no payload: a block that stage may give back */
    /* from decode, of JOB_LAYER, and to it, of one that goes on */
    FRAME_CHECKPOINT, /* struct job_checkpoint (stream/job.h) and bytes of decode's own */
    /* from a scrub to agentd */
    FRAME_SCRUBBED, /* struct scrubbed (update/scrub.h) */
    FRAME_TYPE_END,
};

struct frame {
    uint16_t type;
    uint16_t zero;
    uint32_t len;
};

/* Write head and payload. Returns 0 or an error (ERR_PEER when the other end is gone). */
int frame_write(int fd, enum frame_type type, const void *payload, uint32_t len, struct err *e);
/* A head followed by two pieces of payload. */
int frame_write_two(int fd, enum frame_type type, const void *a, uint32_t a_len, const void *b,
                    uint32_t b_len, struct err *e);
/* A head followed by up to 6 pieces of payload. */
int frame_write_parts(int fd, enum frame_type type, const struct iovec *parts, int cnt, struct err *e);
/* Send `cause` as FRAME_ERR. */
int frame_write_err(int fd, const struct err *cause, struct err *e);

#define FRAME_GATHER_LEN (64 * 1024)

/* For a writer of many small frames: they are gathered and written many at a time. */
struct frame_gather {
    int fd;
    uint32_t len; /* of buf */
    uint8_t buf[FRAME_GATHER_LEN];
};

/* As frame_write_parts, now or later. */
int frame_gather_add(struct frame_gather *g, enum frame_type type, const struct iovec *parts, int cnt,
                     struct err *e);
/* Write what is gathered. Before the writer waits for an answer, and before it writes to fd by other ways. */
int frame_gather_flush(struct frame_gather *g, struct err *e);

/* Read a head. ERR_PEER at the end of the stream (the peer died) and for a head that is no frame's. */
int frame_read_head(int fd, struct frame *out, struct err *e);
/* Read a payload of exactly `len` == head->len bytes into `out`; ERR_PEER when the head says otherwise. */
int frame_read_fixed(int fd, const struct frame *head, void *out, uint32_t len, struct err *e);
/* Read the payload of a FRAME_ERR head into *e and return its code: the peer's cause becomes ours. */
int frame_read_err(int fd, const struct frame *head, struct err *e);

/* The checks of frame_read_head and frame_read_err, for those who read the bytes themselves. */
int frame_check_head(const struct frame *head, struct err *e);
int frame_take_err(struct err *from, struct err *e);

#endif
