/* The values of agent.conf's section [app] that are more than a number or a word. For conf.c only. */
#ifndef SLIPWAY_BASE_CONF_APP_H
#define SLIPWAY_BASE_CONF_APP_H

#include "base/conf.h"

/* Put the value of the key `name`, which is cut up, into its part of *a. An error says what was wanted. */
int conf_app_put(struct conf_app *a, const char *name, char *value, struct err *e);
/* Do the values fit together? */
int conf_app_check(const struct conf_app *a, struct err *e);

#endif
