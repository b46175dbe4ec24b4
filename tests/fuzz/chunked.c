/* The table of contents of a zstd:chunked layer, plain or packed, and the pieces of one. */
#include <fcntl.h>

#include "fuzz.h"
#include "stream/chunked.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct chunked *chunked;
    static int out = -1;
    struct fuzz_rest rest = {data + 1, len ? len - 1 : 0};
    const struct source source = {fuzz_rest_read, &rest};
    struct job job = {.size = rest.len};
    struct err e;

    if (len == 0)
        return 0;
    if (!chunked) {
        chunked = chunked_new(unpack_new());
        out = open("/dev/null", O_WRONLY);
    }
    job.codec = data[0] & 2 ? CODEC_ZSTD : CODEC_NONE;
    job.content_max = data[0] & 2 ? 64 * rest.len : rest.len;
    if (data[0] & 1)
        (void)chunked_piece(chunked, &job, &source, out, &e);
    else
        (void)chunked_toc(chunked, &job, &source, out, &e);
    return 0;
}
