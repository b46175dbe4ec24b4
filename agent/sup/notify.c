#include "sup/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

#define MESSAGE_MAX 4096

static void line_take(struct notify_message *m, const char *line)
{
    size_t i;

    if (!strcmp(line, "READY=1")) {
        m->ready = true;
    } else if (!strcmp(line, "WATCHDOG=1")) {
        m->alive = true;
    } else if (!strcmp(line, "WATCHDOG=trigger")) {
        m->failing = true;
    } else if (!strncmp(line, "EXTEND_TIMEOUT_USEC=", 20)) {
        m->extend_us = strtoull(line + 20, NULL, 10);
    } else if (!strncmp(line, "STATUS=", 7)) {
        for (i = 0; line[7 + i] && i < sizeof m->status - 1; i++)
            m->status[i] = line[7 + i] < 0x20 || line[7 + i] > 0x7e ? '?' : line[7 + i];
        m->status[i] = '\0';
    }
}

/* Descriptors that come along (FDSTORE) are not taken: recv() drops them. */
static bool message_read(struct notify *n, struct notify_message *m)
{
    char text[MESSAGE_MAX + 1];
    ssize_t len = IO_RETRY(recv(n->fd, text, MESSAGE_MAX, 0));

    if (len < 0)
        return false;
    text[len] = '\0';
    memset(m, 0, sizeof *m);
    for (char *line = text, *end; line; line = end) {
        end = strchr(line, '\n');
        if (end)
            *end++ = '\0';
        line_take(m, line);
    }
    return true;
}

static void ready(void *ctx, short revents)
{
    struct notify *n = ctx;
    struct notify_message m;

    (void)revents;
    if (message_read(n, &m))
        n->told(n->ctx, &m);
}

void notify_drain(struct notify *n)
{
    struct notify_message m;

    while (n->path[0] && message_read(n, &m))
        ;
}

/* Everybody may write to the socket, and nobody come to the folder it is in: the app gets it mounted. */
static int socket_make(struct notify *n, const char *folder)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (snprintf(n->path, sizeof n->path, "%s/notify", folder) >= (int)sizeof n->path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(addr.sun_path, n->path, sizeof addr.sun_path);
    if (mkdir(folder, 0700) && errno != EEXIST)
        return -1;
    if (unlink(n->path) && errno != ENOENT)
        return -1;
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return n->fd < 0 || bind(n->fd, (struct sockaddr *)&addr, sizeof addr) || chmod(n->path, 0666) ? -1 : 0;
}

void notify_open(struct notify *n, struct loop *loop, const char *folder,
                 void (*told)(void *ctx, const struct notify_message *m), void *ctx)
{
    *n = (struct notify){.loop = loop, .fd = -1, .told = told, .ctx = ctx};
    if (!socket_make(n, folder)) {
        loop_fd_add(loop, n->fd, POLLIN, ready, n);
        return;
    }
    log_warning("app: no socket for sd_notify in %s: %s", folder, strerror(errno));
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
    n->path[0] = '\0';
}
