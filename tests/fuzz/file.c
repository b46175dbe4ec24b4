#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

const char *fuzz_file(int number, const uint8_t *data, size_t len)
{
    static struct {
        int fd;
        char path[32];
    } files[2];

    if (!files[number].fd) {
        files[number].fd = memfd_create("fuzz", 0);
        snprintf(files[number].path, sizeof files[number].path, "/proc/self/fd/%d", files[number].fd);
    }
    if (ftruncate(files[number].fd, 0) < 0 || pwrite(files[number].fd, data, len, 0) != (ssize_t)len)
        abort();
    return files[number].path;
}

ssize_t fuzz_rest_read(void *ctx, void *buf, size_t cap, struct err *e)
{
    struct fuzz_rest *r = ctx;
    size_t n = r->len < cap ? r->len : cap;

    (void)e;
    memcpy(buf, r->at, n);
    r->at += n;
    r->len -= n;
    return (ssize_t)n;
}
