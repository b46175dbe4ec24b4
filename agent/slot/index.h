/* What the slots hold, by a hash of its path or digest: where its record is. A hit is a hint, and the record decides.
 * Fixed memory, CONFIG_SLOT_REUSE_MAX entries; when it is full, what comes is not known.
 */
#ifndef SLIPWAY_SLOT_INDEX_H
#define SLIPWAY_SLOT_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index {
    struct known {
        uint32_t tag; /* of the hash; 0: free */
        uint32_t where;
    } * table;
    uint32_t used;
};

/* Takes the memory, which costs nothing until it is used. False when there is none. */
bool index_new(struct index *x);
void index_add(struct index *x, const void *key, size_t len, uint32_t where);
/* The next record at or after *at that may have the key; begin with *at = UINT32_MAX. False: no more. */
bool index_find(const struct index *x, const void *key, size_t len, uint32_t *at, uint32_t *where);
/* Empty again; the memory goes back to the system. */
void index_clear(struct index *x);

#endif
