/* Port: where this board's secrets lie: the credentials for registries, and the client's private key. agent.conf names a
 * place, which only the driver interprets. fetch reads them at its start and gives up its rights before it meets the
 * first byte from outside; no other process ever reads one.
 *
 * secret_linux takes places for files. A driver for a TPM, or for the key of an SoC, unseals. What it cannot be is a key
 * that never leaves its chip: mbedTLS signs for libcurl, and its ECDSA has no callback (oci/http.c, the key's blob).
 */
#ifndef SLIPWAY_HAL_SECRET_H
#define SLIPWAY_HAL_SECRET_H

#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

struct secret_ops {
    /* Is it there, and out of others' reach? ERR_CONFIG says what to do about it. Reads nothing. */
    int (*check)(const char *place, struct err *e);
    /* The same, and read it, with a NUL behind it. Returns its length without that. ERR_CONFIG also when it has more than
     * cap - 1 bytes. No text of *e has any of it. */
    ssize_t (*read)(const char *place, char *buf, size_t cap, struct err *e);
};

#endif
