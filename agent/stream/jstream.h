/* A streaming JSON reader (RFC 8259): one token at a time, from bytes that come in any pieces, in fixed memory. For
 * documents that are too large to be a tree in memory; those that fit are read with oci/json.h.
 *
 * As strict as that one: no byte order mark, no text after the end, no control characters and no \u0000 in strings, at
 * most JSTREAM_DEPTH_MAX levels. That keys do not come twice is for the caller to see.
 */
#ifndef SLIPWAY_STREAM_JSTREAM_H
#define SLIPWAY_STREAM_JSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "stream/codec.h"

#define JSTREAM_DEPTH_MAX 8
#define JSTREAM_TEXT_MAX 98304 /* of one string: an extended attribute of 64 KiB in base64 */

enum jstream_token {
    JSTREAM_END = 0, /* of the document */
    JSTREAM_OBJECT,
    JSTREAM_OBJECT_END,
    JSTREAM_ARRAY,
    JSTREAM_ARRAY_END,
    JSTREAM_KEY,
    JSTREAM_STRING,
    JSTREAM_NUMBER, /* `text` is how it was written */
    JSTREAM_WORD,   /* true, false or null: in `text` */
};

struct jstream {
    /* 1 and a block that stays until the next call, 0 at the end, or an error */
    ssize_t (*more)(void *ctx, const uint8_t **block, struct err *e);
    void *ctx;
    const uint8_t *at, *end;
    uint64_t passed; /* bytes before `at`'s block */
    const uint8_t *block;
    unsigned depth;
    bool in_object[JSTREAM_DEPTH_MAX];
    uint8_t want; /* enum want, in jstream.c */
    size_t len;   /* of text, without its NUL */
    char text[JSTREAM_TEXT_MAX + 1];
};

void jstream_begin(struct jstream *j, ssize_t (*more)(void *ctx, const uint8_t **block, struct err *e),
                   void *ctx);
/* Returns the next token or an error. The text of KEY, STRING, NUMBER and WORD is valid until the next call. */
int jstream_next(struct jstream *j, struct err *e);
/* Pass over the value that begins with `token`, which was read last. */
int jstream_skip(struct jstream *j, int token, struct err *e);
/* The next token must be `want`, as `what` says for the message. */
int jstream_expect(struct jstream *j, int want, const char *what, struct err *e);
/* The next token is a whole number from 0 to `max`, written with digits alone. */
int jstream_uint(struct jstream *j, uint64_t max, uint64_t *out, struct err *e);

#endif
