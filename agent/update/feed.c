#include "update/feed.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#include "base/io.h"
#include "oci/fetch.h"
#include "stream/frame.h"

#define FEED_PIECE 65536u

/* The next bytes of the body. Returns 1, 0 at its end, or fetch's error. */
static int body_head(struct feed *f, struct err *e)
{
    struct frame head;
    struct fetch_end end;
    int rc = frame_read_head(f->body_fd, &head, e);

    if (rc < 0)
        return err_prefix(e, "fetch");
    if (head.type == FRAME_ERR)
        return frame_read_err(f->body_fd, &head, e);
    if (head.type == FRAME_BODY_END) {
        rc = frame_read_fixed(f->body_fd, &head, &end, sizeof end, e);
        return rc < 0 ? err_prefix(e, "fetch") : 0;
    }
    if (head.type != FRAME_BODY || head.len == 0)
        return err_set(e, ERR_PEER, "fetch sent frame %u where a body was expected", head.type);
    f->body_left = head.len;
    return 1;
}

static int body_need(struct feed *f, struct err *e)
{
    int rc = f->body_left > 0 ? 1 : body_head(f, e);

    return rc == 0 ? err_set(e, ERR_SIZE, "the part of the blob is too short") : rc;
}

static int body_drop(struct feed *f, struct err *e)
{
    uint8_t waste[4096];
    uint64_t n = f->skip < f->body_left ? f->skip : f->body_left;

    n = n < sizeof waste ? n : sizeof waste;
    if (io_read_full(f->body_fd, waste, (size_t)n) != (ssize_t)n)
        return err_set(e, ERR_PEER, "fetch ended in the middle of a body");
    f->body_left -= (uint32_t)n;
    f->skip -= n;
    *f->bytes += n;
    return 0;
}

static int raw_end(struct feed *f, struct err *e)
{
    f->job = false;
    return frame_write(f->raw_fd, FRAME_RAW_END, NULL, 0, e);
}

static int raw_head(struct feed *f, struct err *e)
{
    uint64_t n = f->take < FEED_PIECE ? f->take : FEED_PIECE;
    struct frame head = {.type = FRAME_RAW};

    if (f->file_fd < 0 && n > f->body_left)
        n = f->body_left;
    head.len = f->raw_left = (uint32_t)n;
    return io_write_full(f->raw_fd, &head, sizeof head) < 0 ? err_errno(e, "decode") : 0;
}

/* There is room in decode's pipe, and something to put there. */
static int raw_move(struct feed *f, struct err *e)
{
    int from = f->file_fd >= 0 ? f->file_fd : f->body_fd;
    ssize_t n;
    int rc = f->raw_left > 0 ? 0 : raw_head(f, e);

    if (rc < 0)
        return rc;
    n = IO_RETRY(splice(from, NULL, f->raw_fd, NULL, f->raw_left, SPLICE_F_MOVE | SPLICE_F_NONBLOCK));
    if (n < 0)
        return errno == EAGAIN ? 0 : err_errno(e, "decode");
    if (n == 0)
        return err_set(e, ERR_PEER, "the bytes for decode end too early");
    f->raw_left -= (uint32_t)n;
    f->take -= (uint64_t)n;
    if (f->file_fd < 0) {
        f->body_left -= (uint32_t)n;
        *f->bytes += (uint64_t)n;
    }
    return 0;
}

/* What can be done without waiting: 1 when something was, 0 when not, or an error. */
static int feed_move(struct feed *f, short room, short come, struct err *e)
{
    int rc;

    if (f->take == 0 && f->skip == 0)
        return room ? (rc = raw_end(f, e)) < 0 ? rc : 1 : 0;
    if (f->file_fd < 0 && !come)
        return 0;
    rc = f->file_fd < 0 ? body_need(f, e) : 1;
    if (rc < 0)
        return rc;
    if (f->skip > 0)
        rc = body_drop(f, e);
    else if (room)
        rc = raw_move(f, e);
    else
        return 0;
    return rc < 0 ? rc : 1;
}

/* Wait until decode has something to say. */
static int feed_wait(struct said *s, struct err *e)
{
    struct feed *f = (struct feed *)s;

    for (;;) {
        bool full = false;
        struct pollfd set[3] = {{.fd = f->said.fd, .events = POLLIN},
                                {.fd = f->job ? f->raw_fd : -1, .events = POLLOUT},
                                {.fd = f->job && f->file_fd < 0 ? f->body_fd : -1, .events = POLLIN}};

        /* Two things are needed to move: look at both, but wait for the one that is missing. */
        if (IO_RETRY(poll(set, 3, 0)) < 0)
            return err_errno(e, "poll");
        if (set[0].revents)
            return 0;
        if (f->job) {
            int rc = feed_move(f, set[1].revents, set[2].revents, e);

            if (rc < 0)
                return rc;
            if (rc > 0)
                continue;
            full = !set[1].revents;
        }
        set[full ? 2 : 1].fd = -1;
        if (IO_RETRY(poll(set, 3, -1)) < 0)
            return err_errno(e, "poll");
    }
}

void feed_init(struct feed *f, int body_fd, int raw_fd, int entries_fd, uint64_t *bytes)
{
    memset(f, 0, sizeof *f);
    said_init(&f->said, entries_fd, feed_wait);
    f->body_fd = body_fd;
    f->raw_fd = raw_fd;
    f->file_fd = -1;
    f->bytes = bytes;
}

static int job_begin(struct feed *f, const struct job *job, int file_fd, uint64_t skip, struct err *e)
{
    if (f->job)
        return err_set(e, ERR_PEER, "decode did not wait for the end of its bytes");
    f->file_fd = file_fd;
    f->skip = skip;
    f->take = job->size;
    f->raw_left = 0;
    f->job = true;
    return frame_write(f->raw_fd, FRAME_JOB, job, sizeof *job, e);
}

int feed_file(struct feed *f, const struct job *job, int fd, struct err *e)
{
    return job_begin(f, job, fd, 0, e);
}

int feed_body_begin(struct feed *f, struct err *e)
{
    int rc;

    f->body_left = 0;
    rc = body_need(f, e);
    return rc < 0 ? rc : 0;
}

int feed_body_job(struct feed *f, const struct job *job, uint64_t skip, struct err *e)
{
    return job_begin(f, job, -1, skip, e);
}

int feed_body_end(struct feed *f, struct err *e)
{
    int rc = f->body_left > 0 ? 1 : body_head(f, e);

    return rc > 0 ? err_set(e, ERR_SIZE, "the part of the blob is too long") : rc;
}

int feed_body_to_file(struct feed *f, int fd, uint64_t max, struct digest *digest, struct err *e)
{
    uint8_t buf[4096];
    struct hash h;
    uint64_t done = 0;
    int rc = 1;

    hash_begin(&h);
    f->body_left = 0;
    while (rc > 0 && (f->body_left > 0 || (rc = body_head(f, e)) > 0)) {
        uint32_t n = f->body_left < sizeof buf ? f->body_left : (uint32_t)sizeof buf;

        if (io_read_full(f->body_fd, buf, n) != (ssize_t)n)
            rc = err_set(e, ERR_PEER, "fetch ended in the middle of a body");
        else if ((done += n) > max)
            rc = err_set(e, ERR_SIZE, "more than %llu bytes", (unsigned long long)max);
        else if (io_write_full(fd, buf, n) < 0)
            rc = err_errno(e, "write");
        f->body_left -= n;
        *f->bytes += n;
        hash_update(&h, buf, n);
        if (f->tick)
            f->tick(f->tick_ctx);
    }
    hash_end(&h, digest);
    if (rc == 0 && done != max)
        return err_set(e, ERR_SIZE, "want %llu bytes, got %llu", (unsigned long long)max,
                       (unsigned long long)done);
    return rc;
}
