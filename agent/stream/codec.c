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
#define GZIP_TAIL 8 /* checksum and length behind a member */
/* of z_stream.data_type, behind inflate() */
#define GZIP_BITS 7
#define GZIP_LAST_BLOCK 64
#define GZIP_BLOCK_END 128

struct unpack {
    struct source from;
    ssize_t (*step)(struct unpack *u, uint8_t *out, size_t cap, struct err *e);
    bool between;         /* at a place where the stream may end: after a member or frame */
    bool ended;           /* the source has no more */
    bool divisible;       /* what was unpacked so far ends where another process can go on */
    bool bare;            /* gzip: in a member without its header, that is gone on with */
    uint8_t before;       /* gzip: the byte that was used last */
    uint32_t tail;        /* gzip: bytes to pass over before the next member */
    uint64_t taken;       /* of the blob, to the end of in[] */
    uint64_t every, told; /* places: how far apart, where the last one was */
    size_t at, len;       /* of in[] */
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
    u->taken += (uint64_t)n;
    return 0;
}

/* The next byte of the blob. */
static uint64_t position(const struct unpack *u)
{
    return u->taken - (u->len - u->at);
}

static bool place_is_due(const struct unpack *u)
{
    return u->every > 0 && position(u) - u->told >= u->every;
}

static ssize_t plain_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    size_t n = u->len - u->at < cap ? u->len - u->at : cap;

    (void)e;
    memcpy(out, u->in + u->at, n);
    u->at += n;
    u->between = u->at == u->len;
    u->divisible = true;
    return (ssize_t)n;
}

/* Behind a member that was gone on with. */
static ssize_t gzip_pass_tail(struct unpack *u)
{
    uint32_t n = u->len - u->at < u->tail ? (uint32_t)(u->len - u->at) : u->tail;

    u->at += n;
    u->tail -= n;
    u->between = u->tail == 0;
    u->bare = !u->between;
    return 0;
}

static ssize_t gzip_step(struct unpack *u, uint8_t *out, size_t cap, struct err *e)
{
    size_t from = u->at;
    int rc;

    if (u->tail > 0)
        return gzip_pass_tail(u);
    if (u->between && inflateReset2(&u->gzip, GZIP_ONLY + MAX_WBITS) != Z_OK)
        return err_set(e, ERR_FORMAT, "gzip: reset");
    u->gzip.next_in = u->in + u->at;
    u->gzip.avail_in = (uInt)(u->len - u->at);
    u->gzip.next_out = out;
    u->gzip.avail_out = (uInt)cap;
    rc = inflate(&u->gzip, place_is_due(u) ? Z_BLOCK : Z_NO_FLUSH);
    u->at = u->len - u->gzip.avail_in;
    if (u->at > from)
        u->before = u->in[u->at - 1];
    u->between = rc == Z_STREAM_END && !u->bare;
    u->tail = rc == Z_STREAM_END && u->bare ? GZIP_TAIL : 0;
    u->divisible = (u->gzip.data_type & (GZIP_BLOCK_END | GZIP_LAST_BLOCK)) == GZIP_BLOCK_END;
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
    u->between = u->divisible = rc == 0;
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
    u->between = u->divisible = rc == 0;
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
    u->between = u->ended = u->divisible = u->bare = false;
    u->tail = 0;
    u->taken = u->every = u->told = 0;
    u->step = NULL;
    windows_free(u);
    switch (codec) {
    case CODEC_NONE:
        u->step = plain_step;
        break;
    case CODEC_GZIP:
        if (IS_ENABLED(CONFIG_CODEC_GZIP) && inflateReset2(&u->gzip, GZIP_ONLY + MAX_WBITS) == Z_OK)
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

/* Into the middle of a member, which from here on has no header for the library to read. */
static int gzip_resume(struct unpack *u, const struct unpack_place *p, struct err *e)
{
    if (p->window_len > UNPACK_WINDOW || p->bits > GZIP_BITS || inflateReset2(&u->gzip, -MAX_WBITS) != Z_OK ||
        inflatePrime(&u->gzip, (int)p->bits, (int)p->left_over) != Z_OK ||
        inflateSetDictionary(&u->gzip, p->window, p->window_len) != Z_OK)
        return err_set(e, ERR_FORMAT, "gzip: no place to go on from");
    u->bare = true;
    return 0;
}

int unpack_resume(struct unpack *u, enum codec codec, const struct source *from, uint64_t offset,
                  const struct unpack_place *place, struct err *e)
{
    int rc = unpack_begin(u, codec, from, e);

    u->taken = offset;
    while (rc == 0 && position(u) < place->at && (rc = refill(u, e)) == 0) {
        uint64_t left = place->at - position(u);

        if (u->ended)
            return err_set(e, ERR_FORMAT, "the blob ends before the place to go on from");
        u->at += left < u->len - u->at ? (size_t)left : u->len - u->at;
    }
    if (rc == 0 && position(u) != place->at)
        rc = err_set(e, ERR_FORMAT, "the place to go on from is not in what came");
    u->told = place->at;
    return rc == 0 && place->in_member ? gzip_resume(u, place, e) : rc;
}

void unpack_places(struct unpack *u, uint64_t every)
{
    u->every = every;
}

bool unpack_place(struct unpack *u, struct unpack_place *out)
{
    uInt window_len = 0;

    if (!u->divisible || !place_is_due(u))
        return false;
    memset(out, 0, sizeof *out);
    out->at = position(u);
    if (IS_ENABLED(CONFIG_CODEC_GZIP) && u->step == gzip_step) {
        out->in_member = 1;
        out->bits = (uint32_t)u->gzip.data_type & GZIP_BITS;
        out->left_over = (uint32_t)u->before >> (8 - out->bits);
        if (inflateGetDictionary(&u->gzip, out->window, &window_len) != Z_OK)
            return false;
        out->window_len = window_len;
    }
    u->told = out->at;
    return true;
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
        u->divisible = false;
        n = u->step(u, out, cap, e);
        /* with no input left, a decoder may still hold output; when it has none, the stream was cut */
        if (n == 0 && starved && !u->between)
            return err_set(e, ERR_FORMAT, "compressed data ends in the middle");
    }
    return n;
}
