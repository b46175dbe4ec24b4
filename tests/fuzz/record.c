/* A record of the agent's state, damaged on flash. The first byte says whether the CRC is made right again. */
#include <string.h>
#include <zlib.h>

#include "fuzz.h"
#include "update/record.h"

static const uint8_t *bytes[STORE_COPIES];
static size_t lens[STORE_COPIES];

static ssize_t copy_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    size_t n = lens[copy] < cap ? lens[copy] : cap;

    (void)dir, (void)name, (void)e;
    memcpy(buf, bytes[copy], n);
    return (ssize_t)n;
}

static int copy_write(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    (void)dir, (void)name, (void)copy, (void)buf, (void)len, (void)e;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct store_ops store = {copy_read, copy_write};
    static uint8_t payload[2048], copies[STORE_COPIES][4096];
    struct record r = {
        .store = &store, .dir = "", .name = "x", .magic = 0x74735753, .version = 1, .len = sizeof payload};
    size_t half = len / 2;
    struct err e;

    if (len < 2 || half > sizeof copies[0])
        return 0;
    for (int i = 0; i < STORE_COPIES; i++) {
        size_t n = i == 0 ? half - 1 : half;

        memcpy(copies[i], data + 1 + (i ? half - 1 : 0), n);
        if (data[0] & 1u << i && n >= 20) {
            uint32_t sum = (uint32_t)crc32(crc32(0, copies[i], 16), copies[i] + 20, (uInt)(n - 20));

            memcpy(copies[i] + 16, &sum, sizeof sum);
        }
        bytes[i] = copies[i];
        lens[i] = n;
    }
    (void)record_load(&r, payload, &e);
    return 0;
}
