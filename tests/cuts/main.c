/* make cuts: every cut, in numbers.
 *
 *     cuts [-j JOBS] [-s SEED] [-n SAMPLES] [-r RATE]    all scenarios, then the known-bad builds
 *     cuts [-s SEED] [-n SAMPLES] [-b BAD] -i ID         one state again, told in full
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "explore.h"
#include "versions.h"

#define STEPS_MAX 3
#define JOBS_MAX 16

static const struct scenario {
    const char *name;
    struct step steps[STEPS_MAX]; /* tag V_NONE ends them */
} scenarios[] = {
    {"update", {{.tag = V_GOOD}, {.tag = V_BETTER}}},
    {"disk", {{.tag = V_GOOD, .disk = true}, {.tag = V_BETTER, .disk = true}}},
    {"crash", {{.tag = V_GOOD}, {.tag = V_CRASHES, .ends_with = V_GOOD, .event = "trial"}}},
    {"disk-crash",
     {{.tag = V_GOOD, .disk = true},
      {.tag = V_CRASHES, .disk = true, .ends_with = V_GOOD, .event = "trial"}}},
    {"panic", {{.tag = V_GOOD}, {.tag = V_PANICS, .ends_with = V_GOOD, .event = "trial"}}},
    {"no-app", {{.tag = V_NO_APP}, {.tag = V_BETTER}}},
    {"net", {{.tag = V_GOOD, .net_fails = true}}},
    {"by-hand", {{.tag = V_GOOD, .by_hand = true}}},
    {"scrub", {{.tag = V_GOOD}, {.tag = V_BETTER}, {.tag = V_BETTER, .rots = true}}},
    {"rollback",
     {{.tag = V_GOOD}, {.tag = V_BETTER, .roll_back = true, .ends_with = V_GOOD, .event = "rollback"}}},
    /* what depends on the boot loader */
    {"mender",
     {{.tag = V_GOOD, .loader = LOADER_MENDER},
      {.tag = V_BETTER, .loader = LOADER_MENDER},
      {.tag = V_BETTER, .loader = LOADER_MENDER, .rots = true}}},
    {"mender-crash",
     {{.tag = V_GOOD, .loader = LOADER_MENDER},
      {.tag = V_CRASHES, .loader = LOADER_MENDER, .ends_with = V_GOOD, .event = "trial"}}},
    {"mender-panic",
     {{.tag = V_GOOD, .loader = LOADER_MENDER},
      {.tag = V_PANICS, .loader = LOADER_MENDER, .ends_with = V_GOOD, .event = "trial"}}},
    {"mender-rollback",
     {{.tag = V_GOOD, .loader = LOADER_MENDER},
      {.tag = V_BETTER,
       .loader = LOADER_MENDER,
       .roll_back = true,
       .ends_with = V_GOOD,
       .event = "rollback"}}},
    {"swupdate",
     {{.tag = V_GOOD, .loader = LOADER_SWUPDATE},
      {.tag = V_BETTER, .loader = LOADER_SWUPDATE},
      {.tag = V_BETTER, .loader = LOADER_SWUPDATE, .rots = true}}},
    {"swupdate-crash",
     {{.tag = V_GOOD, .loader = LOADER_SWUPDATE},
      {.tag = V_CRASHES, .loader = LOADER_SWUPDATE, .ends_with = V_GOOD, .event = "trial"}}},
    {"swupdate-panic",
     {{.tag = V_GOOD, .loader = LOADER_SWUPDATE},
      {.tag = V_PANICS, .loader = LOADER_SWUPDATE, .ends_with = V_GOOD, .event = "trial"}}},
    {"swupdate-rollback",
     {{.tag = V_GOOD, .loader = LOADER_SWUPDATE},
      {.tag = V_BETTER,
       .loader = LOADER_SWUPDATE,
       .roll_back = true,
       .ends_with = V_GOOD,
       .event = "rollback"}}},
    {"tryboot",
     {{.tag = V_GOOD, .loader = LOADER_TRYBOOT},
      {.tag = V_BETTER, .loader = LOADER_TRYBOOT},
      {.tag = V_BETTER, .loader = LOADER_TRYBOOT, .rots = true}}},
    {"tryboot-disk",
     {{.tag = V_GOOD, .disk = true, .loader = LOADER_TRYBOOT},
      {.tag = V_BETTER, .disk = true, .loader = LOADER_TRYBOOT}}},
    {"tryboot-crash",
     {{.tag = V_GOOD, .loader = LOADER_TRYBOOT},
      {.tag = V_CRASHES, .loader = LOADER_TRYBOOT, .ends_with = V_GOOD, .event = "trial"}}},
    {"tryboot-panic",
     {{.tag = V_GOOD, .loader = LOADER_TRYBOOT},
      {.tag = V_PANICS, .loader = LOADER_TRYBOOT, .ends_with = V_GOOD, .event = "trial"}}},
    {"tryboot-rollback",
     {{.tag = V_GOOD, .loader = LOADER_TRYBOOT},
      {.tag = V_BETTER,
       .loader = LOADER_TRYBOOT,
       .roll_back = true,
       .ends_with = V_GOOD,
       .event = "rollback"}}},
};
#define SCENARIO_CNT (sizeof scenarios / sizeof scenarios[0])

static const char *const bad_names[BAD_CNT] = {
    [BAD_NO_SLOT_SYNC] = "no sync of the slot before it is armed",
    [BAD_NO_READ_BACK] = "armed without reading back",
    [BAD_ONE_COPY] = "a single copy of the state",
    [BAD_TWO_WRITES] = "the flip is two writes",
    [BAD_SAME_COPY] = "the boot record's good copy is overwritten",
    [BAD_ARM_FIRST] = "armed first, remembered after",
    [BAD_NO_DATA_SYNC] = "records are not synced",
    [BAD_NO_DIR_SYNC] = "the folder of new records is not synced",
    [BAD_MARK_FIRST] = "a scrub writes to a slot that is in order",
    [BAD_NAMES_BOTH] = "a slot that is written to stays in order",
    [BAD_NO_COUNT] = "armed, and U-Boot is not told to count",
    [BAD_TRUNCATED] = "AUTOBOOT.TXT is emptied and written anew",
};

static struct medium_image factory[FACTORY_CNT];

/* The device before `step` of the scenario. False when it does not even get there. */
static bool base_make(const struct scenario *s, unsigned step, struct medium_image *out)
{
    struct medium_image next;

    *out = factory[version_factory(&s->steps[0])];
    for (unsigned i = 0; i < step; i++) {
        struct way way = {.scenario = s->name, .step = i};

        if (!explore_clean(&way, out, &s->steps[i], &next))
            return false;
        *out = next;
    }
    if (s->steps[step].rots)
        version_rot(out);
    return true;
}

static void device_new(void)
{
    medium_compact(&(struct medium_image){0});
    versions_init(factory);
}

static void task_run(const struct scenario *s, unsigned step, enum bad bad)
{
    static struct medium_image base;
    struct way way = {.scenario = s->name, .step = step};

    device_new();
    if (!base_make(s, step, &base))
        return;
    world.bad = bad;
    explore_step(&way, &base, &s->steps[step]);
}

/* --- over several processes --------------------------------------------------------------------------------------- */

struct shared {
    atomic_int next_task;
    struct tally tally[JOBS_MAX];
};

/* A step that only leads up to another is explored where it comes first. */
static bool is_known(size_t scenario, unsigned step)
{
    for (size_t i = 0; i < scenario; i++)
        if (memcmp(scenarios[i].steps, scenarios[scenario].steps, (step + 1) * sizeof(struct step)) == 0)
            return true;
    return false;
}

/* Task number `task`; false behind the last. */
static bool task_find(int task, const struct scenario **s, unsigned *step)
{
    for (size_t i = 0; i < SCENARIO_CNT; i++)
        for (*step = 0; *step < STEPS_MAX && scenarios[i].steps[*step].tag != V_NONE; ++*step)
            if (!is_known(i, *step) && task-- == 0) {
                *s = &scenarios[i];
                return true;
            }
    return false;
}

static void child_run(struct shared *sh, int job)
{
    const struct scenario *s = NULL;
    unsigned step;

    while (task_find(atomic_fetch_add(&sh->next_task, 1), &s, &step)) {
        struct tally before = explore.tally;

        task_run(s, step, BAD_NONE);
        printf("  %-12s step %u: %8" PRIu64 " states, %6" PRIu64 " failed calls, %" PRIu64 " failures\n",
               s->name, step, explore.tally.states - before.states, explore.tally.faults - before.faults,
               explore.tally.failed - before.failed);
        fflush(stdout);
    }
    sh->tally[job] = explore.tally;
}

/* False when a process ended before its time. */
static bool good_run(int jobs, struct tally *sum)
{
    struct shared *sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool all = sh != MAP_FAILED;

    fflush(stdout);
    for (int j = 0; all && j < jobs; j++) {
        pid_t pid = fork();

        if (pid == 0) {
            child_run(sh, j);
            _exit(0);
        }
        all = pid > 0;
    }
    for (int status; wait(&status) > 0;)
        all = all && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (int j = 0; all && j < jobs; j++) {
        sum->states += sh->tally[j].states;
        sum->repeated += sh->tally[j].repeated;
        sum->faults += sh->tally[j].faults;
        sum->storms += sh->tally[j].storms;
        sum->failed += sh->tally[j].failed;
        sum->points += sh->tally[j].points;
    }
    return all;
}

/* What is wrong with a build may be seen with one boot loader only. */
static bool bad_shows(enum bad bad, const struct step *step)
{
    return bad == BAD_NO_COUNT    ? step->loader == LOADER_MENDER && step->tag == V_PANICS
           : bad == BAD_TRUNCATED ? step->loader == LOADER_TRYBOOT
                                  : step->loader == LOADER_SCRIPT;
}

/* A proof that can't fail proves nothing: each build that is wrong in one way must fail somewhere. */
static int bad_run(enum bad bad)
{
    const struct scenario *s = NULL;
    unsigned step;

    explore.tally = (struct tally){0};
    explore.stop_at_first = true;
    explore.second_rate = 0;
    for (int task = 0; explore.tally.failed == 0 && task_find(task, &s, &step); task++)
        if (bad_shows(bad, &s->steps[step]))
            task_run(s, step, bad);
    if (explore.tally.failed == 0) {
        printf("NOT CAUGHT: %s\n", bad_names[bad]);
        return 1;
    }
    printf("  caught: %s\n      %s\n", bad_names[bad], explore.first);
    return 0;
}

static int replay(const char *id, enum bad bad)
{
    static struct medium_image base;
    struct way way;

    if (!way_parse(id, &way)) {
        fprintf(stderr, "%s: not an ID\n", id);
        return 2;
    }
    for (size_t i = 0; i < SCENARIO_CNT; i++)
        if (strcmp(scenarios[i].name, way.scenario) == 0 && way.step < STEPS_MAX) {
            device_new();
            if (!base_make(&scenarios[i], way.step, &base))
                return 1;
            world.bad = bad;
            return explore_replay(&way, &base, &scenarios[i].steps[way.step]) ? 0 : 1;
        }
    fprintf(stderr, "%s: no such scenario\n", id);
    return 2;
}

int main(int argc, char **argv)
{
    struct tally sum = {0};
    struct timespec began, ended;
    const char *id = NULL;
    enum bad bad = BAD_NONE;
    int jobs = 1, missed = 0, opt;
    bool all;

    explore.seed = 1;
    explore.second_rate = 8;
    explore.samples = 48;
    while ((opt = getopt(argc, argv, "j:s:n:r:b:i:")) != -1) {
        if (opt == 'j')
            jobs = (int)strtol(optarg, NULL, 10);
        else if (opt == 's')
            explore.seed = strtoull(optarg, NULL, 10);
        else if (opt == 'n')
            explore.samples = (uint32_t)strtoul(optarg, NULL, 10);
        else if (opt == 'r')
            explore.second_rate = (uint32_t)strtoul(optarg, NULL, 10);
        else if (opt == 'b')
            bad = (enum bad)strtoul(optarg, NULL, 10);
        else if (opt == 'i')
            id = optarg;
        else
            return 2;
    }
    if (jobs < 1 || jobs > JOBS_MAX || optind != argc)
        return 2;
    if (id != NULL)
        return replay(id, bad);
    printf("seed %" PRIu64 "\n", explore.seed);
    clock_gettime(CLOCK_MONOTONIC, &began);
    all = good_run(jobs, &sum);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    printf("%" PRIu64 " states from %" PRIu64 " operations (%" PRIu64 " more were the same), %" PRIu64
           " failed calls, %" PRIu64 " storms, %" PRIu64 " failures, %ld s\n",
           sum.states, sum.points, sum.repeated, sum.faults, sum.storms, sum.failed,
           (long)(ended.tv_sec - began.tv_sec));
    if (!all)
        printf("FAILED: a process ended before its time\n");
    for (enum bad b = BAD_NONE + 1; b < BAD_CNT; b++)
        missed += bad_run(b);
    return all && sum.failed == 0 && sum.states > 0 && missed == 0 ? 0 : 1;
}
