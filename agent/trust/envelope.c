#include "trust/envelope.h"

#include <mbedtls/base64.h>
#include <stdbool.h>
#include <string.h>

#include "oci/json.h"

#define SIGNATURE_KEY "dev.cosignproject.cosign/signature"
#define STATEMENT_TYPE "application/vnd.in-toto+json"

static int base64_read(const char *text, uint8_t *out, size_t cap, uint32_t *len, struct err *e)
{
    size_t n = 0;
    int rc = mbedtls_base64_decode(out, cap, &n, (const uint8_t *)text, strlen(text));

    *len = (uint32_t)n;
    if (rc == MBEDTLS_ERR_BASE64_BUFFER_TOO_SMALL)
        return err_set(e, ERR_LIMIT, "%zu bytes, limit is %zu", n, cap);
    if (rc || n == 0)
        return err_set(e, ERR_FORMAT, "not base64");
    return 0;
}

static int base64_member(const cJSON *parent, const char *key, uint8_t *out, size_t cap, uint32_t *len,
                         struct err *e)
{
    const char *text;
    int rc = json_string(parent, key, JSON_REQUIRED, &text, e);

    if (rc)
        return rc;
    return base64_read(text, out, cap, len, e) ? err_prefix(e, "%s", key) : 0;
}

/* --- references ----------------------------------------------------------------------------------------------- */

/* 0: none of ours. `text` may be NULL. */
static uint32_t form_of(const char *text)
{
    static const struct {
        const char *media;
        enum trust_form form;
    } known[] = {
        {"application/vnd.dev.cosign.simplesigning.v1+json", TRUST_SIMPLE},
        {"application/vnd.dev.slipway.notice.v1", TRUST_NOTICE},
        {"application/vnd.dev.sigstore.bundle.v0.3+json", TRUST_BUNDLE},
        {"application/vnd.dev.sigstore.bundle+json;version=0.3", TRUST_BUNDLE},
    };

    for (size_t i = 0; text && i < sizeof known / sizeof known[0]; i++)
        if (!strcmp(text, known[i].media))
            return known[i].form;
    return 0;
}

static int place_read(const cJSON *entry, struct trust_ref *out, uint64_t size_max, struct err *e)
{
    int rc = json_digest(entry, "digest", &out->digest, e);

    if (!rc)
        rc = json_uint(entry, "size", JSON_REQUIRED, &out->size, e);
    if (!rc && (out->size == 0 || out->size > size_max))
        rc = err_set(e, ERR_LIMIT, "size %llu, limit is %llu", (unsigned long long)out->size,
                     (unsigned long long)size_max);
    return rc;
}

static int layer_read(const cJSON *entry, struct trust_ref *out, struct err *e)
{
    const cJSON *annotations;
    const char *media;
    int rc = json_string(entry, "mediaType", JSON_REQUIRED, &media, e);

    if (rc)
        return rc;
    out->form = form_of(media);
    if (out->form == 0)
        return 0;
    rc = place_read(entry, out, out->form == TRUST_BUNDLE ? TRUST_BUNDLE_MAX : TRUST_PAYLOAD_MAX, e);
    if (rc || out->form == TRUST_BUNDLE)
        return rc;
    rc = json_object(entry, "annotations", JSON_REQUIRED, &annotations, e);
    return rc ? rc
              : base64_member(annotations, SIGNATURE_KEY, out->signature, sizeof out->signature,
                              &out->signature_len, e);
}

/* Many things refer to an image; only those that may be signatures are fetched. cosign 2 writes the type of the empty
 * config into the fallback list, where the bundle's belongs. */
static bool referrer_fits(const char *type)
{
    return !type || form_of(type) == TRUST_BUNDLE ||
           !strcmp(type, "application/vnd.dev.cosign.artifact.sig.v1+json") ||
           !strcmp(type, "application/vnd.oci.empty.v1+json");
}

static int referrer_read(const cJSON *entry, struct trust_ref *out, struct err *e)
{
    const char *type;
    int rc = json_string(entry, "artifactType", JSON_OPTIONAL, &type, e);

    if (rc || !referrer_fits(type))
        return rc;
    out->form = TRUST_REFERRER;
    return place_read(entry, out, TRUST_BUNDLE_MAX, e);
}

static int refs_read(const cJSON *root, struct trust_refs *out, struct err *e)
{
    const cJSON *list;
    bool is_index = cJSON_GetObjectItemCaseSensitive(root, "manifests") != NULL;
    const char *key = is_index ? "manifests" : "layers";
    int at = 0;
    int rc = json_array(root, key, JSON_REQUIRED, &list, e);

    for (const cJSON *entry = rc ? NULL : list->child; entry; entry = entry->next, at++) {
        struct trust_ref ref = {0};

        rc = is_index ? referrer_read(entry, &ref, e) : layer_read(entry, &ref, e);
        if (rc)
            return err_prefix(e, "%s[%d]", key, at);
        if (ref.form == 0)
            continue;
        if (out->cnt == TRUST_REF_MAX)
            return err_set(e, ERR_LIMIT, "%s: more than %d signatures", key, TRUST_REF_MAX);
        out->refs[out->cnt++] = ref;
    }
    return rc;
}

int envelope_refs(const char *text, size_t len, struct trust_refs *out, struct err *e)
{
    cJSON *root;
    int rc;

    memset(out, 0, sizeof *out);
    if (len == 0)
        return 0;
    rc = json_parse(text, len, &root, e);
    if (rc)
        return rc;
    rc = refs_read(root, out, e);
    json_free(root);
    return rc;
}

/* --- payloads ------------------------------------------------------------------------------------------------- */

int envelope_payload(const char *text, size_t len, struct trust_signed *out, struct err *e)
{
    memset(out, 0, sizeof *out);
    if (len == 0 || len > sizeof out->payload)
        return err_set(e, ERR_LIMIT, "payload of %zu bytes, want 1 to %zu", len, sizeof out->payload);
    memcpy(out->payload, text, len);
    out->payload_len = (uint32_t)len;
    return 0;
}

static int statement_read(const cJSON *dsse, struct trust_signed *out, struct err *e)
{
    const cJSON *signatures;
    const char *type;
    int rc = json_string(dsse, "payloadType", JSON_REQUIRED, &type, e);

    if (rc)
        return rc;
    if (strcmp(type, STATEMENT_TYPE) != 0)
        return err_set(e, ERR_POLICY, "payloadType: want " STATEMENT_TYPE ", got \"%.80s\"", type);
    rc = base64_member(dsse, "payload", out->payload, sizeof out->payload, &out->payload_len, e);
    if (!rc)
        rc = json_array(dsse, "signatures", JSON_REQUIRED, &signatures, e);
    if (rc)
        return rc;
    if (cJSON_GetArraySize(signatures) != 1)
        return err_set(e, ERR_FORMAT, "signatures: want one, got %d", cJSON_GetArraySize(signatures));
    out->form = TRUST_STATEMENT;
    return base64_member(signatures->child, "sig", out->signature, sizeof out->signature, &out->signature_len,
                         e);
}

/* Its messageDigest is only a hint for finding things; what was signed is the manifest. */
static int message_read(const cJSON *message, struct trust_signed *out, struct err *e)
{
    out->form = TRUST_MESSAGE;
    return base64_member(message, "signature", out->signature, sizeof out->signature, &out->signature_len, e);
}

static int bundle_read(const cJSON *root, struct trust_signed *out, struct err *e)
{
    const cJSON *dsse, *message;
    const char *media;
    int rc = json_string(root, "mediaType", JSON_REQUIRED, &media, e);

    if (rc)
        return rc;
    if (form_of(media) != TRUST_BUNDLE)
        return err_set(e, ERR_UNSUPPORTED, "mediaType: want a sigstore bundle of version 0.3, got \"%.80s\"",
                       media);
    rc = json_object(root, "dsseEnvelope", JSON_OPTIONAL, &dsse, e);
    if (!rc)
        rc = json_object(root, "messageSignature", JSON_OPTIONAL, &message, e);
    if (rc)
        return rc;
    if (!dsse == !message)
        return err_set(e, ERR_FORMAT, "want dsseEnvelope or messageSignature, got %s",
                       dsse ? "both" : "neither");
    if (dsse)
        return statement_read(dsse, out, e) ? err_prefix(e, "dsseEnvelope") : 0;
    return message_read(message, out, e) ? err_prefix(e, "messageSignature") : 0;
}

int envelope_bundle(const char *text, size_t len, struct trust_signed *out, struct err *e)
{
    cJSON *root;
    int rc;

    memset(out, 0, sizeof *out);
    if (len > TRUST_BUNDLE_MAX)
        return err_set(e, ERR_LIMIT, "bundle of %zu bytes, limit is %d", len, TRUST_BUNDLE_MAX);
    rc = json_parse(text, len, &root, e);
    if (!rc) {
        rc = bundle_read(root, out, e);
        json_free(root);
    }
    return rc ? err_prefix(e, "bundle") : 0;
}
