/* Entries as a decode sends them that hostile bytes have taken over: stage's side of the framing. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "stream/blocks.h"
#include "stream/entry.h"

static struct rest {
    struct entry_pipe pipe;
    const uint8_t *at;
    size_t len;
} rest;

static int rest_read(struct entry_pipe *p, void *buf, uint32_t len, struct err *e)
{
    (void)p;
    if (len > rest.len)
        return err_set(e, ERR_PEER, "the end");
    memcpy(buf, rest.at, len);
    rest.at += len;
    rest.len -= len;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct entry entry;
    static uint8_t waste[4096], *blocks;
    struct content content = {.pipe = &rest.pipe};
    static int back_fd;
    struct entry_end end;
    struct frame head;
    struct err e;

    if (!blocks) {
        blocks = calloc(1, BLOCKS_LEN);
        back_fd = open("/dev/null", O_WRONLY);
    }
    rest = (struct rest){
        .pipe = {.read = rest_read, .blocks = blocks, .back_fd = back_fd}, .at = data, .len = len};
    while (entry_pipe_head(&rest.pipe, &head, &e) == 0 && entry_read(&rest.pipe, &head, &entry, &e) == 0) {
        if (entry.type != ENTRY_NODE || entry.node.type != NODE_FILE)
            continue;
        content = (struct content){.pipe = &rest.pipe, .left = entry.node.size};
        if (content.left <= sizeof waste && content_read(&content, waste, (uint32_t)content.left, &e) < 0)
            break;
        if (content_end(&content, &end, &e) < 0)
            break;
    }
    return 0;
}
