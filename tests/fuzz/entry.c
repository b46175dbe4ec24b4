/* Entries as a decode sends them that hostile bytes have taken over: stage's side of the framing. */
#include <string.h>

#include "fuzz.h"
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
    static uint8_t waste[4096];
    struct content content = {.pipe = &rest.pipe};
    struct entry_end end;
    struct frame head;
    struct err e;

    rest = (struct rest){.pipe = {.read = rest_read}, .at = data, .len = len};
    while (rest_read(&rest.pipe, &head, sizeof head, &e) == 0 && frame_check_head(&head, &e) == 0 &&
           entry_read(&rest.pipe, &head, &entry, &e) == 0) {
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
