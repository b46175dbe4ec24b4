/* The boot record of an app: which of its two trees is next, and how often it is tried. A record of the state (FORMAT.md),
 * with the meaning of any boot record (hal/bootrec.h); agentd does what a boot loader does with it.
 */
#ifndef SLIPWAY_UPDATE_POINTER_H
#define SLIPWAY_UPDATE_POINTER_H

#include "base/conf.h"
#include "hal/bootrec.h"

extern const struct bootrec_ops pointer_ops; /* arg: const struct conf *, the app's view */

/* See target_booted(). */
int pointer_take(const struct conf *c, uint32_t trial, enum slot_id *out, struct err *e);

#endif
