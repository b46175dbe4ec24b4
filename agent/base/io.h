/* Whole reads and writes: every interruptible call of the agent goes through here. No allocation, no buffering. */
#ifndef SLIPWAY_BASE_IO_H
#define SLIPWAY_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Call again while it fails with EINTR. */
#define IO_RETRY(call)                                                                                       \
    __extension__({                                                                                          \
        __typeof__(call) io_rc_;                                                                             \
        do                                                                                                   \
            io_rc_ = (call);                                                                                 \
        while (io_rc_ == -1 && errno == EINTR);                                                              \
        io_rc_;                                                                                              \
    })

/* Read exactly `len` bytes. Returns `len`, fewer only at the end of the input, or -1 with errno. */
ssize_t io_read_full(int fd, void *buf, size_t len);
ssize_t io_pread_full(int fd, void *buf, size_t len, off_t off);

/* Write all of it. Returns 0, or -1 with errno. */
int io_write_full(int fd, const void *buf, size_t len);
int io_pwrite_full(int fd, const void *buf, size_t len, off_t off);

/* Write all of two buffers with one call where the kernel takes them whole. Returns 0, or -1 with errno. */
int io_write_two(int fd, const void *a, size_t a_len, const void *b, size_t b_len);

/* A name that is new in this directory is on the medium. Returns 0, or -1 with errno. */
int io_sync_dir(const char *dir);

/* Make a directory, which is on the medium then; not its parents. 0 also when it was there. */
int io_make_dir(const char *dir);

/* Read a whole small file and end it with a NUL. Returns its length, or -1 with errno (EFBIG when > cap - 1). */
ssize_t io_read_file(const char *path, char *buf, size_t cap);

#endif
