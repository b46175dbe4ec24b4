#include "oci/retry.h"

#include <sys/random.h>
#include <time.h>

bool retry_status(int status)
{
    return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

uint32_t retry_pause_ms(unsigned tries, uint32_t after_s, uint32_t random)
{
    uint32_t most = RETRY_MAX_MS;
    uint32_t asked = (after_s > RETRY_AFTER_MAX_S ? RETRY_AFTER_MAX_S : after_s) * 1000;
    uint32_t own;

    if (tries >= 1 && tries <= 6)
        most = RETRY_BASE_MS << (tries - 1);
    own = random % (most + 1);
    return own > asked ? own : asked;
}

uint32_t retry_random(void)
{
    uint32_t r;
    struct timespec now;

    if (getrandom(&r, sizeof r, GRND_NONBLOCK) == (ssize_t)sizeof r)
        return r;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint32_t)now.tv_nsec * 2654435761u;
}
