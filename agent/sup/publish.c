#include "sup/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/role.h"
#include "sup/forward.h"

#define QUEUE_LEN 128
#define AGAIN_MS 1000
#define NET "/proc/self/ns/net"

_Static_assert(FORWARD_FD_FIRST - 3 + CONF_APP_PORT_MAX <= ROLE_FD_MAX, "all can be handed down");

/* --- namespace ------------------------------------------------------------------------------------------------------ */

/* agentd goes in and out: the namespace then lives as long as this descriptor, and nothing of it lies on a disk. */
static int net_make(struct publish *p, struct err *e)
{
    int own = IO_RETRY(open(NET, O_RDONLY | O_CLOEXEC));
    int made = -1;

    if (own < 0 || unshare(CLONE_NEWNET)) {
        err_errno(e, "network = private: no network namespace");
    } else {
        made = IO_RETRY(open(NET, O_RDONLY | O_CLOEXEC));
        if (made < 0)
            err_errno(e, NET);
        ASSERT(!setns(own, CLONE_NEWNET)); /* whoever can't get back has no network */
    }
    if (own >= 0)
        close(own);
    if (made < 0)
        return e->code;
    p->net_fd = made;
    return 0;
}

/* --- ports ---------------------------------------------------------------------------------------------------------- */

static bool is_ipv4(const struct conf_port *p)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, any[12];

    return !memcmp(p->address, mapped, sizeof mapped) || !memcmp(p->address, any, sizeof any);
}

static int option_set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value);
}

/* One socket for both kinds of address. A kernel without IPv6 has one for the older. */
static int port_bind(int fd, const struct conf_port *p)
{
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(p->host)};

    memcpy(&a6.sin6_addr, p->address, sizeof a6.sin6_addr);
    if (option_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0) ||
        (p->udp && option_set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)))
        return -1;
    return bind(fd, (struct sockaddr *)&a6, sizeof a6);
}

static int port_bind_ipv4(int fd, const struct conf_port *p)
{
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons(p->host)};

    memcpy(&a4.sin_addr, p->address + 12, sizeof a4.sin_addr);
    if (p->udp && option_set(fd, IPPROTO_IP, IP_PKTINFO, 1))
        return -1;
    return bind(fd, (struct sockaddr *)&a4, sizeof a4);
}

static int port_open(const struct conf_port *p, struct err *e)
{
    int type = (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(AF_INET6, type, 0);
    bool old = fd < 0 && errno == EAFNOSUPPORT && is_ipv4(p);

    if (old)
        fd = socket(AF_INET, type, 0);
    if (fd >= 0 && !(!p->udp && option_set(fd, SOL_SOCKET, SO_REUSEADDR, 1)) &&
        !(old ? port_bind_ipv4(fd, p) : port_bind(fd, p)) && (p->udp || !listen(fd, QUEUE_LEN)))
        return fd;
    err_errno(e, "port %u%s of the board", p->host, p->udp ? "/udp" : "");
    if (fd >= 0)
        close(fd);
    return -1;
}

static int ports_open(struct publish *p, struct err *e)
{
    for (int i = 0; i < CONF_APP_PORT_MAX && p->ports[i].host; i++) {
        int fd = p->fds[i] ? p->fds[i] : port_open(&p->ports[i], e);

        if (fd < 0)
            return e->code;
        p->fds[i] = fd;
    }
    return 0;
}

/* --- process -------------------------------------------------------------------------------------------------------- */

static int process_start(struct publish *p, struct err *e)
{
    char numbers[1 + CONF_APP_PORT_MAX][12];
    char *argv[2 + 1 + CONF_APP_PORT_MAX + 1] = {"slipway", "forward", numbers[0]};
    int fds[1 + CONF_APP_PORT_MAX] = {p->net_fd};
    int cnt;

    snprintf(numbers[0], sizeof numbers[0], "%u", (unsigned)p->uid);
    for (cnt = 0; cnt < CONF_APP_PORT_MAX && p->ports[cnt].host; cnt++) {
        snprintf(numbers[1 + cnt], sizeof numbers[0], "%u", p->ports[cnt].app);
        argv[3 + cnt] = numbers[1 + cnt];
        fds[1 + cnt] = p->fds[cnt];
    }
    p->pid = role_start(CONFIG_MEM_FORWARD_KB, fds, 1 + cnt, argv);
    if (p->pid > 0)
        return 0;
    p->pid = 0;
    return err_errno(e, "start forward");
}

static void process_due(void *ctx)
{
    struct publish *p = ctx;
    struct err e;

    if (process_start(p, &e)) {
        log_error("%s", e.text);
        loop_timer_set(p->loop, &p->timer, AGAIN_MS);
    }
}

bool publish_reap(struct publish *p, pid_t pid)
{
    if (!p->pid || pid != p->pid)
        return false;
    p->pid = 0;
    log_warning("app: the process that carries its ports ended; it is started anew");
    loop_timer_set(p->loop, &p->timer, AGAIN_MS);
    return true;
}

/* --- for the owner -------------------------------------------------------------------------------------------------- */

void publish_init(struct publish *p, struct loop *loop, const struct conf_port *ports, uint32_t uid)
{
    ASSERT(!ports[0].host || uid != 0);
    *p = (struct publish){.loop = loop, .ports = ports, .uid = uid};
    p->timer = (struct loop_timer){.due = process_due, .ctx = p};
}

int publish_open(struct publish *p, struct err *e)
{
    if (!p->ports[0].host)
        return 0;
    if ((!p->net_fd && net_make(p, e)) || ports_open(p, e))
        return e->code;
    return p->pid || p->timer.armed ? 0 : process_start(p, e);
}
