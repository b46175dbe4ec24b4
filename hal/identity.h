/* Port: who this board is. */
#ifndef SLIPWAY_HAL_IDENTITY_H
#define SLIPWAY_HAL_IDENTITY_H

#include <stddef.h>

#include "base/err.h"

/* In the words of the OCI image index (GOOS, GOARCH, GOARM): {"linux", "arm", "v7"}. */
struct platform {
    char os[16];
    char arch[16];
    char variant[8]; /* "" where the architecture has none */
};

struct identity_ops {
    /* A stable name for this one device, printable, no spaces; at least 8 characters. */
    int (*device_id)(char *out, size_t cap, struct err *e);
};

#endif
