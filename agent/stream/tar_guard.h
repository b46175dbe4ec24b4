/* A second look at the headers of a layer's tar, before libarchive sees them.
 *
 * libarchive reads more than the rules allow and does not say so: it takes types it doesn't know for files, expands
 * sparse files, gives hard links content, cuts names at a NUL, and reads attributes and ACLs of vendors that no other
 * tool of the trade reads. The guard walks over the same bytes and refuses those layers; what is to be ignored it makes
 * unreadable, so the bytes are hashed before. It keeps nothing of what it sees but a size.
 */
#ifndef SLIPWAY_STREAM_TAR_GUARD_H
#define SLIPWAY_STREAM_TAR_GUARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TAR_BLOCK 512
#define TAR_PAX_MAX (1u << 20) /* bytes of one pax header, libarchive's own limit */

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
};

void tar_guard_begin(struct tar_guard *g);
/* The next bytes of the tar. ERR_FORMAT or ERR_POLICY when they are not to be read any further. */
int tar_guard_pass(struct tar_guard *g, uint8_t *bytes, size_t len, struct err *e);

#endif
