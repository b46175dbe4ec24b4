#include "slot/index.h"

#include <string.h>
#include <sys/mman.h>

#include "slot/sum.h"

#define TABLE_LEN (CONFIG_SLOT_REUSE_MAX * sizeof(struct known))

static uint32_t tag_of(const void *key, size_t len, uint32_t *start)
{
    uint64_t hash = sum_bytes(key, len, 1);
    *start = (uint32_t)(hash >> 32) % CONFIG_SLOT_REUSE_MAX;
    return (uint32_t)hash | 1;
}

bool index_new(struct index *x)
{
    void *p = mmap(NULL, TABLE_LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    x->table = p != MAP_FAILED ? p : NULL;
    x->used = 0;
    return x->table != NULL;
}

void index_add(struct index *x, const void *key, size_t len, uint32_t where)
{
    uint32_t at, tag = tag_of(key, len, &at);
    if (x->used >= CONFIG_SLOT_REUSE_MAX / 4 * 3)
        return;
    while (x->table[at].tag != 0)
        at = at + 1 == CONFIG_SLOT_REUSE_MAX ? 0 : at + 1;
    x->table[at] = (struct known){.tag = tag, .where = where};
    x->used++;
}

bool index_find(const struct index *x, const void *key, size_t len, uint32_t *at, uint32_t *where)
{
    uint32_t start, tag = tag_of(key, len, &start);
    if (*at == UINT32_MAX)
        *at = start;
    while (x->table[*at].tag != 0) {
        const struct known *k = &x->table[*at];
        *at = *at + 1 == CONFIG_SLOT_REUSE_MAX ? 0 : *at + 1;
        if (k->tag == tag) {
            *where = k->where;
            return true;
        }
    }
    return false;
}

void index_clear(struct index *x)
{
    if (x->used > 0 && madvise(x->table, TABLE_LEN, MADV_DONTNEED) != 0)
        memset(x->table, 0, TABLE_LEN);
    x->used = 0;
}
