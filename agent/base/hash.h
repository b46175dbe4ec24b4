/* SHA-256 and digests in the words of the OCI image specification ("sha256:" and 64 lower-case hex digits).
 *
 * The engine is chosen once per process by measuring what the build and the kernel offer (mbedTLS's code, which
 * uses the ARMv8 instructions where the chip has them, or AF_ALG): hash_start(). Both give the same bytes.
 */
#ifndef SLIPWAY_BASE_HASH_H
#define SLIPWAY_BASE_HASH_H

#include <mbedtls/sha256.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define DIGEST_LEN 32
#define DIGEST_TEXT_LEN 72 /* "sha256:" + 64, with the NUL */

struct digest {
    uint8_t b[DIGEST_LEN];
};

/* A verdict is never a bool, and no single flipped bit turns one into the other. */
enum verdict {
    VERDICT_MATCH = 0x3a5c96e1,
    VERDICT_MISMATCH = 0x5c3a691e,
};

/* Parse "sha256:<64 lower-case hex>" of exactly `len` bytes. Returns false for anything else. */
bool digest_parse(const char *text, size_t len, struct digest *out);
void digest_format(const struct digest *d, char out[DIGEST_TEXT_LEN]);
enum verdict digest_compare(const struct digest *a, const struct digest *b);
/* ERR_DIGEST, with both in the text, unless `got` is `want`. `what`: which of an object's digests this is. */
int digest_check(const char *what, const struct digest *want, const struct digest *got, struct err *e);
bool digest_is_zero(const struct digest *d);

struct hash {
    mbedtls_sha256_context soft;
    int alg_fd; /* AF_ALG operation socket, or -1 */
    uint64_t len;
};

/* Choose the engine; takes about 2 ms. Without it the mbedTLS engine is used. Never fails. */
void hash_start(void);
const char *hash_engine_name(void);
/* What hash_start() measured for the engine chosen, in KiB per second; 0 before. */
uint32_t hash_engine_speed(void);

/* begin .. update* .. end; `hash_end` also releases what begin took, and is called on every path. */
void hash_begin(struct hash *h);
/* The same with mbedTLS, whichever is faster: then a copy of *h, also as bytes in a file, can be gone on with by any process
 * of this build, after hash_go_on(). */
void hash_begin_portable(struct hash *h);
void hash_go_on(struct hash *h);
void hash_update(struct hash *h, const void *data, size_t len);
void hash_end(struct hash *h, struct digest *out);

void hash_bytes(const void *data, size_t len, struct digest *out);

#endif
