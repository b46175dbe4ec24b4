/* What stage finds out before the first write: is the image that the tag names signed, for this repository, and is the
 * fleet's brake off? The policy of agent/trust, and the conversation it takes.
 *
 * Everything unsigned on the way (manifests of signatures, bundles, an index that is not itself signed) is opened by the
 * envelope role, at the other end of `pump`, which the caller ends afterwards. Stage parses payloads, but only those
 * whose raw bytes a key of this device signed. decode later gets bytes that go back, digest by digest, to a signature.
 */
#ifndef SLIPWAY_UPDATE_VOUCH_H
#define SLIPWAY_UPDATE_VOUCH_H

#include "base/conf.h"
#include "oci/image.h"
#include "trust/claim.h"
#include "update/pump.h"

struct vouched {
    struct oci_index_choice image; /* the index or manifest that was signed, size as far as it is known */
    struct trust_claim claim;
};

/* `tag`, an index or a manifest by its `media`, is what the tag is said to name. When an index is not signed, its
 * manifest for this board may be. Takes a newer signed root, which is kept in the state, unless this is only a `look`. */
int vouch_image(const struct conf *conf, struct pump *pump, const struct digest *tag, uint32_t media,
                bool look, struct vouched *out, struct err *e);

/* The last word, when the manifest has been read, too: a version that is not under `floor`, and the right repository.
 * What the signature does not say, annotations of the signed manifest may. *version: what the floor will be once this
 * image is confirmed. */
int vouch_admit(const struct conf *conf, const struct trust_claim *claim, const struct oci_manifest *manifest,
                uint64_t floor, uint64_t *version, struct err *e);

#endif
