/* Checkpoints: how far the stream of one layer has come, kept in the state directory, so that an install that is cut in the
 * middle of it goes on there (agent/FORMAT.md, "Checkpoints"; agent/DESIGN.md, "Resume").
 *
 * One file of CHECKPOINT_CNT places. Most checkpoints are only handed to the kernel: that is enough for processes that
 * die. Now and then one is made durable, for a cut of power, and none is ever written over the newest such. A checkpoint is
 * no more than a hint: what it says of the slot is compared with the slot, of the blob with the blob.
 *
 * Nothing here fails an install: what can't be written or read is not there.
 */
#ifndef SLIPWAY_UPDATE_CHECKPOINT_H
#define SLIPWAY_UPDATE_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "slot/tree.h"
#include "stream/job.h"
#include "update/pump.h"

#define CHECKPOINT_CNT SLOT_MARKS_MAX
/* Bytes of the blob between two. With a block of gzip, which may have 128 KB, and a piece of the hash what is fetched again
 * after a cut stays below 1 MiB. */
#define CHECKPOINT_EVERY (768u * 1024)
#define CHECKPOINT_SYNC_MS 5000u /* between two that are made durable, at least */

/* What it belongs to. Any other deployment has no use for it. */
struct checkpoint_of {
    struct digest layer;    /* the blob */
    struct digest manifest; /* of the image, and so the layers above */
    uint32_t slot;
    uint32_t zero;
};

struct checkpoint {
    struct checkpoint_of of;
    struct pump_place pump;
    struct slot_mark mark;
    struct job_checkpoint job;
    uint64_t begun; /* of the open entry's content, so many bytes had come */
    uint32_t zero;
    uint32_t len; /* of what decode needs: */
    uint8_t place[JOB_PLACE_MAX];
};

struct checkpoints {
    char path[CONF_PATH_MAX + 16];
    int fd;                            /* -1: there is no file */
    uint32_t sequence[CHECKPOINT_CNT]; /* 0: there is none */
    uint32_t newest;                   /* of these, so far */
    int found[CHECKPOINT_CNT];         /* by the last find() */
    int durable;                       /* the newest durable one, or the one gone on from; -1: none */
    uint64_t durable_at_ms;            /* 0: none was made so far */
    uint64_t bytes;                    /* written */
    struct checkpoint it;              /* the one that was loaded, or is to be saved */
};

void checkpoints_init(struct checkpoints *c, const char *stage_dir);
/* The marks of those that belong to `of`, the newest first. Returns their number. When there is none the file goes. */
int checkpoints_find(struct checkpoints *c, const struct checkpoint_of *of,
                     struct slot_mark marks[CHECKPOINT_CNT]);
/* Load the n-th of what was found last into c->it, to go on from there. */
int checkpoints_load(struct checkpoints *c, int n, struct err *e);
/* Read a FRAME_CHECKPOINT of `len` bytes into c->it. */
int checkpoint_read(struct checkpoint *it, struct entry_pipe *pipe, uint32_t len, struct err *e);
/* It is time for a durable one. */
bool checkpoints_sync_due(const struct checkpoints *c);
/* Save c->it; `durable`: what it says of the slot is, and so shall it be. */
void checkpoints_save(struct checkpoints *c, bool durable);
/* Forget all of them. */
void checkpoints_drop(struct checkpoints *c);

#endif
