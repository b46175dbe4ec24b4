/* Times and durations, as text. */
#ifndef SLIPWAY_BASE_MOMENT_H
#define SLIPWAY_BASE_MOMENT_H

#include <stdbool.h>
#include <stdint.h>

/* RFC 3339, "2006-01-02T15:04:05.999999999+07:00": seconds since 1970, and nanoseconds. Go's zero time, the year 1, stands for
 * none and gives 0. */
bool moment_parse(const char *text, int64_t *s, uint32_t *ns);
/* "90", "90s", "5m", "2h". */
bool seconds_parse(const char *text, uint32_t *out);

#endif
