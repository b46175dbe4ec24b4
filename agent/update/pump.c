#include "update/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/io.h"
#include "oci/fetch.h"
#include "stream/frame.h"

/* A pipe that nobody reads any more: agentd will know what decode died of. */
static int decode_failed(struct err *e)
{
    return errno == EPIPE ? err_set(e, ERR_PEER, "decode ended without a word") : err_errno(e, "decode");
}

static int body_head(struct pump *p, struct err *e)
{
    struct frame head;
    struct fetch_end end;
    int rc = frame_read_head(p->body_fd, &head, e);

    if (rc < 0)
        return err_prefix(e, "fetch");
    switch (head.type) {
    case FRAME_BODY:
        if (p->hash.len + head.len > p->size_max)
            return err_set(e, ERR_SIZE, "body is longer than the %llu bytes it should have",
                           (unsigned long long)p->size_max);
        p->left = head.len;
        p->state = PUMP_PAYLOAD;
        return io_write_full(p->raw_fd, &(struct frame){.type = FRAME_RAW, .len = head.len}, sizeof head) < 0
                   ? decode_failed(e)
                   : 0;
    case FRAME_BODY_END:
        rc = frame_read_fixed(p->body_fd, &head, &end, sizeof end, e);
        if (rc < 0)
            return err_prefix(e, "fetch");
        p->media = end.media;
        hash_end(&p->hash, &p->got);
        p->state = PUMP_DONE;
        return frame_write(p->raw_fd, FRAME_RAW_END, NULL, 0, e);
    case FRAME_ERR:
        return frame_read_err(p->body_fd, &head, e);
    default:
        return err_set(e, ERR_PEER, "fetch sent frame %u where a body was expected", head.type);
    }
}

/* Hand on what lies at the front of the body's pipe and hash it. The pages are shared, not copied. */
static int body_payload(struct pump *p, struct err *e)
{
    size_t want = p->left < PUMP_PIECE ? p->left : PUMP_PIECE;
    ssize_t n = IO_RETRY(tee(p->body_fd, p->raw_fd, want, SPLICE_F_NONBLOCK));

    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0)
        return decode_failed(e);
    if (n == 0)
        return err_set(e, ERR_PEER, "fetch ended in the middle of a body");
    if (io_read_full(p->body_fd, p->piece, (size_t)n) != n)
        return err_set(e, ERR_PEER, "fetch ended in the middle of a body");
    hash_update(&p->hash, p->piece, (size_t)n);
    p->bytes_total += (uint64_t)n;
    p->left -= (uint32_t)n;
    if (p->left == 0)
        p->state = PUMP_HEAD;
    if (p->tick)
        p->tick(p->tick_ctx);
    return 0;
}

/* Wait until decode has something to say, or the body moved a step. Returns 1 for the former, 0 for the latter. */
static int pump_step(struct pump *p, struct err *e)
{
    bool moving = p->state == PUMP_HEAD || p->state == PUMP_PAYLOAD;
    struct pollfd set[2] = {
        {.fd = p->said.fd, .events = POLLIN},
        {.fd = moving ? (p->raw_full ? p->raw_fd : p->body_fd) : -1,
         .events = p->raw_full ? POLLOUT : POLLIN},
    };
    struct pollfd room = {.fd = p->raw_fd, .events = POLLOUT};

    if (IO_RETRY(poll(set, 2, -1)) < 0)
        return err_errno(e, "poll");
    if (set[1].revents) {
        if (p->raw_full || IO_RETRY(poll(&room, 1, 0)) > 0) {
            int rc;

            if (p->raw_full) {
                p->raw_full = false;
                return 0;
            }
            rc = p->state == PUMP_HEAD ? body_head(p, e) : body_payload(p, e);
            if (rc < 0)
                return rc;
        } else {
            p->raw_full = true;
        }
    }
    return set[0].revents ? 1 : 0;
}

static int pump_wait(struct said *s, struct err *e)
{
    int rc;

    do
        rc = pump_step((struct pump *)s, e);
    while (rc == 0);
    return rc < 0 ? rc : 0;
}

void pump_init(struct pump *p, int body_fd, int raw_fd, int entries_fd)
{
    memset(p, 0, sizeof *p);
    said_init(&p->said, entries_fd, pump_wait);
    p->body_fd = body_fd;
    p->raw_fd = raw_fd;
}

void pump_begin(struct pump *p, uint64_t size_max)
{
    p->state = PUMP_HEAD;
    p->raw_full = false;
    p->size_max = size_max;
    hash_begin(&p->hash);
}

int pump_finish(struct pump *p, const struct digest *want, struct err *e)
{
    while (p->state != PUMP_DONE) {
        int rc = pump_step(p, e);

        if (rc == 1)
            rc = said_more(&p->said, e);
        if (rc < 0)
            return rc;
    }
    p->said.at = p->said.len = 0;
    p->state = PUMP_IDLE;
    p->bytes_hashed += p->hash.len;
    return want ? digest_check("digest", want, &p->got, e) : 0;
}
