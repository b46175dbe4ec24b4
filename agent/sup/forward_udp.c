#include "sup/forward_udp.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"

#define TURN 16
#define SILENT_MS 60000
#define LOOK_MS 5000

static void session_close(struct udp *u, struct udp_session *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    u->cnt--;
}

static int session_connect(struct udp *u, struct udp_session *s, bool v6)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.u64 = u->label + ((uint64_t)(s - u->sessions) << 32)};

    session_close(u, s);
    s->v6 = v6;
    s->fd = forward_connect(SOCK_DGRAM, v6, s->port);
    if (s->fd < 0)
        return -1;
    u->cnt++;
    if (!epoll_ctl(u->epoll, EPOLL_CTL_ADD, s->fd, &ev))
        return 0;
    session_close(u, s);
    return -1;
}

static void session_use(struct udp *u, struct udp_session *s, uint64_t now_ms)
{
    s->used_ms = now_ms;
    s->used = ++u->uses;
}

static bool is_same(const struct udp_peer *a, const struct udp_peer *b)
{
    return a->address_len == b->address_len && a->control_len == b->control_len &&
           !memcmp(&a->address, &b->address, a->address_len) &&
           !memcmp(a->control, b->control, a->control_len);
}

/* That of the peer; else a free one, else the one that was silent longest, which is made the peer's. NULL: the app can't be
 * reached at all. */
static struct udp_session *session_get(struct udp *u, int listener_fd, uint16_t port,
                                       const struct udp_peer *peer)
{
    struct udp_session *best = &u->sessions[0];

    for (size_t i = 0; i < CONFIG_APP_UDP_SESSIONS; i++) {
        struct udp_session *s = &u->sessions[i];

        if (s->fd >= 0 && s->listener_fd == listener_fd && is_same(&s->peer, peer))
            return s;
        if (best->fd >= 0 && (s->fd < 0 || s->used < best->used))
            best = s;
    }
    best->listener_fd = listener_fd;
    best->port = port;
    best->peer = *peer;
    return session_connect(u, best, false) ? NULL : best;
}

/* On a loopback, nobody listening is known at once. */
static bool is_taken(const struct udp_session *s, const uint8_t *buf, size_t len)
{
    int error = 0;
    socklen_t error_len = sizeof error;

    return IO_RETRY(send(s->fd, buf, len, MSG_DONTWAIT)) >= 0 &&
           (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &error_len) || error != ECONNREFUSED);
}

static ssize_t question_read(int fd, struct udp_peer *peer, uint8_t *buf)
{
    struct iovec iov = {buf, FORWARD_BUF_LEN};
    struct msghdr m = {.msg_name = &peer->address,
                       .msg_namelen = sizeof peer->address,
                       .msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = peer->control,
                       .msg_controllen = sizeof peer->control};
    ssize_t len;

    memset(peer, 0, sizeof *peer);
    len = IO_RETRY(recvmsg(fd, &m, MSG_DONTWAIT));
    peer->address_len = m.msg_namelen;
    peer->control_len = m.msg_controllen;
    return len;
}

void udp_questions(struct udp *u, int listener_fd, uint16_t port, uint64_t now_ms, uint8_t *buf)
{
    for (int i = 0; i < TURN; i++) {
        struct udp_peer peer;
        struct udp_session *s;
        ssize_t len = question_read(listener_fd, &peer, buf);

        if (len < 0)
            return;
        s = session_get(u, listener_fd, port, &peer);
        if (!s)
            continue;
        session_use(u, s, now_ms);
        if (!is_taken(s, buf, (size_t)len) && !session_connect(u, s, !s->v6))
            (void)is_taken(s, buf, (size_t)len); /* a datagram may be lost */
    }
}

void udp_answers(struct udp *u, size_t session, uint64_t now_ms, uint8_t *buf)
{
    struct udp_session *s = &u->sessions[session];

    for (int i = 0; i < TURN && s->fd >= 0; i++) {
        ssize_t len = IO_RETRY(recv(s->fd, buf, FORWARD_BUF_LEN, MSG_DONTWAIT));
        struct iovec iov = {buf, len < 0 ? 0 : (size_t)len};
        struct msghdr m = {.msg_name = &s->peer.address,
                           .msg_namelen = s->peer.address_len,
                           .msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = s->peer.control,
                           .msg_controllen = s->peer.control_len};

        if (len < 0)
            return;
        session_use(u, s, now_ms);
        (void)IO_RETRY(sendmsg(s->listener_fd, &m, MSG_DONTWAIT));
    }
}

void udp_expire(struct udp *u, uint64_t now_ms)
{
    for (size_t i = 0; i < CONFIG_APP_UDP_SESSIONS && u->cnt; i++)
        if (now_ms - u->sessions[i].used_ms >= SILENT_MS)
            session_close(u, &u->sessions[i]);
}

int udp_wait_ms(const struct udp *u)
{
    return u->cnt ? LOOK_MS : -1;
}

void udp_init(struct udp *u, int epoll, uint64_t label)
{
    *u = (struct udp){.epoll = epoll, .label = label};
    for (size_t i = 0; i < CONFIG_APP_UDP_SESSIONS; i++)
        u->sessions[i].fd = -1;
}
