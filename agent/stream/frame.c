#include "stream/frame.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"

#define PARTS_MAX 6

static int parts_write(int fd, struct iovec *v, int cnt)
{
    while (cnt > 0) {
        ssize_t n;

        if (v->iov_len == 0) {
            v++;
            cnt--;
            continue;
        }
        n = IO_RETRY(writev(fd, v, cnt));
        if (n < 0)
            return -1;
        for (; cnt > 0 && (size_t)n >= v->iov_len; v++, cnt--)
            n -= (ssize_t)v->iov_len;
        if (cnt > 0) {
            v->iov_base = (char *)v->iov_base + n;
            v->iov_len -= (size_t)n;
        }
    }
    return 0;
}

static int written(int rc, struct err *e)
{
    if (rc == 0)
        return 0;
    if (errno == EPIPE)
        return err_set(e, ERR_PEER, "pipe: the reader is gone");
    return err_errno(e, "pipe: write");
}

/* v[0] becomes `head` and v[1..cnt] the parts. Returns the length of all. */
static uint64_t frame_lay_out(struct frame *head, enum frame_type type, const struct iovec *parts, int cnt,
                              struct iovec *v)
{
    uint64_t len = 0;

    ASSERT(cnt >= 0 && cnt <= PARTS_MAX);
    for (int i = 0; i < cnt; i++) {
        v[i + 1] = parts[i];
        len += parts[i].iov_len;
    }
    ASSERT(len <= UINT32_MAX);
    *head = (struct frame){.type = (uint16_t)type, .len = (uint32_t)len};
    v[0] = (struct iovec){head, sizeof *head};
    return sizeof *head + len;
}

int frame_write_parts(int fd, enum frame_type type, const struct iovec *parts, int cnt, struct err *e)
{
    struct frame head;
    struct iovec v[PARTS_MAX + 1];

    frame_lay_out(&head, type, parts, cnt, v);
    return written(parts_write(fd, v, cnt + 1), e);
}

int frame_gather_add(struct frame_gather *g, enum frame_type type, const struct iovec *parts, int cnt,
                     struct err *e)
{
    struct frame head;
    struct iovec v[PARTS_MAX + 2] = {{g->buf, g->len}};
    uint64_t len = frame_lay_out(&head, type, parts, cnt, v + 1);

    if (len > sizeof g->buf - g->len) {
        g->len = 0;
        return written(parts_write(g->fd, v, cnt + 2), e);
    }
    for (int i = 1; i < cnt + 2; i++) {
        if (v[i].iov_len > 0)
            memcpy(g->buf + g->len, v[i].iov_base, v[i].iov_len);
        g->len += (uint32_t)v[i].iov_len;
    }
    return 0;
}

int frame_gather_flush(struct frame_gather *g, struct err *e)
{
    struct iovec v = {g->buf, g->len};

    g->len = 0;
    return written(parts_write(g->fd, &v, 1), e);
}

int frame_write(int fd, enum frame_type type, const void *payload, uint32_t len, struct err *e)
{
    struct iovec v = {(void *)(uintptr_t)payload, len};

    return frame_write_parts(fd, type, &v, 1, e);
}

int frame_write_two(int fd, enum frame_type type, const void *a, uint32_t a_len, const void *b,
                    uint32_t b_len, struct err *e)
{
    struct iovec v[2] = {{(void *)(uintptr_t)a, a_len}, {(void *)(uintptr_t)b, b_len}};

    return frame_write_parts(fd, type, v, 2, e);
}

int frame_write_err(int fd, const struct err *cause, struct err *e)
{
    return frame_write(fd, FRAME_ERR, cause, sizeof *cause, e);
}

static int frame_read(int fd, void *out, uint32_t len, struct err *e)
{
    ssize_t n = io_read_full(fd, out, len);

    if (n < 0)
        return err_errno(e, "pipe: read");
    if ((uint32_t)n != len)
        return err_set(e, ERR_PEER, "pipe: ended: want %u bytes, got %zd", len, n);
    return 0;
}

int frame_check_head(const struct frame *head, struct err *e)
{
    if (head->type < FRAME_REQUEST || head->type >= FRAME_TYPE_END || head->zero != 0)
        return err_set(e, ERR_PEER, "pipe: not a frame: type %u, %u, length %u", head->type, head->zero,
                       head->len);
    return 0;
}

int frame_read_head(int fd, struct frame *out, struct err *e)
{
    int rc = frame_read(fd, out, sizeof *out, e);

    return rc ? rc : frame_check_head(out, e);
}

int frame_read_fixed(int fd, const struct frame *head, void *out, uint32_t len, struct err *e)
{
    if (head->len != len)
        return err_set(e, ERR_PEER, "pipe: frame type %u: want length %u, got %u", head->type, len,
                       head->len);
    return frame_read(fd, out, len, e);
}

int frame_take_err(struct err *from, struct err *e)
{
    from->text[sizeof from->text - 1] = '\0';
    if (from->code >= 0 || from->code < -9999)
        return err_set(e, ERR_PEER, "pipe: no error code: %d: %s", from->code, from->text);
    err_set(e, from->code, "%s", from->text);
    e->after_s = from->after_s;
    return e->code;
}

int frame_read_err(int fd, const struct frame *head, struct err *e)
{
    struct err from;
    int rc = frame_read_fixed(fd, head, &from, sizeof from, e);

    return rc ? rc : frame_take_err(&from, e);
}
