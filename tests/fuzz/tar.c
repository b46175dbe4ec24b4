/* A layer as a registry sends it: every codec, and the tar inside; also from the middle on, with a checkpoint that somebody
 * made up. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "stream/codec.h"
#include "stream/tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct tar *tar;
    static struct blocks blocks;
    static int out = -1;
    struct fuzz_rest rest = {data + 1, len ? len - 1 : 0};
    const struct source source = {fuzz_rest_read, &rest};
    struct job job = {.kind = JOB_LAYER, .size = rest.len, .content_max = 1 << 20};
    struct job_end end;
    struct err e;

    if (len == 0)
        return 0;
    if (!tar) {
        blocks = (struct blocks){.base = malloc(BLOCKS_LEN), .back_fd = open("/dev/zero", O_RDONLY)};
        tar = tar_new(unpack_new(), &blocks);
        out = open("/dev/null", O_WRONLY);
    }
    job.codec = CODEC_NONE + data[0] % 4;
    job.every = data[0] & 64;
    job.go_on = data[0] >> 7;
    if (job.go_on) {
        uint32_t room_len;
        void *room = tar_place_room(tar, &room_len);
        size_t n = rest.len < room_len ? rest.len : room_len;

        memset(room, 0, room_len);
        memcpy(room, rest.at, n);
        rest.at += n;
        rest.len -= n;
    }
    (void)tar_stream(tar, &job, &source, out, &end, &e);
    return 0;
}
