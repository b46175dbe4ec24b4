#include "base/loop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"

void loop_init(struct loop *l, uint64_t (*now_ms)(void))
{
    memset(l, 0, sizeof *l);
    l->now_ms = now_ms;
    for (int i = 0; i < LOOP_FD_MAX; i++)
        l->fds[i].fd = -1;
}

static struct loop_fd *fd_find(struct loop *l, int fd)
{
    for (int i = 0; i < LOOP_FD_MAX; i++)
        if (l->fds[i].fd == fd)
            return &l->fds[i];
    return NULL;
}

void loop_fd_add(struct loop *l, int fd, short events, void (*ready)(void *ctx, short revents), void *ctx)
{
    struct loop_fd *slot = fd_find(l, -1);

    ASSERT(fd >= 0 && slot);
    *slot = (struct loop_fd){fd, events, ready, ctx};
}

void loop_fd_events(struct loop *l, int fd, short events)
{
    struct loop_fd *slot = fd_find(l, fd);

    ASSERT(fd >= 0 && slot);
    slot->events = events;
}

void loop_fd_remove(struct loop *l, int fd)
{
    struct loop_fd *slot = fd < 0 ? NULL : fd_find(l, fd);

    if (slot)
        slot->fd = -1;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms)
{
    t->at_ms = l->now_ms() + after_ms;
    if (t->armed)
        return;
    for (int i = 0; i < LOOP_TIMER_MAX; i++) {
        if (!l->timers[i]) {
            l->timers[i] = t;
            t->armed = true;
            return;
        }
    }
    ASSERT(!"room for a timer");
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
    for (int i = 0; i < LOOP_TIMER_MAX; i++)
        if (l->timers[i] == t)
            l->timers[i] = NULL;
    t->armed = false;
}

static void timers_run(struct loop *l)
{
    uint64_t now = l->now_ms();

    for (int i = 0; i < LOOP_TIMER_MAX && !l->stop; i++) {
        struct loop_timer *t = l->timers[i];

        if (!t || t->at_ms > now)
            continue;
        loop_timer_clear(l, t);
        t->due(t->ctx);
    }
}

static int wait_ms(const struct loop *l)
{
    uint64_t now = l->now_ms();
    uint64_t next = UINT64_MAX;

    for (int i = 0; i < LOOP_TIMER_MAX; i++)
        if (l->timers[i] && l->timers[i]->at_ms < next)
            next = l->timers[i]->at_ms;
    if (next == UINT64_MAX)
        return -1;
    if (next <= now)
        return 0;
    return next - now > 3600000 ? 3600000 : (int)(next - now);
}

static void fds_dispatch(struct loop *l, const struct pollfd *set)
{
    for (int i = 0; i < LOOP_FD_MAX && !l->stop; i++) {
        struct loop_fd *w = &l->fds[i];

        /* an earlier callback may have removed or replaced this one */
        if (set[i].revents && w->fd == set[i].fd && w->fd >= 0)
            w->ready(w->ctx, set[i].revents);
    }
}

int loop_run(struct loop *l)
{
    struct pollfd set[LOOP_FD_MAX];

    l->stop = false;
    while (!l->stop) {
        for (int i = 0; i < LOOP_FD_MAX; i++)
            set[i] = (struct pollfd){.fd = l->fds[i].fd, .events = l->fds[i].events};
        if (poll(set, LOOP_FD_MAX, wait_ms(l)) < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        fds_dispatch(l, set);
        timers_run(l);
    }
    return 0;
}

void loop_stop(struct loop *l)
{
    l->stop = true;
}
