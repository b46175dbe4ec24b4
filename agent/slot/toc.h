/* The slot's table of contents: a record for each node, written as the nodes are, sealed at the end.
 * The bytes are described in agent/FORMAT.md, "TOC". Records are appended; only the flags of one are ever changed, and the
 * checksum of one that waited for its content.
 * Owns its file and fixed buffers. Knows nothing of the slot.
 */
#ifndef SLIPWAY_SLOT_TOC_H
#define SLIPWAY_SLOT_TOC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "hal/node.h"
#include "slot/sum.h"

#define TOC_ALIGN 16u
#define TOC_VERSION 3u
#define TOC_HEAD_LEN 32u
#define TOC_XATTR_MAX 65536u
#define TOC_REC_MAX (64u + 2u * NODE_PATH_MAX + TOC_XATTR_MAX + 32u + TOC_ALIGN)

enum toc_type {
    /* 1..6: enum node_type */
    TOC_HARDLINK = 7, /* the same inode as `target` */
    TOC_LAYER =
        8, /* the records behind it are of the layer with this diff_id; without digest: of no known one */
    /* in a layer's own table only (slot/known.c); TOC_HARDLINK's `target` is as the layer says there */
    TOC_WHITEOUT = 9,
    TOC_OPAQUE = 10,
    /* in a disk slot's only: a chunk of its filesystem image, without path; `xxh64` is where it begins */
    TOC_CHUNK = 11,
    TOC_TRAILER = 255,
};

enum toc_flag {
    TOC_DEAD = 1,    /* replaced by a later record */
    TOC_HIDDEN = 2,  /* of a layer, but an upper layer hides it: not in the slot */
    TOC_PENDING = 4, /* a hard link that waits for content; `size` is the target's ordinal */
    TOC_DIGEST = 8,  /* the SHA-256 of the content is known, and stands behind the xattrs */
    TOC_WANTED = 16, /* a file that waits for content; none is left when it is sealed */
};

/* On flash, followed by path, NUL, target, NUL, xattrs (as in struct node), digest, zeros up to len. */
struct toc_rec {
    uint32_t len;
    uint8_t type, flags;
    uint16_t path_len;
    uint32_t mode, uid, gid, dev_major, dev_minor, mtime_ns;
    int64_t mtime_s;
    uint64_t size, xxh64;
    uint16_t target_len, xattr_cnt;
    uint32_t xattr_len;
};
_Static_assert(sizeof(struct toc_rec) == 64, "FORMAT.md says 64");

/* A record as read; the pointers are good until the next call. */
struct toc_item {
    struct toc_rec r;
    uint32_t at; /* offset / 16 */
    const char *path, *target;
    const uint8_t *xattrs;
    struct digest digest; /* zero: not known */
};

struct toc {
    int fd;                 /* -1: closed */
    uint64_t end, flushed;  /* of the records so far */
    uint64_t limit;         /* most bytes */
    uint32_t records, live; /* live: neither dead nor hidden */
    uint32_t buf_len;
    uint64_t window_at;
    uint32_t window_len;
    struct sum sum; /* of what toc_next has passed */
    struct sum put; /* of what was added */
    _Alignas(16) uint8_t buf[32768];
    _Alignas(16) uint8_t window[TOC_REC_MAX];
};

/* Writing. `max` is the most records that count. */
int toc_create(struct toc *t, const char *path, uint32_t max, struct err *e);
/* The same in an empty file that is open as `fd`, which becomes the TOC's. */
int toc_create_fd(struct toc *t, int fd, uint32_t max, struct err *e);
int toc_add(struct toc *t, const char *path, const struct node *n, uint8_t type, uint8_t flags,
            uint64_t xxh64, const struct digest *digest, uint32_t *at, struct err *e);
int toc_kill(struct toc *t, uint32_t at, struct err *e);
/* The content that the record waited for has come. */
int toc_fill(struct toc *t, uint32_t at, uint64_t xxh64, struct err *e);
/* Hand what was added so far to the file. */
int toc_flush(struct toc *t, struct err *e);
/* And to the medium. */
int toc_sync(struct toc *t, struct err *e);
/* Append the trailer and make the file durable. All records must have been passed by toc_next. */
int toc_seal(struct toc *t, struct err *e);

/* Reading */
int toc_open(struct toc *t, const char *path, struct err *e);
/* It has a trailer, sound or not: nothing was to be added any more. */
bool toc_is_sealed(const struct toc *t);
/* Of a file without trailer, opened and read by toc_next up to `pos`: cut off what is behind, and write on. `max` as in
 * toc_create(). */
int toc_go_on(struct toc *t, const char *path, uint64_t pos, uint32_t max, struct err *e);
int toc_read(struct toc *t, uint32_t at, struct toc_item *out, struct err *e);
/* From the first record: set *pos = 0. Returns 1, 0 after the last, or an error. Of a sealed file the trailer is
 * checked then, so act on nothing that can't be undone before. */
int toc_next(struct toc *t, uint64_t *pos, struct toc_item *out, struct err *e);

/* The node of a record, pointing into it. */
struct node toc_node(const struct toc_item *it);
bool toc_is_live(const struct toc_item *it);
void toc_close(struct toc *t);

#endif
