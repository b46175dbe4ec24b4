/* The judge: counts the different keys that vouch for one subject, and says what they agree on. Signatures are verified
 * over raw bytes first; only then is a payload read (trust/claim.h). One judge a subject.
 */
#ifndef SLIPWAY_TRUST_JUDGE_H
#define SLIPWAY_TRUST_JUDGE_H

#include "base/err.h"
#include "base/hash.h"
#include "trust/claim.h"
#include "trust/keys.h"

struct trust_vote {
    struct trust_claim claim;
    uint32_t keys; /* bit n: key n says so */
};

struct trust_judge {
    struct trust_keys *keys;
    struct digest subject;
    uint32_t seen; /* signatures, good or bad */
    uint32_t vote_cnt;
    struct trust_vote votes[TRUST_REF_MAX];
    struct err reason; /* why the first bad one was not counted */
};

void trust_judge_begin(struct trust_judge *j, struct trust_keys *keys, const struct digest *subject);
/* Verify a signature, and count it. One that is not good does no harm to those that are. */
void trust_judge_add(struct trust_judge *j, const struct trust_signed *s);
/* The same for one that could not even be read. */
void trust_judge_note(struct trust_judge *j, const struct err *why);
/* Enough different keys agree? ERR_UNSIGNED: there was no signature. ERR_SIGNATURE and others: none that counts. Of
 * several things agreed upon, the highest version wins: an image signed anew for a later version is a permit to go
 * back to it. */
int trust_judge_end(const struct trust_judge *j, struct trust_claim *out, struct err *e);

/* The keys that signed these raw bytes: one bit each. */
uint32_t trust_signers(struct trust_keys *keys, const struct trust_signed *s, const struct digest *subject);

#endif
