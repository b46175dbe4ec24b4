/* A layer's tar (OCI image specification, layer.md; POSIX pax, ustar, GNU) turned into entries.
 *
 * What a name means and which entries are refused stands in stream/rules.h.
 */
#ifndef SLIPWAY_STREAM_TAR_H
#define SLIPWAY_STREAM_TAR_H

#include <stdint.h>

#include "base/err.h"
#include "stream/blocks.h"
#include "stream/codec.h"
#include "stream/entry.h"
#include "stream/job.h"

struct tar; /* one per process */

/* All that is needed to go on in the middle of a layer: bytes of this build, and decode's own affair (about 42 KiB). */
struct tar_place;

/* `u` is shared with others who unpack in this process. The content crosses in `b`. */
struct tar *tar_new(struct unpack *u, struct blocks *b);
/* Where the place is put that the next job, one with `go_on`, begins at. */
void *tar_place_room(struct tar *t, uint32_t *len);
/* Read the whole layer from `blob`, or what follows that place, and write its entries to out_fd; compares the diff_id
 * at the end. */
int tar_stream(struct tar *t, const struct job *job, const struct source *blob, int out_fd,
               struct job_end *end, struct err *e);

#endif
