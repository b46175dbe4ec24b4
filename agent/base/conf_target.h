/* What the sections [app NAME] of agent.conf need once all of it is read. For conf_file.c only. */
#ifndef SLIPWAY_BASE_CONF_TARGET_H
#define SLIPWAY_BASE_CONF_TARGET_H

#include "base/conf.h"

/* Each has an image and a memory budget; what else it needs to reach its registry is that of [registry]. */
int conf_targets_finish(struct conf *c, const char *path, struct err *e);

#endif
