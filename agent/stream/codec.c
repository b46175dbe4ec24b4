/* For the window that a frame asks for, and for lz4's error codes */
#define ZSTD_STATIC_LINKING_ONLY
#define LZ4F_STATIC_LINKING_ONLY

#include "stream/codec.h"

#include <lz4frame.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define IN_LEN (64 * 1024)
#define GZIP_ONLY 16

struct unpack {
    struct source from;
    ssize_t (*step)(struct unpack *u, uint8_t *out, size_t cap, struct err *e);
    bool between;   /* at a place where the stream may end: after a member or frame */
    bool ended;     /* the source has no more */
    size_t at, len; /* of in[] */
    z_stream gzip;
    ZSTD_DCtx *zstd;
    LZ4F_dctx *lz4;
    uint8_t in[IN_LEN];
};

struct unpack *unpack_new(void)
{
    struct unpack *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    if (IS_ENABLED(CONFIG_CODEC_GZIP) && inflateInit2(&u->gzip, GZIP_ONLY + MAX_WBITS) != Z_OK)
        return NULL;
    return u;
}

/* Have input in in[at..len) unless the source ended. */
static int refill(struct unpack *u, struct err *e)
{
    ssize_t n;

    if (u->at < u->len || u->ended)
        return 0;
    n = u->from.read(u->from.ctx, u->in, IN_LEN, e);
    if (n < 0)
        return (int)n;
    u->ended = n == 0;
    u->at = 0;
    u->len = (size_t)n;
    return 0;
}

static ssize_t plain_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    size_t n = u->len - u->at < cap ? u->len - u->at : cap;

    (void)e;
    memcpy(out, u->in + u->at, n);
    u->at += n;
    u->between = u->at == u->len;
    return (ssize_t)n;
}

static ssize_t gzip_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    int rc;

    if (u->between && inflateReset(&u->gzip) != Z_OK)
        return err_set(e, ERR_FORMAT, "gzip: reset");
    u->gzip.next_in = u->in + u->at;
    u->gzip.avail_in = (uInt)(u->len - u->at);
    u->gzip.next_out = out;
    u->gzip.avail_out = (uInt)cap;
    rc = inflate(&u->gzip, Z_NO_FLUSH);
    u->at = u->len - u->gzip.avail_in;
    u->between = rc == Z_STREAM_END;
    if (rc == Z_MEM_ERROR)
        return err_set(e, ERR_LIMIT, "gzip: decode is at its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return err_set(e, ERR_FORMAT, "gzip: %s", u->gzip.msg ? u->gzip.msg : "damaged data");
    return (ssize_t)(cap - u->gzip.avail_out);
}

/* The frame's header lies where the refused call began, but for one that a read cut in two. */
static ssize_t window_refused(const struct unpack *u, struct err *e)
{
    ZSTD_frameHeader head;

    if (ZSTD_getFrameHeader(&head, u->in + u->at, u->len - u->at) != 0)
        head.windowSize = 0;
    return err_set(e, ERR_LIMIT, "zstd: window of %llu KB, this build takes %u KB",
                   (unsigned long long)head.windowSize / 1024, (1u << CONFIG_ZSTD_WINDOW_LOG_MAX) / 1024);
}

static ssize_t zstd_failed(const struct unpack *u, size_t rc, struct err *e)
{
    switch (ZSTD_getErrorCode(rc)) {
    case ZSTD_error_frameParameter_windowTooLarge:
        return window_refused(u, e);
    case ZSTD_error_memory_allocation:
        return err_set(e, ERR_LIMIT, "zstd: decode is at its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    case ZSTD_error_prefix_unknown:
        return err_set(e, ERR_FORMAT, "zstd: no zstd frame where one should begin");
    case ZSTD_error_checksum_wrong:
        return err_set(e, ERR_FORMAT, "zstd: frame checksum does not match");
    default:
        return err_set(e, ERR_FORMAT, "zstd: damaged data (error %d)", (int)ZSTD_getErrorCode(rc));
    }
}

static ssize_t zstd_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    ZSTD_inBuffer in = {u->in, u->len, u->at};
    ZSTD_outBuffer to = {out, cap, 0};
    size_t rc = ZSTD_decompressStream(u->zstd, &to, &in);

    if (ZSTD_isError(rc))
        return zstd_failed(u, rc, e);
    u->at = in.pos;
    u->between = rc == 0;
    return (ssize_t)to.pos;
}

static ssize_t lz4_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    size_t in = u->len - u->at, got = cap;
    size_t rc = LZ4F_decompress(u->lz4, out, &got, u->in + u->at, &in, NULL);

    if (LZ4F_getErrorCode(rc) == LZ4F_ERROR_allocation_failed)
        return err_set(e, ERR_LIMIT, "lz4: decode is at its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    if (LZ4F_isError(rc) && strcmp(LZ4F_getErrorName(rc), "ERROR_allocation_failed") == 0)
        return err_set(e, ERR_LIMIT, "lz4: blocks too large: decode is at its ceiling of %d KB",
                       CONFIG_MEM_DECODE_KB);
    if (LZ4F_isError(rc))
        return err_set(e, ERR_FORMAT, "lz4: %s", LZ4F_getErrorName(rc));
    u->at += in;
    u->between = rc == 0;
    return (ssize_t)got;
}

/* Made anew for each blob: what one codec took for its window must be there for the next. */
static bool zstd_begin(struct unpack *u)
{
    u->zstd = ZSTD_createDCtx();
    return u->zstd &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, CONFIG_ZSTD_WINDOW_LOG_MAX));
}

static void windows_free(struct unpack *u)
{
    if (IS_ENABLED(CONFIG_CODEC_ZSTD))
        ZSTD_freeDCtx(u->zstd);
    if (IS_ENABLED(CONFIG_CODEC_LZ4))
        LZ4F_freeDecompressionContext(u->lz4);
    u->zstd = NULL;
    u->lz4 = NULL;
}

int unpack_begin(struct unpack *u, enum codec codec, const struct source *from, struct err *e)
{
    u->from = *from;
    u->at = u->len = 0;
    u->between = u->ended = false;
    u->step = NULL;
    windows_free(u);
    switch (codec) {
    case CODEC_NONE:
        u->step = plain_step;
        break;
    case CODEC_GZIP:
        if (IS_ENABLED(CONFIG_CODEC_GZIP) && inflateReset(&u->gzip) == Z_OK)
            u->step = gzip_step;
        break;
    case CODEC_ZSTD:
        if (IS_ENABLED(CONFIG_CODEC_ZSTD) && zstd_begin(u))
            u->step = zstd_step;
        break;
    case CODEC_LZ4:
        if (IS_ENABLED(CONFIG_CODEC_LZ4) &&
            !LZ4F_isError(LZ4F_createDecompressionContext(&u->lz4, LZ4F_VERSION)))
            u->step = lz4_step;
        break;
    }
    if (!u->step)
        return err_set(e, ERR_UNSUPPORTED, "this build does not decode the layer's compression");
    return 0;
}

ssize_t unpack_read(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    ssize_t n = 0;

    while (n == 0) {
        bool starved;
        int rc = refill(u, e);

        if (rc < 0)
            return rc;
        if (u->ended && u->between)
            return 0;
        starved = u->ended;
        n = u->step(u, out, cap, e);
        /* with no input left, a decoder may still hold output; when it has none, the stream was cut */
        if (n == 0 && starved && !u->between)
            return err_set(e, ERR_FORMAT, "compressed data ends in the middle");
    }
    return n;
}
