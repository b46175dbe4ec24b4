/* Notices: small signed texts of Slipway's own, found at tags of the repository (agent/FORMAT.md, "Notices"). A root
 * says which keys sign from now on; a brake holds the fleet while it stands. Parsed only after their signatures were
 * verified.
 *
 *     slipway root              slipway brake
 *     version 3                 repository fleet/web
 *     threshold 2               reason version 12 loses settings
 *     key MFkwEwYHKoZIzj0C...
 *     key MFkwEwYHKoZIzj0C...
 */
#ifndef SLIPWAY_TRUST_NOTICE_H
#define SLIPWAY_TRUST_NOTICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"

#define NOTICE_KEY_LEN_MAX 124 /* DER of a SubjectPublicKeyInfo: 91 bytes with P-256, 120 with P-384 */

struct notice_root {  /* also as the record "root" on flash */
    uint32_t version; /* 0: none; a device takes only a higher one than it has */
    uint32_t threshold;
    uint32_t key_cnt;
    struct {
        uint32_t len;
        uint8_t der[NOTICE_KEY_LEN_MAX];
    } keys[CONF_KEY_MAX];
};

struct notice_brake {
    char repository[256];
    char reason[160];
};

int notice_root_parse(const char *text, size_t len, struct notice_root *out, struct err *e);
int notice_brake_parse(const char *text, size_t len, struct notice_brake *out, struct err *e);

#endif
