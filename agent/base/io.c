#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t io_read_full(int fd, void *buf, size_t len)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = IO_RETRY(read(fd, (char *)buf + done, len - done));

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = IO_RETRY(pread(fd, (char *)buf + done, len - done, off + (off_t)done));

        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int io_write_full(int fd, const void *buf, size_t len)
{
    return io_write_two(fd, buf, len, NULL, 0);
}

int io_pwrite_full(int fd, const void *buf, size_t len, off_t off)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = IO_RETRY(pwrite(fd, (const char *)buf + done, len - done, off + (off_t)done));

        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return 0;
}

int io_write_two(int fd, const void *a, size_t a_len, const void *b, size_t b_len)
{
    struct iovec v[2] = {{(void *)(uintptr_t)a, a_len}, {(void *)(uintptr_t)b, b_len}};

    while (v[0].iov_len + v[1].iov_len > 0) {
        ssize_t n = IO_RETRY(writev(fd, v, 2));

        if (n < 0)
            return -1;
        for (int i = 0; i < 2; i++) {
            size_t part = (size_t)n < v[i].iov_len ? (size_t)n : v[i].iov_len;

            if (part == 0) /* perhaps of NULL, with which even + 0 is undefined */
                continue;
            v[i].iov_base = (char *)v[i].iov_base + part;
            v[i].iov_len -= part;
            n -= (ssize_t)part;
        }
    }
    return 0;
}

ssize_t io_read_file(const char *path, char *buf, size_t cap)
{
    int fd = IO_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    ssize_t n;
    int saved;

    if (fd < 0)
        return -1;
    n = io_read_full(fd, buf, cap);
    saved = errno;
    close(fd);
    errno = saved;
    if (n < 0)
        return -1;
    if ((size_t)n == cap) {
        errno = EFBIG;
        return -1;
    }
    buf[n] = '\0';
    return n;
}

int io_sync_dir(const char *dir)
{
    int fd = IO_RETRY(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int rc = fd < 0 ? -1 : IO_RETRY(fsync(fd));

    if (fd >= 0)
        close(fd);
    return rc;
}

int io_make_dir(const char *dir)
{
    char parent[512];

    if (access(dir, F_OK) == 0)
        return 0;
    if (snprintf(parent, sizeof parent, "%s/..", dir) >= (int)sizeof parent) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return mkdir(dir, 0700) < 0 && errno != EEXIST ? -1 : io_sync_dir(parent);
}
