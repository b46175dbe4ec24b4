/* Inside slot/: the state of a tree slot, and the files that share it.
 *
 *     tree.c    begin, layers, seal            apply.c   what an entry means
 *     write.c   the port's calls, file content  walk.c    empty the slot, count its nodes
 *     verify.c  read back
 */
#ifndef SLIPWAY_SLOT_PRIV_H
#define SLIPWAY_SLOT_PRIV_H

#include "slot/claims.h"
#include "slot/path.h"
#include "slot/toc.h"
#include "slot/tree.h"

#define WALK_DEPTH_MAX 2048 /* of directories: NODE_PATH_MAX / 2 */
#define RING_CNT 64
#define RING_BYTES (4u << 20)
#define PIECE_LEN (1u << 20)

/* Small files just written. Their pages are sent to the medium in batches and, one batch later, dropped. */
struct ring {
    int fd[2][RING_CNT];
    int cnt[2];
    int filling; /* 0 or 1 */
    uint64_t bytes;
};

struct pending {
    uint32_t toc;     /* of the link's record */
    uint32_t ordinal; /* of the entry whose content it wants */
    uint32_t made;    /* 1: this link got the content; the others are linked to it */
};

struct slot_tree {
    const struct tree_ops *ops;
    int root; /* -1: closed */
    bool layer_open, second;
    uint32_t layers, ordinal;
    uint64_t bytes_free; /* at the last look, minus what was written since */
    uint64_t nodes_free;
    struct slot_tree_stats stats;
    struct claims claims;
    struct path_dirs dirs;
    struct path_lookup lookup;
    struct ring ring;
    uint32_t pending_cnt;
    struct pending pending[CONFIG_SLOT_HARDLINK_PENDING_MAX];
    bool parent_known, parent_hidden;
    char parent_raw[NODE_PATH_MAX]; /* as the layer names it */
    char parent[NODE_PATH_MAX];     /* inside the layer's root, links followed */
    char path[NODE_PATH_MAX];       /* of the present entry */
    char other[NODE_PATH_MAX];      /* of a hard link's target */
    struct toc toc;
    uint64_t cookie[WALK_DEPTH_MAX];
    _Alignas(8) uint8_t io[65536];
};

/* write.c: one wrapper a call of the port; paths are those of the slot, parents exist. */
int slot_make(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, struct err *e);
int slot_settle(struct slot_tree *s, const char *path, int file_fd, const struct node *n, struct err *e);
int slot_link(struct slot_tree *s, const char *from, const char *to, struct err *e);
int slot_remove(struct slot_tree *s, const char *path, bool is_dir, struct err *e);
/* Create, fill and settle a regular file. *xxh64 of its content. */
int slot_write_file(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                    uint64_t *xxh64, struct err *e);
void slot_ring_drop(struct slot_tree *s);

/* apply.c */
int slot_lookup_layer(struct path_lookup *l, const char *path, char *target, struct err *e);
int slot_second_pass(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e);

/* walk.c: all but the filesystem's own "lost+found" at the root. */
int slot_empty(struct slot_tree *s, struct err *e);
/* Call `see` with each path of the slot (s->path). */
int slot_walk(struct slot_tree *s, int (*see)(struct slot_tree *s, struct err *e), struct err *e);

#endif
