/* What stage says to fetch and decode: fetch is asked for one body at a time, and decode is told what to do with it.
 * The bytes move through the pump meanwhile. */
#ifndef SLIPWAY_UPDATE_TALK_H
#define SLIPWAY_UPDATE_TALK_H

#include "oci/fetch.h"
#include "stream/frame.h"
#include "stream/job.h"
#include "update/pump.h"

/* Ask fetch for a body and decode to do `job` with it. */
int talk_begin(struct pump *p, const struct fetch_request *request, const struct job *job, struct err *e);
/* The head of the job's last frame has come: 0 when the job was done and the body has the digest `want` (NULL: any).
 * When decode refused a body that is not what it was asked for by, the error is the latter. */
int talk_end(struct pump *p, const struct frame *head, const struct digest *want, struct err *e);
/* decode refused the body, as *e says: move what is left of it. When it is not what it was asked for by, that is the
 * better reason and takes the other's place in *e. Returns e->code. */
int talk_refused(struct pump *p, const struct digest *want, struct err *e);
/* Fetch a small document and have decode turn it into the `len` bytes of `out`. With FETCH_MANIFEST and FETCH_BLOB, *out
 * may be believed only when this returns 0: then the document had the digest asked for. `media`: what the transport must
 * have called it; 0 for anything. After an error the pump is idle when the next document may be asked for. */
int talk_document(struct pump *p, enum job_kind kind, const struct fetch_request *request, uint32_t media,
                  void *out, uint32_t len, struct err *e);

#endif
