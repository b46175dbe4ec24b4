/* The public keys that may sign for this device, and the one question they answer. ECDSA on P-256 or P-384; mbedTLS has
 * no Ed25519, and RSA is left out on purpose. The algorithm comes from the key, never from the data.
 */
#ifndef SLIPWAY_TRUST_KEYS_H
#define SLIPWAY_TRUST_KEYS_H

#include <mbedtls/pk.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/hash.h"
#include "trust/envelope.h"
#include "trust/notice.h"

struct trust_keys {
    uint32_t cnt;
    uint32_t threshold; /* so many different ones must have signed */
    mbedtls_pk_context keys[CONF_KEY_MAX];
};

/* Read the PEM files that [trust] names. ERR_CONFIG names the file; two that hold the same key are refused, since they
 * would count twice, and so is one that others than its owner may write. */
int trust_keys_load(const struct conf_trust *conf, struct trust_keys *out, struct err *e);
/* Those of a signed root instead. */
int trust_keys_root(const struct notice_root *root, struct trust_keys *out, struct err *e);
void trust_keys_free(struct trust_keys *k);

/* Whether the key `at` signed these raw bytes, of which nothing has been parsed. P-256 with SHA-256; P-384 with SHA-256,
 * as cosign does, or SHA-384. With TRUST_MESSAGE the bytes are the document whose SHA-256 is `subject`. */
enum verdict trust_key_verify(struct trust_keys *k, uint32_t at, const struct trust_signed *s,
                              const struct digest *subject);

#endif
