/* Paths that come from outside. */
#ifndef SLIPWAY_BASE_PATH_H
#define SLIPWAY_BASE_PATH_H

#include <stdbool.h>

/* Relative, each part of it 1..255 bytes and neither "." nor "..": it says one thing, and can be compared as text. "" is
 * fine. */
bool path_is_plain(const char *relative);

#endif
