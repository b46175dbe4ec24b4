/* What a signature says, read from its payload after it verified. Only signed bytes come here. */
#ifndef SLIPWAY_TRUST_CLAIM_H
#define SLIPWAY_TRUST_CLAIM_H

#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "trust/envelope.h"

struct trust_claim {
    uint64_t version;     /* counts up; 0: none given */
    char repository[256]; /* without the host; "": none given */
    int64_t signed_s;     /* when, since 1970; 0: none given */
};

/* The payload must be about `subject`: cosign's simple signing with its type, or an in-toto statement with cosign's
 * predicate (an attestation signed by the same key, an SBOM say, is no permission to install). A TRUST_MESSAGE says
 * nothing besides. ERR_SIGNATURE: signed, but something else. */
int trust_claim_read(const struct trust_signed *s, const struct digest *subject, struct trust_claim *out,
                     struct err *e);

#endif
