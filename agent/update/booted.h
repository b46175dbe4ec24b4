/* What it means that one slot was booted and not the other, and what becomes of both. Part of the update machine. */
#ifndef SLIPWAY_UPDATE_BOOTED_H
#define SLIPWAY_UPDATE_BOOTED_H

#include "update/machine.h"

/* Leaves m->state at IDLE, TRIAL or REBOOTING. */
int booted_judge(struct machine *m, struct err *e);
/* The booted slot is the one to stay with, and has all its tries. But when it was given up and there is another one, that
 * is next: true, and the board is to be restarted. */
bool booted_settle(struct machine *m);
/* `slot` has failed, as m->cause says: it is not started again, and its version not installed again by itself. */
int booted_give_up(struct machine *m, const char *event, enum slot_id slot, struct err *e);
/* A boot record that can't be stored is no reason not to run: it is tried again after the stable time. */
void booted_record_failed(struct machine *m, const struct err *e);

#endif
