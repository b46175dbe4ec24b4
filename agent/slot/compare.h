/* Compare before write: content goes over what the medium already holds, and only the blocks that differ are written.
 * Flash is read faster than it is written, and reading does not wear it.
 *
 * Where 1 MiB in a row differed, the old bytes are only sampled, so that content which is new throughout is not paid
 * for twice. What is written over an equal block then is less than 1 MiB for each such place. No memory but the stack.
 */
#ifndef SLIPWAY_SLOT_COMPARE_H
#define SLIPWAY_SLOT_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "slot/sum.h"
#include "stream/entry.h"

#define COMPARE_PIECE (1u << 20)
#define COMPARE_WINDOW 32768u

/* Content of files and devices, in bytes. */
struct slot_bytes {
    uint64_t written;
    uint64_t kept; /* found as it should be, or hidden by an upper layer: not written */
    uint64_t read; /* from the medium, to compare and to read back */
};

struct compare {
    uint32_t run; /* bytes in a row that differed, up to COMPARE_PIECE */
    bool dry;     /* compare_put() counts and writes nothing */
    /* what all the content goes through besides; NULL: nothing, and then it need not come into memory */
    struct hash *digest;
    struct sum *sum;
};

/* Put `len` <= COMPARE_WINDOW bytes of memory at `off` of `fd`, over `old` bytes that are there. */
int compare_put(struct compare *k, const void *data, int fd, uint64_t off, uint32_t len, uint64_t old,
                struct slot_bytes *n, struct err *e);

/* The same with the next `len` <= COMPARE_PIECE bytes of `c`. Leaves the file
 * position behind them. `old` may be less than `len`, also 0: then nothing is read. */
int compare_move(struct compare *k, struct content *c, int fd, uint64_t off, uint32_t len, uint64_t old,
                 struct slot_bytes *n, struct err *e);

#endif
