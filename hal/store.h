/* Port: where the agent's own small records are kept. Every record has two copies, so that one is always whole;
 * which copy is the good one is decided above this port (update/record.h). */
#ifndef SLIPWAY_HAL_STORE_H
#define SLIPWAY_HAL_STORE_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define STORE_COPIES 2

struct store_ops {
    /* Read copy 0 or 1 of record `name` (a plain file name) below directory `dir`. Returns its length, 0 when there
     * is none, or an error. */
    ssize_t (*read)(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e);
    /* Durable when it returns 0. Makes `dir`, not its parents. A cut leaves anything at all in this copy and nothing
     * changed in the other. */
    int (*write)(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e);
};

#endif
