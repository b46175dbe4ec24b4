/* What is run in the end: the image's config, and over it what the device's [app] says, as `docker run` does with its
 * options: args take the place of Cmd, env is set over Env, user takes the place of User. */
#ifndef SLIPWAY_SUP_EFFECTIVE_H
#define SLIPWAY_SUP_EFFECTIVE_H

#include "base/app_spec.h"
#include "base/conf.h"
#include "base/err.h"

/* ERR_LIMIT when it does not fit, ERR_FORMAT when `image` is damaged. */
int effective_spec(const struct app_spec *image, const struct conf_app *conf, struct app_spec *out,
                   struct err *e);

#endif
