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

/* `u` is shared with others who unpack in this process. The content crosses in `b`. */
struct tar *tar_new(struct unpack *u, struct blocks *b);
/* Read the whole layer from `blob` and write its entries to out_fd; compares the diff_id at the end. */
int tar_stream(struct tar *t, const struct job *job, const struct source *blob, int out_fd,
               struct job_end *end, struct err *e);

#endif
