/* A disk slot receives one file of the image, a filesystem image, on a raw partition. Only blocks that differ from what the
 * partition holds are written.
 *
 *     begin -> entry (with the file's content) -> seal -> verify
 *     begin -> entry (with its place) -> chunk* -> want_end -> fill* -> seal -> verify
 *
 * The second is of a layer with a table of contents: what the two slots hold of the image is taken from there. For that,
 * seal() leaves a record of its chunks, in the form of a TOC (agent/FORMAT.md); verify() then compares all of the slot with
 * the SHA-256 of the image, so no record needs to be believed.
 *
 * Knows nothing of HTTP or images. The only code that writes to a disk slot.
 */
#ifndef SLIPWAY_SLOT_DISK_H
#define SLIPWAY_SLOT_DISK_H

#include <stdint.h>

#include "base/err.h"
#include "hal/disk.h"
#include "slot/compare.h"
#include "slot/index.h"
#include "slot/patch.h"
#include "slot/toc.h"
#include "stream/entry.h"

struct slot_disk {
    const struct disk_ops *ops;
    const char *place, *toc_path;
    bool dry;             /* decide and count, change nothing */
    int fd;               /* -1: closed */
    uint64_t size;        /* of the device */
    uint64_t len;         /* of the filesystem image; 0: it did not come so far */
    uint64_t xxh64;       /* of its content, or */
    struct digest digest; /* by a table of contents */
    struct slot_bytes bytes;
    void (*tick)(void *ctx, uint64_t bytes); /* so many more were read back; NULL: nobody wants to know */
    void *tick_ctx;
    uint64_t passed;    /* bytes whose pages were sent to the medium */
    struct toc toc;     /* the chunks that come */
    struct toc was[2];  /* what the slot held, and the active one holds */
    struct index index; /* of the latter, by digest */
    struct pieces list;
    struct patch patch;
    struct range_io range;
    _Alignas(8) uint8_t io[RANGE_BUF_LEN];
};

/* Once per process: takes the memory of the index. False when there is none. */
bool slot_disk_init(struct slot_disk *s);

/* Open for writing; or, with `dry`, to look what that would lead to: then no fill(), seal() or verify() comes after. The
 * record of the slot's chunks at `toc_path` loses its name, but for a look. */
int slot_disk_begin(struct slot_disk *s, const struct disk_ops *ops, const char *place, const char *toc_path,
                    bool dry, struct err *e);
/* The active slot, `len` bytes open for reading as `fd`, which becomes the slot's, and its record: to take chunks from. fd
 * -1, or a record that is not there or damaged, is of no use and no error. Call after begin(). */
void slot_disk_reuse(struct slot_disk *s, int fd, uint64_t len, const char *active_toc);

/* Write the file; ends its content, unless that is still to come (c->place). ERR_SPACE before the first write when it
 * does not fit; ERR_POLICY for what is no file. */
int slot_disk_entry(struct slot_disk *s, const struct entry *en, struct content *c, struct err *e);

/* As slot_tree_chunk, slot_tree_want_end, slot_tree_fill (slot/tree.h). */
int slot_disk_chunk(struct slot_disk *s, const struct entry_chunk *chunk, struct err *e);
int slot_disk_want_end(struct slot_disk *s, struct pieces **list, struct err *e);
int slot_disk_fill(struct slot_disk *s, const struct slot_piece *p, struct content *c, struct err *e);

/* Flush and close. */
int slot_disk_seal(struct slot_disk *s, struct err *e);
/* Open anew, read s->len bytes back from the medium, compare with s->digest or s->xxh64. */
int slot_disk_verify(struct slot_disk *s, struct err *e);
void slot_disk_abort(struct slot_disk *s);

#endif
