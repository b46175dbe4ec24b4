/* The table of contents of a zstd:chunked layer turned into the entries that its tar would give, and the pieces of such
 * a layer unpacked one by one. (containers/storage, pkg/chunked; facts of the format stand in agent/FORMAT.md.)
 *
 * The table was authenticated by stage before it comes here, so whoever signed the image said what is in it; that is no
 * reason to trust it further than a tar. A table that contradicts itself is refused: names that come to nothing or leave
 * the root, offsets that go backwards or overlap, chunks that do not make up their file.
 */
#ifndef SLIPWAY_STREAM_CHUNKED_H
#define SLIPWAY_STREAM_CHUNKED_H

#include "base/err.h"
#include "stream/codec.h"
#include "stream/job.h"

struct chunked; /* one per process */

/* `u` is shared with others who unpack in this process. */
struct chunked *chunked_new(struct unpack *u);
/* JOB_TOC. */
int chunked_toc(struct chunked *c, const struct job *job, const struct source *blob, int out_fd,
                struct err *e);
/* JOB_PIECE. */
int chunked_piece(struct chunked *c, const struct job *job, const struct source *blob, int out_fd,
                  struct err *e);

#endif
