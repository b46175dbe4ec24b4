/* What is asked of registries: resolve the tag, get a manifest, get a blob. Mirrors in order, then the registry, each
 * with its retries; a blob that was cut goes on, at whichever host, with the first byte not yet handed on.
 * OCI distribution specification 1.1, "pull".
 */
#ifndef SLIPWAY_OCI_REGISTRY_H
#define SLIPWAY_OCI_REGISTRY_H

#include "oci/auth.h"
#include "oci/fetch.h"
#include "oci/http.h"

struct registry {
    const struct conf_registry *conf;
    struct http *http;
    struct certificate_time time;
    struct auth auth;
    int watch_fd; /* pauses end when the other end of this is closed */
};

/* One HEAD when the tag's digest comes with it, else a GET that is hashed. */
int registry_resolve(struct registry *r, struct fetch_resolved *out, struct err *e);

/* Write the body to `fd` as FRAME_BODY. ERR_PEER: `fd` cannot be written or watch_fd ended, so nothing will work. */
int registry_manifest(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                      struct err *e);
int registry_blob(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                  struct err *e);
/* The kinds that are found by name: no body when it is not there. */
int registry_named(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                   struct err *e);

#endif
