/* Records: the agent's own persistent state. Two copies, magic, version, sequence, CRC-32 (agent/FORMAT.md).
 *
 *     struct record_head | payload (host order: a record never leaves its device)
 *
 * save() writes one copy and then the other. A cut at any moment leaves one of them whole; and once save() has returned,
 * a copy that goes bad takes nothing back: the other one is as new.
 *
 * Two agents of different age share the records of a board: the new one on trial reads what the old one wrote, and the
 * old one what the new one did, after a fall-back. So a payload grows at its end only: what a shorter one lacks reads as
 * 0, what a longer one has more is passed over. Another `version` means that this rule could not be kept.
 */
#ifndef SLIPWAY_UPDATE_RECORD_H
#define SLIPWAY_UPDATE_RECORD_H

#include <stdint.h>

#include "base/err.h"
#include "hal/store.h"

#define RECORD_PAYLOAD_MAX 16384

struct record {
    const struct store_ops *store;
    const char *dir; /* both strings live as long as the record */
    const char *name;
    uint32_t magic;
    uint16_t version;
    uint32_t len;      /* of the payload as this agent knows it */
    uint32_t sequence; /* of the newest copy */
    int newest;        /* copy that holds it; -1: none */
    int copies_good;   /* as load() found them: below 2 means one was torn or lost */
};

/* Read the newest good copy into payload (r->len bytes). Returns 1, or 0 when there is none yet (payload zeroed; a
 * first save that was cut counts as none), or ERR_FORMAT when both copies exist but none is good; payload is zeroed
 * then, too. Repairs a copy that is bad or behind. */
int record_load(struct record *r, void *payload, struct err *e);
int record_save(struct record *r, const void *payload, struct err *e);

#endif
