/* Decompression of a blob: pull bytes in, hand bytes out. What zstd and lz4 need depends on the window or block
 * size in the data; it is given back before the next blob, and held below the role's ceiling by
 * CONFIG_ZSTD_WINDOW_LOG_MAX and by RLIMIT_DATA.
 *
 * Strict: a stream that is cut, has a wrong checksum, or goes on with anything but another member or frame is refused.
 * gzip: RFC 1952. zstd: RFC 8878, with skippable frames. lz4: LZ4 frame format 1.6.
 */
#ifndef SLIPWAY_STREAM_CODEC_H
#define SLIPWAY_STREAM_CODEC_H

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

struct unpack;

struct unpack *unpack_new(void);
int unpack_begin(struct unpack *u, enum codec codec, const struct source *from, struct err *e);
/* The next bytes, 1..cap of them. Returns their number, 0 at the end of a whole stream. */
ssize_t unpack_read(struct unpack *u, uint8_t *out, size_t cap, struct err *e);

#endif
