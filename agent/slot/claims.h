/* Claims: what is known of each path while layers are applied from the top down.
 *
 *     tag (46 bits of the path's hash) | layer, upper, own, flags | offset in the TOC / 16        12 bytes a path
 *
 * `upper` is what the layers above the present one make of the path, `own` what the present layer has said so far.
 * Nothing is scanned when a layer ends: a claim that was touched by an earlier layer is folded (own into upper) when it
 * is next looked at. The set never grows: its memory is taken once, and untouched pages cost nothing.
 *
 * Two paths share a claim by chance about once in 5 * 10^8 deployments: a false match needs the same 46 bits and the same
 * neighbourhood, which other bits of the hash choose. The seed is random, so nobody can build such an image.
 */
#ifndef SLIPWAY_SLOT_CLAIMS_H
#define SLIPWAY_SLOT_CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum claim_upper {
    UPPER_NONE = 0,
    UPPER_DIR,    /* a directory, lower ones merge into it */
    UPPER_CLOSED, /* a directory, nothing below shows inside it */
    UPPER_OTHER,  /* no directory: hides the path and all below it */
    UPPER_GONE,   /* whited out */
};

enum claim_own {
    OWN_NONE = 0,
    OWN_DIR,
    OWN_SYMLINK,
    OWN_FILE,
    OWN_SPECIAL, /* device, fifo */
    OWN_ALIAS,   /* a hidden hard link to a visible file: toc is that file's */
};

struct claim {
    uint32_t tag_low;
    uint16_t tag_high : 15;
    uint16_t present : 1; /* a node of the new image stands at the path, or will when its content comes */
    uint16_t layer : 7;
    uint16_t upper : 3;
    uint16_t own : 3;
    uint16_t whiteout : 1; /* by the present layer */
    uint16_t opaque : 1;   /* the same; of a non-directory: it was whited out after it was added */
    uint16_t implicit : 1; /* a directory that no layer has given metadata yet */
    uint32_t toc;          /* record's offset / 16; of a hidden OWN_FILE its ordinal in the layer */
};

struct claims {
    struct claim *table;
    uint32_t slots, used, max;
    uint32_t layer;
    uint64_t seed;
};

/* Takes the memory for `max` paths. Returns false when there is none. */
bool claims_new(struct claims *c, uint32_t max);
/* Forget all paths, begin with layer 0 and a new seed. */
void claims_reset(struct claims *c);

/* The claim of a path (`len` bytes), folded to the present layer, or NULL. The pointer stays good until reset. */
struct claim *claims_find(struct claims *c, const char *path, size_t len);
/* The same, made when there is none. NULL with ERR_LIMIT. */
struct claim *claims_put(struct claims *c, const char *path, size_t len, struct err *e);

#endif
