/* What happened to the board: one entry of the history (agent/FORMAT.md, "State"). A flat value of 256 bytes: it goes
 * into a record as it is. Strings are ended by a NUL.
 */
#ifndef SLIPWAY_BASE_EVENT_H
#define SLIPWAY_BASE_EVENT_H

#include <stdint.h>

#include "base/hash.h"

struct event {
    int64_t when_s;       /* wall time, as the board knew it */
    int32_t code;         /* enum err_code or a negative errno; 0: it went well */
    uint32_t slot;        /* 'A' or 'B': the one concerned */
    char what[16];        /* "installed", "confirmed", "trial", ... */
    struct digest digest; /* of the tag; zero: no version concerned */
    char version[32];     /* as the image names itself; "" when it does not */
    char text[160];       /* the beginning of the cause; "" when it went well */
};
_Static_assert(sizeof(struct event) == 256, "an event is what FORMAT.md says");

#endif
