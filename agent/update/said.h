/* What decode says, for those who read it piece by piece. It is read in large pieces: most files are small, and a read for
 * each of their frames would cost more than their bytes do. Whoever waits for more keeps the other pipes moving: that is
 * the owner's wait().
 */
#ifndef SLIPWAY_UPDATE_SAID_H
#define SLIPWAY_UPDATE_SAID_H

#include <stdint.h>

#include "base/err.h"
#include "stream/entry.h"

#define SAID_PIECE (64 * 1024)

struct said {
    struct entry_pipe pipe; /* first: the slot code is handed &said->pipe */
    int fd;
    /* Return 0 as soon as fd can be read, or an error. The owner has its struct said first, too. */
    int (*wait)(struct said *s, struct err *e);
    uint32_t at, len; /* of bytes[]: what of it is still to be read */
    uint8_t bytes[SAID_PIECE];
};

void said_init(struct said *s, int fd, int (*wait)(struct said *s, struct err *e));
/* Read the next piece; what was left of the one before is gone. */
int said_more(struct said *s, struct err *e);

#endif
