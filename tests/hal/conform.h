/* What every driver of a port must keep, whichever board it is for. Each check answers NULL, or what the driver does
 * wrong; a port's test runs it on the real drivers, which must pass, and on broken ones, which must not. What more than one
 * program runs stands in conform_*.c. */
#ifndef SLIPWAY_TESTS_HAL_CONFORM_H
#define SLIPWAY_TESTS_HAL_CONFORM_H

#include "hal/bootrec.h"
#include "hal/clock.h"
#include "hal/identity.h"
#include "hal/secret.h"
#include "hal/store.h"

/* `dir` does not exist, but its parent does. Left with files of the record "conform". */
const char *conform_store(const struct store_ops *ops, const char *dir);
const char *conform_clock(const struct clock_ops *ops);
const char *conform_identity(const struct identity_ops *ops);
/* `place` holds `text` and is nobody else's; `open` holds something and is not. */
const char *conform_secret(const struct secret_ops *ops, const char *place, const char *text,
                           const char *open);
/* Needs a record that loads; leaves another one behind. Of the slot that is not first only whether it has tries counts, and
 * one slot always has some (hal/bootrec.h). */
const char *conform_bootrec(const struct bootrec_ops *ops, const void *arg);

#endif
