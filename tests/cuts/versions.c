#include "versions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/board.h"
#include "kernel.h"
#include "slot/disk.h"
#include "slot/sum.h"
#include "slot/tree.h"

#define STAGE_DIR WORLD_STATE_DIR "/stage"

#define DISK_LEN 6000u
#define DEVICE_LEN (16u * MEDIUM_SECTOR)

static struct {
    uint64_t tree_hash[V_CNT];
    uint8_t disk_image[V_CNT][DISK_LEN];
    struct slot_tree *tree;
    struct slot_disk disk;
    bool net_failed;
    uint64_t rotten_hash;
} own;

/* --- what a version is -------------------------------------------------------------------------------------------- */

/* Text that tells version `v` from the others in every sector. */
static uint64_t content_fill(char *out, size_t len, const char *what, int v)
{
    size_t at = 0;

    while (at < len) {
        char line[48];
        int n = snprintf(line, sizeof line, "%s %d at %zu\n", what, v, at);
        size_t part = (size_t)n < len - at ? (size_t)n : len - at;

        memcpy(out + at, line, part);
        at += part;
    }
    return len;
}

struct source {
    struct entry_pipe pipe;
    const char *data;
    uint64_t at, len;
    struct frame frames[2];
    struct entry_end end;
    unsigned sent; /* bytes of frames and end */
    struct content content;
};

static int source_read(struct entry_pipe *p, void *buf, uint32_t len, struct err *e)
{
    struct source *s = (struct source *)p;
    uint8_t tail[sizeof s->frames + sizeof s->end];

    (void)e;
    if (s->content.in_frame > 0) {
        memcpy(buf, s->data + s->at, len);
        s->at += len;
        return 0;
    }
    memcpy(tail, s->frames, sizeof s->frames);
    memcpy(tail + sizeof s->frames, &s->end, sizeof s->end);
    ASSERT(s->sent + len <= sizeof tail);
    memcpy(buf, tail + s->sent, len);
    s->sent += len;
    return 0;
}

static int64_t source_move(struct entry_pipe *p, int fd, uint64_t len, struct err *e)
{
    struct source *s = (struct source *)p;

    if (io_write_full(fd, s->data + s->at, len) < 0)
        return err_errno(e, "write");
    s->at += len;
    return (int64_t)len;
}

static struct content *source_open(struct source *s, const char *data, uint64_t len)
{
    *s = (struct source){.pipe = {.read = source_read, .move = source_move}, .data = data, .len = len};
    s->frames[0] = (struct frame){.type = FRAME_DATA, .len = (uint32_t)len};
    s->frames[1] = (struct frame){.type = FRAME_ENTRY_END, .len = sizeof s->end};
    s->end.xxh64 = sum_bytes(data, len, 0);
    s->sent = len > 0 ? 0 : sizeof(struct frame);
    s->content = (struct content){.pipe = &s->pipe, .left = len};
    return &s->content;
}

struct item {
    int layer;
    enum entry_type entry;
    enum node_type type;
    const char *path, *target;
    uint32_t len;
    bool same; /* in every version */
};

static const struct item items[] = {
    {1, ENTRY_NODE, NODE_DIR, "app", NULL, 0, false},
    {1, ENTRY_NODE, NODE_FILE, "app/version", NULL, 9, false},
    {1, ENTRY_NODE, NODE_FILE, "app/data", NULL, 700, false},
    {1, ENTRY_WHITEOUT, 0, "etc/old", NULL, 0, false},
    {0, ENTRY_NODE, NODE_DIR, "boot", NULL, 0, false},
    {0, ENTRY_NODE, NODE_FILE, "boot/kernel", NULL, 600, false},
    {0, ENTRY_NODE, NODE_DIR, "usr", NULL, 0, true},
    {0, ENTRY_NODE, NODE_FILE, "usr/agentd", NULL, 520, true},
    {0, ENTRY_HARDLINK, 0, "usr/agentctl", "usr/agentd", 0, true},
    {0, ENTRY_NODE, NODE_FILE, "etc/old", NULL, 30, true},
    {0, ENTRY_NODE, NODE_SYMLINK, "etc/link", "../app/data", 0, true},
};

static const char *const toc_paths[] = {[SLOT_A] = STAGE_DIR "/toc-a", [SLOT_B] = STAGE_DIR "/toc-b"};

static int item_apply(const struct item *it, enum version v, struct err *e)
{
    static struct entry en;
    static char data[1024];
    struct source s;
    struct content *content = NULL;

    en.type = it->entry;
    snprintf(en.path, sizeof en.path, "%s", it->path);
    snprintf(en.target, sizeof en.target, "%s", it->target ? it->target : "");
    memset(&en.node, 0, sizeof en.node);
    if (it->entry == ENTRY_NODE)
        en.node = (struct node){.type = it->type, .mode = 0755, .mtime_s = it->same ? 1000 : 1000 + (int)v};
    en.node.target = it->target ? en.target : NULL;
    if (it->type == NODE_FILE) {
        en.node.size = content_fill(data, it->len, it->path, it->same ? 0 : (int)v);
        content = source_open(&s, data, it->len);
    }
    return slot_tree_entry(own.tree, &en, content, e);
}

/* What update/stage_slot.c does with a tree slot, without the pipes. */
static int tree_install(enum slot_id slot, enum version v, struct err *e)
{
    static const char *const needs[] = {"boot/kernel", "usr/agentd"};
    const char *place = board.slots[slot], *toc = toc_paths[slot];
    bool again;
    int rc = io_make_dir(STAGE_DIR) < 0 ? err_errno(e, STAGE_DIR) : 0;

    if (rc == 0)
        rc = slot_tree_begin(own.tree, board.tree, place, toc, e);

    for (int layer = 1; rc == 0 && layer >= 0; layer--) {
        rc = slot_tree_layer(own.tree, e);
        for (size_t i = 0; rc == 0 && i < sizeof items / sizeof items[0]; i++)
            if (items[i].layer == layer)
                rc = item_apply(&items[i], v, e);
        if (rc == 0)
            rc = slot_tree_layer_end(own.tree, &again, e);
        if (rc == 0 && world.step && world.step->net_fails && !own.net_failed) {
            own.net_failed = true;
            rc = err_set(e, ERR_NET, "connection lost");
        }
    }
    if (rc == 0)
        rc = slot_tree_seal(own.tree, needs, 2, e);
    if (rc == 0 && world.bad != BAD_NO_READ_BACK)
        rc = slot_tree_verify(own.tree, board.tree, place, toc, e);
    if (rc < 0)
        slot_tree_abort(own.tree);
    return rc;
}

static int disk_install(enum slot_id slot, enum version v, struct err *e)
{
    static const struct entry en = {
        .type = ENTRY_NODE, .path = "image", .node = {.type = NODE_FILE, .size = DISK_LEN}};
    struct source s;
    int rc = slot_disk_begin(&own.disk, board.disk, board.slots[slot], toc_paths[slot], false, e);

    if (rc == 0)
        rc = slot_disk_entry(&own.disk, &en, source_open(&s, (char *)own.disk_image[v], DISK_LEN), e);
    if (rc == 0)
        rc = slot_disk_seal(&own.disk, e);
    if (rc == 0 && world.bad != BAD_NO_READ_BACK)
        rc = slot_disk_verify(&own.disk, e);
    if (rc < 0)
        slot_disk_abort(&own.disk);
    return rc;
}

int version_install(enum slot_id slot, enum version v, struct err *e)
{
    return world.step->disk ? disk_install(slot, v, e) : tree_install(slot, v, e);
}

static void on_read(void *ctx, uint64_t bytes)
{
    (void)ctx, (void)bytes;
}

int version_scrub(enum slot_id slot, int (*ready)(void *ctx, struct err *e), void *ctx, uint32_t *files,
                  struct err *e)
{
    static struct slot_damage damage;
    const struct slot_scrub how = {.ops = board.tree,
                                   .place = board.slots[slot],
                                   .toc_path = slot == SLOT_A ? STAGE_DIR "/toc-a" : STAGE_DIR "/toc-b",
                                   .tick = on_read};
    int rc = slot_tree_scrub(own.tree, &how, &damage, e);

    *files = damage.files;
    if (rc < 0 || damage.files == 0)
        return rc;
    if (world.bad == BAD_MARK_FIRST)
        rc = slot_tree_scrub_mark(own.tree, &how, &damage, e);
    if (rc == 0)
        rc = ready(ctx, e);
    if (rc == 0 && world.bad != BAD_MARK_FIRST)
        rc = slot_tree_scrub_mark(own.tree, &how, &damage, e);
    return rc;
}

void version_rot(struct medium_image *img)
{
    uint16_t app = medium_find(img, FS_SLOT_B, medium_name("app"));
    struct medium_node *data = &img->nodes[medium_find(img, app, medium_name("data"))];
    uint8_t sector[MEDIUM_SECTOR];

    memcpy(sector, medium_bytes(data->sectors[1]), sizeof sector);
    sector[100] ^= 1;
    data->sectors[1] = medium_content(sector);
    own.rotten_hash = medium_tree_hash(img, FS_SLOT_B);
}

bool version_is_rotten(const struct medium_image *img)
{
    return medium_tree_hash(img, FS_SLOT_B) == own.rotten_hash;
}

void version_begin(bool new_device)
{
    slot_tree_abort(own.tree);
    slot_disk_abort(&own.disk);
    own.net_failed = own.net_failed && !new_device;
}

/* --- what a slot holds -------------------------------------------------------------------------------------------- */

uint16_t version_slot_root(enum slot_id slot)
{
    if (world.step->disk)
        return slot == SLOT_A ? DEV_SLOT_A : DEV_SLOT_B;
    return slot == SLOT_A ? FS_SLOT_A : FS_SLOT_B;
}

static bool disk_sector_is(uint16_t device, uint32_t sector, enum version v)
{
    const uint8_t *got = medium_bytes(medium.now.nodes[device].sectors[sector]);
    uint32_t at = sector * MEDIUM_SECTOR;
    size_t len = DISK_LEN - at < MEDIUM_SECTOR ? DISK_LEN - at : MEDIUM_SECTOR;

    return memcmp(got, own.disk_image[v] + at, len) == 0;
}

static bool slot_is(uint16_t root, enum version v)
{
    bool same = true;

    if (!world.step->disk)
        return medium_tree_hash(&medium.now, root) == own.tree_hash[v];
    for (uint32_t s = 0; s * MEDIUM_SECTOR < DISK_LEN; s++)
        same = same && disk_sector_is(root, s, v);
    return same;
}

enum version version_of_slot(enum slot_id slot)
{
    for (enum version v = V_FACTORY; v < V_CNT; v++)
        if (slot_is(version_slot_root(slot), v))
            return v;
    return V_NONE;
}

/* On a raw partition: the first sector, which has the superblock, is that of a version. */
bool version_slot_has_kernel(enum slot_id slot)
{
    uint16_t root = version_slot_root(slot);
    uint16_t boot;

    for (enum version v = V_FACTORY; world.step->disk && v < V_CNT; v++)
        if (disk_sector_is(root, 0, v))
            return true;
    boot = medium_find(&medium.now, root, medium_name("boot"));
    return !world.step->disk && boot != 0 && medium_find(&medium.now, boot, medium_name("kernel")) != 0;
}

/* --- the factory -------------------------------------------------------------------------------------------------- */

static void slot_fill(enum slot_id slot, enum version v)
{
    struct err e = {0};

    if (version_install(slot, v, &e) < 0) {
        fprintf(stderr, "v%d: %s\n", (int)v, e.text);
        fprintf(stderr, "%s", kernel_log());
        __builtin_trap();
    }
}

static void factory_make(const struct step *kind, struct medium_image *out)
{
    struct medium_image blank;

    medium_format(&blank, DEVICE_LEN);
    world.step = kind;
    medium_load(&blank);
    kernel.fault = FAULT_NONE;
    kernel.guarded[0] = kernel.guarded[1] = FS_NONE;
    kernel_start();
    (kind->loader == LOADER_TRYBOOT ? tryboot_factory : uboot_factory)();
    medium_do(&(struct medium_op){
        .kind = OP_MAKE, .fs = FS_DATA, .type = MEDIUM_DIR, .node = FS_CNT, .meta.mode = 0700});
    medium_do(&(struct medium_op){
        .kind = OP_LINK, .owner = FS_DATA, .node = FS_CNT, .name = medium_name("slipway")});
    for (enum version v = V_CNT; v-- > V_FACTORY;) {
        slot_fill(SLOT_A, v);
        own.tree_hash[v] = kind->disk ? own.tree_hash[v] : medium_tree_hash(&medium.now, FS_SLOT_A);
    }
    /* the agent makes its own folder */
    medium_do(&(struct medium_op){.kind = OP_UNLINK, .owner = FS_DATA, .name = medium_name("slipway")});
    *out = medium.now;
    medium_load(out);
    *out = medium.now;
}

unsigned version_factory(const struct step *step)
{
    return (step->disk ? 1u : 0u) + (step->loader == LOADER_TRYBOOT ? 2u : 0u);
}

void versions_init(struct medium_image factories[FACTORY_CNT])
{
    static const struct step kinds[FACTORY_CNT] = {{.disk = false},
                                                   {.disk = true},
                                                   {.disk = false, .loader = LOADER_TRYBOOT},
                                                   {.disk = true, .loader = LOADER_TRYBOOT}};

    if (own.tree == NULL) {
        own.tree = slot_tree_new();
        if (!slot_disk_init(&own.disk))
            abort();
    }
    version_begin(true);
    world.bad = BAD_NONE;
    board_init();
    for (int v = 0; v < V_CNT; v++)
        content_fill((char *)own.disk_image[v], DISK_LEN, "image", v);
    for (size_t i = 0; i < FACTORY_CNT; i++)
        factory_make(&kinds[i], &factories[i]);
}
