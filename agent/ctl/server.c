#include "ctl/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "ctl/line.h"
#include "ctl/serial.h"

#define CLIENT_CNT 4
#define IDLE_MS 30000
#define SWEEP_MS 5000
#define SERIAL_RETRY_MIN_MS 1000
#define SERIAL_RETRY_MAX_MS 60000

/* Reads while it has nothing to write, and writes until the answer is out: one request at a time, so that a client
 * that sends without reading is held up by its own socket. */
struct client {
    struct ctl_server *server;
    int fd; /* -1: free */
    uint64_t active_ms;
    size_t in_len;
    size_t out_len;
    size_t out_at;
    bool last;                    /* close when the answer is out */
    char in[CTL_REQUEST_MAX + 2]; /* CR LF */
    char out[CTL_RESPONSE_MAX];
};

/* The answer stays in `out` so that a question repeated with the same seq is answered again, not done again. */
struct line {
    int fd; /* -1: closed, the timer opens it */
    const struct serial_ops *ops;
    const struct conf_control *conf;
    struct serial_rx rx;
    struct loop_timer retry;
    uint64_t retry_ms;
    bool answered;
    uint32_t seq;
    size_t out_len;
    size_t out_at;
    char in[SERIAL_FRAME_MAX(CTL_REQUEST_MAX)];
    char out[SERIAL_FRAME_MAX(CTL_RESPONSE_MAX)];
};

struct ctl_server {
    struct loop *loop;
    struct ctl_owner owner;
    int listen_fd;
    struct loop_timer sweep;
    struct client clients[CLIENT_CNT];
    struct line line;
};

static struct ctl_server the_server;

/* --- clients of the socket --- */

static void client_drop(struct client *c)
{
    loop_fd_remove(c->server->loop, c->fd);
    close(c->fd);
    c->fd = -1;
}

/* Take the first line of `in` out and answer it. False when there is no whole line. */
static bool client_answer_one(struct client *c)
{
    char *end = memchr(c->in, '\n', c->in_len);
    size_t len = end ? (size_t)(end - c->in) : c->in_len;
    size_t text_len = len > 0 && c->in[len - 1] == '\r' ? len - 1 : len;

    if (!end && len <= CTL_REQUEST_MAX)
        return false;
    c->out_at = 0;
    c->last = text_len > CTL_REQUEST_MAX;
    if (c->last)
        c->out_len =
            ctl_line_refuse(ERR_LIMIT, "the request is longer than 1024 bytes", c->out, sizeof c->out);
    else
        c->out_len = ctl_line_answer(&c->server->owner, c->in, text_len, false, "the socket", c->out,
                                     sizeof c->out - 1);
    c->out[c->out_len++] = '\n';
    c->in_len = end ? c->in_len - len - 1 : 0;
    memmove(c->in, end ? end + 1 : c->in, c->in_len);
    return true;
}

/* Returns false when the client is gone. */
static bool client_write(struct client *c)
{
    while (c->out_at < c->out_len) {
        ssize_t n = IO_RETRY(send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL));

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n < 0)
            return false;
        c->out_at += (size_t)n;
        c->active_ms = c->server->loop->now_ms();
    }
    return !c->last;
}

static bool client_read(struct client *c)
{
    ssize_t n = IO_RETRY(recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0));

    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return false;
    c->in_len += (size_t)n;
    c->active_ms = c->server->loop->now_ms();
    return true;
}

static void client_ready(void *ctx, short revents)
{
    struct client *c = ctx;
    bool pending = c->out_at < c->out_len;

    if (revents & (POLLERR | POLLNVAL) || (pending && revents & POLLHUP) || (!pending && !client_read(c)) ||
        !client_write(c)) {
        client_drop(c);
        return;
    }
    while (c->out_at == c->out_len && client_answer_one(c))
        if (!client_write(c)) {
            client_drop(c);
            return;
        }
    loop_fd_events(c->server->loop, c->fd, c->out_at < c->out_len ? POLLOUT : POLLIN);
}

static void sweep(void *ctx)
{
    struct ctl_server *s = ctx;
    uint64_t now = s->loop->now_ms();
    bool any = false;

    for (int i = 0; i < CLIENT_CNT; i++) {
        struct client *c = &s->clients[i];

        if (c->fd >= 0 && now - c->active_ms >= IDLE_MS)
            client_drop(c);
        any |= c->fd >= 0;
    }
    loop_fd_events(s->loop, s->listen_fd, POLLIN);
    if (any)
        loop_timer_set(s->loop, &s->sweep, SWEEP_MS);
}

static void client_refuse(int fd)
{
    char text[256];
    size_t len = ctl_line_refuse(ERR_LIMIT, "four clients are connected already", text, sizeof text - 1);

    text[len++] = '\n';
    (void)send(fd, text, len, MSG_NOSIGNAL); /* a courtesy */
    close(fd);
}

static void client_accept(void *ctx, short revents)
{
    struct ctl_server *s = ctx;
    int fd = IO_RETRY(accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    int i = 0;

    (void)revents;
    if (fd < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED)
            return;
        log_warning("control socket: accept: %s", strerror(errno));
        loop_fd_events(s->loop, s->listen_fd, 0); /* until the next sweep: it would be ready again at once */
        loop_timer_set(s->loop, &s->sweep, SWEEP_MS);
        return;
    }
    while (i < CLIENT_CNT && s->clients[i].fd >= 0)
        i++;
    if (i == CLIENT_CNT) {
        client_refuse(fd);
        return;
    }
    s->clients[i] = (struct client){.server = s, .fd = fd, .active_ms = s->loop->now_ms()};
    loop_fd_add(s->loop, fd, POLLIN, client_ready, &s->clients[i]);
    if (!s->sweep.armed)
        loop_timer_set(s->loop, &s->sweep, SWEEP_MS);
}

/* --- serial line --- */

static void line_close(struct ctl_server *s)
{
    struct line *l = &s->line;

    loop_fd_remove(s->loop, l->fd);
    close(l->fd);
    l->fd = -1;
    loop_timer_set(s->loop, &l->retry, l->retry_ms);
    l->retry_ms = l->retry_ms * 2 < SERIAL_RETRY_MAX_MS ? l->retry_ms * 2 : SERIAL_RETRY_MAX_MS;
}

static void line_answer(struct ctl_server *s, const struct serial_frame *f)
{
    struct line *l = &s->line;
    char *json = l->out + SERIAL_HEAD_LEN;
    int n;

    l->out_at = 0;
    if (l->answered && f->seq == l->seq)
        return;
    n = (int)ctl_line_answer(&s->owner, f->json, f->len, true, "the serial line", json, CTL_RESPONSE_MAX - 1);
    n = serial_frame_write(SERIAL_ANSWER, f->seq, json, (size_t)n, l->out, sizeof l->out);
    ASSERT(n > 0); /* the buffer was made for it, and the text is ASCII */
    l->out_len = (size_t)n;
    l->seq = f->seq;
    l->answered = true;
}

static bool line_write(struct line *l)
{
    while (l->out_at < l->out_len) {
        ssize_t n = IO_RETRY(write(l->fd, l->out + l->out_at, l->out_len - l->out_at));

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        l->out_at += (size_t)n;
    }
    return true;
}

/* Reads on while an answer goes out, so that noise does not pile up; a question that comes meanwhile replaces it. */
static bool line_read(struct ctl_server *s)
{
    struct line *l = &s->line;
    struct serial_frame frame;
    char bytes[256];
    ssize_t n = IO_RETRY(read(l->fd, bytes, sizeof bytes));

    if (n < 0)
        return errno == EAGAIN;
    if (n == 0)
        return false;
    l->retry_ms = SERIAL_RETRY_MIN_MS;
    for (ssize_t i = 0; i < n; i++)
        if (serial_rx_byte(&l->rx, bytes[i], &frame))
            line_answer(s, &frame);
    return true;
}

static void line_ready(void *ctx, short revents)
{
    struct ctl_server *s = ctx;
    struct line *l = &s->line;

    if (revents & (POLLERR | POLLHUP | POLLNVAL) || (revents & POLLIN && !line_read(s)) || !line_write(l)) {
        line_close(s);
        return;
    }
    loop_fd_events(s->loop, l->fd, l->out_at < l->out_len ? POLLIN | POLLOUT : POLLIN);
}

static int line_open(struct ctl_server *s, struct err *e)
{
    struct line *l = &s->line;
    int rc = l->ops->open(l->conf->serial, l->conf->serial_baud, &l->fd, e);

    if (rc < 0) {
        l->fd = -1;
        return rc;
    }
    serial_rx_init(&l->rx, SERIAL_QUESTION, l->in, sizeof l->in);
    l->out_at = l->out_len = 0;
    l->answered = false;
    loop_fd_add(s->loop, l->fd, POLLIN, line_ready, s);
    return 0;
}

static void line_retry(void *ctx)
{
    struct ctl_server *s = ctx;
    struct line *l = &s->line;
    struct err e;

    if (line_open(s, &e) == 0)
        return;
    l->retry_ms = l->retry_ms * 2 < SERIAL_RETRY_MAX_MS ? l->retry_ms * 2 : SERIAL_RETRY_MAX_MS;
    loop_timer_set(s->loop, &l->retry, l->retry_ms);
}

static void line_start(struct ctl_server *s, const struct conf_control *conf, const struct serial_ops *ops)
{
    struct line *l = &s->line;
    struct err e;

    l->fd = -1;
    if (conf->serial[0] == '\0')
        return;
    if (!IS_ENABLED(CONFIG_CTL_SERIAL)) {
        log_warning("control: %s is not used: this build has no serial control", conf->serial);
        return;
    }
    l->ops = ops;
    l->conf = conf;
    l->retry_ms = SERIAL_RETRY_MIN_MS;
    l->retry = (struct loop_timer){.due = line_retry, .ctx = s};
    if (line_open(s, &e) == 0)
        return;
    log_warning("control: %s; will be tried again", e.text);
    loop_timer_set(s->loop, &l->retry, l->retry_ms);
}

/* --- start --- */

/* mkdir -p for the folder that `path` is in. */
static int folder_make(const char *path, struct err *e)
{
    char folder[CONF_PATH_MAX];

    snprintf(folder, sizeof folder, "%s", path);
    for (char *at = strchr(folder + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        if (mkdir(folder, 0755) < 0 && errno != EEXIST)
            return err_errno(e, "control socket: mkdir %s", folder);
        *at = '/';
    }
    return 0;
}

static int socket_bind(int fd, const struct sockaddr_un *addr, struct err *e)
{
    mode_t old;
    int rc;

    if (connect(fd, (const struct sockaddr *)addr, sizeof *addr) == 0)
        return err_set(e, ERR_STATE, "control socket: another agentd answers at %s", addr->sun_path);
    if (unlink(addr->sun_path) < 0 && errno != ENOENT)
        return err_errno(e, "control socket: unlink %s", addr->sun_path);
    old = umask(0117);
    rc = bind(fd, (const struct sockaddr *)addr, sizeof *addr);
    umask(old);
    if (rc < 0)
        return err_errno(e, "control socket: bind %s", addr->sun_path);
    if (listen(fd, CLIENT_CNT) < 0)
        return err_errno(e, "control socket: listen");
    return 0;
}

static int socket_open(const char *path, int *out, struct err *e)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int rc;

    if (strlen(path) >= sizeof addr.sun_path)
        return err_set(e, ERR_CONFIG, "control socket: path is longer than %zu bytes",
                       sizeof addr.sun_path - 1);
    memcpy(addr.sun_path, path, strlen(path));
    rc = folder_make(path, e);
    if (rc < 0)
        return rc;
    *out = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*out < 0)
        return err_errno(e, "control socket");
    rc = socket_bind(*out, &addr, e);
    if (rc < 0)
        close(*out);
    return rc;
}

struct ctl_server *ctl_server_start(struct loop *loop, const struct conf_control *conf,
                                    const struct serial_ops *serial, const struct ctl_owner *owner,
                                    struct err *e)
{
    struct ctl_server *s = &the_server;

    memset(s, 0, sizeof *s);
    s->loop = loop;
    s->owner = *owner;
    s->sweep = (struct loop_timer){.due = sweep, .ctx = s};
    for (int i = 0; i < CLIENT_CNT; i++)
        s->clients[i].fd = -1;
    if (socket_open(conf->socket, &s->listen_fd, e) < 0)
        return NULL;
    loop_fd_add(loop, s->listen_fd, POLLIN, client_accept, s);
    line_start(s, conf, serial);
    return s;
}
