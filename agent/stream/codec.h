/* Decompression of a blob: pull bytes in, hand bytes out. What zstd and lz4 need depends on the window or block
 * size in the data; it is given back before the next blob, and held below the role's ceiling by
 * CONFIG_ZSTD_WINDOW_LOG_MAX and by RLIMIT_DATA.
 *
 * Strict: a stream that is cut, has a wrong checksum, or goes on with anything but another member or frame is refused.
 * gzip: RFC 1952. zstd: RFC 8878, with skippable frames. lz4: LZ4 frame format 1.6.
 */
#ifndef SLIPWAY_STREAM_CODEC_H
#define SLIPWAY_STREAM_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "stream/job.h"

/* Where compressed bytes come from: 1..cap bytes, 0 at the end, or an error. */
struct source {
    ssize_t (*read)(void *ctx, void *buf, size_t cap, struct err *e);
    void *ctx;
};

#define UNPACK_WINDOW 32768u

/* A place in a blob from which its decoding can go on in another process: of gzip between two blocks of a member, with
 * the window; of zstd and lz4 between two frames; of what is not compressed, anywhere. */
struct unpack_place {
    uint64_t at;        /* the next byte of the blob */
    uint32_t bits;      /* gzip: so many of the byte before are still to be used: ... */
    uint32_t left_over; /* ... these */
    uint32_t in_member; /* gzip: 1 */
    uint32_t window_len;
    uint8_t window[UNPACK_WINDOW]; /* what was unpacked last */
};

struct unpack;

struct unpack *unpack_new(void);
int unpack_begin(struct unpack *u, enum codec codec, const struct source *from, struct err *e);
/* The same at a place that unpack_place() told of; `from` begins with byte `offset` of the blob, which is not behind it.
 * Of a gzip member that is gone on with, the checksum at its end is passed over: the digests are over all of it. */
int unpack_resume(struct unpack *u, enum codec codec, const struct source *from, uint64_t offset,
                  const struct unpack_place *place, struct err *e);
/* After begin() or resume(): end a piece at a place as soon as there is one, `every` bytes of the blob after the one that
 * was told last. */
void unpack_places(struct unpack *u, uint64_t every);
/* True: the last piece ended at a place, which is *out. */
bool unpack_place(struct unpack *u, struct unpack_place *out);
/* The next bytes, 1..cap of them. Returns their number, 0 at the end of a whole stream. */
ssize_t unpack_read(struct unpack *u, uint8_t *out, size_t cap, struct err *e);

#endif
