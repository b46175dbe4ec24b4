/* What stands around signatures in a registry: manifests whose layers are signatures (cosign's tag "sha256-<hex>.sig",
 * referrers of OCI 1.1) and sigstore's bundles. Nobody signed these bytes, so they are opened by a process of their
 * own without any privilege, the envelope role, which ends before the first signed byte is parsed. What it hands on is
 * raw: a payload, and the signature over it. It may lie; then the signature does not verify.
 */
#ifndef SLIPWAY_TRUST_ENVELOPE_H
#define SLIPWAY_TRUST_ENVELOPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

#define TRUST_REF_MAX 16        /* signatures looked at in one place */
#define TRUST_PAYLOAD_MAX 8192  /* of signed text */
#define TRUST_BUNDLE_MAX 65536  /* of a bundle's JSON */
#define TRUST_SIGNATURE_MAX 144 /* DER of ECDSA: 72 bytes with P-256, 104 with P-384 */

enum trust_form {
    TRUST_SIMPLE = 1, /* cosign's "simple signing" JSON; the signature stands in the layer's annotation */
    TRUST_NOTICE,     /* a text of Slipway's own (trust/notice.h); the same */
    TRUST_BUNDLE,     /* a sigstore bundle, which holds one of the next two */
    TRUST_STATEMENT,  /* an in-toto statement in a DSSE envelope */
    TRUST_MESSAGE,    /* a signature over the manifest itself */
    TRUST_REFERRER,   /* a manifest that refers to the image: its layers are to be looked at */
};

/* Where a signature is. */
struct trust_ref {
    uint32_t form;
    uint32_t signature_len; /* 0: with the payload */
    struct digest digest;
    uint64_t size;
    uint8_t signature[TRUST_SIGNATURE_MAX];
};

struct trust_refs {
    uint32_t cnt;
    struct trust_ref refs[TRUST_REF_MAX];
};

/* What was signed, byte for byte, and the signature. */
struct trust_signed {
    uint32_t form;
    uint32_t payload_len; /* 0 with TRUST_MESSAGE */
    uint32_t signature_len;
    uint8_t signature[TRUST_SIGNATURE_MAX];
    uint8_t payload[TRUST_PAYLOAD_MAX];
};

/* The signatures that a manifest or an index of referrers names; what is none is passed over. No text at all, for a
 * reference that is not there, names none. */
int envelope_refs(const char *text, size_t len, struct trust_refs *out, struct err *e);
/* The content of a blob that such a reference names. */
int envelope_payload(const char *text, size_t len, struct trust_signed *out, struct err *e);
int envelope_bundle(const char *text, size_t len, struct trust_signed *out, struct err *e);

#endif
