/* One request, one answer, whatever carried them. A request is an object {"v":1,"cmd":"verb"}; members that a verb
 * does not know are passed over. Nothing here keeps state or knows a descriptor. */
#ifndef SLIPWAY_CTL_LINE_H
#define SLIPWAY_CTL_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "ctl/server.h"

#define CTL_VERSION 1
#define CTL_REQUEST_MAX 1024  /* bytes of a request without its line feed */
#define CTL_RESPONSE_MAX 8192 /* bytes of an answer with its line feed */
#define CTL_LOG_CHUNK_MAX 3072
#define CTL_EVENT_CHUNK_MAX 8     /* events in an answer */
#define CTL_CONFIG_CHUNK_MAX 6000 /* bytes of values in an answer, unless one has more */

/* Answer the `len` bytes of one request. `ascii`: the carrier takes nothing but printable ASCII. `via` names it for
 * the log. Writes one line without line feed, always an answer, and returns its length; `cap` is at least 256. */
size_t ctl_line_answer(const struct ctl_owner *owner, const char *line, size_t len, bool ascii,
                       const char *via, char *out, size_t cap);

/* The answer for a request that was not read whole, or a client there is no room for. */
size_t ctl_line_refuse(int code, const char *why, char *out, size_t cap);

#endif
