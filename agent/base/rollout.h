/* Rollout without a server: annotations of the signed manifest say from when on, and how fast, a version may spread, and
 * each device finds out for itself when its turn is.
 *
 * A device's place is HMAC-SHA256(key: salt, text: device id), its first 32 bits as a fraction: spread evenly, the same
 * at each look, and foreseen by whoever knows the ids. With the same salt the same devices come first.
 */
#ifndef SLIPWAY_BASE_ROLLOUT_H
#define SLIPWAY_BASE_ROLLOUT_H

#include <stdint.h>

#include "base/err.h"

#define ROLLOUT_PERCENT 100
#define ROLLOUT_NEVER UINT32_MAX

struct rollout {
    int64_t start_s;    /* dev.slipway.rollout.start, RFC 3339; 0: at once */
    uint32_t ramp_s;    /* .ramp, "24h": from the first device's turn to the last one's */
    uint32_t max;       /* .max: percent of the devices that it may reach */
    char salt[64];      /* .salt; "": the version's name stands in */
    char channels[128]; /* .channels, "beta, edge": only devices of these; "": all */
};

/* 0 when it is the device's turn at `now_s`. ERR_HELD: not yet, or e->after_s is ROLLOUT_NEVER and it is not for this device
 * at all; the text says why. */
int rollout_turn(const struct rollout *r, const char *version, const char *device_id, const char *channel,
                 int64_t now_s, struct err *e);

#endif
