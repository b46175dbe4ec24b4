/* When the machine asks the registry again, and what a version that is known has still to wait for. Part of the update
 * machine; decides, and changes no state but what is named here.
 */
#ifndef SLIPWAY_UPDATE_PATIENCE_H
#define SLIPWAY_UPDATE_PATIENCE_H

#include "update/machine.h"

/* Boards without a battery start in 1970, but it is never earlier than the floor (agent/DESIGN.md, "Time"). */
int64_t patience_now_s(const struct machine *m);
void patience_time_raise(struct machine *m, int64_t to_s);

/* Plan the next poll: the first after a start or a trial. Soon where nothing was ever installed; else some time in the interval,
 * since the power, or a new version, may have come to all boards of a town at once. */
void patience_first(struct machine *m);
/* After success, in the interval, give or take a tenth; earlier where a wait has an end that is known. After a failure
 * (m->cause), with a full-jitter back-off, and never sooner than the registry asked. */
void patience_poll(struct machine *m);
void patience_failed(struct machine *m);

/* Remember when this device first saw what the tag names; what an image says of its own age can be forged. */
void patience_sight(struct machine *m);
/* How long ago: by the clock that can't be set while agentd has been running since, and by the wall's otherwise. */
uint64_t patience_age_s(const struct machine *m);
/* The tag has not moved for longer than max_age. */
bool patience_is_out(const struct machine *m);

/* An image that can't be installed costs a download each time: its pause doubles from the poll's interval up to a day. */
void patience_retry(struct machine *m);
/* The rollout says when the tag's image may come to this device: m->cause. Asked for again no earlier, as long as the tag
 * stays. */
void patience_turn(struct machine *m);
/* Younger than min_age, before its turn, pausing after a failed install, not to be downloaded now, or the board is short of memory:
 * m->waiting says which. */
bool patience_is_needed(struct machine *m);

#endif
