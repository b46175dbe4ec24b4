/* Entries from nothing, for the tests of slot/: content comes from memory, a slot is a directory under /tmp. */
#ifndef SLIPWAY_TESTS_SLOT_FAKE_H
#define SLIPWAY_TESTS_SLOT_FAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "slot/sum.h"
#include "stream/entry.h"

struct fake {
    struct entry_pipe pipe;
    const uint8_t *data;
    uint64_t len, at;
    uint8_t tail[sizeof(struct frame) * 2 + sizeof(struct entry_end)];
    uint32_t tail_at;
    struct content content;
};

/* One DATA frame with everything, then ENTRY_END. */
static int fake_read(struct entry_pipe *p, void *buf, uint32_t len, struct err *e)
{
    struct fake *f = (struct fake *)p;
    (void)e;
    if (f->content.in_frame > 0) {
        memcpy(buf, f->data + f->at, len);
        f->at += len;
        return 0;
    }
    if (f->tail_at + len > sizeof f->tail)
        return err_set(e, ERR_PEER, "nothing left");
    memcpy(buf, f->tail + f->tail_at, len);
    f->tail_at += len;
    return 0;
}

static int64_t fake_move(struct entry_pipe *p, int fd, uint64_t len, struct err *e)
{
    struct fake *f = (struct fake *)p;
    if (io_write_full(fd, f->data + f->at, len) != 0)
        return err_errno(e, "write");
    f->at += len;
    return (int64_t)len;
}

static struct content *fake_content(struct fake *f, const void *data, uint64_t len)
{
    const struct frame head = {.type = FRAME_DATA, .len = (uint32_t)len};
    const struct frame end = {.type = FRAME_ENTRY_END, .len = sizeof(struct entry_end)};
    const struct entry_end sum = {.xxh64 = sum_bytes(data, len, 0)};
    *f = (struct fake){.pipe = {.read = fake_read, .move = fake_move}, .data = data, .len = len};
    memcpy(f->tail, &head, sizeof head);
    memcpy(f->tail + sizeof head, &end, sizeof end);
    memcpy(f->tail + 2 * sizeof head, &sum, sizeof sum);
    f->tail_at = len > 0 ? 0 : sizeof head;
    f->content = (struct content){.pipe = &f->pipe, .left = len};
    return &f->content;
}

#endif
