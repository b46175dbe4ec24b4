#include "sup/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "sup/forward_udp.h"

#define TURN 4 /* buffers that a connection moves before others have their turn */
#define ACCEPT_TURN 16
#define EVENT_MAX 32
#define RETRY_MS 50
#define REFUSED_MS 1000
#define CONNECT_MS 10000 /* an app whose queue is full */
#define PAUSE_MS 1000
/* A client that is gone without a word is noticed after 7 minutes. */
#define KEEP_IDLE_S 300
#define KEEP_STEP_S 30
#define KEEP_STEPS 4

enum link_state {
    LINK_FREE = 0,
    LINK_WAITING,    /* the app refused; tried again at due_ms */
    LINK_CONNECTING, /* given up at due_ms */
    LINK_OPEN
};

enum side { CLIENT = 0, APP = 1 };

struct end {
    int fd;    /* -1: none */
    bool over; /* it said its last, and that was passed on */
    bool full; /* it takes no more at the moment */
};

struct link {
    enum link_state state;
    uint32_t age; /* tells the links of one place apart */
    struct end ends[2];
    uint16_t port;
    bool v6;    /* which of the app's loopback addresses is tried */
    bool again; /* there is more to move, and no event will say so */
    uint64_t began_ms, due_ms;
};

struct listener {
    int fd;
    uint16_t port; /* of the app */
    bool udp;
};

struct forward {
    int epoll;
    uint64_t now_ms;
    bool paused; /* no connection is taken from the queue */
    int listener_cnt, pending_cnt, again_cnt;
    struct listener listeners[CONF_APP_PORT_MAX];
    struct link links[CONFIG_APP_CONNECTIONS];
    struct udp udp;
    uint8_t buf[FORWARD_BUF_LEN];
};
_Static_assert(sizeof(struct forward) < (CONFIG_MEM_FORWARD_KB - 660) * 1024,
               "it fits beside the program's own data");

/* Which of its things an event is about. */
enum kind { KIND_LISTENER = 0, KIND_CLIENT, KIND_APP, KIND_SESSION };

static uint64_t label(enum kind kind, size_t index, uint32_t age)
{
    return (uint64_t)kind << 56 | (uint64_t)index << 32 | age;
}

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- what is waited for --------------------------------------------------------------------------------------------- */

static int watch(struct forward *f, int how, int fd, uint32_t events, uint64_t what)
{
    struct epoll_event ev = {.events = events, .data.u64 = what};

    return epoll_ctl(f->epoll, how, fd, &ev);
}

/* Edges: both ends are watched for all the time, and tried again when either says something new. */
static int end_watch(struct forward *f, struct link *l, enum side side)
{
    return watch(f, EPOLL_CTL_ADD, l->ends[side].fd, EPOLLIN | EPOLLOUT | EPOLLET,
                 label(side == CLIENT ? KIND_CLIENT : KIND_APP, (size_t)(l - f->links), l->age));
}

static void queue_pause(struct forward *f, bool pause)
{
    if (f->paused == pause)
        return;
    f->paused = pause;
    for (int i = 0; i < f->listener_cnt; i++)
        if (!f->listeners[i].udp)
            (void)watch(f, EPOLL_CTL_MOD, f->listeners[i].fd, pause ? 0 : EPOLLIN,
                        label(KIND_LISTENER, (size_t)i, 0));
}

/* --- a connection -------------------------------------------------------------------------------------------------- */

static bool is_pending(enum link_state s)
{
    return s == LINK_WAITING || s == LINK_CONNECTING;
}

static void link_become(struct forward *f, struct link *l, enum link_state state)
{
    f->pending_cnt += is_pending(state) - is_pending(l->state);
    l->state = state;
}

static void again_set(struct forward *f, struct link *l, bool again)
{
    f->again_cnt += again - l->again;
    l->again = again;
}

static void end_close(struct end *end, bool broken)
{
    const struct linger at_once = {1, 0};

    if (end->fd < 0)
        return;
    if (broken) /* a reset: what was sent so far is no whole answer */
        (void)setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(end->fd);
    end->fd = -1;
}

static void link_close(struct forward *f, struct link *l, bool broken)
{
    end_close(&l->ends[CLIENT], broken);
    end_close(&l->ends[APP], broken);
    again_set(f, l, false);
    link_become(f, l, LINK_FREE);
    l->age++;
    queue_pause(f, false);
}

/* From one end to the other, as far as it goes. False when the connection is broken. */
static bool way_move(struct forward *f, struct end *from, struct end *to, bool *more)
{
    for (int i = 0; i < TURN; i++) {
        ssize_t len, sent;

        if (from->over || to->full)
            return true;
        len = IO_RETRY(recv(from->fd, f->buf, sizeof f->buf, MSG_PEEK | MSG_DONTWAIT));
        if (len < 0)
            return errno == EAGAIN;
        if (len == 0) {
            from->over = true;
            return !shutdown(to->fd, SHUT_WR);
        }
        sent = IO_RETRY(send(to->fd, f->buf, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT));
        if (sent < 0 && errno == EAGAIN)
            to->full = true;
        else if (sent < 0 || IO_RETRY(recv(from->fd, f->buf, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT)) != sent)
            return false;
    }
    *more = true;
    return true;
}

static void link_move(struct forward *f, struct link *l)
{
    struct end *client = &l->ends[CLIENT], *app = &l->ends[APP];
    bool more = false;

    if (!way_move(f, client, app, &more) || !way_move(f, app, client, &more))
        link_close(f, l, true);
    else if (client->over && app->over)
        link_close(f, l, false);
    else
        again_set(f, l, more);
}

/* --- towards the app ------------------------------------------------------------------------------------------------- */

int forward_connect(int type, bool v6, uint16_t port)
{
    const struct sockaddr_in a4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    const struct sockaddr_in6 a6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int rc = fd < 0 ? -1
             : v6   ? connect(fd, (const struct sockaddr *)&a6, sizeof a6)
                    : connect(fd, (const struct sockaddr *)&a4, sizeof a4);

    if (fd >= 0 && rc < 0 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void link_try(struct forward *f, struct link *l);

/* The other address at once, then both after a while. */
static void link_refused(struct forward *f, struct link *l)
{
    end_close(&l->ends[APP], false);
    l->v6 = !l->v6;
    if (l->v6) {
        link_try(f, l);
    } else if (f->now_ms - l->began_ms >= REFUSED_MS) {
        link_close(f, l, true);
    } else {
        link_become(f, l, LINK_WAITING);
        l->due_ms = f->now_ms + RETRY_MS;
    }
}

/* What is true already is told, too: the first event comes at once where the connection is there. */
static void link_try(struct forward *f, struct link *l)
{
    const int on = 1;
    int fd = forward_connect(SOCK_STREAM, l->v6, l->port);

    if (fd < 0) {
        link_refused(f, l);
        return;
    }
    l->ends[APP] = (struct end){.fd = fd};
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    link_become(f, l, LINK_CONNECTING);
    l->due_ms = f->now_ms + CONNECT_MS;
    if (end_watch(f, l, APP))
        link_close(f, l, true);
}

static int error_take(int fd)
{
    int error = 0;
    socklen_t len = sizeof error;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) ? errno : error;
}

static void link_connected(struct forward *f, struct link *l)
{
    if (error_take(l->ends[APP].fd)) {
        link_refused(f, l);
        return;
    }
    link_become(f, l, LINK_OPEN);
    link_move(f, l);
}

/* --- from outside ---------------------------------------------------------------------------------------------------- */

static void client_prepare(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
                   {IPPROTO_TCP, TCP_KEEPINTVL, KEEP_STEP_S},
                   {IPPROTO_TCP, TCP_KEEPCNT, KEEP_STEPS},
                   {IPPROTO_TCP, TCP_NODELAY, 1}};

    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static struct link *link_find_free(struct forward *f)
{
    for (size_t i = 0; i < CONFIG_APP_CONNECTIONS; i++)
        if (f->links[i].state == LINK_FREE)
            return &f->links[i];
    return NULL;
}

static void link_begin(struct forward *f, struct link *l, int fd, uint16_t port)
{
    *l = (struct link){.age = l->age, .ends = {{.fd = fd}, {.fd = -1}}, .port = port, .began_ms = f->now_ms};
    client_prepare(fd);
    if (end_watch(f, l, CLIENT))
        link_close(f, l, true);
    else
        link_try(f, l);
}

/* Connections that there is no room for wait in the kernel's queue, as do those that it has no memory for. */
static void queue_take(struct forward *f, const struct listener *from)
{
    for (int i = 0; i < ACCEPT_TURN; i++) {
        struct link *l = link_find_free(f);
        int fd = l ? accept4(from->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;

        if (fd >= 0) {
            link_begin(f, l, fd, from->port);
            continue;
        }
        if (!l || (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED))
            queue_pause(f, true);
        return;
    }
}

/* --- the loop ------------------------------------------------------------------------------------------------------- */

static void link_event(struct forward *f, struct link *l, enum side side, uint32_t events)
{
    if (events & EPOLLOUT)
        l->ends[side].full = false;
    if (l->state == LINK_CONNECTING && side == APP) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            link_connected(f, l);
    } else if (events & EPOLLERR)
        link_close(f, l, true);
    else if (l->state == LINK_OPEN)
        link_move(f, l);
}

static void dispatch(struct forward *f, const struct epoll_event *ev)
{
    enum kind kind = (enum kind)(ev->data.u64 >> 56);
    size_t index = ev->data.u64 >> 32 & 0xffffff;
    uint32_t age = (uint32_t)ev->data.u64;
    struct listener *from = &f->listeners[kind == KIND_LISTENER ? index : 0];

    if (kind == KIND_SESSION)
        udp_answers(&f->udp, index, f->now_ms, f->buf);
    else if (kind != KIND_LISTENER) {
        if (f->links[index].age == age && f->links[index].state != LINK_FREE)
            link_event(f, &f->links[index], kind == KIND_CLIENT ? CLIENT : APP, ev->events);
    } else if (from->udp)
        udp_questions(&f->udp, from->fd, from->port, f->now_ms, f->buf);
    else
        queue_take(f, from);
}

/* What no event brings on. */
static void links_go_on(struct forward *f)
{
    for (size_t i = 0; i < CONFIG_APP_CONNECTIONS && (f->again_cnt || f->pending_cnt); i++) {
        struct link *l = &f->links[i];

        if (l->again)
            link_move(f, l);
        else if (l->state == LINK_WAITING && l->due_ms <= f->now_ms)
            link_try(f, l);
        else if (l->state == LINK_CONNECTING && l->due_ms <= f->now_ms)
            link_close(f, l, true);
    }
}

static int wait_ms(const struct forward *f)
{
    if (f->again_cnt)
        return 0;
    return f->pending_cnt ? RETRY_MS : f->paused ? PAUSE_MS : udp_wait_ms(&f->udp);
}

static int listeners_open(struct forward *f, int first, const uint16_t *ports, int cnt, struct err *e)
{
    f->listener_cnt = cnt;
    for (int i = 0; i < cnt; i++) {
        struct listener *l = &f->listeners[i];
        int type = 0;
        socklen_t len = sizeof type;

        *l = (struct listener){.fd = first + i, .port = ports[i]};
        if (getsockopt(l->fd, SOL_SOCKET, SO_TYPE, &type, &len))
            return err_errno(e, "port %d", i);
        l->udp = type == SOCK_DGRAM;
        if (watch(f, EPOLL_CTL_ADD, l->fd, EPOLLIN, label(KIND_LISTENER, (size_t)i, 0)))
            return err_errno(e, "port %d", i);
    }
    return 0;
}

static int serve(struct forward *f, struct err *e)
{
    struct epoll_event events[EVENT_MAX];

    for (;;) {
        int cnt = epoll_wait(f->epoll, events, EVENT_MAX, wait_ms(f));

        if (cnt < 0 && errno != EINTR)
            return err_errno(e, "epoll");
        f->now_ms = now_ms();
        if (!cnt)
            queue_pause(f, false);
        for (int i = 0; i < cnt; i++)
            dispatch(f, &events[i]);
        links_go_on(f);
        udp_expire(&f->udp, f->now_ms);
    }
}

static struct forward *forward_new(struct err *e)
{
    struct forward *f = calloc(1, sizeof *f);

    if (!f) {
        err_errno(e, "memory");
        return NULL;
    }
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    udp_init(&f->udp, f->epoll, label(KIND_SESSION, 0, 0));
    return f;
}

static int role_enter(struct forward *f, uint32_t uid, const uint16_t *ports, int cnt, struct err *e)
{
    const pid_t parent = getppid();
    const rlim_t fds = 2 * CONFIG_APP_CONNECTIONS + CONFIG_APP_UDP_SESSIONS + CONF_APP_PORT_MAX + 16;

    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){fds, fds}))
        return err_errno(e, "%llu descriptors", (unsigned long long)fds);
    if (setns(FORWARD_FD_NET, CLONE_NEWNET))
        return err_errno(e, "network namespace of the app");
    close(FORWARD_FD_NET);
    if (listeners_open(f, FORWARD_FD_FIRST, ports, cnt, e))
        return e->code;
    if (sandbox_enter(SANDBOX_FORWARD, uid, e))
        return e->code;
    /* agentd might have died just before the kernel knew that this is to end with it */
    return getppid() == parent ? 0 : err_set(e, ERR_PEER, "agentd is gone");
}

int forward_main(int argc, char **argv)
{
    uint16_t ports[CONF_APP_PORT_MAX];
    struct err e = {0};
    struct forward *f = forward_new(&e);
    int cnt = argc - 2;

    log_role("forward");
    ASSERT(cnt > 0 && cnt <= CONF_APP_PORT_MAX);
    for (int i = 0; i < cnt; i++)
        ports[i] = (uint16_t)strtoul(argv[2 + i], NULL, 10);
    if (f && !role_enter(f, (uint32_t)strtoul(argv[1], NULL, 10), ports, cnt, &e))
        serve(f, &e);
    log_error("%s", e.text);
    return 1;
}
