/* How much is downloaded in a day, and at which hours ([update] daily_budget, download_window). Part of the update machine.
 * Polls are counted, and never stopped; what a person asks for is counted, too, and not held back.
 *
 * The hours and the day are local time: that of TZ or /etc/localtime as they were when agentd started, else UTC. A board
 * whose clock is behind the time floor knows neither. For a day from its start on it waits, since a clock is often set
 * late; then it has none, and goes on without hours. The budget is renewed at midnight, or without a clock once a day.
 */
#ifndef SLIPWAY_UPDATE_MANNERS_H
#define SLIPWAY_UPDATE_MANNERS_H

#include "update/machine.h"

void manners_start(struct machine *m);
/* Add what came since the last look to the day's sum. */
void manners_count(struct machine *m);
/* The same while an update is under way; then and now the sum is saved, so that a cut of power does not renew the budget. */
void manners_progress(struct machine *m);
/* An update has ended: of an app, whose state is not the one with the sum, the sum is saved. */
void manners_end(struct machine *m);
/* Is an update to wait? m->waiting says for what, and m->again_ms until when. */
bool manners_are_needed(struct machine *m);
/* Tell the worker how far the next deployment may go. */
void manners_bind(struct machine *m, bool by_hand);

#endif
