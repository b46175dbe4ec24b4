/* Storage that forgets: what the kernel shows (`now`) and what the medium holds are two things until a sync.
 *
 * Every change is an operation in a trace. From the trace come the states that a cut may leave: all that was synced
 * before it, and of the rest any part, in any order, torn at sectors and within one:
 *
 *     trace   W  W  L  W | sync(f)  M  W  W ...
 *             '--'-----'             '--'--'---- pending: each kept or lost, on its own
 *             durable from the sync on
 *
 * The model is harsher than ext4 on an eMMC: a name is durable only once its folder was synced, and nothing keeps two
 * operations in order but a sync between them. Images are small and fixed-size; contents of sectors and names are kept
 * once and named by number, so an image is copied and compared fast.
 */
#ifndef SLIPWAY_HAL_SIM_MEDIUM_H
#define SLIPWAY_HAL_SIM_MEDIUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEDIUM_SECTOR 512u
#define MEDIUM_SECTORS_MAX 40u /* of one node */
#define MEDIUM_NODES_MAX 224u
#define MEDIUM_ENTRIES_MAX 224u
#define MEDIUM_TRACE_MAX 8192u

/* Filesystems and devices of the board; each has its root, or itself, at the node of the same number. */
enum medium_fs { FS_NONE = 0, FS_DATA, FS_SLOT_A, FS_SLOT_B, DEV_ENV, DEV_SLOT_A, DEV_SLOT_B, FS_CNT };

enum medium_type { MEDIUM_FREE = 0, MEDIUM_FILE, MEDIUM_DIR, MEDIUM_LINK, MEDIUM_DEVICE };

struct medium_meta {
    uint32_t mode, uid, gid, mtime_ns;
    int64_t mtime_s;
};

struct medium_node {
    uint8_t type, fs;
    uint16_t target; /* name of MEDIUM_LINK */
    uint32_t size;
    struct medium_meta meta;
    uint32_t sectors[MEDIUM_SECTORS_MAX];
};

struct medium_entry {
    uint16_t dir, node, name; /* dir 0: free */
};

struct medium_image {
    struct medium_node nodes[MEDIUM_NODES_MAX];
    struct medium_entry entries[MEDIUM_ENTRIES_MAX];
};

enum medium_kind {
    OP_DATA,   /* sector `at` of `node` gets content `id` */
    OP_SIZE,   /* `node` is `at` bytes long */
    OP_META,   /* owner, mode, times of `node` */
    OP_LINK,   /* `name` in folder `owner` is `node` */
    OP_UNLINK, /* `name` in folder `owner` is gone */
    OP_MAKE,   /* `node` comes to be; without a name nobody can tell */
    OP_SYNC,   /* what is pending of `owner` is durable */
    OP_SYNC_FS,
    OP_RESET, /* the machine starts anew: what was pending then is lost */
};

struct medium_op {
    uint8_t kind, fs, type;
    bool call_end; /* the last one of a system call */
    uint16_t owner, node, name;
    uint32_t at, id;
    struct medium_meta meta;
};

/* What a cut may have kept of the operations that were pending. */
#define MEDIUM_PENDING_MAX 1024u
struct medium_choice {
    uint8_t keep[MEDIUM_PENDING_MAX];
    int torn; /* this one, an OP_DATA, was written by half; -1: none */
};

/* Walks a trace and knows what is durable at each point. */
struct medium_walk {
    struct medium_image durable;
    uint32_t pending_cnt;
    const struct medium_op *pending[MEDIUM_PENDING_MAX];
};

struct medium {
    struct medium_image now;
    uint32_t trace_cnt;
    struct medium_op trace[MEDIUM_TRACE_MAX];
};
extern struct medium medium;

/* Numbers of contents and names. Content 0 is all zeros. */
uint32_t medium_content(const void *sector);
const uint8_t *medium_bytes(uint32_t id);
uint16_t medium_name(const char *name);
const char *medium_text(uint16_t name);
/* Forget all contents but those of *img, which gets new numbers. Every other image is worthless then. */
void medium_compact(struct medium_image *img);

/* Empty filesystems and blank devices of `dev_size` bytes. */
void medium_format(struct medium_image *img, uint32_t dev_size);
/* Go on from *img with an empty trace. Nodes that no name leads to are freed. */
void medium_load(const struct medium_image *img);
/* Do it to `now` and note it. */
void medium_do(const struct medium_op *op);
/* The node of `name` in folder `dir`, 0 when there is none. */
uint16_t medium_find(const struct medium_image *img, uint16_t dir, uint16_t name);
uint16_t medium_free_node(void);

void medium_walk_begin(struct medium_walk *w, const struct medium_image *base);
void medium_walk_step(struct medium_walk *w, const struct medium_op *op);
/* The medium after a cut at this point. */
void medium_crash(const struct medium_walk *w, const struct medium_choice *c, struct medium_image *out);
/* The machine is started anew without a sync: `now` becomes what is durable, counted from `base`. */
void medium_reset(const struct medium_image *base);

/* Of a tree, or with every filesystem and device of the whole image: equal for equal content, whatever the numbers. */
uint64_t medium_tree_hash(const struct medium_image *img, uint16_t root);
uint64_t medium_hash(const struct medium_image *img);

#endif
