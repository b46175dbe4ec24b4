#include "slot/range.h"

#include <errno.h>
#include <string.h>

#include "base/io.h"

int range_digest(const struct range_io *io, int fd, uint64_t off, uint64_t len, struct digest *out,
                 struct sum *sum, struct err *e)
{
    struct hash h;
    ssize_t n = 0;
    if (out != NULL)
        hash_begin(&h);
    while (len > 0) {
        size_t want = len < RANGE_BUF_LEN ? (size_t)len : RANGE_BUF_LEN;
        n = io_pread_full(fd, io->buf, want, (off_t)off);
        if (n < (ssize_t)want)
            break;
        if (out != NULL)
            hash_update(&h, io->buf, want);
        if (sum != NULL)
            sum_update(sum, io->buf, want);
        io->bytes->read += want;
        off += want;
        len -= want;
    }
    if (out != NULL)
        hash_end(&h, out);
    if (n < 0)
        return err_errno(e, "read");
    return len > 0 ? err_set(e, ERR_FLASH, "read: ends too early") : 0;
}

int range_copy(const struct range_io *io, int source, uint64_t from, int fd, uint64_t at, uint64_t len,
               uint64_t old, struct compare *k, struct err *e)
{
    if (io->dry && old == 0) { /* nothing to compare with, and what is to be copied is known */
        io->bytes->written += len;
        return 0;
    }
    for (uint64_t done = 0; done < len;) {
        uint32_t n = len - done < COMPARE_WINDOW ? (uint32_t)(len - done) : COMPARE_WINDOW;
        ssize_t got = io_pread_full(source, io->buf, n, (off_t)(from + done));
        if (got < 0)
            return err_errno(e, "read");
        if ((uint32_t)got != n)
            return err_set(e, ERR_FLASH, "read: ends too early");
        io->bytes->read += n;
        int rc = compare_put(k, io->buf, fd, at + done, n, old > done ? old - done : 0, io->bytes, e);
        if (rc != 0)
            return rc;
        done += n;
    }
    return 0;
}

int range_zero(const struct range_io *io, int fd, uint64_t at, uint64_t len, struct err *e)
{
    struct compare k = {.dry = io->dry};
    memset(io->buf, 0, COMPARE_WINDOW);
    for (uint64_t done = 0; done < len;) {
        uint32_t n = len - done < COMPARE_WINDOW ? (uint32_t)(len - done) : COMPARE_WINDOW;
        int rc = compare_put(&k, io->buf, fd, at + done, n, n, io->bytes, e);
        if (rc != 0)
            return rc;
        done += n;
    }
    return 0;
}
