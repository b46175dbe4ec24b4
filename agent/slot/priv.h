/* Inside slot/: the state of a tree slot, and the files that share it.
 *
 *     tree.c      begin, layers, seal                 apply.c  what an entry means
 *     converge.c  what of the old content stays       write.c  the port's calls, file content
 *     verify.c    read back                           walk.c   remove what does not belong, see what is there
 */
#ifndef SLIPWAY_SLOT_PRIV_H
#define SLIPWAY_SLOT_PRIV_H

#include <sys/stat.h>

#include "slot/claims.h"
#include "slot/path.h"
#include "slot/toc.h"
#include "slot/tree.h"

#define WALK_DEPTH_MAX 2048 /* of directories: NODE_PATH_MAX / 2 */
#define RING_CNT 64
#define RING_BYTES (4u << 20)
#define PIECE_LEN COMPARE_PIECE

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
    bool fresh; /* was empty at begin(): nothing old to compare with */
    bool swept; /* what no layer so far has was removed already, for its space */
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
int slot_reopen(struct slot_tree *s, const char *path, const struct node *n, uint64_t old, int *file_fd,
                struct err *e);
int slot_settle(struct slot_tree *s, const char *path, int file_fd, const struct node *n, struct err *e);
int slot_link(struct slot_tree *s, const char *from, const char *to, struct err *e);
int slot_remove(struct slot_tree *s, const char *path, bool is_dir, struct err *e);
/* Create or converge, fill and settle a regular file. *xxh64 of its content. */
int slot_write_file(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                    uint64_t *xxh64, struct err *e);
void slot_ring_drop(struct slot_tree *s);
int slot_parent_fd(struct slot_tree *s, const char *path, struct err *e);

/* converge.c: as slot_make, slot_settle and slot_link, but what already is as it should be stays. */
/* For NODE_FILE *file_fd is open and *old says how many bytes it holds. */
int slot_place(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, uint64_t *old,
               struct err *e);
int slot_settle_changed(struct slot_tree *s, const char *path, int file_fd, const struct node *n,
                        struct err *e);
int slot_place_link(struct slot_tree *s, const char *from, const char *to, struct err *e);
/* Is `path` part of what the layers so far made? */
bool slot_is_present(struct slot_tree *s, const char *path);

/* verify.c: metadata, attributes and symlink target of a node, against what fstatat said. ERR_FLASH: differs. */
int slot_check_node(struct slot_tree *s, int dir, const char *path, const struct node *want,
                    const struct stat *st, struct err *e);

/* apply.c */
int slot_lookup_layer(struct path_lookup *l, const char *path, char *target, struct err *e);
int slot_second_pass(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e);

/* walk.c: all but the filesystem's own "lost+found" at the root. */
int slot_is_empty(struct slot_tree *s, struct err *e); /* 1, 0 or an error */
/* Remove `path` and, of a directory, all that is in it. */
int slot_remove_all(struct slot_tree *s, const char *path, struct err *e);
/* Remove from directory `path` what is not present; from the whole slot. */
int slot_sweep_dir(struct slot_tree *s, const char *path, struct err *e);
int slot_sweep(struct slot_tree *s, struct err *e);
/* Call `see` with each path of the slot (s->path), a directory before what is in it. */
int slot_walk(struct slot_tree *s, int (*see)(struct slot_tree *s, bool dir, struct err *e), struct err *e);

#endif
