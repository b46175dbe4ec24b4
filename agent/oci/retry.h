/* When to try again: full-jitter exponential back-off, bounded in number and in length. */
#ifndef SLIPWAY_OCI_RETRY_H
#define SLIPWAY_OCI_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#define RETRY_BASE_MS 500
#define RETRY_MAX_MS 30000    /* longest pause of our own choice */
#define RETRY_AFTER_MAX_S 120 /* longest pause that is waited out; a longer one is left to the next poll */
#define RETRY_TRIES 5         /* of one request without any progress */
#define RETRY_TRIES_MIRROR 2  /* the same for a mirror: there is another host to ask */

/* Is this status worth another try: 408, 429, 500, 502, 503, 504. */
bool retry_status(int status);

/* Pause before try number `tries` + 1 (tries >= 1): anything up to min(RETRY_MAX_MS, RETRY_BASE_MS * 2^(tries-1)),
 * chosen by `random`; what the server asked for, capped, when that is longer. */
uint32_t retry_pause_ms(unsigned tries, uint32_t after_s, uint32_t random);

uint32_t retry_random(void);

#endif
