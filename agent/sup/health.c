#include "sup/health.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* Docker's, where the image says nothing. */
#define INTERVAL_MS 30000u
#define TIMEOUT_MS 30000u
#define RETRIES 3u
#define START_INTERVAL_MS 5000u /* within the start period, and only until the first success */

static uint32_t either(uint32_t value, uint32_t preset)
{
    return value ? value : preset;
}

static bool is_starting(const struct health *h)
{
    return !h->healthy && h->loop->now_ms() - h->started_ms < h->plan.spec->health_start_ms;
}

static void next_plan(struct health *h)
{
    uint32_t after = either(h->plan.spec->health_interval_ms, INTERVAL_MS);

    if (is_starting(h) && after > START_INTERVAL_MS)
        after = START_INTERVAL_MS;
    loop_timer_set(h->loop, &h->timer, after);
}

static void passed(struct health *h)
{
    bool first = !h->healthy;

    h->healthy = true;
    h->fails = 0;
    next_plan(h);
    if (first)
        h->verdict(h->ctx, true);
}

static void failed(struct health *h, const char *why)
{
    uint32_t retries = either(h->plan.spec->health_retries, RETRIES);
    char words[160];

    if (!is_starting(h))
        h->fails++;
    snprintf(words, sizeof words, "health check: %.100s (%u of %u)", why, (unsigned)h->fails,
             (unsigned)retries);
    h->complain(h->ctx, words);
    next_plan(h);
    if (h->fails >= retries)
        h->verdict(h->ctx, false);
}

static void check(struct health *h)
{
    struct err e = {0};

    h->late = false;
    if (child_start(&h->plan, &h->pid, NULL, &e)) {
        failed(h, e.text);
        h->pid = 0; /* a child that only says why it did not start is nobody's */
        return;
    }
    loop_timer_set(h->loop, &h->timer, either(h->plan.spec->health_timeout_ms, TIMEOUT_MS));
}

static void due(void *ctx)
{
    struct health *h = ctx;

    if (!h->pid) {
        check(h);
        return;
    }
    h->late = true;
    (void)kill(-h->pid, SIGKILL);
}

void health_init(struct health *h, struct loop *loop, void (*verdict)(void *ctx, bool healthy),
                 void (*complain)(void *ctx, const char *words), void *ctx)
{
    memset(h, 0, sizeof *h);
    h->loop = loop;
    h->verdict = verdict;
    h->complain = complain;
    h->ctx = ctx;
    h->timer = (struct loop_timer){.due = due, .ctx = h};
}

void health_start(struct health *h, const struct child_plan *plan)
{
    h->plan = *plan;
    h->pid = 0;
    h->healthy = false;
    h->fails = 0;
    h->started_ms = h->loop->now_ms();
    next_plan(h);
}

void health_stop(struct health *h)
{
    loop_timer_clear(h->loop, &h->timer);
    if (h->pid)
        (void)kill(-h->pid, SIGKILL);
    h->pid = 0;
}

bool health_reap(struct health *h, pid_t pid, int status)
{
    char why[64];

    if (!h->pid || pid != h->pid)
        return false;
    h->pid = 0;
    if (WIFEXITED(status) && !WEXITSTATUS(status)) {
        passed(h);
        return true;
    }
    if (h->late)
        snprintf(why, sizeof why, "took longer than its time-out");
    else
        snprintf(why, sizeof why, "%s %d", WIFEXITED(status) ? "exit code" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    failed(h, why);
    return true;
}
