/* The system call filter of apps. Refused with EPERM is what Docker's default profile refuses; some of it is allowed
 * to who has a capability that it needs. Calls newer than this list, and those of a foreign architecture, are "not
 * implemented" (ENOSYS), so that a program takes its other way.
 */
#ifndef SLIPWAY_SUP_SECCOMP_H
#define SLIPWAY_SUP_SECCOMP_H

#include <stdint.h>

#include "base/err.h"

/* Needs no_new_privs. `caps`: bits of the capabilities that the app keeps. */
int seccomp_enter(uint64_t caps, struct err *e);

#endif
