/* Where a run may be cut, and what the medium may then hold. A state is named by how to get there:
 *
 *     update.1               step 1 of scenario `update`, without any fault
 *     update.1,eio=55        the 55th call fails
 *     update.1,cut=37.5      cut at point 37 of the trace, choice 5 of what was kept
 *     update.1,cut=37.5,cut=12.3    and the start after that one cut again
 *     update.1,cut=37.5,storm       and then cut ten times before agentd is up
 *
 * Choices beyond all or nothing are made from the seed where there are too many to take all.
 */
#ifndef SLIPWAY_TESTS_CUTS_EXPLORE_H
#define SLIPWAY_TESTS_CUTS_EXPLORE_H

#include "kernel.h"
#include "world.h"

#define CUTS_MAX 4

struct way {
    const char *scenario;
    unsigned step;
    enum fault_kind fault;
    uint32_t fault_at;
    bool storm;
    int cut_cnt;
    struct {
        uint32_t point, choice;
    } cuts[CUTS_MAX];
};

struct tally {
    uint64_t states;   /* distinct media that the device was started from */
    uint64_t repeated; /* that came out the same as one before */
    uint64_t faults;   /* runs with a call that fails */
    uint64_t storms;
    uint64_t failed;
    uint64_t points; /* operations of the clean runs */
};

struct explore {
    uint64_t seed;
    uint32_t samples; /* subsets of what was pending, where there are too many to take all */
    uint32_t
        second_rate; /* of the states after one cut, one in so many is cut again at every point; 0: none */
    bool stop_at_first;
    struct tally tally;
    char first[768]; /* the first failure: its way and why */
};
extern struct explore explore;

/* All of one step: clean, with every fault, cut everywhere. `base` is the device before it; *end what it is after.
 * False when the clean run failed already. */
bool explore_clean(const struct way *way, const struct medium_image *base, const struct step *step,
                   struct medium_image *end);
void explore_step(const struct way *way, const struct medium_image *base, const struct step *step);
/* Only that state; prints what happens. */
bool explore_replay(const struct way *way, const struct medium_image *base, const struct step *step);

bool way_parse(const char *text, struct way *out);
void way_print(const struct way *way, char *out, size_t cap);

#endif
