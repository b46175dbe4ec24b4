/* Going on with a layer whose stream was cut: stage's part. decode says how it would go on (FRAME_CHECKPOINT), the pump where the
 * blob's hash is, the slot how far its files and tables are; the three together are a checkpoint (update/checkpoint.h).
 *
 *     begin -> (entry | take)* -> end
 */
#ifndef SLIPWAY_UPDATE_RESUME_H
#define SLIPWAY_UPDATE_RESUME_H

#include "update/checkpoint.h"

struct resume {
    struct checkpoints file;
    struct slot_mark marks[CHECKPOINT_CNT];
    struct slot_tree *tree;
    const struct pump *pump;
    struct checkpoint_of of;
    uint64_t every; /* of the blob's bytes a checkpoint is wanted; 0: none */
    bool owed;      /* the entry that file.it was taken in the middle of has not come again yet */
    uint64_t size;  /* of the file in progress, and what comes of it: */
    const struct content *content; /* or NULL */
};

void resume_init(struct resume *r, const char *stage_dir, struct slot_tree *tree, const struct pump *pump);
/* Whether a blob is long enough for checkpoints. Shorter ones leave those of another layer alone. */
bool resume_is_for(uint64_t blob_size);
/* The layer `of`, with this diff_id, is to be streamed, its entries noted in the file `table`. 1: from r->file.it on, and what
 * comes before is in place; 0: from its first byte on; or an error. `en` is only to work in. */
int resume_begin(struct resume *r, const struct checkpoint_of *of, uint64_t blob_size, const char *table,
                 const struct digest *diff_id, struct entry *en, struct err *e);
/* An entry came, with *c as its content, of which only the rest comes when it is the one that is owed. */
int resume_entry(struct resume *r, const struct entry *en, struct content *c, struct err *e);
/* The entry was applied. */
void resume_entry_end(struct resume *r);
/* Take the payload of a FRAME_CHECKPOINT. */
int resume_take(struct resume *r, struct entry_pipe *pipe, uint32_t len, struct err *e);
/* No more comes. `forget`: nothing is to be gone on with. */
void resume_end(struct resume *r, bool forget);

#endif
