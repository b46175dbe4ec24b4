#include "trust/judge.h"

#include <string.h>

void trust_judge_begin(struct trust_judge *j, struct trust_keys *keys, const struct digest *subject)
{
    memset(j, 0, sizeof *j);
    j->keys = keys;
    j->subject = *subject;
}

uint32_t trust_signers(struct trust_keys *keys, const struct trust_signed *s, const struct digest *subject)
{
    uint32_t signers = 0;

    for (uint32_t i = 0; i < keys->cnt; i++)
        if (trust_key_verify(keys, i, s, subject) == VERDICT_MATCH)
            signers |= 1u << i;
    return signers;
}

void trust_judge_note(struct trust_judge *j, const struct err *why)
{
    j->seen++;
    if (j->reason.code == 0)
        j->reason = *why;
}

static bool claims_agree(const struct trust_claim *a, const struct trust_claim *b)
{
    return a->version == b->version && !strcmp(a->repository, b->repository);
}

static void vote_count(struct trust_judge *j, const struct trust_claim *claim, uint32_t signers)
{
    struct err full;

    for (uint32_t i = 0; i < j->vote_cnt; i++)
        if (claims_agree(&j->votes[i].claim, claim)) {
            j->votes[i].keys |= signers;
            return;
        }
    if (j->vote_cnt < TRUST_REF_MAX) {
        j->votes[j->vote_cnt++] = (struct trust_vote){.claim = *claim, .keys = signers};
        return;
    }
    err_set(&full, ERR_LIMIT, "more than %d different claims", TRUST_REF_MAX);
    trust_judge_note(j, &full);
}

void trust_judge_add(struct trust_judge *j, const struct trust_signed *s)
{
    uint32_t signers = trust_signers(j->keys, s, &j->subject);
    struct trust_claim claim;
    struct err e;

    if (signers == 0) {
        err_set(&e, ERR_SIGNATURE, "a signature that none of the %u keys made, or over other bytes",
                j->keys->cnt);
        trust_judge_note(j, &e);
        return;
    }
    /* from here on the payload is what the signer wrote */
    if (trust_claim_read(s, &j->subject, &claim, &e)) {
        trust_judge_note(j, &e);
        return;
    }
    j->seen++;
    vote_count(j, &claim, signers);
}

/* Of claims that enough keys agree on: the newest version, and rather with a repository than without. */
static bool says_more(const struct trust_claim *a, const struct trust_claim *b)
{
    return a->version > b->version || (a->version == b->version && a->repository[0] && !b->repository[0]);
}

int trust_judge_end(const struct trust_judge *j, struct trust_claim *out, struct err *e)
{
    const struct trust_vote *best = NULL;
    uint32_t most = 0;
    char subject[DIGEST_TEXT_LEN];

    digest_format(&j->subject, subject);
    for (uint32_t i = 0; i < j->vote_cnt; i++) {
        const struct trust_vote *v = &j->votes[i];
        uint32_t signers = (uint32_t)__builtin_popcount(v->keys);

        most = signers > most ? signers : most;
        if (signers >= j->keys->threshold && (!best || says_more(&v->claim, &best->claim)))
            best = v;
    }
    if (best) {
        *out = best->claim;
        return 0;
    }
    if (j->seen == 0)
        return err_set(e, ERR_UNSIGNED, "nobody signed %.19s..", subject);
    if (most > 0)
        return err_set(e, ERR_SIGNATURE, "%.19s..: %u of the %u different keys needed agree on it", subject,
                       most, j->keys->threshold);
    *e = j->reason;
    return err_prefix(e, "%.19s..", subject);
}
