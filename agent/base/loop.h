/* The event loop of the long-lived roles: descriptors and timers in fixed tables, poll(2). No allocation. */
#ifndef SLIPWAY_BASE_LOOP_H
#define SLIPWAY_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_FD_MAX 24
#define LOOP_TIMER_MAX 16

struct loop_fd {
    int fd; /* -1: free */
    short events;
    void (*ready)(void *ctx, short revents);
    void *ctx;
};

/* A timer is its owner's; it is armed by linking its address into the loop. */
struct loop_timer {
    uint64_t at_ms; /* on the loop's clock */
    bool armed;
    void (*due)(void *ctx);
    void *ctx;
};

struct loop {
    uint64_t (*now_ms)(void); /* hal/clock.h: boot_ms */
    struct loop_fd fds[LOOP_FD_MAX];
    struct loop_timer *timers[LOOP_TIMER_MAX];
    bool stop;
};

void loop_init(struct loop *l, uint64_t (*now_ms)(void));
/* Watch fd. Asserts that the table has room: its users are counted at build time. Events as in poll(2). */
void loop_fd_add(struct loop *l, int fd, short events, void (*ready)(void *ctx, short revents), void *ctx);
void loop_fd_events(struct loop *l, int fd, short events);
void loop_fd_remove(struct loop *l, int fd);
/* (Re)arm to fall due in `after_ms`. A due timer is disarmed before its function is called. */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t after_ms);
void loop_timer_clear(struct loop *l, struct loop_timer *t);
/* Run until loop_stop(). Returns 0 or a negative errno of poll. */
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

#endif
