/* A second look at the headers of a layer's tar, before libarchive sees them.
 *
 * libarchive reads more than the rules allow and does not say so: it takes types it doesn't know for files, expands
 * sparse files, gives hard links content, cuts names at a NUL, and reads attributes and ACLs of vendors that no other
 * tool of the trade reads. The guard walks over the same bytes and refuses those layers; what is to be ignored it makes
 * unreadable, so the bytes are hashed before. It keeps the headers of the present entry: libarchive can't be made to go on
 * in the middle of a tar, but it can be given these again (stream/tar.c).
 */
#ifndef SLIPWAY_STREAM_TAR_GUARD_H
#define SLIPWAY_STREAM_TAR_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TAR_BLOCK 512
#define TAR_PAX_MAX (1u << 20) /* bytes of one pax header, libarchive's own limit */
#define TAR_HEADERS_MAX 8192   /* of one entry, all that is before its content; longer ones are not kept */

enum guard_state { GUARD_HEADER = 0, GUARD_BODY, GUARD_END };
enum guard_record { RECORD_LENGTH = 0, RECORD_KEY, RECORD_VALUE };

struct tar_guard {
    enum guard_state state;
    uint64_t left;    /* bytes of the present body, with its padding */
    uint64_t records; /* of these, bytes of pax records */
    int64_t size;     /* of the next entry, as a pax header says; -1: it does not */
    enum guard_record record;
    uint32_t record_len, record_at;
    uint32_t key_len;
    char key[32]; /* its begin */
    uint32_t head_len;
    uint8_t head[TAR_BLOCK];
    /* the present entry; where one has ended, and the next one's first byte has not come, there is none */
    uint8_t ended;        /* 0 or 1, as the next; no bools, which may not hold just any byte of a file */
    uint8_t is_content;   /* the present body is a file's content, and no part of the headers */
    uint64_t content;     /* what came of it, with its padding */
    uint32_t headers_len; /* above TAR_HEADERS_MAX: not kept */
    uint8_t headers[TAR_HEADERS_MAX]; /* as libarchive got them */
};

void tar_guard_begin(struct tar_guard *g);
/* Whether a struct of which somebody else had charge can be gone on with. */
bool tar_guard_is_sound(const struct tar_guard *g);
/* The next bytes of the tar. ERR_FORMAT or ERR_POLICY when they are not to be read any further. */
int tar_guard_pass(struct tar_guard *g, uint8_t *bytes, size_t len, struct err *e);

#endif
