#include "base/hash.h"

#include <errno.h>
#include <linux/if_alg.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

#define MEASURE_LEN (64 * 1024)

/* The AF_ALG transform socket once it was found to be faster; -1: mbedTLS. */
static int alg_socket = -1;
static uint32_t speed_kib_s;

static bool hex_value(char c, uint8_t *out)
{
    if (c >= '0' && c <= '9')
        *out = (uint8_t)(c - '0');
    else if (c >= 'a' && c <= 'f')
        *out = (uint8_t)(c - 'a' + 10);
    else
        return false;
    return true;
}

bool digest_parse(const char *text, size_t len, struct digest *out)
{
    static const char algorithm[] = "sha256:";
    const size_t head = sizeof algorithm - 1;

    if (len != head + 2 * DIGEST_LEN || memcmp(text, algorithm, head))
        return false;
    for (size_t i = 0; i < DIGEST_LEN; i++) {
        uint8_t high, low;

        if (!hex_value(text[head + 2 * i], &high) || !hex_value(text[head + 2 * i + 1], &low))
            return false;
        out->b[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

void digest_format(const struct digest *d, char out[DIGEST_TEXT_LEN])
{
    static const char hex[] = "0123456789abcdef";

    memcpy(out, "sha256:", 7);
    for (size_t i = 0; i < DIGEST_LEN; i++) {
        out[7 + 2 * i] = hex[d->b[i] >> 4];
        out[8 + 2 * i] = hex[d->b[i] & 15];
    }
    out[DIGEST_TEXT_LEN - 1] = '\0';
}

enum verdict digest_compare(const struct digest *a, const struct digest *b)
{
    return memcmp(a->b, b->b, DIGEST_LEN) == 0 ? VERDICT_MATCH : VERDICT_MISMATCH;
}

int digest_check(const char *what, const struct digest *want, const struct digest *got, struct err *e)
{
    char want_text[DIGEST_TEXT_LEN], got_text[DIGEST_TEXT_LEN];

    if (digest_compare(want, got) == VERDICT_MATCH)
        return 0;
    digest_format(want, want_text);
    digest_format(got, got_text);
    return err_set(e, ERR_DIGEST, "%s mismatch: want %s, got %s", what, want_text, got_text);
}

bool digest_is_zero(const struct digest *d)
{
    static const struct digest zero;

    return memcmp(d->b, zero.b, DIGEST_LEN) == 0;
}

static int alg_open(void)
{
    struct sockaddr_alg sa = {.salg_family = AF_ALG, .salg_type = "hash", .salg_name = "sha256"};
    int fd = socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Bytes per second over two passes, the first of which only warms the caches; 0 when the engine does not work. */
static uint32_t engine_measure(int socket_fd)
{
    static uint8_t data[MEASURE_LEN];
    struct timespec a, b;
    struct digest d;
    int before = alg_socket;
    uint64_t ns;

    alg_socket = socket_fd;
    hash_bytes(data, sizeof data, &d);
    clock_gettime(CLOCK_MONOTONIC, &a);
    hash_bytes(data, sizeof data, &d);
    clock_gettime(CLOCK_MONOTONIC, &b);
    alg_socket = before;
    ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
    return (uint32_t)((uint64_t)(MEASURE_LEN / 1024) * 1000000000u / (ns ? ns : 1));
}

void hash_start(void)
{
    int fd = alg_open();
    uint32_t alg;

    speed_kib_s = engine_measure(-1);
    if (fd < 0)
        return;
    alg = engine_measure(fd);
    if (alg <= speed_kib_s) {
        close(fd);
        return;
    }
    alg_socket = fd;
    speed_kib_s = alg;
}

const char *hash_engine_name(void)
{
    return alg_socket >= 0 ? "af_alg" : "mbedtls";
}

uint32_t hash_engine_speed(void)
{
    return speed_kib_s;
}

void hash_begin_portable(struct hash *h)
{
    memset(h, 0, sizeof *h);
    h->alg_fd = -1;
    mbedtls_sha256_init(&h->soft);
    ASSERT(mbedtls_sha256_starts(&h->soft, 0) == 0);
}

void hash_go_on(struct hash *h)
{
    h->alg_fd = -1;
}

void hash_begin(struct hash *h)
{
    int fd = alg_socket >= 0 ? accept4(alg_socket, NULL, NULL, SOCK_CLOEXEC) : -1;

    if (fd < 0)
        return hash_begin_portable(h);
    h->len = 0;
    h->alg_fd = fd;
}

void hash_update(struct hash *h, const void *data, size_t len)
{
    const char *p = data;

    h->len += len;
    if (h->alg_fd < 0) {
        ASSERT(mbedtls_sha256_update(&h->soft, data, len) == 0);
        return;
    }
    while (len > 0) {
        ssize_t n = IO_RETRY(send(h->alg_fd, p, len, MSG_MORE));

        ASSERT(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

void hash_end(struct hash *h, struct digest *out)
{
    if (h->alg_fd < 0) {
        ASSERT(mbedtls_sha256_finish(&h->soft, out->b) == 0);
        mbedtls_sha256_free(&h->soft);
        return;
    }
    ASSERT(send(h->alg_fd, NULL, 0, 0) == 0);
    ASSERT(read(h->alg_fd, out->b, DIGEST_LEN) == DIGEST_LEN);
    close(h->alg_fd);
    h->alg_fd = -1;
}

void hash_bytes(const void *data, size_t len, struct digest *out)
{
    struct hash h;

    hash_begin(&h);
    hash_update(&h, data, len);
    hash_end(&h, out);
}
