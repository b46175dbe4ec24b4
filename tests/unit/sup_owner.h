/* The owner of an app, for the tests of sup/: a real loop, real children, and what the supervisor notices of them. */
#ifndef SLIPWAY_TESTS_SUP_OWNER_H
#define SLIPWAY_TESTS_SUP_OWNER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "sup/app.h"

#define NOTICE_MAX 16

static struct loop loop;
static struct app app;
static struct app_spec spec;
static struct conf_app policy;
static struct err err;
static enum app_notice notices[NOTICE_MAX];
static uint64_t notice_at[NOTICE_MAX];
static int notice_cnt;
static int stop_at; /* the loop ends with this many notices */
static int child_pipe[2];
static char dir[32];

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void on_notice(void *ctx, enum app_notice n)
{
    (void)ctx;
    assert_true(notice_cnt < NOTICE_MAX);
    notice_at[notice_cnt] = now_ms();
    notices[notice_cnt++] = n;
    if (notice_cnt >= stop_at)
        loop_stop(&loop);
}

static void on_sigchld(int sig)
{
    int saved = errno;

    (void)sig;
    (void)!write(child_pipe[1], "", 1);
    errno = saved;
}

static void on_child(void *ctx, short revents)
{
    char buf[64];
    int status;
    pid_t pid;

    (void)ctx;
    (void)revents;
    (void)!read(child_pipe[0], buf, sizeof buf);
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        app_reap(&app, pid, status);
}

static void on_pause(void *ctx)
{
    (void)ctx;
    loop_stop(&loop);
}

static void loop_for(uint64_t ms)
{
    struct loop_timer pause = {.due = on_pause};

    stop_at = NOTICE_MAX;
    loop_timer_set(&loop, &pause, ms);
    assert_int_equal(loop_run(&loop), 0);
    loop_timer_clear(&loop, &pause);
}

static void text_add(const char *s)
{
    size_t len = strlen(s) + 1;

    assert_true(spec.text_len + len <= sizeof spec.text);
    memcpy(spec.text + spec.text_len, s, len);
    spec.text_len = (uint16_t)(spec.text_len + len);
}

static void spec_args(const char *a, const char *b, const char *c)
{
    const char *const args[] = {a, b, c};

    memset(&spec, 0, sizeof spec);
    spec.cwd[0] = '/';
    for (size_t i = 0; i < 3 && args[i]; i++, spec.arg_cnt++)
        text_add(args[i]);
}

static int set_up(void **state)
{
    struct sigaction sa = {.sa_handler = on_sigchld, .sa_flags = SA_RESTART};

    (void)state;
    notice_cnt = 0;
    loop_init(&loop, now_ms);
    memset(&policy, 0, sizeof policy);
    policy.start_timeout_s = 10;
    policy.pids = 100;
    policy.tmpfs_kb = 1024;
    snprintf(dir, sizeof dir, "/tmp/test_sup.XXXXXX");
    if (!mkdtemp(dir) || pipe2(child_pipe, O_CLOEXEC | O_NONBLOCK))
        return -1;
    loop_fd_add(&loop, child_pipe[0], POLLIN, on_child, NULL);
    return sigaction(SIGCHLD, &sa, NULL);
}

static int tear_down(void **state)
{
    char command[64];

    (void)state;
    signal(SIGCHLD, SIG_DFL);
    if (app.pid > 0)
        kill(app.pid, SIGKILL);
    if (app.loop)
        health_stop(&app.health);
    /* all of them: the first process of a pid namespace does not end before a check in it was waited for */
    while (waitpid(-1, NULL, 0) > 0)
        ;
    cgroup_kill(&app.cgroup);
    cgroup_remove(&app.cgroup);
    if (app.out_fd >= 0)
        close(app.out_fd);
    if (app.notify.fd > 0)
        close(app.notify.fd);
    if (app.log.fd > 0)
        close(app.log.fd);
    close(child_pipe[0]);
    close(child_pipe[1]);
    memset(&app, 0, sizeof app);
    app.out_fd = -1;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
