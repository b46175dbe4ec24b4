/* What the targets share. Each is one LLVMFuzzerTestOneInput(): the first byte chooses between what it can do. */
#ifndef SLIPWAY_TESTS_FUZZ_H
#define SLIPWAY_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The bytes as a file: a path that can be opened, the same at each call. */
const char *fuzz_file(int number, const uint8_t *data, size_t len);

/* The bytes as a blob: read() of a struct source (stream/codec.h) whose ctx this is. */
struct fuzz_rest {
    const uint8_t *at;
    size_t len;
};
ssize_t fuzz_rest_read(void *ctx, void *buf, size_t cap, struct err *e);

#endif
