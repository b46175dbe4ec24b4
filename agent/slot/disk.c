#include "slot/disk.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "slot/pages.h"
#include "slot/sum.h"

#define PIECE_LEN COMPARE_PIECE
#define READ_LEN (64u << 10)

int slot_disk_begin(struct slot_disk *s, const struct disk_ops *ops, const char *place, struct err *e)
{
    *s = (struct slot_disk){.ops = ops, .place = place, .fd = -1};
    if (ops->open(place, true, &s->fd, &s->size, e) == 0)
        return 0;
    s->fd = -1;
    return err_prefix(e, "slot %s", place);
}

/* Start the piece on its way to the medium, and forget the one before, which is there by now. */
static int send(int fd, uint64_t off, uint64_t len, struct err *e)
{
    int rc = pages_push(fd, off, len, e);
    return rc == 0 && off >= PIECE_LEN ? pages_forget(fd, off - PIECE_LEN, PIECE_LEN, e) : rc;
}

static int write_all(struct slot_disk *s, uint64_t len, struct content *c, struct err *e)
{
    struct compare k = {0};
    struct entry_end end = {0};
    if (c == NULL || c->left != len)
        return err_set(e, ERR_SIZE, "want %llu bytes of content, got %llu", (unsigned long long)len,
                       c != NULL ? (unsigned long long)c->left : 0);
    if (len > s->size)
        return err_set(e, ERR_SPACE, "need %llu bytes, have %llu", (unsigned long long)len,
                       (unsigned long long)s->size);
    if (lseek(s->fd, 0, SEEK_SET) < 0)
        return err_errno(e, "seek");
    for (uint64_t off = 0; off < len;) {
        uint64_t n = len - off < PIECE_LEN ? len - off : PIECE_LEN;
        int rc = compare_move(&k, c, s->fd, off, (uint32_t)n, s->size - off, &s->bytes, e);
        if (rc == 0)
            rc = send(s->fd, off, n, e);
        if (rc != 0)
            return rc;
        off += n;
    }
    int rc = content_end(c, &end, e);
    s->len = len;
    s->xxh64 = end.xxh64;
    return rc;
}

int slot_disk_write(struct slot_disk *s, uint64_t len, struct content *c, struct err *e)
{
    return write_all(s, len, c, e) != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

int slot_disk_seal(struct slot_disk *s, struct err *e)
{
    int rc = s->ops->sync(s->fd, e);
    int fd = s->fd;
    if (rc == 0) {
        s->fd = -1;
        rc = s->ops->close(fd, e);
    }
    return rc != 0 ? err_prefix(e, "slot %s", s->place) : 0;
}

static int read_back(struct slot_disk *s, struct err *e)
{
    uint8_t buf[READ_LEN];
    struct sum sum;
    sum_begin(&sum);
    if (s->size < s->len)
        return err_set(e, ERR_FLASH, "size: want %llu, got %llu", (unsigned long long)s->len,
                       (unsigned long long)s->size);
    posix_fadvise(s->fd, 0, 0, POSIX_FADV_DONTNEED);
    for (uint64_t off = 0; off < s->len;) {
        size_t n = s->len - off < sizeof buf ? (size_t)(s->len - off) : sizeof buf;
        ssize_t got = io_pread_full(s->fd, buf, n, (off_t)off);
        if (got < 0)
            return err_errno(e, "read at %llu", (unsigned long long)off);
        if ((size_t)got != n)
            return err_set(e, ERR_FLASH, "ends at %llu, want %llu", (unsigned long long)off + (unsigned)got,
                           (unsigned long long)s->len);
        sum_update(&sum, buf, n);
        off += n;
        s->bytes.read += n;
        if (s->tick)
            s->tick(s->tick_ctx, n);
        if (off % PIECE_LEN == 0)
            posix_fadvise(s->fd, (off_t)(off - PIECE_LEN), PIECE_LEN, POSIX_FADV_DONTNEED);
    }
    if (sum_end(&sum) != s->xxh64)
        return err_set(e, ERR_FLASH, "content: want xxh64 %016llx, got %016llx", (unsigned long long)s->xxh64,
                       (unsigned long long)sum_end(&sum));
    return 0;
}

int slot_disk_verify(struct slot_disk *s, struct err *e)
{
    if (s->ops->open(s->place, false, &s->fd, &s->size, e) != 0) {
        s->fd = -1;
        return err_prefix(e, "verify %s", s->place);
    }
    int rc = read_back(s, e);
    slot_disk_abort(s);
    return rc != 0 ? err_prefix(e, "verify %s", s->place) : 0;
}

void slot_disk_abort(struct slot_disk *s)
{
    struct err e;
    if (s->fd >= 0)
        s->ops->close(s->fd, &e);
    s->fd = -1;
}
