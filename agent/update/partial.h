/* A zstd:chunked layer, installed by its table of contents: what the slots hold stays or is copied, and of the blob only
 * the rest is fetched, in as few parts as are worth their price.
 *
 * The table is kept in the state directory, named by its digest, for as long as the installed image has the layer: the
 * next image that has it too costs nothing for it. Where the registry sends no parts the layer is streamed like any
 * other, so nothing is downloaded twice.
 */
#ifndef SLIPWAY_UPDATE_PARTIAL_H
#define SLIPWAY_UPDATE_PARTIAL_H

#include <stdint.h>

#include "base/plan.h"
#include "oci/image.h"
#include "slot/disk.h"
#include "slot/tree.h"
#include "update/feed.h"

/* A slot of either kind, for what it has to do here: see slot/tree.h, slot/disk.h. */
struct partial_slot {
    int (*entry)(void *slot, const struct entry *en, struct content *c, struct err *e);
    int (*chunk)(void *slot, const struct entry_chunk *chunk, struct err *e);
    int (*want_end)(void *slot, struct pieces **list, struct err *e);
    int (*fill)(void *slot, const struct slot_piece *p, struct content *c, struct err *e);
};
extern const struct partial_slot partial_tree; /* of a struct slot_tree */
extern const struct partial_slot partial_disk; /* of a struct slot_disk */

struct partial {
    const char *dir; /* what stage keeps: conf_agent.stage_dir */
    const struct partial_slot *ops;
    void *slot;
    const char *only;    /* the one path that counts; "": all */
    struct entry *entry; /* to read entries into */
    const struct oci_blob *blob;
    struct pieces *list; /* what is wanted of the blob */
    struct feed feed;
    bool whole;     /* the registry sends no parts: what is left is cut out of the whole blob */
    uint32_t gap;   /* bytes that are cheaper than another request */
    uint64_t parts; /* requests that the layer took */
    int64_t us;     /* spent while parts came */
    /* Of a look: where to count what would be fetched. Only tables are fetched then, and none is kept. Else NULL. */
    struct plan_cost *cost;
    const struct oci_blob *counted; /* its table is in *cost */
    void (*tick)(void *ctx);
    void *tick_ctx;
};

/* Have the layer's table, whole and as the manifest says, before anything is written: *fetched when it was not there. 0, an
 * error, or 1: the registry sends no parts. */
int partial_table(struct partial *p, const struct oci_blob *blob, bool *fetched, struct err *e);

/* 0, an error, or 1: the registry sends no parts, and nothing was done. The layer is open in the slot. */
int partial_layer(struct partial *p, const struct oci_blob *blob, struct err *e);

#endif
