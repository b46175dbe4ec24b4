/* An install, from the start of its worker to a slot that is armed. Part of the update machine: what each returns is its next
 * state.
 */
#ifndef SLIPWAY_UPDATE_INSTALL_H
#define SLIPWAY_UPDATE_INSTALL_H

#include "update/machine.h"

/* What stage is told: to install what the tag names. */
struct stage_job install_job(const struct machine *m);
/* Bring what the tag names into the slot that is not booted; or `mend` there what it held before and still is to hold. */
enum machine_state install_begin(struct machine *m, bool mend);
/* stage found nothing to refuse, and wants to write. Until here the other slot was left as it was. */
int install_mark(struct machine *m, struct err *e);
/* It is there, and was read back: m->installed. */
enum machine_state install_done(struct machine *m);
/* It ended early: m->cause. */
enum machine_state install_failed(struct machine *m);

#endif
