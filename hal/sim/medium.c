#include "hal/sim/medium.h"

#include <string.h>

#include "base/log.h"

#define CONTENTS_MAX (1u << 18)
#define NAMES_MAX 256u
#define NAME_LEN 32u
#define HASH_START 0xcbf29ce484222325u

struct medium medium;

/* --- contents and names, each kept once ------------------------------------------------------------------------------ */

static uint8_t contents[CONTENTS_MAX][MEDIUM_SECTOR];
static uint64_t content_hashes[CONTENTS_MAX];
static uint32_t content_table[2 * CONTENTS_MAX]; /* open addressing; 0: free */
static uint32_t content_cnt;
static char names[NAMES_MAX][NAME_LEN];
static uint16_t name_cnt;

static uint64_t hash_add(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

static uint64_t hash_bytes64(const uint8_t *p, size_t len)
{
    uint64_t h = HASH_START;
    uint64_t v;

    for (size_t at = 0; at < len; at += sizeof v) {
        memcpy(&v, p + at, sizeof v);
        h = hash_add(h, v);
    }
    return h;
}

static void contents_clear(void)
{
    static const uint8_t zeros[MEDIUM_SECTOR];

    memset(content_table, 0, sizeof content_table);
    content_hashes[0] = hash_bytes64(zeros, MEDIUM_SECTOR);
    content_cnt = 1;
}

static bool is_zero(const uint8_t *p)
{
    return p[0] == 0 && memcmp(p, p + 1, MEDIUM_SECTOR - 1) == 0;
}

uint32_t medium_content(const void *sector)
{
    uint64_t h;
    uint32_t at;

    if (content_cnt == 0)
        contents_clear();
    if (is_zero(sector))
        return 0;
    h = hash_bytes64(sector, MEDIUM_SECTOR);
    for (at = (uint32_t)h % (2 * CONTENTS_MAX); content_table[at] != 0; at = (at + 1) % (2 * CONTENTS_MAX)) {
        uint32_t id = content_table[at];

        if (content_hashes[id] == h && memcmp(contents[id], sector, MEDIUM_SECTOR) == 0)
            return id;
    }
    ASSERT(content_cnt < CONTENTS_MAX);
    memcpy(contents[content_cnt], sector, MEDIUM_SECTOR);
    content_hashes[content_cnt] = h;
    content_table[at] = content_cnt;
    return content_cnt++;
}

const uint8_t *medium_bytes(uint32_t id)
{
    ASSERT(id < content_cnt || id == 0);
    return contents[id];
}

uint16_t medium_name(const char *name)
{
    ASSERT(strlen(name) < NAME_LEN);
    for (uint16_t i = 0; i < name_cnt; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    ASSERT(name_cnt < NAMES_MAX);
    memcpy(names[name_cnt], name, strlen(name) + 1);
    return name_cnt++;
}

const char *medium_text(uint16_t name)
{
    ASSERT(name < name_cnt);
    return names[name];
}

void medium_compact(struct medium_image *img)
{
    static uint8_t held[4096][MEDIUM_SECTOR];
    uint32_t cnt = 0;

    for (size_t n = 0; n < MEDIUM_NODES_MAX; n++)
        for (size_t s = 0; s < MEDIUM_SECTORS_MAX; s++)
            if (img->nodes[n].sectors[s] != 0) {
                ASSERT(cnt < sizeof held / sizeof held[0]);
                memcpy(held[cnt++], medium_bytes(img->nodes[n].sectors[s]), MEDIUM_SECTOR);
            }
    contents_clear();
    cnt = 0;
    for (size_t n = 0; n < MEDIUM_NODES_MAX; n++)
        for (size_t s = 0; s < MEDIUM_SECTORS_MAX; s++)
            if (img->nodes[n].sectors[s] != 0)
                img->nodes[n].sectors[s] = medium_content(held[cnt++]);
}

/* --- images ------------------------------------------------------------------------------------------------------- */

void medium_format(struct medium_image *img, uint32_t dev_size)
{
    ASSERT(dev_size <= MEDIUM_SECTORS_MAX * MEDIUM_SECTOR);
    memset(img, 0, sizeof *img);
    for (uint8_t fs = FS_DATA; fs < FS_CNT; fs++) {
        bool is_dev = fs >= DEV_ENV;

        img->nodes[fs] = (struct medium_node){
            .type = is_dev ? MEDIUM_DEVICE : MEDIUM_DIR, .fs = fs, .size = is_dev ? dev_size : 0};
        img->nodes[fs].meta.mode = 0755;
    }
}

static struct medium_entry *entry_find(struct medium_image *img, uint16_t dir, uint16_t name)
{
    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++)
        if (img->entries[i].dir == dir && img->entries[i].name == name)
            return &img->entries[i];
    return NULL;
}

uint16_t medium_find(const struct medium_image *img, uint16_t dir, uint16_t name)
{
    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++)
        if (img->entries[i].dir == dir && img->entries[i].name == name)
            return img->entries[i].node;
    return 0;
}

static void entry_set(struct medium_image *img, uint16_t dir, uint16_t name, uint16_t node)
{
    struct medium_entry *at = entry_find(img, dir, name);

    for (size_t i = 0; at == NULL && i < MEDIUM_ENTRIES_MAX; i++)
        if (img->entries[i].dir == 0)
            at = &img->entries[i];
    ASSERT(at != NULL);
    *at = (struct medium_entry){dir, node, name};
}

static void size_set(struct medium_node *n, uint32_t size)
{
    uint32_t kept = (size + MEDIUM_SECTOR - 1) / MEDIUM_SECTOR;

    ASSERT(size <= MEDIUM_SECTORS_MAX * MEDIUM_SECTOR);
    for (uint32_t s = kept; size < n->size && s < MEDIUM_SECTORS_MAX; s++)
        n->sectors[s] = 0;
    if (size < n->size && size % MEDIUM_SECTOR != 0) {
        uint8_t last[MEDIUM_SECTOR] = {0};

        memcpy(last, medium_bytes(n->sectors[kept - 1]), size % MEDIUM_SECTOR);
        n->sectors[kept - 1] = medium_content(last);
    }
    n->size = size;
}

/* The first half new, the second as it was. */
static uint32_t content_tear(uint32_t was, uint32_t is)
{
    uint8_t half[MEDIUM_SECTOR];

    memcpy(half, medium_bytes(is), MEDIUM_SECTOR / 2);
    memcpy(half + MEDIUM_SECTOR / 2, medium_bytes(was) + MEDIUM_SECTOR / 2, MEDIUM_SECTOR / 2);
    return medium_content(half);
}

static void op_apply(struct medium_image *img, const struct medium_op *op, bool torn)
{
    struct medium_node *n = &img->nodes[op->node];

    switch ((enum medium_kind)op->kind) {
    case OP_DATA:
        ASSERT(op->at < MEDIUM_SECTORS_MAX);
        n->sectors[op->at] = torn ? content_tear(n->sectors[op->at], op->id) : op->id;
        break;
    case OP_SIZE:
        size_set(n, op->at);
        break;
    case OP_META:
        n->meta = op->meta;
        break;
    case OP_LINK:
        entry_set(img, op->owner, op->name, op->node);
        break;
    case OP_UNLINK: {
        struct medium_entry *at = entry_find(img, op->owner, op->name);

        if (at != NULL)
            *at = (struct medium_entry){0};
        break;
    }
    case OP_MAKE:
        *n = (struct medium_node){.type = op->type, .fs = op->fs, .target = op->name};
        n->meta.mode = op->meta.mode;
        break;
    case OP_SYNC:
    case OP_SYNC_FS:
    case OP_RESET:
        break;
    }
}

void medium_do(const struct medium_op *op)
{
    ASSERT(medium.trace_cnt < MEDIUM_TRACE_MAX);
    op_apply(&medium.now, op, false);
    medium.trace[medium.trace_cnt++] = *op;
}

uint16_t medium_free_node(void)
{
    for (uint16_t i = FS_CNT; i < MEDIUM_NODES_MAX; i++)
        if (medium.now.nodes[i].type == MEDIUM_FREE)
            return i;
    ASSERT(!"room for a node");
    return 0;
}

/* What fsck would: names whose folder is gone, nodes without a name, content behind the end. */
static void image_clean(struct medium_image *img)
{
    bool reached[MEDIUM_NODES_MAX] = {false};
    bool more = true;

    for (int fs = FS_DATA; fs < FS_CNT; fs++)
        reached[fs] = true;
    while (more) {
        more = false;
        for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++) {
            const struct medium_entry *at = &img->entries[i];

            if (at->dir != 0 && reached[at->dir] && !reached[at->node])
                reached[at->node] = more = true;
        }
    }
    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++)
        if (!reached[img->entries[i].dir])
            img->entries[i] = (struct medium_entry){0};
    for (size_t i = FS_CNT; i < MEDIUM_NODES_MAX; i++) {
        struct medium_node *n = &img->nodes[i];

        if (!reached[i])
            *n = (struct medium_node){0};
        for (uint32_t s = (n->size + MEDIUM_SECTOR - 1) / MEDIUM_SECTOR; s < MEDIUM_SECTORS_MAX; s++)
            n->sectors[s] = 0;
    }
}

void medium_load(const struct medium_image *img)
{
    medium.now = *img;
    medium.trace_cnt = 0;
    image_clean(&medium.now);
}

/* --- cuts --------------------------------------------------------------------------------------------------------- */

void medium_walk_begin(struct medium_walk *w, const struct medium_image *base)
{
    w->durable = *base;
    w->pending_cnt = 0;
}

static void walk_flush(struct medium_walk *w, const struct medium_op *sync)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < w->pending_cnt; i++) {
        const struct medium_op *op = w->pending[i];

        if (sync->kind == OP_SYNC ? op->owner == sync->owner : op->fs == sync->fs)
            op_apply(&w->durable, op, false);
        else
            w->pending[kept++] = op;
    }
    w->pending_cnt = kept;
}

void medium_walk_step(struct medium_walk *w, const struct medium_op *op)
{
    switch ((enum medium_kind)op->kind) {
    case OP_SYNC:
    case OP_SYNC_FS:
        walk_flush(w, op);
        return;
    case OP_RESET:
        w->pending_cnt = 0;
        image_clean(&w->durable);
        return;
    case OP_MAKE:
        op_apply(&w->durable, op, false);
        return;
    default:
        ASSERT(w->pending_cnt < MEDIUM_PENDING_MAX);
        w->pending[w->pending_cnt++] = op;
    }
}

void medium_crash(const struct medium_walk *w, const struct medium_choice *c, struct medium_image *out)
{
    *out = w->durable;
    for (uint32_t i = 0; i < w->pending_cnt; i++)
        if (c->keep[i])
            op_apply(out, w->pending[i], (int)i == c->torn);
    image_clean(out);
}

void medium_reset(const struct medium_image *base)
{
    static struct medium_walk w;

    medium_do(&(struct medium_op){.kind = OP_RESET, .call_end = true});
    medium_walk_begin(&w, base);
    for (uint32_t i = 0; i < medium.trace_cnt; i++)
        medium_walk_step(&w, &medium.trace[i]);
    medium.now = w.durable;
}

/* --- comparing ---------------------------------------------------------------------------------------------------- */

static uint64_t node_hash(const struct medium_image *img, uint16_t node);

/* A sum, so that the order of the entries does not count. */
static uint64_t dir_hash(const struct medium_image *img, uint16_t dir)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < MEDIUM_ENTRIES_MAX; i++) {
        const struct medium_entry *at = &img->entries[i];

        if (at->dir == dir)
            sum +=
                hash_add(hash_bytes64((const uint8_t *)names[at->name], NAME_LEN), node_hash(img, at->node));
    }
    return sum;
}

static uint64_t node_hash(const struct medium_image *img, uint16_t node)
{
    const struct medium_node *n = &img->nodes[node];
    uint64_t h = hash_add(HASH_START, n->type);

    h = hash_add(h, n->meta.mode | (uint64_t)n->size << 32);
    h = hash_add(h, n->meta.uid | (uint64_t)n->meta.gid << 32);
    h = hash_add(h, (uint64_t)n->meta.mtime_s);
    if (n->type == MEDIUM_DIR)
        return hash_add(h, dir_hash(img, node));
    if (n->type == MEDIUM_LINK)
        return hash_add(h, hash_bytes64((const uint8_t *)names[n->target], NAME_LEN));
    for (uint32_t s = 0; s < (n->size + MEDIUM_SECTOR - 1) / MEDIUM_SECTOR; s++)
        h = hash_add(h, content_hashes[n->sectors[s]]);
    return h;
}

uint64_t medium_tree_hash(const struct medium_image *img, uint16_t root)
{
    return node_hash(img, root);
}

uint64_t medium_hash(const struct medium_image *img)
{
    uint64_t h = HASH_START;

    for (uint16_t fs = FS_DATA; fs < FS_CNT; fs++)
        h = hash_add(h, node_hash(img, fs));
    return h;
}
