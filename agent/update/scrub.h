/* Scrub: read a slot, slowly, and see whether flash still holds what was written there. A process of its own, which ends when
 * it is through; an update that begins ends it before.
 *
 * Of the active slot nothing is ever changed: what is wrong is reported. Of the other one, agentd first takes the slot out of
 * what may be started (FRAME_READY, FRAME_GO); then files whose content is damaged are marked, so that the slot's own image,
 * deployed into it once more, replaces them, and nothing else (update/mend.h).
 */
#ifndef SLIPWAY_UPDATE_SCRUB_H
#define SLIPWAY_UPDATE_SCRUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "hal/bootrec.h"

#define SCRUB_FD_REPORT 3

struct scrub_job {
    enum slot_id slot;
    bool active;
    uint64_t disk_len, disk_xxh64; /* of a disk slot: what its record says */
};

struct scrubbed {   /* FRAME_SCRUBBED */
    uint32_t files; /* damaged; of a disk slot 1 for all of it */
    uint32_t zero;
    uint64_t bytes;   /* read */
    struct err first; /* what is wrong with the first one */
};

/* Role main. */
int scrub_main(const struct conf *conf, const struct scrub_job *job);

#endif
