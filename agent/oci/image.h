/* The JSON documents of an image, parsed into flat fixed-size values: index, manifest, config (OCI image
 * specification 1.1; Docker image manifest version 2, schema 2). Runs in decode, which has no privilege at all.
 *
 * Strict on purpose: keys are case-sensitive, duplicate keys, deep nesting, fractions where integers belong,
 * trailing text and unknown media types are refused, with what was expected and what came. Needs no more memory
 * than cJSON takes for CONFIG_OCI_JSON_MAX_KB of text.
 */
#ifndef SLIPWAY_OCI_IMAGE_H
#define SLIPWAY_OCI_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "base/app_spec.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/rollout.h"
#include "hal/identity.h"
#include "stream/job.h"

enum oci_media {
    MEDIA_UNKNOWN = 0,
    MEDIA_OCI_INDEX,
    MEDIA_OCI_MANIFEST,
    MEDIA_DOCKER_INDEX, /* application/vnd.docker.distribution.manifest.list.v2+json */
    MEDIA_DOCKER_MANIFEST,
};

/* The value of a Content-Type header or mediaType key, parameters cut off. `len` bytes, no NUL needed. */
enum oci_media oci_media_parse(const char *text, size_t len);
const char *oci_media_name(enum oci_media m);

/* A layer's table of contents inside its blob, as the layer's annotations tell (zstd:chunked). */
struct oci_toc {
    struct digest digest; /* of the compressed bytes */
    uint64_t offset, len; /* in the blob; len 0: there is none. What is before `offset` is the layer */
    uint64_t raw_len;
};

struct oci_blob {
    struct digest digest;
    uint64_t size;
    uint32_t codec; /* enum codec; 0 for a config */
    struct oci_toc toc;
};

struct oci_index_choice {
    struct digest digest; /* of the manifest chosen for the board's platform */
    uint64_t size;
    uint32_t media;
};

struct oci_manifest {
    struct oci_blob config;
    uint64_t version;       /* annotation dev.slipway.version, digits, counts up; 0: none */
    char repository[256];   /* annotation dev.slipway.repository, or "" */
    struct rollout rollout; /* annotations dev.slipway.rollout.* */
    uint32_t layer_cnt;
    struct oci_blob layers[CONFIG_OCI_LAYER_MAX]; /* lowest first, as in the manifest */
};

struct oci_config {
    uint32_t diff_cnt;
    struct digest diff_ids[CONFIG_OCI_LAYER_MAX]; /* lowest first */
    char version[64];                             /* label org.opencontainers.image.version, or "" */
    char disk[256]; /* label dev.slipway.disk without a leading "/", or "": a tree image */
    struct app_spec app;
};

/* `text` has `len` bytes. `media` is what the transport said and must agree with the document. */
int oci_index_choose(const char *text, size_t len, enum oci_media media, const struct platform *board,
                     struct oci_index_choice *out, struct err *e);
int oci_manifest_parse(const char *text, size_t len, enum oci_media media, struct oci_manifest *out,
                       struct err *e);
/* The config's os, architecture and variant must run on `board`. */
int oci_config_parse(const char *text, size_t len, const struct platform *board, struct oci_config *out,
                     struct err *e);

#endif
