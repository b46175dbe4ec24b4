/* Many boards for two days, one after the other: when the agent's own code would have each of them ask the registry, and begin
 * an update whose manifest says how fast it may spread. Nothing waits: time is what the next timer says.
 *
 *     out/sim/day [BOARDS [INTERVAL_S [RAMP_S]]]
 *
 * Prints what the registry sees. Ends with 1 when its load is not flat, or the spread is off the signed line.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rollout.h"
#include "hal/board.h"
#include "update/patience.h"

#define START_S INT64_C(1800000000)
#define DAY_S 86400
#define MOVED_S (DAY_S + 6 * 3600) /* when the tag moves, and the rollout starts */
#define END_S (3 * DAY_S)
#define POLL_BYTES 1540 /* of an unchanged tag, below TLS: tests/pipeline/test_poll.py */
#define MINUTES (END_S / 60)

static uint64_t now_ms_of_run;
static char device_id[32];

static uint64_t now_ms(void)
{
    return now_ms_of_run;
}

static int64_t now_s(void)
{
    return START_S + (int64_t)(now_ms_of_run / 1000);
}

static int no_pressure(uint32_t *out_percent, struct err *e)
{
    (void)out_percent;
    return err_set(e, ERR_UNSUPPORTED, "none");
}

static const struct clock_ops clock_run = {.boot_ms = now_ms, .wall_s = now_s};
static const struct pressure_ops pressure_none = {.memory = no_pressure};
const struct board board = {.clock = &clock_run, .pressure = &pressure_none};

static struct {
    uint32_t polls[MINUTES], begun[MINUTES];
    uint64_t total;
} seen;

/* What stage does with the manifest, and agentd with stage's answer. True: the install begins. */
static bool turn_has_come(struct machine *m, const struct rollout *r)
{
    if (patience_is_needed(m))
        return false;
    if (rollout_turn(r, "v2", device_id, "stable", now_s(), &m->cause) == 0)
        return true;
    patience_turn(m);
    return false;
}

static void live(int number, const struct conf *conf, const struct rollout *r)
{
    static struct machine m;
    static struct loop loop;
    static const uint32_t meter;
    static struct shared shared;
    bool has = false;

    memset(&m, 0, sizeof m);
    loop_init(&loop, now_ms);
    now_ms_of_run = 0;
    snprintf(device_id, sizeof device_id, "board-%d", number);
    m.loop = &loop;
    m.conf = conf;
    shared.worker.meter = &meter;
    m.lead = &m;
    m.worker = &shared.worker;
    m.manners = &shared.manners;
    m.store.slots[m.booted].condition = SLOT_GOOD;
    m.tag.digest.b[0] = 1;
    patience_first(&m);
    while ((now_ms_of_run = m.poll_timer.at_ms) < UINT64_C(1000) * END_S) {
        uint32_t minute = (uint32_t)(now_ms_of_run / 60000);

        seen.polls[minute]++;
        m.waiting = (struct err){0};
        m.again_ms = 0;
        m.tag.digest.b[0] = now_ms_of_run < UINT64_C(1000) * MOVED_S ? 1 : 2;
        if (!has && m.tag.digest.b[0] == 2 && turn_has_come(&m, r)) {
            has = true;
            seen.begun[minute]++;
        }
        patience_poll(&m);
    }
}

/* Of `boards`, the most that the number of those that have begun is off the line, in hundredths of a percent. */
static int off_the_line(int boards, uint32_t ramp_s)
{
    int64_t begun = 0, worst = 0;

    for (int64_t minute = MOVED_S / 60; minute < MINUTES; minute++) {
        int64_t at_s = (minute + 1) * 60 - MOVED_S, off;

        begun += seen.begun[minute];
        off = begun * 10000 / boards - (at_s < ramp_s ? at_s : ramp_s) * 10000 / ramp_s;
        worst = llabs(off) > worst ? llabs(off) : worst;
    }
    return (int)worst;
}

int main(int argc, char *argv[])
{
    int boards = argc > 1 ? atoi(argv[1]) : 100000;
    uint32_t interval_s = argc > 2 ? (uint32_t)atoi(argv[2]) : 300,
             ramp_s = argc > 3 ? (uint32_t)atoi(argv[3]) : DAY_S;
    const struct rollout r = {.start_s = START_S + MOVED_S, .ramp_s = ramp_s, .max = ROLLOUT_PERCENT};
    struct conf conf = {.update = {.poll_interval_s = interval_s}, .registry = {.host = "r"}};
    uint32_t most = 0, least = UINT32_MAX;
    double mean = (double)boards * 60 / interval_s;
    int off;

    for (int i = 0; i < boards; i++)
        live(i, &conf, &r);
    for (int i = 0; i < MINUTES; i++) {
        most = seen.polls[i] > most ? seen.polls[i] : most;
        least = i > 0 && seen.polls[i] < least ? seen.polls[i] : least;
        seen.total += seen.polls[i];
    }
    off = off_the_line(boards, ramp_s);
    printf("%d boards, each every %" PRIu32
           " s, all switched on at once: %.0f requests a minute on average, %" PRIu32 " to %" PRIu32
           " in any minute of %d days\n",
           boards, interval_s, mean, least, most, END_S / DAY_S);
    printf("one board's polls: %.0f KB a day\n",
           (double)seen.total * DAY_S / END_S / boards * POLL_BYTES / 1000);
    printf("a ramp of %" PRIu32 " s: at most %d.%02d %% of the boards off the signed line\n", ramp_s,
           off / 100, off % 100);
    if (most > mean * 1.25 || off > 300) {
        printf("MISSED: at most a quarter over the average, and 3 %% off the line\n");
        return 1;
    }
    return 0;
}
