#define XXH_STATIC_LINKING_ONLY /* for the state's size */
#include <xxhash.h>

#include "slot/sum.h"

_Static_assert(sizeof(XXH64_state_t) <= sizeof(struct sum), "struct sum holds the library's state");

uint64_t sum_bytes(const void *data, size_t len, uint64_t seed)
{
    return XXH64(data, len, seed);
}

void sum_begin(struct sum *s)
{
    XXH64_reset((XXH64_state_t *)s->state, 0);
}

void sum_update(struct sum *s, const void *data, size_t len)
{
    XXH64_update((XXH64_state_t *)s->state, data, len);
}

uint64_t sum_end(const struct sum *s)
{
    return XXH64_digest((const XXH64_state_t *)s->state);
}
