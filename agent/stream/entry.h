/* Entries: a layer's content as decode hands it to stage, in the order of the tar.
 *
 * decode has already applied the rules of naming (OCI layer.md, "Whiteouts"; the tar format): `path` is relative,
 * without empty, "." or ".." components, and whiteouts are entry types of their own. stage checks the bounds again
 * (entry_read refuses what is not so) and knows nothing of tar.
 */
#ifndef SLIPWAY_STREAM_ENTRY_H
#define SLIPWAY_STREAM_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "hal/node.h"
#include "stream/frame.h"

enum entry_type {
    ENTRY_NODE = 1, /* a file, directory, link or device: struct node says which */
    ENTRY_HARDLINK, /* node.target is the path, in the same layer, that it links to */
    ENTRY_WHITEOUT, /* `path` of the layers below is gone */
    ENTRY_OPAQUE,   /* what the layers below have inside directory `path` is gone; "" is the root */
};

#define ENTRY_XATTR_MAX 65536

/* Where the content of a regular file is, when the entry comes from a layer's table of contents: FRAME_PLACE after its
 * FRAME_ENTRY, instead of the content. */
struct entry_place {
    struct digest digest; /* of the content; zero: there is none */
    uint64_t offset, end; /* of its compressed bytes in the blob */
};

/* A large file is also known by its chunks: FRAME_CHUNK.. after FRAME_PLACE, in their order, without gaps. */
struct entry_chunk {
    struct digest digest;
    uint64_t at, len; /* in the file */
    uint64_t offset;  /* in the blob; its bytes go on to the next chunk's offset, or to the file's end */
    uint32_t zeros;   /* 1: all of it is zeros, and there is no need to fetch it */
};

/* One entry. A hard link's target is in `node.target` too, and of its node nothing else is set; a whiteout's node is
 * all zero. `node.target` and `node.xattrs` point into the arrays below, or are NULL and NULL with xattr_len 0.
 * About 74 KiB: one per process. */
struct entry {
    enum entry_type type;
    char path[NODE_PATH_MAX]; /* "" is the root directory itself */
    struct node node;
    char target[NODE_PATH_MAX];
    uint8_t xattrs[ENTRY_XATTR_MAX];
};

/* After the content of each regular file: the checksum that read-back is compared with. Not a security measure:
 * decode's bytes are vouched for by the blob's digest, only the flash is distrusted here. */
struct entry_end {
    uint64_t xxh64; /* XXH64, seed 0, of the content */
};

/* Whether an extended attribute may go into a slot: user.*, security.*, POSIX ACLs, and trusted.* but for
 * trusted.overlay.*, which would act on the overlay that a tree is mounted with. */
bool entry_xattr_allowed(const char *name);

/* decode's side: the head and the names. The content follows as FRAME_DATA, FRAME_LENT and FRAME_ENTRY_END. */
int entry_write(struct frame_gather *out, const struct entry *en, struct err *e);

/* stage's side. These two are the only ways to decode's pipe, so that the caller can keep the other pipes moving
 * meanwhile. */
struct entry_pipe {
    /* read exactly len bytes */
    int (*read)(struct entry_pipe *p, void *buf, uint32_t len, struct err *e);
    /* move up to len (> 0) bytes to `fd` at its file position; returns the number moved, > 0, or an error */
    int64_t (*move)(struct entry_pipe *p, int fd, uint64_t len, struct err *e);
    const uint8_t *blocks; /* what decode lends (stream/blocks.h); NULL: it may not */
    int back_fd;
    /* read the payload of a FRAME_CHECKPOINT, whatever was expected when it came; NULL: none may */
    int (*checkpoint)(struct entry_pipe *p, uint32_t len, struct err *e);
};
/* As frame_read_head and frame_read_fixed. Blocks that decode is through with are given back, and checkpoints taken, on the
 * way. */
int entry_pipe_head(struct entry_pipe *p, struct frame *out, struct err *e);
int entry_pipe_fixed(struct entry_pipe *p, const struct frame *head, void *out, uint32_t len, struct err *e);
/* Read the payload of a FRAME_ENTRY head. ERR_PEER when a bound or a rule above is broken. */
int entry_read(struct entry_pipe *p, const struct frame *head, struct entry *out, struct err *e);

/* The content of the regular file whose entry was read last: pull it piece by piece, then end it. */
struct content {
    struct entry_pipe *pipe;
    uint64_t left;       /* of the file */
    uint64_t begun;      /* so much of it came before a cut, and is not in `left` */
    uint32_t in_frame;   /* of the present FRAME_DATA or FRAME_LENT */
    const uint8_t *lent; /* where the latter's next byte is; NULL: it is the former */
    bool refused; /* decode gave up in the middle, with its own error: nothing more comes of this blob */
    /* The entry is one of a table of contents: the content is not in the pipe, but known by its digest. Or NULL. */
    const struct entry_place *place;
};
/* Move exactly `len` <= left bytes to fd at its file position. */
int content_move(struct content *c, int fd, uint64_t len, struct err *e);
/* The same into memory. */
int content_read(struct content *c, void *buf, uint32_t len, struct err *e);
/* Throw away what is left and read the FRAME_ENTRY_END. */
int content_end(struct content *c, struct entry_end *out, struct err *e);

#endif
