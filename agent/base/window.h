/* Hours of the day, "22:00-06:00": from the first minute up to, but without, the second. One that ends before it begins
 * goes on over midnight. Minutes are those of a clock on the wall; whose, the caller says.
 */
#ifndef SLIPWAY_BASE_WINDOW_H
#define SLIPWAY_BASE_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define WINDOW_DAY_MIN 1440

struct window {
    uint16_t from, to; /* minutes of the day, never equal; both 0: none, the list ends here */
};

/* "22:00-06:00, 12:00-13:30", of which `max` fit; ERR_CONFIG. The rest of out[] is left as it is, which is all 0. */
int window_list_parse(const char *text, struct window *out, size_t max, struct err *e);
/* Is `minute` in one of the `max` windows? */
bool window_is_open(const struct window *w, size_t max, unsigned minute);
/* Minutes from `minute` on until it is so, or no longer: 0 to a day, which also means never. */
unsigned window_wait(const struct window *w, size_t max, unsigned minute, bool open);

#endif
