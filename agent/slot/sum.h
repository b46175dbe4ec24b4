/* XXH64, the checksum that tells worn flash from good: not a security measure. One copy of the code for the slots. */
#ifndef SLIPWAY_SLOT_SUM_H
#define SLIPWAY_SLOT_SUM_H

#include <stddef.h>
#include <stdint.h>

uint64_t sum_bytes(const void *data, size_t len, uint64_t seed);

/* A running checksum, seed 0. Holds no resource. */
struct sum {
    uint64_t state[12]; /* an XXH64_state_t */
};
void sum_begin(struct sum *s);
void sum_update(struct sum *s, const void *data, size_t len);
uint64_t sum_end(const struct sum *s);

#endif
