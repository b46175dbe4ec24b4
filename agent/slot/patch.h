/* What has to be fetched, and how that is kept small: a list of pieces; and a large file, or a filesystem image, made out
 * of an older version of it. Chunk by chunk, what is in its place stays, what the other slot's version has is copied,
 * holes are made, and the rest is listed.
 *
 *     begin -> chunk* -> end
 *
 * Knows descriptors, offsets and digests, and not whose they are.
 */
#ifndef SLIPWAY_SLOT_PATCH_H
#define SLIPWAY_SLOT_PATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "slot/range.h"
#include "stream/entry.h"

#define SLOT_PIECE_WHOLE 1u /* the whole file, not a chunk of it */
#define SLOT_PIECE_LAST 2u  /* no more of this file is wanted */

struct slot_piece {
    uint32_t toc; /* of the file */
    uint32_t flags;
    uint64_t at, len;     /* in the file */
    uint64_t offset, end; /* its compressed bytes in the blob */
    struct digest digest; /* of the content */
};

/* In the order of the blob, in a file without a name. */
struct pieces {
    int fd;       /* -1: none */
    uint64_t len; /* of the file */
    uint32_t cnt;
    uint64_t bytes; /* compressed */
    uint64_t content;
};

/* A file without a name in the directory of `beside`; the caller's. */
int pieces_file(const char *beside, struct err *e);
/* An empty list. */
int pieces_begin(struct pieces *l, const char *beside, struct err *e);
int pieces_put(struct pieces *l, const struct slot_piece *p, struct err *e);
/* The next piece after *pos, which begins with 0: 1, 0 after the last, or an error. */
int pieces_next(const struct pieces *l, uint64_t *pos, struct slot_piece *out, struct err *e);
void pieces_drop(struct pieces *l);

struct patch {
    struct pieces *list;
    const struct range_io *io;
    int fd;     /* what is made; it holds an older version. -1: nothing is there (only with io->dry) */
    int source; /* the other slot's version, or -1 */
    uint64_t size, source_len;
    uint64_t covered; /* by the chunks so far */
    uint64_t found;   /* of these, what was there */
    int64_t shift;    /* where the last chunk was found in `source`, from where it belongs */
    bool has_last;
    struct slot_piece last; /* goes to the list when its end is known: 0, where the next chunk begins */
    uint64_t end;           /* of the whole file in the blob */
    /* Who has a record of the chunks of `fd` or of `source` tells from it: 1 and *from, 0: not there, -1: no record.
     * Of `fd` it is believed. NULL: there are no records. */
    int (*recorded)(void *ctx, bool source, const struct entry_chunk *c, uint64_t *from);
    void *ctx;
};

/* The next chunk. */
int patch_chunk(struct patch *p, const struct entry_chunk *c, struct err *e);
/* All chunks were given: the last piece goes to the list. *listed: something of the file has to be fetched. */
int patch_end(struct patch *p, bool *listed, struct err *e);

/* A piece came, and was hashed while it was put in its place. */
int patch_check(const struct slot_piece *piece, const struct digest *got, const char *name, struct err *e);

#endif
