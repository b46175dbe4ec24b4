/* Ranges of files and devices that a slot holds: hash them, copy them over what is elsewhere. */
#ifndef SLIPWAY_SLOT_RANGE_H
#define SLIPWAY_SLOT_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "slot/compare.h"
#include "slot/sum.h"

#define RANGE_BUF_LEN 65536u

struct range_io {
    struct slot_bytes *bytes; /* counted here */
    uint8_t *buf;             /* RANGE_BUF_LEN */
    bool dry;                 /* write nothing */
};

/* `out` or `sum` may be NULL. ERR_FLASH when `fd` ends before. */
int range_digest(const struct range_io *io, int fd, uint64_t off, uint64_t len, struct digest *out,
                 struct sum *sum, struct err *e);
/* `len` bytes at `from` of `source` go to `at` of `fd`, over the `old` bytes that are there. */
int range_copy(const struct range_io *io, int source, uint64_t from, int fd, uint64_t at, uint64_t len,
               uint64_t old, struct compare *k, struct err *e);
/* The same with zeros, over as many bytes that are there. */
int range_zero(const struct range_io *io, int fd, uint64_t at, uint64_t len, struct err *e);

#endif
