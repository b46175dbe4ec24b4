/* What an update would take, counted without doing it (slot_tree_look() in slot/tree.h): from stage to agentd to
 * agentctl. Flat values.
 */
#ifndef SLIPWAY_BASE_PLAN_H
#define SLIPWAY_BASE_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

struct plan_cost {
    uint32_t layers;       /* of the image */
    uint32_t layers_whole; /* of these, streamed from one end to the other: nothing is known of their files */
    uint32_t layers_local; /* the slots hold all of them, as is known from an earlier stream */
    uint32_t requests;
    uint32_t files_kept, files_copied, files_fetched;
    uint64_t kept, copied, chunks,
        fetched;       /* bytes of content: in place, in a slot, parts in a slot, to be fetched */
    uint64_t download; /* bytes of layers and tables; the most where a layer is streamed */
    uint64_t
        write; /* bytes of content that differ from what the slot holds, fetched ones taken for new; not those
                       of streamed layers */
};

struct plan_found { /* FRAME_PLAN */
    char version[64];
    bool same; /* what runs is this, but for the manifest */
    struct plan_cost cost;
    struct err waiting; /* for its turn in the rollout; code 0: it is not */
};

#endif
