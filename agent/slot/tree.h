/* A tree slot converges to an image: layers from the top down, each path written at most once, and only where it
 * differs from what the slot holds. What the image does not have is removed at the end.
 *
 * The meaning of a path is fixed: a layer is extracted as if into an empty root of its own (symlinks of that layer
 * are followed inside that root), and layers stack as overlayfs stacks them (agent/DESIGN.md, "Stacking").
 * What is visible of an entry is written; what an upper layer hides is skipped, so nothing is written to be deleted.
 *
 *     begin -> (layer -> entry* -> layer_end)* -> seal -> verify
 *     look  -> (layer -> entry* -> layer_end)* -> abort            what begin would lead to
 *
 * seal() leaves the slot's table of contents (agent/FORMAT.md, "TOC"), an append-only file in the state directory:
 * path, metadata and checksum of each node. verify() opens the slot anew, reads every byte back from the medium and
 * compares it with that file. Memory is fixed: CONFIG_SLOT_ENTRY_MAX claims; more paths are refused.
 * The only code that writes to a tree slot. Knows nothing of HTTP, images or digests.
 */
#ifndef SLIPWAY_SLOT_TREE_H
#define SLIPWAY_SLOT_TREE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "hal/tree.h"
#include "slot/compare.h"
#include "slot/patch.h"
#include "stream/entry.h"

struct slot_tree; /* one per process; slot_tree_new() */

/* Of the files of layers that came by a table of contents: where their content was found. */
struct slot_found {
    uint32_t files_kept, files_copied, files_wanted;
    uint64_t kept, copied; /* bytes of content: in its place already, or in one of the slots */
    uint64_t chunks;       /* the same, of files that are wanted in part */
    uint64_t wanted;       /* to be fetched */
};

struct slot_tree_stats {
    struct slot_bytes bytes; /* of content */
    uint32_t nodes;          /* paths in the finished tree */
    uint32_t nodes_changed;  /* made, or their metadata set */
    uint32_t claims;         /* of CONFIG_SLOT_ENTRY_MAX, the high-water mark of memory */
    struct slot_found found;
};

/* The one allocation, at the start of the role. NULL when it does not fit under the role's ceiling. */
struct slot_tree *slot_tree_new(void);

/* The most bytes that a layer's tar may have: it may hold what upper layers hide. Opens the slot for a moment, to read. */
int slot_tree_layer_max(const struct tree_ops *ops, const char *place, uint64_t *max, struct err *e);

/* Open the slot for writing; `toc_path` as its last deployment left it tells what it holds. `toc_path` is the file to write the TOC to; the name of the old one is gone from now on, so that a cut
 * does not leave a list of what the slot no longer holds. One that a cut has left stays until the new one has its use: what
 * it says is compared with the slot. */
int slot_tree_begin(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                    struct err *e);

/* As begin(), but all that follows changes nothing: decisions are the same and so are the counts, as far as they do not
 * hang on content that would be fetched. The TOC is a file without a name. No fill(), seal() or verify() after this. */
int slot_tree_look(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                   struct err *e);

/* What was applied so far is on the medium, and the TOC says so: after a cut, what of it is still as that says stays without
 * being fetched again. */
int slot_tree_sync(struct slot_tree *s, struct err *e);

/* The next lower layer starts. Call once per layer, top layer first. */
int slot_tree_layer(struct slot_tree *s, struct err *e);

/* Apply one entry; consumes the content through `c` (regular files only, else it may be NULL). */
int slot_tree_entry(struct slot_tree *s, const struct entry *en, struct content *c, struct err *e);

/* --- layers by table of contents ---------------------------------------------------------------------------------
 * Their entries come with content->place, and content is taken from what the slots hold where its digest is found
 * there. What is not found is wanted: it is listed in pieces, in the order of the blob, after the layer's last entry.
 *
 *     layer -> (entry -> chunk*)* -> want_end -> fill* -> layer_end
 */
#define SLOT_DAMAGE_CNT_MAX 64 /* more in one slot, and its whole TOC is not believed any more */

/* The active slot's root and TOC, to take content from; neither is ever written. Call after begin(). Whatever is not
 * there or damaged is of no use and no error. */
void slot_tree_reuse(struct slot_tree *s, const char *active_root, const char *active_toc);
/* A chunk of the file whose entry was given last. */
int slot_tree_chunk(struct slot_tree *s, const struct entry_chunk *chunk, struct err *e);
/* The layer's last entry was given. *list: what is wanted of it, to be read by pieces_next(). */
int slot_tree_want_end(struct slot_tree *s, struct pieces **list, struct err *e);
/* A piece's content; ERR_DIGEST when it is not what the table said. */
int slot_tree_fill(struct slot_tree *s, const struct slot_piece *p, struct content *c, struct err *e);

/* --- layers that were streamed before (slot/known.c) --------------------------------------------------------------
 *
 *     layer -> known, or note -> entry* -> noted -> layer_end
 */

/* Instead of entries: when `table`, which noted() once left for the layer with this diff_id, is sound, and of all its
 * files the slots hold what shows, apply it. 1, 0 when the layer has to be streamed (nothing was done), or an error (then
 * the table is gone). `en` is only to work in. */
int slot_tree_layer_known(struct slot_tree *s, const char *table, const struct digest *id, struct entry *en,
                          struct err *e);
/* The entries that come are those of the layer `id`; note them in the file `table`. */
void slot_tree_layer_note(struct slot_tree *s, const char *table, const struct digest *id);
/* The stream was what it should be. True: `table` is whole and on the medium. */
bool slot_tree_layer_noted(struct slot_tree *s);

/* --- a layer whose stream was cut ---------------------------------------------------------------------------------
 *
 *     layer -> note -> (entry* mark)*               the cut
 *     layer -> resume -> (entry* mark)* -> noted    the next try, with the same layers above
 */
#define SLOT_MARKS_MAX 4u

/* How far a stream has come, all that was given before being applied. */
struct slot_mark {
    uint64_t table_len, table_xxh64; /* of the layer's table, which has the entries that are through */
    /* of the file whose content is just being written: so much is there, and has this checksum */
    uint64_t at, xxh64;
    char path[NODE_PATH_MAX]; /* "": there is none, or it is hidden */
};
/* Between entries, or from within their content, of which `at` bytes came. False: of this layer nothing can be said that one
 * could go on from. What *out says is in the files, but not yet on the medium. */
bool slot_tree_mark(struct slot_tree *s, uint64_t at, uint64_t xxh64, struct slot_mark *out);
/* Take up the stream of the layer `id` at one of `cnt` marks, the newest first: at the first of which everything is still in
 * the slot, checksum by checksum. Returns its number, with the entries before it applied and the table going on; `cnt`
 * when there is none, and nothing was done; or an error. `en` is only to work in. */
int slot_tree_layer_resume(struct slot_tree *s, const char *table, const struct digest *id,
                           const struct slot_mark *marks, int cnt, struct entry *en, struct err *e);

/* The layer's last entry was given. *again is true when hard links of this layer still need the content of files
 * that upper layers hide: call slot_tree_layer_again() and stream the same layer once more. */
int slot_tree_layer_end(struct slot_tree *s, bool *again, struct err *e);
int slot_tree_layer_again(struct slot_tree *s, struct err *e);

/* All layers were given: remove what none of them has, set the directories' times, check that each of `needs` (up to
 * needs_cnt paths; NULL or "" ends the list before) is there, flush. The slot stays closed after. */
int slot_tree_seal(struct slot_tree *s, const char *const *needs, int needs_cnt, struct err *e);

/* Read back from flash and compare with the TOC: every node, every byte, and nothing besides. ERR_FLASH says what
 * differs where. Needs no begin(): works on any slot that has a TOC. */
int slot_tree_verify(struct slot_tree *s, const struct tree_ops *ops, const char *place, const char *toc_path,
                     struct err *e);

/* --- scrub (slot/scrub.c) ------------------------------------------------------------------------------------------
 * Read a slot that was sealed and compare it with its TOC, to the end, whatever is found on the way. Of the active slot
 * nothing is ever changed; what the running system changed by itself, where its root is writable, is no damage: that is
 * only content which is not as recorded in a file that is.
 */
struct slot_scrub {
    const struct tree_ops *ops;
    const char *place;    /* of the active slot a path of its root, where nothing is mounted on top of it */
    const char *toc_path; /* ERR_ABSENT: there is none, nothing to compare with */
    bool active;
    bool changes;                            /* the system that runs from it can write to it */
    void (*tick)(void *ctx, uint64_t bytes); /* so many more were read */
    void *ctx;
};

struct slot_damage {
    uint32_t files; /* nodes that are not as recorded */
    struct err first;
    uint32_t content_cnt;                  /* of them, content alone: such a file looks sound */
    uint32_t content[SLOT_DAMAGE_CNT_MAX]; /* their records */
};

int slot_tree_scrub(struct slot_tree *s, const struct slot_scrub *how, struct slot_damage *out,
                    struct err *e);
/* The content that there is to read. */
int slot_tree_scrub_size(struct slot_tree *s, const char *toc_path, uint64_t *bytes, struct err *e);
/* Let the files whose content is damaged no longer pass for what their records say (their time is moved), so that the next
 * begin() mends them. Only of a slot that nobody takes for whole any more. */
int slot_tree_scrub_mark(struct slot_tree *s, const struct slot_scrub *how, const struct slot_damage *d,
                         struct err *e);

/* Give back what begin() opened after a failure. Safe at any time. */
void slot_tree_abort(struct slot_tree *s);

void slot_tree_stats(const struct slot_tree *s, struct slot_tree_stats *out);

#endif
