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

static int fetch_failed(struct pump *p, int rc)
{
    p->fetch_failed = true;
    return rc;
}

/* --- the hash ------------------------------------------------------------------------------------------------------ */

static void digest_so_far(const struct hash *h, struct digest *out)
{
    struct hash copy = *h;

    hash_end(&copy, out);
}

/* At the byte up to which another process had given the blob to decode. */
static int given_check(struct pump *p, struct err *e)
{
    struct digest got;

    p->given = 0;
    digest_so_far(&p->hash, &got);
    return digest_check("begin of the blob", &p->given_hash, &got, e);
}

static int body_hash(struct pump *p, const uint8_t *bytes, size_t len, struct err *e)
{
    uint64_t due = p->given > 0 ? p->given - p->hash.len : 0;
    int rc = 0;

    if (due > 0 && due <= len) {
        hash_update(&p->hash, bytes, (size_t)due);
        rc = given_check(p, e);
        bytes += due;
        len -= (size_t)due;
    }
    hash_update(&p->hash, bytes, len);
    if (p->portable && p->hash.len - p->states[(p->state_cnt - 1) % PUMP_STATES].len >= PUMP_PIECE)
        p->states[p->state_cnt++ % PUMP_STATES] = p->hash;
    return rc;
}

bool pump_place(const struct pump *p, uint64_t at, struct pump_place *out)
{
    uint32_t n = p->state_cnt, least = n > PUMP_STATES ? n - PUMP_STATES : 0;

    if (!p->portable || p->given > 0)
        return false;
    while (n > least && p->states[(n - 1) % PUMP_STATES].len > at)
        n--;
    if (n == least)
        return false;
    out->hash = p->states[(n - 1) % PUMP_STATES];
    out->given = p->hash.len;
    digest_so_far(&p->hash, &out->given_hash);
    return true;
}

/* --- moving -------------------------------------------------------------------------------------------------------- */

static int body_head(struct pump *p, struct err *e)
{
    struct frame head;
    struct fetch_end end;
    int rc = frame_read_head(p->body_fd, &head, e);

    if (rc < 0)
        return fetch_failed(p, err_prefix(e, "fetch"));
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
            return fetch_failed(p, err_prefix(e, "fetch"));
        p->media = end.media;
        hash_end(&p->hash, &p->got);
        p->state = PUMP_DONE;
        return frame_write(p->raw_fd, FRAME_RAW_END, NULL, 0, e);
    case FRAME_ERR:
        return fetch_failed(p, frame_read_err(p->body_fd, &head, e));
    default:
        return err_set(e, ERR_PEER, "fetch sent frame %u where a body was expected", head.type);
    }
}

/* Hand on what lies at the front of the body's pipe and hash it. The pages are shared, not copied. */
static int body_payload(struct pump *p, struct err *e)
{
    int rc;
    size_t want = p->left < PUMP_PIECE ? p->left : PUMP_PIECE;
    ssize_t n = IO_RETRY(tee(p->body_fd, p->raw_fd, want, SPLICE_F_NONBLOCK));

    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n < 0)
        return decode_failed(e);
    if (n == 0 || io_read_full(p->body_fd, p->piece, (size_t)n) != n)
        return fetch_failed(p, err_set(e, ERR_PEER, "fetch ended in the middle of a body"));
    rc = body_hash(p, p->piece, (size_t)n, e);
    p->bytes_total += (uint64_t)n;
    p->left -= (uint32_t)n;
    if (p->left == 0)
        p->state = PUMP_HEAD;
    if (p->tick)
        p->tick(p->tick_ctx);
    return rc;
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

void pump_begin(struct pump *p, uint64_t size_max, bool portable)
{
    p->state = PUMP_HEAD;
    p->raw_full = p->fetch_failed = false;
    p->size_max = size_max;
    p->given = p->hash_from = 0;
    p->portable = portable;
    if (portable)
        hash_begin_portable(&p->hash);
    else
        hash_begin(&p->hash);
    p->states[0] = p->hash;
    p->state_cnt = 1;
}

void pump_go_on(struct pump *p, const struct pump_place *from)
{
    p->hash = p->states[0] = from->hash;
    hash_go_on(&p->hash);
    hash_go_on(&p->states[0]);
    p->hash_from = p->hash.len;
    p->given = from->given > p->hash.len ? from->given : 0;
    p->given_hash = from->given_hash;
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
    p->bytes_hashed += p->hash.len - p->hash_from;
    return want ? digest_check("digest", want, &p->got, e) : 0;
}
