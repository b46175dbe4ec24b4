#include "oci/traffic.h"

#include <curl/curl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AHEAD_MIN 16384      /* two packets of any link */
#define AHEAD_MAX (4u << 20) /* the kernel takes no more by itself */

static uint64_t now_us(void)
{
    struct timespec now = {0};

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- counting ------------------------------------------------------------------------------------------------------- */

static uint64_t socket_bytes(int fd)
{
    struct tcp_info info = {0}; /* an older kernel fills less of it */
    socklen_t len = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return 0;
    return info.tcpi_bytes_received + info.tcpi_bytes_acked;
}

static void socket_count(struct traffic *t, int i)
{
    uint64_t all = socket_bytes(t->sockets[i].fd), new = all - t->sockets[i].counted;

    if (all <= t->sockets[i].counted)
        return;
    t->sockets[i].counted = all;
    t->bytes += new;
    if (t->meter)
        *t->meter += (uint32_t) new;
}

static int socket_find(const struct traffic *t, int fd)
{
    for (int i = 0; i < TRAFFIC_SOCKET_MAX; i++)
        if (t->sockets[i].fd == fd)
            return i;
    return -1;
}

/* What the kernel takes ahead of us has come, whatever the rate says. */
static int ahead_limit(const struct traffic *t, int fd)
{
    uint64_t len = t->bounds.rate_kib_s * 1024ull / TRAFFIC_PIECES;
    int most = len < AHEAD_MIN ? AHEAD_MIN : (int)len;

    return len > 0 && len < AHEAD_MAX ? setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &most, sizeof most) : 0;
}

static int on_open(void *ctx, curl_socket_t fd, curlsocktype type)
{
    struct traffic *t = ctx;
    int i = socket_find(t, -1);

    (void)type;
    if (i < 0 || ahead_limit(t, fd) < 0)
        return CURL_SOCKOPT_ERROR;
    t->sockets[i].fd = fd;
    t->sockets[i].counted = 0;
    return CURL_SOCKOPT_OK;
}

static int on_close(void *ctx, curl_socket_t fd)
{
    struct traffic *t = ctx;
    int i = socket_find(t, fd);

    if (i >= 0) {
        socket_count(t, i);
        t->sockets[i].fd = -1;
    }
    return close(fd);
}

void traffic_begin(struct traffic *t, void *easy)
{
    memset(t, 0, sizeof *t);
    for (int i = 0; i < TRAFFIC_SOCKET_MAX; i++)
        t->sockets[i].fd = -1;
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, t);
}

uint64_t traffic_count(struct traffic *t)
{
    for (int i = 0; i < TRAFFIC_SOCKET_MAX; i++)
        if (t->sockets[i].fd >= 0)
            socket_count(t, i);
    return t->bytes;
}

/* --- bounds --------------------------------------------------------------------------------------------------------- */

void traffic_bind(struct traffic *t, const struct traffic_bounds *bounds, volatile uint32_t *meter)
{
    t->bounds = *bounds;
    t->bytes = 0;
    t->end_ms = now_us() / 1000 + bounds->time_s * 1000ull;
    t->meter = meter;
}

int traffic_check(struct traffic *t, struct err *e)
{
    if (t->bounds.bytes && traffic_count(t) >= t->bounds.bytes)
        return err_set(e, ERR_HELD, "no more may be downloaded today");
    if (t->bounds.time_s && now_us() / 1000 >= t->end_ms)
        return err_set(e, ERR_HELD, "no more may be downloaded at this hour");
    return 0;
}

/* Over all exchanges, since many short ones are as much as a long one. What was not used of the past is gone. */
void traffic_pace(struct traffic *t, size_t len)
{
    uint64_t now = now_us();

    if (!t->bounds.rate_kib_s)
        return;
    if (t->due_us < now)
        t->due_us = now;
    t->due_us += len * 1000000ull / (t->bounds.rate_kib_s * 1024ull);
    (void)poll(NULL, 0, (int)((t->due_us - now) / 1000));
}
