/* The one place that changes which slot boots, or which tree of an app is started. Each function is one store of the boot
 * record of the target that *c is the view of, so a cut leaves the old choice or the new one. */
#ifndef SLIPWAY_UPDATE_ACTIVATE_H
#define SLIPWAY_UPDATE_ACTIVATE_H

#include "base/conf.h"
#include "base/err.h"
#include "hal/bootrec.h"

/* Before the first write to `slot`: the boot loader must never start it half written. */
int activate_disarm(const struct conf *c, enum slot_id slot, struct err *e);
/* Start `slot` next, `tries` times at most, then the other one. */
int activate_arm(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e);
/* Where arming is good for one start: `slot` is armed, had it, and gets another one. One try less. */
int activate_again(const struct conf *c, enum slot_id slot, struct err *e);
/* `slot`, the other one, may be started again when the present one can't be. */
int activate_permit(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e);
/* `slot` is the one to stay with: first, and with all its tries. Stores nothing where that is so already, in every
 * copy of the record. */
int activate_confirm(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e);
/* Start the slot other than `slot` next, and never `slot` by itself. */
int activate_roll_back(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e);

#endif
