#include "update/said.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"

int said_more(struct said *s, struct err *e)
{
    ssize_t n = IO_RETRY(read(s->fd, s->bytes, sizeof s->bytes));

    if (n < 0)
        return err_errno(e, "decode");
    if (n == 0)
        return err_set(e, ERR_PEER, "decode ended without a word");
    s->at = 0;
    s->len = (uint32_t)n;
    return 0;
}

/* Have something in bytes[]. */
static int said_fill(struct said *s, struct err *e)
{
    int rc;

    if (s->at < s->len)
        return 0;
    rc = s->wait(s, e);
    return rc < 0 ? rc : said_more(s, e);
}

static int said_read(struct entry_pipe *pipe, void *buf, uint32_t len, struct err *e)
{
    struct said *s = (struct said *)pipe;
    uint8_t *at = buf;

    while (len > 0) {
        int rc = said_fill(s, e);
        uint32_t n = s->len - s->at < len ? s->len - s->at : len;

        if (rc < 0)
            return rc;
        memcpy(at, s->bytes + s->at, n);
        s->at += n;
        at += n;
        len -= n;
    }
    return 0;
}

static int64_t said_move(struct entry_pipe *pipe, int fd, uint64_t len, struct err *e)
{
    struct said *s = (struct said *)pipe;
    int rc = said_fill(s, e);
    ssize_t n;

    if (rc < 0)
        return rc;
    if (len > s->len - s->at)
        len = s->len - s->at;
    n = IO_RETRY(write(fd, s->bytes + s->at, len));
    if (n < 0)
        return err_errno(e, "write");
    s->at += (uint32_t)n;
    return n;
}

void said_init(struct said *s, int fd, int (*wait)(struct said *s, struct err *e))
{
    s->pipe = (struct entry_pipe){.read = said_read, .move = said_move};
    s->fd = fd;
    s->wait = wait;
    s->at = s->len = 0;
}
