/* An OCI image layout in place of registries: a directory, or a tar of one, that a person named (`agentctl update
 * oci:DIR`). OCI image specification, image-layout.md. What is asked and answered is as in oci/registry.h, and it is
 * trusted no further.
 *
 * The image is the entry of index.json whose annotation org.opencontainers.image.ref.name is the followed tag, or the
 * only entry there is. Signatures and notices are entries by the names that they have as tags of a repository (skopeo
 * copies them so), an image's signatures also as `cosign save` puts them.
 */
#ifndef SLIPWAY_OCI_LAYOUT_H
#define SLIPWAY_OCI_LAYOUT_H

#include "oci/fetch.h"

#define LAYOUT_DIR "oci:"
#define LAYOUT_ARCHIVE "oci-archive:"

struct layout {
    const struct conf_registry *conf;
    const char *source;
    int dir_fd;     /* of LAYOUT_DIR, and what is below has to stay in reach; else -1 */
    int archive_fd; /* of LAYOUT_ARCHIVE, else -1 */
    char *text;     /* of a document, as large as one may be, or a piece of a blob */
};

/* `source` is "oci:/DIR" or "oci-archive:/FILE", and stays the caller's. */
int layout_open(struct layout *l, const struct conf_registry *conf, const char *source, struct err *e);
int layout_resolve(struct layout *l, struct fetch_resolved *out, struct err *e);
/* Serve a request for a body, of any kind: write it to `fd` as FRAME_BODY. What is asked for by name may not be there. */
int layout_body(struct layout *l, const struct fetch_request *q, int fd, struct fetch_end *out,
                struct err *e);

#endif
