/* Memory that two processes share, by a descriptor that one hands to the other at its start. Its size is fixed: neither can
 * take it away from under the other.
 */
#ifndef SLIPWAY_BASE_SHARED_H
#define SLIPWAY_BASE_SHARED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* A new one, all zeros; the descriptor is the caller's. */
int shared_make(const char *name, size_t len, struct err *e);
/* It stays mapped until the process ends. NULL and an error when it can't be. */
void *shared_map(int fd, size_t len, bool writable, struct err *e);

#endif
