/* fetch: the only process that speaks to the network. It serves requests from a pipe, one at a time, and trusts
 * nothing it receives further than HTTP's own framing; digests are checked by stage.
 *
 * OCI distribution specification 1.1. Mirrors are tried in order, then the registry. Transient failures (connection,
 * 5xx, 429 with Retry-After) are retried with full-jitter back-off inside one request; a blob goes on with a ranged
 * request at the byte where it was cut. Credentials go only to the host they belong to, never along a redirect.
 */
#ifndef SLIPWAY_OCI_FETCH_H
#define SLIPWAY_OCI_FETCH_H

#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/hash.h"
#include "hal/secret.h"
#include "oci/image.h"

enum fetch_kind {
    FETCH_RESOLVE = 1, /* HEAD the configured tag: FRAME_RESOLVED */
    FETCH_MANIFEST,    /* GET a manifest or index by digest: FRAME_BODY.. FRAME_BODY_END */
    FETCH_BLOB,        /* GET a blob by digest from `offset`: FRAME_BODY.. FRAME_BODY_END */
    /* GET what is found by name: FRAME_BODY.. FRAME_BODY_END. What is not there has no body at all. */
    FETCH_SIGNATURES, /* the tag where cosign puts the signatures of `digest`: sha256-<hex>.sig */
    FETCH_REFERRERS,  /* what refers to `digest`: by the API of OCI 1.1, or at the tag sha256-<hex> */
    FETCH_ROOT,       /* the tag slipway-root */
    FETCH_BRAKE,      /* the followed tag's name and .brake */
    FETCH_PART,       /* GET bytes [offset, end) of a blob: FRAME_BODY.. FRAME_BODY_END. See `whole` */
};

/* TLS sessions: fetch sends those it has before FRAME_RESOLVED, and takes up those that come before a request. */
#define FETCH_SESSIONS_MAX 4096

struct fetch_request {
    uint32_t kind;
    struct digest digest;
    uint64_t
        size; /* whole size of a blob as the manifest gives it; the most bytes that may come of anything else */
    uint64_t offset; /* FETCH_BLOB, FETCH_PART: first byte wanted; the body has size - offset bytes */
    uint64_t end;    /* FETCH_PART: the body has end - offset bytes */
    /* FETCH_PART: what to do with a registry that sends no parts but everything, or refuses them: 0, ERR_UNSUPPORTED
     * before the download; 1, take the part from the whole blob, and break off behind it */
    uint32_t whole;
};

struct fetch_resolved {
    struct digest digest;
    uint32_t media;    /* enum oci_media */
    uint64_t wire;     /* bytes sent and received (oci/traffic.h) */
    int64_t expired_s; /* when the certificate expired that was taken nevertheless; 0: it had not */
};

struct fetch_end {
    uint32_t media; /* enum oci_media of the Content-Type; 0 for a blob */
    uint32_t tries; /* requests it took */
    uint64_t wire;
};

/* What agentd shares with fetch: see traffic_bind(). */
#define FETCH_METER_LEN sizeof(uint32_t)

struct fetch_setup {
    const struct secret_ops *secret;
    const char *source;   /* an image layout to be served (oci/layout.h); NULL: registries */
    int64_t time_floor_s; /* it is not earlier than this */
    uint64_t bytes;       /* of struct traffic_bounds */
    uint32_t time_s;
    int req_fd, body_fd;
    int meter_fd; /* shared memory of FETCH_METER_LEN */
};

/* Role main: serve requests from req_fd on body_fd until req_fd ends. Returns the exit code. Reads the files that
 * the configuration names (CA, client certificate, credentials) before it gives up its privileges. */
int fetch_main(const struct conf *conf, const struct fetch_setup *setup);

#endif
