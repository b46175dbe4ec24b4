/* Which platforms of the image specification a board runs. */
#ifndef SLIPWAY_OCI_PLATFORM_H
#define SLIPWAY_OCI_PLATFORM_H

#include "hal/identity.h"

/* 0: does not run; otherwise the higher the better. `variant` may be "". On arm a variant up to the board's own runs,
 * and none means v7, as Go programs have it; on other architectures the variant must be the board's or the base
 * one (arm64 v8, amd64 v1), which is the same as none. */
unsigned platform_rank(const struct platform *board, const char *os, const char *arch, const char *variant);

#endif
