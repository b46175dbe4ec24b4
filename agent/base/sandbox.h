/* Giving up what a role does not need. Roles that meet bytes from outside call this once, after they opened what they
 * use and before they read the first byte. */
#ifndef SLIPWAY_BASE_SANDBOX_H
#define SLIPWAY_BASE_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Never gain privileges again, write no file, leave no core dump; when root, become user and group `uid` without
 * supplementary groups. With `empty_root` the file system is out of reach, too (root only). */
int sandbox_enter(uint32_t uid, bool empty_root, struct err *e);

#endif
