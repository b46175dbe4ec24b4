#include "slot/compare.h"

#include <string.h>
#include <unistd.h>

#include "base/io.h"

#define BLOCK 4096u /* what flash is written by at the least */

static bool same_block(const uint8_t *a, const uint8_t *b, uint32_t at, uint32_t len, uint32_t old)
{
    uint32_t n = len - at < BLOCK ? len - at : BLOCK;
    return at + n <= old && memcmp(a + at, b + at, n) == 0;
}

/* Write the runs of blocks of new[0..len) that are not in old[0..old_len). */
static int write_differing(struct compare *k, int fd, uint64_t off, const uint8_t *new, uint32_t len,
                           const uint8_t *old, uint32_t old_len, struct slot_bytes *n, struct err *e)
{
    uint32_t at = 0;
    while (at < len) {
        uint32_t from = at;
        while (at < len && !same_block(new, old, at, len, old_len))
            at += len - at < BLOCK ? len - at : BLOCK;
        if (at > from && !k->dry && io_pwrite_full(fd, new + from, at - from, (off_t)(off + from)) != 0)
            return err_errno(e, "write");
        n->written += at - from;
        k->run = at - from < COMPARE_PIECE - k->run ? k->run + (at - from) : COMPARE_PIECE;
        from = at;
        while (at < len && same_block(new, old, at, len, old_len))
            at += len - at < BLOCK ? len - at : BLOCK;
        n->kept += at - from;
        if (at > from)
            k->run = 0;
    }
    return 0;
}

int compare_put(struct compare *k, const void *data, int fd, uint64_t off, uint32_t len, uint64_t old,
                struct slot_bytes *n, struct err *e)
{
    uint8_t there[COMPARE_WINDOW];
    ssize_t got = 0;
    if (k->digest != NULL)
        hash_update(k->digest, data, len);
    if (k->sum != NULL)
        sum_update(k->sum, data, len);
    if (old > 0)
        got = io_pread_full(fd, there, old < len ? (size_t)old : len, (off_t)off);
    if (got < 0) /* a block that can't be read is one to write */
        got = 0;
    n->read += (uint64_t)got;
    return write_differing(k, fd, off, data, len, there, (uint32_t)got, n, e);
}

static int move_window(struct compare *k, struct content *c, int fd, uint64_t off, uint32_t len, uint64_t old,
                       struct slot_bytes *n, struct err *e)
{
    uint8_t data[COMPARE_WINDOW];
    int rc = content_read(c, data, len, e);
    return rc != 0 ? rc : compare_put(k, data, fd, off, len, old, n, e);
}

int compare_move(struct compare *k, struct content *c, int fd, uint64_t off, uint32_t len, uint64_t old,
                 struct slot_bytes *n, struct err *e)
{
    bool sampling = k->run == COMPARE_PIECE, by_hand = k->digest != NULL || k->sum != NULL;
    uint32_t done = 0, look = old < len ? (uint32_t)old : len;
    int rc = 0;
    while (rc == 0 && done < (by_hand ? len : look)) {
        if (sampling && done > 0 && k->run == COMPARE_PIECE) {
            if (!by_hand)
                break;
            look = done;
        }
        uint32_t part = len - done < COMPARE_WINDOW ? len - done : COMPARE_WINDOW;
        if (done < look && look - done < part)
            part = look - done;
        rc = move_window(k, c, fd, off + done, part, done < look ? look - done : 0, n, e);
        done += part;
    }
    if (rc == 0 && done > 0 && lseek(fd, (off_t)(off + done), SEEK_SET) < 0)
        return err_errno(e, "seek");
    if (rc == 0 && done < len) {
        rc = content_move(c, fd, len - done, e);
        n->written += len - done;
    }
    return rc;
}
