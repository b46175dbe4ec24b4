/* An open-addressing hash set with linear probing. */
#include "slot/claims.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "slot/sum.h"

_Static_assert(sizeof(struct claim) == 12, "the table's size is promised in Kconfig");

static size_t table_len(const struct claims *c)
{
    return (size_t)c->slots * sizeof *c->table;
}

bool claims_new(struct claims *c, uint32_t max)
{
    memset(c, 0, sizeof *c);
    c->max = max;
    c->slots = max + max / 3 + 16;
    void *p = mmap(NULL, table_len(c), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    c->table = p;
    claims_reset(c);
    return true;
}

void claims_reset(struct claims *c)
{
    if (c->used > 0 && madvise(c->table, table_len(c), MADV_DONTNEED) != 0)
        memset(c->table, 0, table_len(c));
    c->used = 0;
    c->layer = 0;
    if (getrandom(&c->seed, sizeof c->seed, GRND_NONBLOCK) != (ssize_t)sizeof c->seed) {
        struct timespec t = {0};
        clock_gettime(CLOCK_MONOTONIC, &t);
        c->seed = (uint64_t)t.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)t.tv_sec;
    }
}

static bool is_free(const struct claim *p)
{
    return p->tag_low == 0;
}

static enum claim_upper fold_upper(const struct claim *p)
{
    bool closes = p->whiteout || (p->opaque && p->own == OWN_DIR);

    switch (p->upper) {
    case UPPER_NONE:
        if (p->own == OWN_NONE)
            return p->whiteout ? UPPER_GONE : UPPER_NONE;
        if (p->own != OWN_DIR)
            return UPPER_OTHER;
        return closes ? UPPER_CLOSED : UPPER_DIR;
    case UPPER_DIR:
        return closes || (p->own != OWN_NONE && p->own != OWN_DIR) ? UPPER_CLOSED : UPPER_DIR;
    default:
        return p->upper;
    }
}

static void fold(struct claim *p, uint32_t layer)
{
    if (p->layer == layer)
        return;
    if (p->whiteout || (p->own != OWN_NONE && p->own != OWN_DIR))
        p->implicit = 0;
    p->upper = fold_upper(p);
    p->own = OWN_NONE;
    p->whiteout = 0;
    p->opaque = 0;
    p->layer = layer & 0x7f;
}

/* The path's claim, or the free place for it. The table is never full, so this ends. */
static struct claim *probe(struct claims *c, const char *path, size_t len)
{
    uint64_t hash = sum_bytes(path, len, c->seed);
    uint32_t at = (uint32_t)(((hash >> 32) * c->slots) >> 32);
    uint32_t low = (uint32_t)hash | 1; /* a tag is never 0 */
    uint16_t high = (hash >> 32) & 0x7fff;

    while (!is_free(&c->table[at]) && (c->table[at].tag_low != low || c->table[at].tag_high != high))
        at = at + 1 == c->slots ? 0 : at + 1;
    return &c->table[at];
}

struct claim *claims_find(struct claims *c, const char *path, size_t len)
{
    struct claim *p = probe(c, path, len);
    if (is_free(p))
        return NULL;
    fold(p, c->layer);
    return p;
}

struct claim *claims_put(struct claims *c, const char *path, size_t len, struct err *e)
{
    struct claim *p = probe(c, path, len);
    if (!is_free(p)) {
        fold(p, c->layer);
        return p;
    }
    if (c->used >= c->max) {
        err_set(e, ERR_LIMIT, "more than %u paths, this build takes %u", c->used, c->max);
        return NULL;
    }
    uint64_t hash = sum_bytes(path, len, c->seed);
    c->used++;
    *p = (struct claim){
        .tag_low = (uint32_t)hash | 1, .tag_high = (hash >> 32) & 0x7fff, .layer = c->layer & 0x7f};
    return p;
}
