/* What stands around signatures, and what was signed: lists, bundles, payloads, notices. */
#include <string.h>

#include "fuzz.h"
#include "trust/claim.h"
#include "trust/notice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct trust_refs refs;
    static struct trust_signed s;
    static struct trust_claim claim;
    static struct notice_root root;
    static struct notice_brake brake;
    static const struct digest subject = {{0x11}};
    const char *text = (const char *)data + 1;
    struct err e;

    if (len-- == 0)
        return 0;
    switch (data[0] % 6) {
    case 0:
        (void)envelope_refs(text, len, &refs, &e);
        break;
    case 1:
        if (envelope_bundle(text, len, &s, &e) == 0)
            (void)trust_claim_read(&s, &subject, &claim, &e);
        break;
    case 2:
    case 3:
        if (envelope_payload(text, len, &s, &e))
            break;
        s.form = data[0] % 6 == 2 ? TRUST_SIMPLE : TRUST_STATEMENT;
        (void)trust_claim_read(&s, &subject, &claim, &e);
        break;
    case 4:
        (void)notice_root_parse(text, len, &root, &e);
        break;
    default:
        (void)notice_brake_parse(text, len, &brake, &e);
    }
    return 0;
}
