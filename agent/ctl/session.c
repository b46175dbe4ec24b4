#include "ctl/session.h"

#include <cJSON.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "ctl/serial.h"
#include "hal/board.h"

#define SOCKET_WAIT_MS 10000
#define SERIAL_WAIT_MS 2000 /* without a byte */
#define SERIAL_TRY_MS 15000 /* in all, on a line that never falls silent */
#define SERIAL_TRIES 3

static bool wait_readable(int fd, uint64_t wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return IO_RETRY(poll(&p, 1, (int)wait_ms)) > 0;
}

static int unreachable(const struct session *s, const char *why)
{
    if (s->serial)
        fprintf(stderr,
                "agentctl: no answer over %s at %u baud: %s\n"
                "Is the board on, and is `serial` set in [control] of its agent.conf, at this speed?\n",
                s->serial, (unsigned)s->baud, why);
    else
        fprintf(stderr,
                "agentctl: cannot reach the agent at %s: %s\n"
                "Is agentd running? Is this its socket ([control] in agent.conf)? May this user open it?\n",
                s->socket, why);
    return AGENTCTL_UNREACHABLE;
}

int session_broken(const char *why)
{
    fprintf(stderr, "agentctl: the agent's answer makes no sense: %s\n", why);
    return AGENTCTL_BROKEN;
}

/* --- carriers: leave the JSON of the answer in s->answer, ended by a NUL --- */

static int socket_connect(struct session *s)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(s->socket) >= sizeof addr.sun_path)
        return unreachable(s, "the path is too long for a socket");
    memcpy(addr.sun_path, s->socket, strlen(s->socket));
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return unreachable(s, strerror(errno));
    return AGENTCTL_OK;
}

static int socket_ask(struct session *s, const char *request)
{
    size_t len = 0;
    char *end = NULL;

    if (s->fd < 0 && socket_connect(s) != AGENTCTL_OK)
        return AGENTCTL_UNREACHABLE;
    if (send(s->fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request) ||
        send(s->fd, "\n", 1, MSG_NOSIGNAL) != 1) {
        if (errno != EPIPE) /* a server that has no room says so and hangs up */
            return unreachable(s, strerror(errno));
    }
    while (!end) {
        ssize_t n;

        if (len == sizeof s->answer - 1)
            return session_broken("it is too long");
        if (!wait_readable(s->fd, SOCKET_WAIT_MS))
            return unreachable(s, "it does not answer");
        n = IO_RETRY(read(s->fd, s->answer + len, sizeof s->answer - 1 - len));
        if (n <= 0)
            return unreachable(s, n < 0 ? strerror(errno) : "it hung up");
        len += (size_t)n;
        end = memchr(s->answer, '\n', len);
    }
    *end = '\0';
    return AGENTCTL_OK;
}

static int serial_open(struct session *s)
{
    struct err e;

    if (board.serial->open(s->serial, s->baud, &s->fd, &e) < 0) {
        s->fd = -1;
        return unreachable(s, e.text);
    }
    if (getrandom(&s->seq, sizeof s->seq, 0) != sizeof s->seq)
        s->seq = (uint32_t)board.clock->boot_ms();
    return AGENTCTL_OK;
}

static int serial_send(const struct session *s, const char *frame, size_t len)
{
    while (len > 0) {
        struct pollfd p = {.fd = s->fd, .events = POLLOUT};
        ssize_t n = IO_RETRY(write(s->fd, frame, len));

        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n <= 0 && IO_RETRY(poll(&p, 1, SERIAL_WAIT_MS)) <= 0)
            return -1;
        if (n > 0) {
            frame += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* True when the answer to s->seq has come; false when it came damaged, the line fell silent, or the time is up. */
static bool serial_receive(struct session *s, struct serial_rx *rx)
{
    uint64_t end = board.clock->boot_ms() + SERIAL_TRY_MS;
    uint32_t damaged = rx->damaged;
    struct serial_frame f;
    char bytes[256];

    while (board.clock->boot_ms() < end && wait_readable(s->fd, SERIAL_WAIT_MS)) {
        ssize_t n = IO_RETRY(read(s->fd, bytes, sizeof bytes));

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        for (ssize_t i = 0; i < n; i++) {
            if (!serial_rx_byte(rx, bytes[i], &f) || f.seq != s->seq)
                continue;
            memmove(s->answer, f.json, f.len);
            s->answer[f.len] = '\0';
            return true;
        }
        if (rx->damaged != damaged)
            return false;
    }
    return false;
}

/* The same seq at every try: a question that was heard and whose answer was lost is not carried out twice. */
static int serial_ask(struct session *s, const char *request)
{
    char frame[SERIAL_FRAME_MAX(CTL_REQUEST_MAX)];
    struct serial_rx rx;
    int len;

    if (s->fd < 0 && serial_open(s) != AGENTCTL_OK)
        return AGENTCTL_UNREACHABLE;
    s->seq++;
    frame[0] = '\n'; /* ends what may stand half-finished on the line */
    len = serial_frame_write(SERIAL_QUESTION, s->seq, request, strlen(request), frame + 1, sizeof frame - 1);
    serial_rx_init(&rx, SERIAL_ANSWER, s->answer, sizeof s->answer - 1);
    for (int i = 0; i < SERIAL_TRIES; i++) {
        if (serial_send(s, frame, (size_t)len + 1) < 0)
            return unreachable(s, strerror(errno));
        if (serial_receive(s, &rx))
            return AGENTCTL_OK;
    }
    return unreachable(s, rx.damaged > 0 ? "only damaged frames came back; a wrong speed, or another reader?"
                                         : "silence");
}

/* --- questions --- */

int session_ask(struct session *s, const char *request, cJSON **out)
{
    int rc = s->serial ? serial_ask(s, request) : socket_ask(s, request);
    const cJSON *version, *ok;

    if (rc != AGENTCTL_OK)
        return rc;
    *out = cJSON_Parse(s->answer);
    version = cJSON_GetObjectItemCaseSensitive(*out, "v");
    ok = cJSON_GetObjectItemCaseSensitive(*out, "ok");
    if (!cJSON_IsNumber(version) || !cJSON_IsBool(ok)) {
        cJSON_Delete(*out);
        return session_broken("it is no answer of the control protocol");
    }
    if (version->valueint != CTL_VERSION) {
        cJSON_Delete(*out);
        return session_broken("it is of another version; use the agentctl that belongs to the agent");
    }
    if (cJSON_IsTrue(ok))
        return AGENTCTL_OK;
    if (s->json)
        puts(s->answer);
    else
        fprintf(stderr, "agentctl: refused: %s\n",
                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(*out, "error")));
    cJSON_Delete(*out);
    return AGENTCTL_REFUSED;
}

void session_end(struct session *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}
