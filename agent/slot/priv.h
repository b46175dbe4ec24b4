/* Inside slot/: the state of a tree slot, and the files that share it.
 *
 *     tree.c      begin, layers, seal                 apply.c  what an entry means
 *     converge.c  what of the old content stays       write.c  the port's calls, file content
 *     verify.c    read back                           walk.c   remove what does not belong, see what is there
 *     reuse.c     content that the slots hold         want.c   content that has to be fetched
 *     known.c     streamed before, or in part         scrub.c  read what is there, now and then
 */
#ifndef SLIPWAY_SLOT_PRIV_H
#define SLIPWAY_SLOT_PRIV_H

#include <sys/stat.h>

#include "slot/claims.h"
#include "slot/index.h"
#include "slot/patch.h"
#include "slot/path.h"
#include "slot/range.h"
#include "slot/toc.h"
#include "slot/tree.h"

#define WALK_DEPTH_MAX 2048 /* of directories: NODE_PATH_MAX / 2 */
#define RING_CNT 64
#define RING_BYTES (4u << 20)
#define PIECE_LEN COMPARE_PIECE
#define SLOT_LAYER_MAX 0x80u

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

/* What the slots already hold, by path and by digest of content: an index of their tables of contents. */
enum reuse_side { REUSE_OLD = 0, REUSE_ACTIVE, REUSE_SIDES };
struct reuse {
    struct {
        struct toc toc; /* of what is there, or was: REUSE_OLD's shrinks as the slot converges */
        struct path_dirs dirs;
        int root; /* -1: not at hand. REUSE_OLD's is the slot's own, not owned */
        bool cut; /* the TOC has no trailer: what it says is believed where the content bears it out */
        uint32_t layer_cnt;
        struct {
            uint32_t at; /* offset in the TOC / 16, of the first record */
            struct digest id;
        } layers[SLOT_LAYER_MAX * 2];
    } side[REUSE_SIDES];
    struct index index; /* to the offset in the TOC / 16, and the side in the highest bit */
    bool indexed;
};

/* The table of a layer that is streamed, or was before. */
struct layer_table {
    struct toc toc;
    bool noting;             /* what comes is put into it */
    const struct digest *of; /* its entries are given; NULL: they are not */
    bool resuming;           /* and so they were when the stream was cut */
};

/* The file of a layer's table of contents that was given last, while it may still have chunks. */
struct want {
    struct pieces list;
    bool open;     /* its last piece is not in the list yet */
    bool asked;    /* its first chunk came */
    bool patching; /* and an old version is there to take chunks from */
    struct patch patch;
};

struct slot_tree {
    const struct tree_ops *ops;
    int root; /* -1: closed */
    bool layer_open, second;
    bool dry;   /* decide and count, change nothing: slot_tree_look() */
    bool fresh; /* was empty at begin(): nothing old to compare with */
    bool swept; /* what no layer so far has was removed already, for its space */
    uint32_t layers, ordinal;
    uint64_t bytes_free; /* at the last look, minus what was written since */
    uint64_t nodes_free;
    struct slot_tree_stats stats;
    const char *toc_path;
    char toc_new
        [NODE_PATH_MAX]; /* the TOC's name while a cut one of the last try has the other; "": it has it */
    const char *filling; /* the file that content->left goes to; NULL: none */
    struct claims claims;
    struct path_dirs dirs;
    struct path_lookup lookup;
    struct ring ring;
    struct reuse reuse;
    struct want want;
    struct layer_table known;
    uint32_t pending_cnt;
    struct pending pending[CONFIG_SLOT_HARDLINK_PENDING_MAX];
    bool parent_known, parent_hidden;
    uint32_t warnings;
    char parent_raw[NODE_PATH_MAX]; /* as the layer names it */
    char parent[NODE_PATH_MAX];     /* inside the layer's root, links followed */
    char path[NODE_PATH_MAX];       /* of the present entry */
    char other[NODE_PATH_MAX];      /* of a hard link's target */
    struct toc toc;
    uint64_t cookie[WALK_DEPTH_MAX];
    const struct slot_scrub *scrub;           /* what is under way, or NULL */
    struct range_io range;                    /* with `io` */
    _Alignas(4096) uint8_t io[RANGE_BUF_LEN]; /* as O_DIRECT wants it */
};

/* write.c: one wrapper a call of the port; paths are those of the slot, parents exist. With s->dry nothing is called. */
int slot_make(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, struct err *e);
int slot_reopen(struct slot_tree *s, const char *path, const struct node *n, uint64_t old, int *file_fd,
                struct err *e);
int slot_settle(struct slot_tree *s, const char *path, int file_fd, const struct node *n, struct err *e);
int slot_link(struct slot_tree *s, const char *from, const char *to, struct err *e);
int slot_remove(struct slot_tree *s, const char *path, bool is_dir, struct err *e);
/* What is known of a file's content after it was written, or when it will be. */
struct file_got {
    uint64_t xxh64;
    struct digest digest; /* zero: not known */
    bool wanted;          /* slot_want_add() is due */
};
/* Create or converge, fill and settle a regular file. */
int slot_write_file(struct slot_tree *s, const char *path, const struct node *n, struct content *c,
                    struct file_got *got, struct err *e);
int slot_let_go(struct slot_tree *s, int fd, uint64_t len, bool written, struct err *e);
int slot_fill(struct slot_tree *s, int fd, uint64_t at, uint64_t size, uint64_t old, struct compare *k,
              struct content *c, struct err *e);
void slot_ring_drop(struct slot_tree *s);
int slot_parent_fd(struct slot_tree *s, const char *path, struct err *e);

/* converge.c: as slot_make, slot_settle and slot_link, but what already is as it should be stays. */
/* What stands at `path`: 1 and *st when it can become `n` by changes of content and metadata; otherwise it is removed: 0. Or an
 * error. */
int slot_stay(struct slot_tree *s, const char *path, const struct node *n, struct stat *st, struct err *e);
/* For NODE_FILE *file_fd is open and *old says how many bytes it holds. */
int slot_place(struct slot_tree *s, const char *path, const struct node *n, int *file_fd, uint64_t *old,
               struct err *e);
int slot_settle_changed(struct slot_tree *s, const char *path, int file_fd, const struct node *n,
                        struct err *e);
int slot_place_link(struct slot_tree *s, const char *from, const char *to, struct err *e);
/* Is `path` part of what the layers so far made? */
bool slot_is_present(struct slot_tree *s, const char *path);

/* reuse.c */
void slot_reuse_drop(struct slot_tree *s);
/* Have the content of `place` in `path` without fetching it: 1 when it is there and settled, 0 or an error. */
int slot_reuse_file(struct slot_tree *s, const char *path, const struct node *n,
                    const struct entry_place *place, struct file_got *got, struct err *e);
/* Is the file at `path` in one of the slots, as the layer `id` left it? */
bool slot_reuse_has(struct slot_tree *s, const char *path, uint64_t size, const struct digest *id);
/* Does the file at `path` of the slot itself begin with `len` bytes of that checksum? */
bool slot_reuse_begins(struct slot_tree *s, const char *path, uint64_t len, uint64_t xxh64);
/* The regular file at `path` on one side, open; -1: there is none. */
int slot_reuse_open(struct slot_tree *s, enum reuse_side side, const char *path, struct stat *st);

/* want.c */
int slot_want_begin(struct slot_tree *s, struct err *e);
/* The record `toc` waits for content. */
void slot_want_add(struct slot_tree *s, uint32_t toc, uint64_t size, const struct entry_place *place);
/* The last file's chunks, if any, have all come. */
int slot_want_close(struct slot_tree *s, struct err *e);
void slot_want_drop(struct slot_tree *s);

/* verify.c: metadata, attributes and symlink target of a node, against what fstatat said. fd: of a file that is open, or -1.
 * ERR_FLASH: differs. */
int slot_check_node(struct slot_tree *s, int dir, int fd, const char *path, const struct node *want,
                    const struct stat *st, struct err *e);

/* The node of a record, and all that a file has in it. */
int slot_check_item(struct slot_tree *s, const struct toc_item *it, struct err *e);
/* There is nothing that no record names; those that do are in the claims. */
int slot_check_rest(struct slot_tree *s, struct err *e);

/* known.c */
/* The records from here on are of this layer; NULL: of none that is known. A layer is complete where another such mark
 * follows. */
int slot_known_mark(struct slot_tree *s, const struct digest *id, struct err *e);
void slot_known_note(struct slot_tree *s, const struct entry *en);
void slot_known_drop(struct slot_tree *s);

/* apply.c */
/* By what upper layers say. */
bool slot_path_is_hidden(struct slot_tree *s, const char *path);
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
