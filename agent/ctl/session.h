/* agentctl's side of the control protocol: a question goes out over the socket or a serial line, its answer comes back.
 * What goes wrong on the way is told on stderr, in words for a person, and returned as the exit code to end with.
 */
#ifndef SLIPWAY_CTL_SESSION_H
#define SLIPWAY_CTL_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl/agentctl.h"
#include "ctl/line.h"
#include "ctl/serial.h"

struct cJSON;

struct session {
    const char *socket;
    const char *serial; /* NULL: the socket */
    uint32_t baud;
    bool json; /* a refusal is printed as it came */
    int fd;    /* -1: not open */
    uint32_t seq;
    char answer[SERIAL_FRAME_MAX(CTL_RESPONSE_MAX) + 1]; /* the JSON of the last one */
};

/* Ask, and check what came. With AGENTCTL_OK, *out is the answer, to be deleted. Opens what is to be opened. */
int session_ask(struct session *s, const char *request, struct cJSON **out);
/* An answer came that is none. Returns AGENTCTL_BROKEN. */
int session_broken(const char *why);
void session_end(struct session *s);

#endif
