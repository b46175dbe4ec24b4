/* Blocks: memory that a layer's content crosses in from decode to stage, so that it is not copied through a pipe.
 *
 * decode unpacks into one block after the other and names the content that lies there (FRAME_LENT); stage writes files
 * straight from it. Through with a block, decode says so (FRAME_BLOCK_END), and stage, once it got there, gives the
 * block back with a byte on a pipe of its own. Between two jobs nothing is lent.
 *
 * stage can only read this memory, and decode can write to it at any time: what is checked there and then used must be
 * copied in between.
 */
#ifndef SLIPWAY_STREAM_BLOCKS_H
#define SLIPWAY_STREAM_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BLOCK_LEN (128u * 1024)
#define BLOCK_CNT (CONFIG_MEM_BLOCKS_KB * 1024u / BLOCK_LEN)
#define BLOCKS_LEN (BLOCK_LEN * BLOCK_CNT)

struct lent { /* FRAME_LENT */
    uint32_t at, len;
};

/* agentd: memory of BLOCKS_LEN that neither role can resize. Returns its descriptor. */
int blocks_make(struct err *e);

/* decode's side. */
struct blocks {
    uint8_t *base;
    int back_fd;      /* a byte for each block that stage gave back */
    uint32_t out_cnt; /* taken, and not given back */
    uint32_t next;
};
/* Takes `fd`. */
int blocks_map(struct blocks *b, int fd, int back_fd, struct err *e);
/* BLOCK_LEN bytes to fill; waits for stage when all are lent. NULL: stage is gone. Each is followed by a
 * FRAME_BLOCK_END, and what was said before must have reached stage. */
uint8_t *blocks_take(struct blocks *b, struct err *e);
/* Whether all of p[0..len) lies there, and where. */
bool blocks_hold(const struct blocks *b, const void *p, size_t len, struct lent *out);

/* stage's side: all of the memory. Takes `fd`. */
const uint8_t *blocks_view(int fd, struct err *e);

#endif
