#include "update/patience.h"

#include <sys/random.h>

#include "base/rollout.h"
#include "hal/board.h"
#include "update/keep.h"
#include "update/manners.h"

#define FIRST_POLL_MAX_S 10 /* of a board that somebody has just flashed */
#define BACKOFF_MAX_S 3600
#define RETRY_MAX_S 86400
#define PRESSURE_AGAIN_MS 60000
#define WAIT_MAX_S 86400 /* longest that a registry may ask to be left alone */

/* --- what time it is ------------------------------------------------------------------------------------------------ */

void patience_time_raise(struct machine *m, int64_t to_s)
{
    struct state_trust *t = &m->store.trust;

    if (to_s > t->time_floor_s)
        t->time_floor_s = to_s;
    if (t->time_floor_s > m->worker->time_floor_s)
        m->worker->time_floor_s = t->time_floor_s;
}

int64_t patience_now_s(const struct machine *m)
{
    int64_t clock = board.clock->wall_s();

    return clock > m->worker->time_floor_s ? clock : m->worker->time_floor_s;
}

/* --- when to ask again ---------------------------------------------------------------------------------------------- */

static uint32_t random_below(uint32_t bound)
{
    uint32_t r = 0;

    if (bound == 0 || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return r % bound;
}

static bool is_polling(const struct machine *m)
{
    return m->conf->update.poll_interval_s && m->conf->registry.host[0];
}

void patience_first(struct machine *m)
{
    bool fresh = machine_booted(m)->condition == SLOT_EMPTY;

    if (is_polling(m))
        loop_timer_set(m->loop, &m->poll_timer,
                       1000 + random_below((fresh ? FIRST_POLL_MAX_S : conf_spread_s(m->conf)) * 1000));
}

static uint64_t wait_left(const struct machine *m)
{
    uint64_t now = m->loop->now_ms();

    return m->waiting.code && m->again_ms > now ? m->again_ms - now : 0;
}

void patience_poll(struct machine *m)
{
    uint32_t interval = m->conf->update.poll_interval_s;
    uint32_t shift = m->failures < 12 ? m->failures : 12;
    uint64_t backoff_s = (uint64_t)interval << shift;
    uint32_t wait_ms, asked_ms;

    if (!is_polling(m))
        return;
    if (m->failures == 0) {
        uint64_t due_ms = interval * 900ull + random_below(interval * 200u);
        uint64_t left_ms = wait_left(m);

        if (left_ms > 0 && left_ms < due_ms)
            due_ms = left_ms + (m->turn.waits ? 0 : random_below(conf_spread_s(m->conf) * 1000));
        loop_timer_set(m->loop, &m->poll_timer, due_ms);
        return;
    }
    if (backoff_s > BACKOFF_MAX_S)
        backoff_s = BACKOFF_MAX_S > interval ? BACKOFF_MAX_S : interval;
    wait_ms = 1000 + random_below((uint32_t)backoff_s * 1000u);
    asked_ms = m->wait_s * 1000u + random_below(m->wait_s * 100u);
    loop_timer_set(m->loop, &m->poll_timer, wait_ms > asked_ms ? wait_ms : asked_ms);
}

void patience_failed(struct machine *m)
{
    m->failures++;
    m->wait_s = m->cause.after_s < WAIT_MAX_S ? m->cause.after_s : WAIT_MAX_S;
    patience_poll(m);
}

/* --- what a version waits for ------------------------------------------------------------------------------------- */

static bool sight_wanted(const struct machine *m)
{
    return m->conf->trust.min_age_s || m->conf->trust.max_age_s;
}

void patience_sight(struct machine *m)
{
    struct state_trust *t = &m->store.trust;

    if (!sight_wanted(m) || digest_compare(&t->seen, &m->tag.digest) == VERDICT_MATCH)
        return;
    t->seen = m->tag.digest;
    t->seen_s = patience_now_s(m);
    m->seen_ms = board.clock->boot_ms();
    keep_trust(m);
}

uint64_t patience_age_s(const struct machine *m)
{
    int64_t now = patience_now_s(m);

    if (m->seen_ms)
        return (board.clock->boot_ms() - m->seen_ms) / 1000;
    return now > m->store.trust.seen_s ? (uint64_t)(now - m->store.trust.seen_s) : 0;
}

bool patience_is_out(const struct machine *m)
{
    return m->conf->trust.max_age_s && !digest_is_zero(&m->store.trust.seen) &&
           patience_age_s(m) > m->conf->trust.max_age_s;
}

static bool is_too_young(struct machine *m)
{
    uint64_t age = patience_age_s(m), min = m->conf->trust.min_age_s;

    if (age >= min)
        return false;
    err_set(&m->waiting, ERR_HELD, "seen %llu s ago, to be installed after %llu s (min_age)",
            (unsigned long long)age, (unsigned long long)min);
    return true;
}

/* By the clock, which may have been set since. */
static bool is_before_turn(struct machine *m)
{
    int64_t left_s = m->turn.at_s - patience_now_s(m);

    m->turn.waits = digest_compare(&m->turn.digest, &m->tag.digest) == VERDICT_MATCH && left_s > 0;
    if (!m->turn.waits)
        return false;
    m->waiting = m->turn.cause;
    if (m->turn.at_s != INT64_MAX)
        m->again_ms = m->loop->now_ms() + (uint64_t)left_s * 1000;
    return true;
}

void patience_turn(struct machine *m)
{
    m->turn.digest = m->tag.digest;
    m->turn.cause = m->cause;
    m->turn.at_s = m->cause.after_s == ROLLOUT_NEVER ? INT64_MAX : patience_now_s(m) + m->cause.after_s;
    (void)is_before_turn(m);
}

void patience_retry(struct machine *m)
{
    bool same = digest_compare(&m->retry.digest, &m->tag.digest) == VERDICT_MATCH;
    uint64_t pause_s = m->conf->update.poll_interval_s;

    m->retry.cnt = same ? m->retry.cnt + 1 : 1;
    m->retry.digest = m->tag.digest;
    for (uint32_t i = 1; i < m->retry.cnt && pause_s < RETRY_MAX_S; i++)
        pause_s *= 2;
    if (pause_s > RETRY_MAX_S)
        pause_s = RETRY_MAX_S;
    m->retry.again_ms = m->loop->now_ms() + pause_s * 1000;
}

static bool is_to_wait(struct machine *m)
{
    uint64_t now = m->loop->now_ms();

    if (digest_compare(&m->retry.digest, &m->tag.digest) != VERDICT_MATCH || now >= m->retry.again_ms)
        return false;
    err_set(&m->waiting, ERR_HELD, "its install failed %u times; tried again in %llu s", m->retry.cnt,
            (unsigned long long)(m->retry.again_ms - now) / 1000);
    return true;
}

/* An update takes what its roles' ceilings allow, which an app in want of memory would pay for. */
static bool is_short_of_memory(struct machine *m)
{
    uint32_t percent, max = m->conf->update.max_pressure;
    struct err e;

    if (board.pressure->memory(&percent, &e) < 0 || percent <= max)
        return false;
    err_set(&m->waiting, ERR_HELD,
            "short of memory: %u %% of the time somebody waits for it, more than %u (max_pressure)", percent,
            max);
    m->again_ms = m->loop->now_ms() + PRESSURE_AGAIN_MS;
    return true;
}

bool patience_is_needed(struct machine *m)
{
    return is_too_young(m) || is_before_turn(m) || is_to_wait(m) || manners_are_needed(m) ||
           is_short_of_memory(m);
}
