/* Certificates, judged by a board that may not know what time it is.
 *
 * Boards without a battery start in 1970. The time is the later of the clock's and the floor's: build, last
 * confirmation, last signature that says when (agent/DESIGN.md, "Time"). While the clock is behind the floor, and so
 * plainly wrong, a certificate that begins later than the floor is taken: it cannot be told from a fresh one.
 */
#ifndef SLIPWAY_OCI_CERTIFICATE_H
#define SLIPWAY_OCI_CERTIFICATE_H

#include <mbedtls/x509_crt.h>
#include <stdbool.h>
#include <stdint.h>

struct certificate_time {
    int64_t floor_s; /* seconds since 1970; it is not earlier than this */
    bool
        expired_is_ok; /* what the registry sends is signed, so an expired certificate is alarming and no more */
    int64_t expired_s; /* out: when the one that was taken so expired; 0: none was */
    uint32_t bad;      /* out: mbedTLS's flags of the certificate that was refused; 0: none was */
};

/* What `bad` means, in one line. */
void certificate_fault(const struct certificate_time *t, char *out, size_t cap);

/* Seconds since 1970, as well as this board knows. */
int64_t certificate_now(const struct certificate_time *t);

/* mbedtls_ssl_conf_verify()'s callback, with a struct certificate_time: replaces what mbedTLS found of dates, and leaves
 * all else it found. */
int certificate_check(void *time, mbedtls_x509_crt *crt, int depth, uint32_t *flags);

#endif
