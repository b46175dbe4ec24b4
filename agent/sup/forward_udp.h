/* The datagrams of the role `forward` (sup/forward.h, which says how). For forward.c only. */
#ifndef SLIPWAY_SUP_FORWARD_UDP_H
#define SLIPWAY_SUP_FORWARD_UDP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FORWARD_BUF_LEN (64 * 1024) /* a datagram is shorter */

/* Who asked, and where: the address is the client's and the control message, as it came and as it goes back, the board's. */
struct udp_peer {
    struct sockaddr_in6 address; /* or a shorter one of IPv4 */
    socklen_t address_len;
    size_t control_len;
    _Alignas(8) uint8_t control[48];
};

struct udp_session {
    int fd; /* towards the app; -1: free */
    int listener_fd;
    uint16_t port;
    bool v6;
    uint64_t used_ms, used; /* when, and the how manieth use of any session that was */
    struct udp_peer peer;
};

struct udp {
    int epoll;
    uint64_t label; /* of session 0 in events */
    int cnt;        /* sessions in use */
    uint64_t uses;
    struct udp_session sessions[CONFIG_APP_UDP_SESSIONS];
};

/* `label`: what an event says of session 0; that of the n-th has n added at bit 32. */
void udp_init(struct udp *u, int epoll, uint64_t label);
/* Datagrams came to a published port. `buf` has FORWARD_BUF_LEN bytes. */
void udp_questions(struct udp *u, int listener_fd, uint16_t port, uint64_t now_ms, uint8_t *buf);
/* The app said something in a session. */
void udp_answers(struct udp *u, size_t session, uint64_t now_ms, uint8_t *buf);
void udp_expire(struct udp *u, uint64_t now_ms);
/* How long udp_expire() need not be called; -1: until there are sessions. */
int udp_wait_ms(const struct udp *u);

/* A non-blocking socket that is, or is about to be, connected to the app's port at 127.0.0.1 or ::1; -1 with errno. Is in
 * forward.c. */
int forward_connect(int type, bool v6, uint16_t port);

#endif
