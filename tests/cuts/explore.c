#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SEEN_MAX (1u << 22)
#define ALL_OF_FIRST 6 /* so many pending operations at most: every subset */
#define ALL_OF_SECOND 3
#define SAMPLES_SECOND 2  /* subsets, where there are too many to take all */
#define FAULT_CUT_RATE 16 /* of the runs with a fault, one in so many is cut as well */
#define REPORTS_MAX 5

struct explore explore;

/* A trace to walk while others are made. */
struct level {
    uint32_t cnt;
    struct medium_op ops[MEDIUM_TRACE_MAX];
    struct medium_walk walk;
    struct medium_choice choice;
    struct medium_image image;
};
static struct level levels[CUTS_MAX];
static uint64_t seen[SEEN_MAX];

/* --- ways --------------------------------------------------------------------------------------------------------- */

static const char *const fault_names[] = {"", "eio", "enospc", "erofs", "dead", "env", "flip"};

void way_print(const struct way *way, char *out, size_t cap)
{
    int len = snprintf(out, cap, "%s.%u", way->scenario, way->step);

    if (way->fault != FAULT_NONE)
        len += snprintf(out + len, cap - (size_t)len, ",%s=%u", fault_names[way->fault], way->fault_at);
    for (int i = 0; i < way->cut_cnt; i++)
        len += snprintf(out + len, cap - (size_t)len, ",cut=%u.%u", way->cuts[i].point, way->cuts[i].choice);
    if (way->storm)
        snprintf(out + len, cap - (size_t)len, ",storm");
}

static bool part_parse(char *part, struct way *out)
{
    char *value = strchr(part, '='), *end = NULL;

    out->storm = strcmp(part, "storm") == 0;
    if (out->storm)
        return true;
    if (value == NULL)
        return false;
    *value++ = '\0';
    if (strcmp(part, "cut") == 0 && out->cut_cnt < CUTS_MAX) {
        out->cuts[out->cut_cnt].point = (uint32_t)strtoul(value, &end, 10);
        if (*end != '.')
            return false;
        out->cuts[out->cut_cnt++].choice = (uint32_t)strtoul(end + 1, NULL, 10);
        return true;
    }
    for (int f = FAULT_EIO; f <= FAULT_FLIP; f++)
        if (strcmp(part, fault_names[f]) == 0) {
            out->fault = (enum fault_kind)f;
            out->fault_at = (uint32_t)strtoul(value, NULL, 10);
            return true;
        }
    return false;
}

bool way_parse(const char *text, struct way *out)
{
    static char copy[256];
    char *save = NULL, *dot, *part;

    snprintf(copy, sizeof copy, "%s", text);
    *out = (struct way){.scenario = strtok_r(copy, ",", &save)};
    dot = out->scenario ? strrchr(copy, '.') : NULL;
    if (dot == NULL)
        return false;
    *dot = '\0';
    out->step = (unsigned)strtoul(dot + 1, NULL, 10);
    while ((part = strtok_r(NULL, ",", &save)) != NULL)
        if (!part_parse(part, out))
            return false;
    return true;
}

/* --- running ------------------------------------------------------------------------------------------------------ */

static void failed(const struct way *way)
{
    char name[256];

    way_print(way, name, sizeof name);
    if (explore.tally.failed++ == 0)
        snprintf(explore.first, sizeof explore.first, "%s: %s", name, world.why);
    if (explore.tally.failed <= REPORTS_MAX && !explore.stop_at_first)
        printf("FAILED: %s\n    make cuts SEED=%llu ID=%s\n", world.why, (unsigned long long)explore.seed,
               name);
    fflush(stdout);
}

static bool run(const struct way *way, const struct medium_image *from, const struct step *step)
{
    bool faulty = way->fault != FAULT_NONE && way->cut_cnt == 0;

    kernel.fault = faulty ? way->fault : FAULT_NONE;
    kernel.fault_at = way->fault_at;
    world.power_cuts = faulty || way->cut_cnt > 0;
    if ((way->storm ? world_storm(from, step) : world_run(from, step)) == WORLD_SETTLED)
        return true;
    if (!faulty || kernel.fault_hit)
        failed(way);
    return false;
}

static bool is_new(uint64_t hash)
{
    uint32_t at = (uint32_t)hash % SEEN_MAX;

    hash |= 1;
    for (uint32_t tried = 0; seen[at] != 0; at = (at + 1) % SEEN_MAX, tried++) {
        if (seen[at] == hash)
            return false;
        ASSERT(tried < SEEN_MAX / 2);
    }
    seen[at] = hash;
    return true;
}

/* --- choices ------------------------------------------------------------------------------------------------------ */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ (b + 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;

    return h ^ (h >> 31);
}

/* One of the last few sectors written, to be torn: -1 when choice `n` asks for more than there are. */
static int torn_pick(const struct medium_walk *w, uint32_t n)
{
    uint32_t found = 0;

    for (uint32_t i = w->pending_cnt; i-- > 0 && found < 4;)
        if (w->pending[i]->kind == OP_DATA && found++ == n)
            return (int)i;
    return -1;
}

/* Fill c with choice number `n` at `point`. False: there is none of that number. */
static bool choose(const struct medium_walk *w, int depth, uint32_t point, uint32_t n,
                   struct medium_choice *c)
{
    uint32_t cnt = w->pending_cnt;
    uint32_t all = depth == 0 ? ALL_OF_FIRST : ALL_OF_SECOND;
    uint32_t subsets = cnt <= all ? 1u << cnt : 2 + (depth == 0 ? explore.samples : SAMPLES_SECOND);
    uint64_t bits = mix(explore.seed, (uint64_t)point << 32 | n);

    c->torn = -1;
    if (n >= subsets) {
        c->torn = torn_pick(w, n - subsets);
        memset(c->keep, 1, cnt);
        return c->torn >= 0;
    }
    for (uint32_t i = 0; i < cnt; i++) {
        if (cnt <= all)
            c->keep[i] = n >> i & 1;
        else if (n < 2)
            c->keep[i] = (uint8_t)n;
        else
            c->keep[i] = (uint8_t)(bits >> i % 64 & 1);
        if (i % 64 == 63)
            bits = mix(bits, i);
    }
    return true;
}

/* Two cuts deep: for what decides about the next start. The slot's content is looked at once it is sealed. */
static bool is_point(const struct medium_op *op, int depth)
{
    bool of_slot = op->fs == FS_SLOT_A || op->fs == FS_SLOT_B || op->fs == DEV_SLOT_A || op->fs == DEV_SLOT_B;

    return op->call_end && (depth == 0 || !of_slot || op->kind == OP_SYNC_FS);
}

/* --- exploring ---------------------------------------------------------------------------------------------------- */

static void level_keep(struct level *l)
{
    l->cnt = medium.trace_cnt;
    memcpy(l->ops, medium.trace, l->cnt * sizeof l->ops[0]);
}

typedef void (*visit)(struct way *way, const struct medium_image *image, const struct step *step);

static bool is_over(void)
{
    return explore.stop_at_first && explore.tally.failed > 0;
}

/* Show `see` each state that a cut of the trace in levels[depth] may leave. */
static void cuts_visit(struct way *way, const struct medium_image *base, const struct step *step, visit see)
{
    int depth = way->cut_cnt++;
    struct level *l = &levels[depth];

    medium_walk_begin(&l->walk, base);
    for (uint32_t point = 0; point < l->cnt && !is_over(); point++) {
        medium_walk_step(&l->walk, &l->ops[point]);
        if (!is_point(&l->ops[point], depth))
            continue;
        for (uint32_t n = 0; choose(&l->walk, depth, point, n, &l->choice) && !is_over(); n++) {
            way->cuts[depth].point = point;
            way->cuts[depth].choice = n;
            medium_crash(&l->walk, &l->choice, &l->image);
            see(way, &l->image, step);
            way->cut_cnt = depth + 1;
        }
    }
    way->cut_cnt = depth;
}

static void start_from(struct way *way, const struct medium_image *image, const struct step *step)
{
    if (!is_new(medium_hash(image))) {
        explore.tally.repeated++;
        return;
    }
    explore.tally.states++;
    (void)run(way, image, step);
    if (way->cut_cnt > 1)
        return;
    explore.tally.storms++;
    way->storm = true;
    (void)run(way, image, step);
    way->storm = false;
}

/* The state was started from before; now that start is cut, too. */
static void cut_again(struct way *way, const struct medium_image *image, const struct step *step)
{
    uint64_t hash = medium_hash(image);

    if (mix(explore.seed, hash) % explore.second_rate != 0 || !is_new(hash ^ 0x5555555555555554u))
        return;
    if (!run(way, image, step))
        return;
    level_keep(&levels[way->cut_cnt]);
    cuts_visit(way, image, step, start_from);
}

static void faults_explore(struct way *way, const struct medium_image *base, const struct step *step,
                           uint32_t calls)
{
    for (int f = FAULT_EIO; f <= FAULT_FLIP; f++)
        for (uint32_t at = 1; at <= calls && !is_over(); at++) {
            way->fault = (enum fault_kind)f;
            way->fault_at = at;
            if (!run(way, base, step) && kernel.fault_hit) {
                explore.tally.faults++;
                continue;
            }
            if (!kernel.fault_hit)
                continue;
            explore.tally.faults++;
            if (mix(explore.seed, (uint64_t)f << 32 | at) % FAULT_CUT_RATE != 0 || explore.second_rate == 0)
                continue;
            level_keep(&levels[0]);
            cuts_visit(way, base, step, start_from);
        }
    way->fault = FAULT_NONE;
    way->fault_at = 0;
}

bool explore_clean(const struct way *way, const struct medium_image *base, const struct step *step,
                   struct medium_image *end)
{
    bool ok = run(way, base, step);

    *end = medium.now;
    return ok;
}

void explore_step(const struct way *way, const struct medium_image *base, const struct step *step)
{
    struct way w = *way;
    uint32_t calls;

    memset(seen, 0, sizeof seen);
    if (!run(&w, base, step))
        return;
    calls = kernel.calls;
    level_keep(&levels[0]);
    explore.tally.points += levels[0].cnt;
    cuts_visit(&w, base, step, start_from);
    if (explore.second_rate > 0)
        cuts_visit(&w, base, step, cut_again);
    faults_explore(&w, base, step, calls);
}

/* --- replay ------------------------------------------------------------------------------------------------------- */

static void op_print(const struct medium_op *op)
{
    static const char *const kinds[] = {"data", "size", "meta",    "link", "unlink",
                                        "make", "sync", "sync fs", "reset"};

    printf("    %-7s fs %d node %d at %u %s\n", kinds[op->kind], op->fs, op->owner, op->at,
           op->kind == OP_LINK || op->kind == OP_UNLINK ? medium_text(op->name) : "");
}

static void choice_print(const struct level *l)
{
    for (uint32_t i = 0; i < l->walk.pending_cnt; i++) {
        printf("  %s", (int)i == l->choice.torn ? "torn" : l->choice.keep[i] ? "kept" : "lost");
        op_print(l->walk.pending[i]);
    }
}

bool explore_replay(const struct way *way, const struct medium_image *base, const struct step *step)
{
    const struct medium_image *from = base;
    struct way w = *way;
    bool ok = false;

    for (int depth = 0; depth <= way->cut_cnt; depth++) {
        struct level *l = &levels[depth];

        w.cut_cnt = depth;
        w.storm = way->storm && depth == way->cut_cnt;
        ok = run(&w, from, step);
        printf("--- run %d\n%s", depth, kernel_log());
        if (depth == way->cut_cnt)
            break;
        level_keep(l);
        medium_walk_begin(&l->walk, from);
        for (uint32_t point = 0; point <= way->cuts[depth].point && point < l->cnt; point++)
            medium_walk_step(&l->walk, &l->ops[point]);
        if (!choose(&l->walk, depth, way->cuts[depth].point, way->cuts[depth].choice, &l->choice))
            return false;
        printf("--- cut at %u; of what was pending:\n", way->cuts[depth].point);
        choice_print(l);
        medium_crash(&l->walk, &l->choice, &l->image);
        from = &l->image;
    }
    printf("%s\n", ok ? "settles" : world.why);
    return ok;
}
