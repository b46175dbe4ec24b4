/* Scrubs, on the machine's side: when a slot is read, what becomes of what is found. They run beside the table of states,
 * while it is idle or polls; whatever else begins ends them.
 *
 * A slot that is damaged and not in use is no version to go back to any more. With the next poll its own image is deployed
 * into it again, which replaces what is damaged: from the other slot where that has it, else from the registry.
 */
#ifndef SLIPWAY_UPDATE_MACHINE_SCRUB_H
#define SLIPWAY_UPDATE_MACHINE_SCRUB_H

#include "update/machine.h"

int scrubs_start(struct machine *m, const char *conf_path, struct err *e);
/* There is nothing else to do: begin what is due ([slots] scrub). */
void scrubs_idle(struct machine *m);
/* Something else begins: nothing of a scrub runs any more. */
void scrubs_end(struct machine *m);
/* The other slot is to be mended, and what its record says is enough for that. */
bool scrubs_mend_is_due(const struct machine *m);
void scrubs_status(const struct machine *m, struct status *out);

#endif
