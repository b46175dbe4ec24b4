#include "update/manners.h"

#include <time.h>

#include "hal/board.h"
#include "update/keep.h"

#define DAY_S 86400u
#define SAVES_A_DAY 8

/* False when the board does not know it. */
static bool local_now(const struct machine *m, struct tm *out)
{
    time_t now = (time_t)board.clock->wall_s();

    return now >= m->worker->time_floor_s && localtime_r(&now, out);
}

static uint32_t second_of_day(const struct tm *now)
{
    return (uint32_t)(now->tm_hour * 3600 + now->tm_min * 60 + now->tm_sec);
}

static uint64_t budget(const struct machine *m)
{
    return m->conf->update.budget_kib * 1024ull;
}

void manners_start(struct machine *m)
{
    tzset();
    m->manners->metered = *m->worker->meter;
    m->manners->day_ms = m->loop->now_ms();
}

/* --- the day's sum -------------------------------------------------------------------------------------------------- */

static void day_turn(struct machine *m)
{
    struct state *s = &m->lead->store.state;
    struct tm now;
    uint32_t day = local_now(m, &now) ? (uint32_t)(now.tm_year * 1000 + now.tm_yday) : 0;

    if (day ? day == s->day : m->loop->now_ms() - m->manners->day_ms < DAY_S * 1000ull)
        return;
    s->day_bytes = 0;
    s->day = day ? day : s->day;
    m->manners->day_ms = m->loop->now_ms();
}

void manners_count(struct machine *m)
{
    uint32_t at = *m->worker->meter, come = at - m->manners->metered;

    day_turn(m);
    m->manners->metered = at;
    m->manners->unsaved += come;
    m->lead->store.state.day_bytes += come;
}

void manners_progress(struct machine *m)
{
    manners_count(m);
    if (!budget(m) || m->manners->unsaved < budget(m) / SAVES_A_DAY)
        return;
    m->manners->unsaved = 0;
    keep_state(m->lead);
}

void manners_end(struct machine *m)
{
    manners_count(m);
    if (budget(m) && m != m->lead)
        keep_state(m->lead);
}

/* --- waiting -------------------------------------------------------------------------------------------------------- */

static bool has_hours(const struct machine *m)
{
    const struct window *first = &m->conf->update.windows[0];

    return first->from != first->to;
}

/* Seconds until the hours begin (`open`) or end; a few more than none, since the last minute has its seconds, too. */
static uint32_t hours_wait(const struct machine *m, const struct tm *now, bool open)
{
    unsigned minute = second_of_day(now) / 60;
    unsigned wait = window_wait(m->conf->update.windows, CONF_WINDOW_MAX, minute, open);

    return wait > 0 ? wait * 60 - (uint32_t)now->tm_sec : 0;
}

static bool wait_set(struct machine *m, uint32_t for_s)
{
    m->again_ms = m->loop->now_ms() + for_s * 1000ull;
    return true;
}

static bool hour_is_wrong(struct machine *m)
{
    uint64_t up_s = board.clock->boot_ms() / 1000;
    struct tm now;
    uint32_t wait, then;

    if (!has_hours(m))
        return false;
    if (!local_now(m, &now)) {
        if (up_s >= DAY_S)
            return false;
        err_set(
            &m->waiting, ERR_HELD,
            "the clock is not set, so the hour is not known (download_window); when it stays so, for a day");
        return wait_set(m, (uint32_t)(DAY_S - up_s));
    }
    wait = hours_wait(m, &now, true);
    if (wait == 0)
        return false;
    then = (second_of_day(&now) + wait) / 60 % WINDOW_DAY_MIN;
    err_set(&m->waiting, ERR_HELD, "not before %02u:%02u (download_window)", then / 60, then % 60);
    return wait_set(m, wait);
}

static bool budget_is_used(struct machine *m)
{
    uint64_t bytes = m->lead->store.state.day_bytes;
    struct tm now;

    if (!budget(m) || bytes < budget(m))
        return false;
    err_set(&m->waiting, ERR_HELD,
            "%llu.%llu MB were downloaded today, no more before tomorrow (daily_budget)",
            (unsigned long long)bytes / 1000000, (unsigned long long)bytes / 100000 % 10);
    if (local_now(m, &now))
        return wait_set(m, DAY_S - second_of_day(&now));
    return wait_set(m, DAY_S - (uint32_t)((m->loop->now_ms() - m->manners->day_ms) / 1000));
}

bool manners_are_needed(struct machine *m)
{
    manners_count(m);
    return hour_is_wrong(m) || budget_is_used(m);
}

void manners_bind(struct machine *m, bool by_hand)
{
    struct worker *w = m->worker;
    struct tm now;

    w->bytes_max = 0;
    w->time_max_s = 0;
    manners_count(m);
    if (by_hand)
        return;
    if (budget(m) > m->lead->store.state.day_bytes)
        w->bytes_max = budget(m) - m->lead->store.state.day_bytes;
    if (has_hours(m) && local_now(m, &now))
        w->time_max_s = hours_wait(m, &now, false);
}
