#include "stream/blocks.h"

#include <errno.h>
#include <unistd.h>

#include "base/io.h"
#include "base/shared.h"

int blocks_make(struct err *e)
{
    return shared_make("blocks", BLOCKS_LEN, e);
}

static void *map(int fd, bool writable, struct err *e)
{
    void *base = shared_map(fd, BLOCKS_LEN, writable, e);

    close(fd);
    return base;
}

int blocks_map(struct blocks *b, int fd, int back_fd, struct err *e)
{
    *b = (struct blocks){.base = map(fd, true, e), .back_fd = back_fd};
    return b->base ? 0 : e->code;
}

const uint8_t *blocks_view(int fd, struct err *e)
{
    return map(fd, false, e);
}

static int wait_for_some(struct blocks *b, struct err *e)
{
    uint8_t back[BLOCK_CNT];
    ssize_t n = IO_RETRY(read(b->back_fd, back, b->out_cnt));

    if (n <= 0)
        return err_set(e, ERR_PEER, "stage ended in the middle of a layer");
    b->out_cnt -= (uint32_t)n;
    return 0;
}

uint8_t *blocks_take(struct blocks *b, struct err *e)
{
    uint8_t *block = b->base + (size_t)b->next * BLOCK_LEN;

    if (b->out_cnt == BLOCK_CNT && wait_for_some(b, e) < 0)
        return NULL;
    b->out_cnt++;
    b->next = (b->next + 1) % BLOCK_CNT;
    return block;
}

bool blocks_hold(const struct blocks *b, const void *p, size_t len, struct lent *out)
{
    uintptr_t base = (uintptr_t)b->base, at = (uintptr_t)p;

    if (at < base || at - base > BLOCKS_LEN || len > BLOCKS_LEN - (at - base))
        return false;
    *out = (struct lent){.at = (uint32_t)(at - base), .len = (uint32_t)len};
    return true;
}
