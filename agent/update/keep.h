/* What the machine remembers across starts. Part of the update machine. Nothing here can be undone by stopping: what can't
 * be saved is said in the log, and the machine goes on.
 */
#ifndef SLIPWAY_UPDATE_KEEP_H
#define SLIPWAY_UPDATE_KEEP_H

#include "update/machine.h"

void keep_state(struct machine *m);
void keep_trust(struct machine *m);
void keep_slot(struct machine *m, enum slot_id slot);
/* What runs has proven itself: it is what the device does not go back under, and it is not earlier than now. Kept before the
 * trial's end is: a cut between the two confirms again. */
void keep_floor(struct machine *m);

/* It went well: a line of history about the version in `slot`. */
void keep_event(struct machine *m, const char *what, enum slot_id slot);
/* m->cause: the last failure in the state, which is still to be saved, and a line of history. `tag` is what the slot
 * holds, or was to hold. */
void keep_failure(struct machine *m, const char *event, enum slot_id slot, const struct digest *tag);
/* The same version refused once more for the same reason is no news, and not worth a write to flash. */
bool keep_knows_failure(const struct machine *m);
/* Count what the last deployment did to the slot, however it ended. A cut of power loses the count of one. */
void keep_wear(struct machine *m);

#endif
