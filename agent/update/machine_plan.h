/* The part of the update machine that makes a plan (`agentctl plan`): it polls, has stage look, and keeps what came of it.
 * Nothing is installed, and no record is written but what any poll writes.
 */
#ifndef SLIPWAY_UPDATE_MACHINE_PLAN_H
#define SLIPWAY_UPDATE_MACHINE_PLAN_H

#include "update/machine.h"

/* A poll is made for the sake of a plan. */
void plan_start(struct machine *m);
/* The poll has ended: m->tag. True: stage looks, and plan_finish() or plan_refused() follows. */
bool plan_begin(struct machine *m);
void plan_finish(struct machine *m, const struct plan_found *found);
void plan_refused(struct machine *m); /* m->cause */
/* If one is being made, it comes to nothing. */
void plan_fail(struct machine *m, const struct err *cause);

#endif
