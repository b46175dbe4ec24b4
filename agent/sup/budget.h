/* Does the app's memory fit on this board, beside the agent's own ceilings and the reserve (CONFIG_APP_RESERVE_KB)?
 */
#ifndef SLIPWAY_SUP_BUDGET_H
#define SLIPWAY_SUP_BUDGET_H

#include <stdint.h>

#include "base/err.h"

/* What an app that wants `wanted_kb` (0: what there is) gets on a board with `total_kb`, of which the agent's process beside
 * it takes `beside_kb`, and other apps `others_kb`. ERR_LIMIT with the sum when that is too much. */
int budget_fit(uint32_t wanted_kb, uint32_t beside_kb, uint32_t others_kb, uint64_t total_kb,
               uint32_t *out_kb, struct err *e);
/* Memory of this board in KB. */
int budget_total(uint64_t *out_kb, struct err *e);

#endif
