/* A disk slot receives one file of the image, a filesystem image, written to a raw partition as it streams. Only blocks
 * that differ from what the partition holds are written.
 *
 *     begin -> write (the file's content) -> seal -> verify
 *
 * Knows nothing of HTTP, images or digests. The only code that writes to a disk slot.
 */
#ifndef SLIPWAY_SLOT_DISK_H
#define SLIPWAY_SLOT_DISK_H

#include <stdint.h>

#include "base/err.h"
#include "hal/disk.h"
#include "slot/compare.h"
#include "stream/entry.h"

struct slot_disk {
    const struct disk_ops *ops;
    const char *place;
    int fd;         /* -1: closed */
    uint64_t size;  /* of the device */
    uint64_t len;   /* of the filesystem image */
    uint64_t xxh64; /* of its content */
    struct slot_bytes bytes;
    void (*tick)(void *ctx, uint64_t bytes); /* so many more were read back; NULL: nobody wants to know */
    void *tick_ctx;
};

int slot_disk_begin(struct slot_disk *s, const struct disk_ops *ops, const char *place, struct err *e);
/* Write the file of `len` bytes whose content is `c`; ends the content. ERR_SPACE before the first write when it
 * does not fit. */
int slot_disk_write(struct slot_disk *s, uint64_t len, struct content *c, struct err *e);
/* Flush and close. */
int slot_disk_seal(struct slot_disk *s, struct err *e);
/* Open anew, read s->len bytes back from the medium, compare with s->xxh64. */
int slot_disk_verify(struct slot_disk *s, struct err *e);
void slot_disk_abort(struct slot_disk *s);

#endif
