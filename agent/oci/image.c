#include "oci/image.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/moment.h"
#include "oci/json.h"
#include "oci/platform.h"

#define TOC_MAX ((uint64_t)CONFIG_TOC_MAX_MB * 1024 * 1024)
#define JSON_MAX ((uint64_t)CONFIG_OCI_JSON_MAX_KB * 1024)

static bool is_index(enum oci_media m)
{
    return m == MEDIA_OCI_INDEX || m == MEDIA_DOCKER_INDEX;
}

static bool is_manifest(enum oci_media m)
{
    return m == MEDIA_OCI_MANIFEST || m == MEDIA_DOCKER_MANIFEST;
}

/* --- descriptors ---------------------------------------------------------------------------------------------- */

static int descriptor_parse(const cJSON *d, struct digest *digest, uint64_t *size, const char **media,
                            struct err *e)
{
    const cJSON *urls;
    int rc;

    if (!cJSON_IsObject(d))
        return err_set(e, ERR_FORMAT, "want an object, got %s", json_kind(d));
    rc = json_string(d, "mediaType", JSON_REQUIRED, media, e);
    if (!rc)
        rc = json_digest(d, "digest", digest, e);
    if (!rc)
        rc = json_uint(d, "size", JSON_REQUIRED, size, e);
    if (!rc)
        rc = json_array(d, "urls", JSON_OPTIONAL, &urls, e);
    if (!rc && urls && urls->child)
        rc = err_set(e, ERR_POLICY, "content from elsewhere (urls) is never fetched");
    return rc;
}

/* What every document of this format has in front: schemaVersion 2 and a mediaType that fits the transport's. */
static int head_check(const cJSON *root, enum oci_media media, bool (*kind)(enum oci_media), struct err *e)
{
    const char *text;
    uint64_t version;
    int rc = json_uint(root, "schemaVersion", JSON_REQUIRED, &version, e);

    if (rc)
        return rc;
    if (version != 2)
        return err_set(e, ERR_FORMAT, "schemaVersion: want 2, got %llu", (unsigned long long)version);
    rc = json_string(root, "mediaType", JSON_OPTIONAL, &text, e);
    if (rc)
        return rc;
    if (media != MEDIA_UNKNOWN && !kind(media))
        return err_set(e, ERR_POLICY, "the registry sent it as %s", oci_media_name(media));
    if (!text)
        return 0;
    if (!kind(oci_media_parse(text, strlen(text))))
        return err_set(e, ERR_POLICY, "mediaType: unexpected %.100s", text);
    if (media != MEDIA_UNKNOWN && oci_media_parse(text, strlen(text)) != media)
        return err_set(e, ERR_POLICY, "mediaType %.100s, but the registry sent it as %s", text,
                       oci_media_name(media));
    return 0;
}

/* A document that is both index and manifest reads differently for different readers (CVE-2021-41190). */
static int ambiguity_check(const cJSON *root, const char *other, struct err *e)
{
    if (cJSON_GetObjectItemCaseSensitive(root, other))
        return err_set(e, ERR_POLICY, "\"%s\" does not belong here: index and manifest in one", other);
    return 0;
}

/* --- index ---------------------------------------------------------------------------------------------------- */

struct choice {
    const struct platform *board;
    unsigned rank;
    int cnt;
    char seen[160]; /* the platforms there are, for the message */
    struct oci_index_choice *out;
};

static void choice_note(struct choice *c, const char *os, const char *arch, const char *variant)
{
    size_t used = strlen(c->seen);

    if (used + 2 >= sizeof c->seen)
        return;
    snprintf(c->seen + used, sizeof c->seen - used, "%s%.16s%s%.16s%s%.8s", used ? ", " : "", os,
             *arch ? "/" : "", arch, *variant ? "/" : "", variant);
}

static int platform_parse(const cJSON *p, const char **os, const char **arch, const char **variant,
                          struct err *e)
{
    int rc = json_string(p, "os", JSON_REQUIRED, os, e);

    if (!rc)
        rc = json_string(p, "architecture", JSON_REQUIRED, arch, e);
    if (!rc)
        rc = json_string(p, "variant", JSON_OPTIONAL, variant, e);
    if (!rc && !*variant)
        *variant = "";
    return rc;
}

static int entry_rank(struct choice *c, const cJSON *entry, unsigned *rank, struct err *e)
{
    const char *os, *arch, *variant;
    const cJSON *platform;
    int rc = json_object(entry, "platform", JSON_OPTIONAL, &platform, e);

    *rank = 0;
    if (rc)
        return rc;
    if (!platform) {
        choice_note(c, "(no platform)", "", "");
        *rank = c->cnt == 1;
        return 0;
    }
    rc = platform_parse(platform, &os, &arch, &variant, e);
    if (rc)
        return err_prefix(e, "platform");
    choice_note(c, os, arch, variant);
    *rank = platform_rank(c->board, os, arch, variant);
    return 0;
}

static int entry_consider(struct choice *c, const cJSON *entry, struct err *e)
{
    struct digest digest;
    uint64_t size;
    const char *type;
    enum oci_media media;
    unsigned rank;
    int rc = descriptor_parse(entry, &digest, &size, &type, e);

    if (rc)
        return rc;
    media = oci_media_parse(type, strlen(type));
    if (is_index(media))
        return err_set(e, ERR_POLICY, "an index inside an index");
    if (!is_manifest(media))
        return 0;
    rc = entry_rank(c, entry, &rank, e);
    if (rc || rank <= c->rank)
        return rc;
    if (size > JSON_MAX)
        return err_set(e, ERR_LIMIT, "manifest of %llu bytes, limit is %llu", (unsigned long long)size,
                       (unsigned long long)JSON_MAX);
    c->rank = rank;
    *c->out = (struct oci_index_choice){.digest = digest, .size = size, .media = media};
    return 0;
}

static int index_read(const cJSON *root, enum oci_media media, struct choice *c, struct err *e)
{
    const cJSON *list;
    int at = 0;
    int rc = head_check(root, media, is_index, e);

    if (!rc)
        rc = ambiguity_check(root, "layers", e);
    if (!rc)
        rc = ambiguity_check(root, "config", e);
    if (!rc)
        rc = json_array(root, "manifests", JSON_REQUIRED, &list, e);
    if (rc)
        return rc;
    c->cnt = cJSON_GetArraySize(list);
    for (const cJSON *entry = list->child; entry; entry = entry->next, at++) {
        rc = entry_consider(c, entry, e);
        if (rc)
            return err_prefix(e, "manifests[%d]", at);
    }
    if (c->rank == 0)
        return err_set(e, ERR_PLATFORM, "want %s/%s%s%s, there is %s", c->board->os, c->board->arch,
                       c->board->variant[0] ? "/" : "", c->board->variant, c->seen[0] ? c->seen : "nothing");
    return 0;
}

static int document_parse(const char *text, size_t len, cJSON **root, struct err *e)
{
    if (len > JSON_MAX)
        return err_set(e, ERR_LIMIT, "%zu bytes, limit is %llu", len, (unsigned long long)JSON_MAX);
    return json_parse(text, len, root, e);
}

int oci_index_choose(const char *text, size_t len, enum oci_media media, const struct platform *board,
                     struct oci_index_choice *out, struct err *e)
{
    struct choice c = {.board = board, .out = out};
    cJSON *root;
    int rc = document_parse(text, len, &root, e);

    memset(out, 0, sizeof *out);
    if (!rc) {
        rc = index_read(root, media, &c, e);
        json_free(root);
    }
    return rc;
}

/* --- manifest ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *media;
    enum codec codec;
} layer_medias[] = {
    {"application/vnd.oci.image.layer.v1.tar", CODEC_NONE},
    {"application/vnd.oci.image.layer.v1.tar+gzip", CODEC_GZIP},
    {"application/vnd.oci.image.layer.v1.tar+zstd", CODEC_ZSTD},
    {"application/vnd.oci.image.layer.v1.tar+lz4", CODEC_LZ4},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar", CODEC_NONE},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", CODEC_GZIP},
    {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", CODEC_ZSTD},
    {"application/vnd.docker.image.rootfs.diff.tar", CODEC_NONE},
    {"application/vnd.docker.image.rootfs.diff.tar.gzip", CODEC_GZIP},
    {"application/vnd.docker.image.rootfs.diff.tar.zstd", CODEC_ZSTD},
};

static const char *codec_missing(enum codec codec)
{
    if (codec == CODEC_GZIP && !IS_ENABLED(CONFIG_CODEC_GZIP))
        return "gzip";
    if (codec == CODEC_ZSTD && !IS_ENABLED(CONFIG_CODEC_ZSTD))
        return "zstd";
    if (codec == CODEC_LZ4 && !IS_ENABLED(CONFIG_CODEC_LZ4))
        return "lz4";
    return NULL;
}

/* One decimal number up to `end`; *text is moved behind it. */
static bool number_take(const char **text, char end, uint64_t *out)
{
    const char *at = *text;

    for (*out = 0; *at >= '0' && *at <= '9' && at - *text < 15; at++)
        *out = *out * 10 + (uint64_t)(*at - '0');
    if (at == *text || *at != end)
        return false;
    *text = end ? at + 1 : at;
    return true;
}

/* "offset:length:raw length:1" (containers/storage, pkg/chunked). */
static int toc_position(const char *text, struct oci_blob *out, struct err *e)
{
    struct oci_toc *t = &out->toc;
    const char *at = text;
    uint64_t type;

    if (!number_take(&at, ':', &t->offset) || !number_take(&at, ':', &t->len) ||
        !number_take(&at, ':', &t->raw_len) || !number_take(&at, '\0', &type) || type != 1)
        return err_set(e, ERR_FORMAT, "table of contents: want \"offset:length:raw length:1\", got \"%.60s\"",
                       text);
    if (t->len == 0 || t->raw_len == 0 || t->offset > out->size || t->len > out->size - t->offset)
        return err_set(e, ERR_POLICY, "table of contents: %.60s is not inside the blob of %llu bytes", text,
                       (unsigned long long)out->size);
    if (t->len > TOC_MAX || t->raw_len > TOC_MAX)
        return err_set(e, ERR_LIMIT, "table of contents of %llu bytes, limit is %llu",
                       (unsigned long long)(t->len > t->raw_len ? t->len : t->raw_len),
                       (unsigned long long)TOC_MAX);
    return 0;
}

/* Both generations of annotations; the newer one is believed when both are there. */
static int toc_parse(const cJSON *entry, struct oci_blob *out, struct err *e)
{
    static const char *const keys[][2] = {
        {"io.github.containers.zstd-chunked.manifest-checksum",
         "io.github.containers.zstd-chunked.manifest-position"},
        {"io.containers.zstd-chunked.manifest-checksum", "io.containers.zstd-chunked.manifest-position"},
    };
    const char *digest = NULL, *position = NULL;
    const cJSON *notes;
    int rc = json_object(entry, "annotations", JSON_OPTIONAL, &notes, e);

    if (rc || !notes)
        return rc;
    for (size_t i = 0; rc == 0 && !digest && !position && i < sizeof keys / sizeof keys[0]; i++) {
        rc = json_string(notes, keys[i][0], JSON_OPTIONAL, &digest, e);
        if (!rc)
            rc = json_string(notes, keys[i][1], JSON_OPTIONAL, &position, e);
    }
    if (rc || (!digest && !position))
        return rc;
    if (!digest || !position || !digest_parse(digest, strlen(digest), &out->toc.digest))
        return err_set(e, ERR_FORMAT, "table of contents: no position, or no digest of the form sha256:...");
    return toc_position(position, out, e);
}

static int layer_parse(const cJSON *entry, struct oci_blob *out, struct err *e)
{
    const char *type;
    int rc = descriptor_parse(entry, &out->digest, &out->size, &type, e);

    if (rc)
        return rc;
    for (size_t i = 0; i < sizeof layer_medias / sizeof layer_medias[0]; i++)
        if (!strcmp(layer_medias[i].media, type))
            out->codec = layer_medias[i].codec;
    if (out->codec == 0)
        return err_set(e, ERR_POLICY, "mediaType: want a tar layer, got \"%.100s\"", type);
    if (codec_missing(out->codec))
        return err_set(e, ERR_UNSUPPORTED, "%s is not in this build", codec_missing(out->codec));
    return out->codec == CODEC_ZSTD ? toc_parse(entry, out, e) : 0;
}

static int layers_read(const cJSON *root, struct oci_manifest *out, struct err *e)
{
    const cJSON *list;
    int cnt, rc = json_array(root, "layers", JSON_REQUIRED, &list, e);

    if (rc)
        return rc;
    cnt = cJSON_GetArraySize(list);
    if (cnt == 0)
        return err_set(e, ERR_FORMAT, "layers: none");
    if (cnt > CONFIG_OCI_LAYER_MAX)
        return err_set(e, ERR_LIMIT, "%d layers, limit is %d", cnt, CONFIG_OCI_LAYER_MAX);
    for (const cJSON *entry = list->child; entry; entry = entry->next) {
        rc = layer_parse(entry, &out->layers[out->layer_cnt], e);
        if (rc)
            return err_prefix(e, "layers[%u]", out->layer_cnt);
        out->layer_cnt++;
    }
    return 0;
}

static int config_read(const cJSON *root, struct oci_manifest *out, struct err *e)
{
    const cJSON *config;
    const char *type;
    int rc = json_object(root, "config", JSON_REQUIRED, &config, e);

    if (rc)
        return rc;
    rc = descriptor_parse(config, &out->config.digest, &out->config.size, &type, e);
    if (rc)
        return err_prefix(e, "config");
    if (strcmp(type, "application/vnd.oci.image.config.v1+json") &&
        strcmp(type, "application/vnd.docker.container.image.v1+json"))
        return err_set(e, ERR_POLICY, "config: not an image but \"%.100s\"", type);
    if (out->config.size == 0 || out->config.size > JSON_MAX)
        return err_set(e, ERR_LIMIT, "config: size %llu, want 1 to %llu",
                       (unsigned long long)out->config.size, (unsigned long long)JSON_MAX);
    return 0;
}

/* A text annotation into out[cap], which is left alone when there is none. */
static int annotation_text(const cJSON *annotations, const char *name, char *out, size_t cap, struct err *e)
{
    const char *text;
    int rc = json_string(annotations, name, JSON_OPTIONAL, &text, e);

    if (rc || !text)
        return rc;
    return (size_t)snprintf(out, cap, "%s", text) < cap
               ? 0
               : err_set(e, ERR_LIMIT, "%s is longer than %zu characters", name, cap - 1);
}

static int rollout_read(const cJSON *annotations, struct rollout *out, struct err *e)
{
    static const char prefix[] = "dev.slipway.rollout.";
    char start[40] = "", ramp[16] = "0", max[8] = "100";
    uint64_t percent;
    uint32_t ns;
    int rc = annotation_text(annotations, "dev.slipway.rollout.start", start, sizeof start, e);

    if (!rc)
        rc = annotation_text(annotations, "dev.slipway.rollout.ramp", ramp, sizeof ramp, e);
    if (!rc)
        rc = annotation_text(annotations, "dev.slipway.rollout.max", max, sizeof max, e);
    if (!rc)
        rc = annotation_text(annotations, "dev.slipway.rollout.salt", out->salt, sizeof out->salt, e);
    if (!rc)
        rc = annotation_text(annotations, "dev.slipway.rollout.channels", out->channels, sizeof out->channels,
                             e);
    if (rc)
        return rc;
    if (start[0] && !moment_parse(start, &out->start_s, &ns))
        return err_set(e, ERR_FORMAT, "%sstart: want a time as in 2030-01-31T22:00:00Z, got %s", prefix,
                       start);
    if (!seconds_parse(ramp, &out->ramp_s))
        return err_set(e, ERR_FORMAT, "%sramp: want a time as in 90m or 24h, got %s", prefix, ramp);
    if (out->ramp_s > 0 && !start[0])
        return err_set(e, ERR_FORMAT, "%sramp: want a start, too, got none", prefix);
    if (!json_digits(max, &percent) || percent > ROLLOUT_PERCENT)
        return err_set(e, ERR_FORMAT, "%smax: want percent from 1 to %d, got %s", prefix, ROLLOUT_PERCENT,
                       max);
    out->max = (uint32_t)percent;
    return 0;
}

/* What a signature that has no words of its own leaves to the manifest to say. */
static int annotations_read(const cJSON *root, struct oci_manifest *out, struct err *e)
{
    const cJSON *annotations;
    char version[24] = "";
    int rc = json_object(root, "annotations", JSON_OPTIONAL, &annotations, e);

    out->rollout.max = ROLLOUT_PERCENT;
    if (rc || !annotations)
        return rc;
    rc = annotation_text(annotations, "dev.slipway.version", version, sizeof version, e);
    if (!rc && version[0] && !json_digits(version, &out->version))
        rc = err_set(e, ERR_FORMAT, "dev.slipway.version: want a whole number from 1, got %s", version);
    if (!rc)
        rc = annotation_text(annotations, "dev.slipway.repository", out->repository, sizeof out->repository,
                             e);
    if (!rc)
        rc = rollout_read(annotations, &out->rollout, e);
    return rc ? err_prefix(e, "annotations") : 0;
}

int oci_manifest_parse(const char *text, size_t len, enum oci_media media, struct oci_manifest *out,
                       struct err *e)
{
    cJSON *root;
    int rc = document_parse(text, len, &root, e);

    memset(out, 0, sizeof *out);
    if (!rc) {
        rc = head_check(root, media, is_manifest, e);
        if (!rc)
            rc = ambiguity_check(root, "manifests", e);
        if (!rc)
            rc = config_read(root, out, e);
        if (!rc)
            rc = layers_read(root, out, e);
        if (!rc)
            rc = annotations_read(root, out, e);
        json_free(root);
    }
    return rc;
}
