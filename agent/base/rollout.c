#include "base/rollout.h"

#include <inttypes.h>
#include <mbedtls/md.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"

#define SEPARATORS ", "

static bool is_of_channel(const char *list, const char *channel)
{
    size_t want = strlen(channel);

    while (*list) {
        size_t n = strcspn(list, SEPARATORS);

        if (n == want && memcmp(list, channel, n) == 0)
            return true;
        list += n;
        list += strspn(list, SEPARATORS);
    }
    return false;
}

/* *place: parts of 2^32. */
static int place_find(const char *salt, const char *device_id, uint32_t *place, struct err *e)
{
    uint8_t mac[DIGEST_LEN];
    int rc = mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), (const uint8_t *)salt,
                             strlen(salt), (const uint8_t *)device_id, strlen(device_id), mac);

    if (rc != 0)
        return err_set(e, ERR_LIMIT, "rollout: HMAC failed: -0x%x", (unsigned)-rc);
    *place = (uint32_t)mac[0] << 24 | (uint32_t)mac[1] << 16 | (uint32_t)mac[2] << 8 | mac[3];
    return 0;
}

static int never(struct err *e)
{
    e->after_s = ROLLOUT_NEVER;
    return e->code;
}

int rollout_turn(const struct rollout *r, const char *version, const char *device_id, const char *channel,
                 int64_t now_s, struct err *e)
{
    uint32_t place = 0, hundredths;
    int64_t turn_s;
    time_t when;
    struct tm tm;
    char text[32];
    int rc = place_find(r->salt[0] ? r->salt : version, device_id, &place, e);

    if (rc != 0)
        return rc;
    hundredths = (uint32_t)((uint64_t)place * (ROLLOUT_PERCENT * 100) >> 32);
    turn_s = r->start_s + (int64_t)((uint64_t)r->ramp_s * place >> 32);

    if (r->channels[0] && !is_of_channel(r->channels, channel)) {
        err_set(e, ERR_HELD, "rollout: for channel %.60s, and this device is of %s", r->channels, channel);
        return never(e);
    }
    if ((uint64_t)place * ROLLOUT_PERCENT >= (uint64_t)r->max << 32) {
        err_set(e, ERR_HELD, "rollout: for %u %% of the devices, and this one's place is %u.%02u %%", r->max,
                hundredths / 100, hundredths % 100);
        return never(e);
    }
    if (turn_s <= now_s)
        return 0;
    when = (time_t)turn_s;
    if (gmtime_r(&when, &tm) == NULL || strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm) == 0)
        snprintf(text, sizeof text, "second %" PRId64, turn_s);
    err_set(e, ERR_HELD, "rollout: this device's place is %u.%02u %%, its turn is at %s UTC",
            hundredths / 100, hundredths % 100, text);
    e->after_s = turn_s - now_s < ROLLOUT_NEVER ? (uint32_t)(turn_s - now_s) : ROLLOUT_NEVER - 1;
    return e->code;
}
