/* Written pages on their way to the medium and out of memory. Only true failures of the medium are errors: not every
 * filesystem knows these calls. A length of 0 means to the end of the file. */
#ifndef SLIPWAY_SLOT_PAGES_H
#define SLIPWAY_SLOT_PAGES_H

#include <stdint.h>

#include "base/err.h"

/* Begin to write them back. */
int pages_push(int fd, uint64_t off, uint64_t len, struct err *e);
/* Wait until they are written back, and drop them. */
int pages_forget(int fd, uint64_t off, uint64_t len, struct err *e);

#endif
