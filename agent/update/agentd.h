/* agentd: the long-lived process. Wires the loop, the machine, the control server and the watchdog together. */
#ifndef SLIPWAY_UPDATE_AGENTD_H
#define SLIPWAY_UPDATE_AGENTD_H

#include "base/conf.h"

/* Returns the exit code. */
int agentd_main(const struct conf *conf, const char *conf_path);

#endif
