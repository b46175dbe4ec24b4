#include "trust/claim.h"

#include <string.h>

#include "oci/json.h"

#define SIMPLE_TYPE "cosign container image signature"
#define STATEMENT_V1 "https://in-toto.io/Statement/v1"
#define STATEMENT_V01 "https://in-toto.io/Statement/v0.1"
#define SIGN_PREDICATE "https://sigstore.dev/cosign/sign/v1"

/* "registry.example.com:5000/fleet/web:tag@sha256:..": without host, tag and digest. A mirror has another host. */
static int repository_read(const char *reference, struct trust_claim *out, struct err *e)
{
    const char *slash = strchr(reference, '/');
    size_t host = slash ? (size_t)(slash - reference) : 0;
    bool is_host = slash && (memchr(reference, '.', host) || memchr(reference, ':', host) ||
                             (host == strlen("localhost") && !memcmp(reference, "localhost", host)));
    const char *path = is_host ? slash + 1 : reference;
    size_t len = strcspn(path, ":@");

    if (len >= sizeof out->repository)
        return err_set(e, ERR_LIMIT, "a repository's name of %zu characters", len);
    memcpy(out->repository, path, len);
    out->repository[len] = '\0';
    return 0;
}

/* A number written as one, or as a string of digits: cosign's -a makes strings. 0 when it is not there. */
static int count_read(const cJSON *o, const char *key, uint64_t *out, struct err *e)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(o, key);

    *out = 0;
    if (!value)
        return 0;
    if (cJSON_IsNumber(value))
        return json_uint(o, key, JSON_REQUIRED, out, e);
    if (cJSON_IsString(value) && json_digits(value->valuestring, out))
        return 0;
    return err_set(e, ERR_SIGNATURE, "%s: want a whole number from 1 to 2^53 - 1, got %s%.40s", key,
                   json_kind(value), cJSON_IsString(value) ? value->valuestring : "");
}

/* What the signer added by himself: `cosign sign -a version=12 -a repository=fleet/web`. */
static int annotations_read(const cJSON *o, struct trust_claim *out, struct err *e)
{
    const char *repository;
    uint64_t time;
    int rc = count_read(o, "version", &out->version, e);

    if (!rc)
        rc = json_string(o, "repository", JSON_OPTIONAL, &repository, e);
    if (!rc && repository)
        rc = repository_read(repository, out, e);
    if (!rc)
        rc = count_read(o, "timestamp", &time, e);
    if (!rc)
        out->signed_s = (int64_t)time;
    return rc;
}

static int subject_check(const char *got, const struct digest *subject, struct err *e)
{
    char want[DIGEST_TEXT_LEN];

    digest_format(subject, want);
    if (!strcmp(got, want))
        return 0;
    return err_set(e, ERR_SIGNATURE, "it signs another image: want %s, got %.80s", want, got);
}

static int simple_read(const cJSON *root, const struct digest *subject, struct trust_claim *out,
                       struct err *e)
{
    const cJSON *critical, *image, *identity, *optional;
    const char *type, *digest, *reference;
    int rc = json_object(root, "critical", JSON_REQUIRED, &critical, e);

    if (!rc)
        rc = json_string(critical, "type", JSON_REQUIRED, &type, e);
    if (!rc && strcmp(type, SIMPLE_TYPE) != 0)
        rc = err_set(e, ERR_SIGNATURE, "type: want \"" SIMPLE_TYPE "\", got \"%.60s\"", type);
    if (!rc)
        rc = json_object(critical, "image", JSON_REQUIRED, &image, e);
    if (!rc)
        rc = json_string(image, "docker-manifest-digest", JSON_REQUIRED, &digest, e);
    if (!rc)
        rc = subject_check(digest, subject, e);
    if (!rc)
        rc = json_object(critical, "identity", JSON_OPTIONAL, &identity, e);
    if (!rc && identity) {
        rc = json_string(identity, "docker-reference", JSON_OPTIONAL, &reference, e);
        if (!rc && reference)
            rc = repository_read(reference, out, e);
    }
    if (!rc)
        rc = json_object(root, "optional", JSON_OPTIONAL, &optional, e);
    return rc || !optional ? rc : annotations_read(optional, out, e);
}

static int statement_subject_read(const cJSON *entry, const struct digest *subject, struct trust_claim *out,
                                  struct err *e)
{
    char text[DIGEST_TEXT_LEN] = "sha256:";
    const cJSON *digest, *annotations;
    const char *hex, *name;
    int rc = json_object(entry, "digest", JSON_REQUIRED, &digest, e);

    if (!rc)
        rc = json_string(digest, "sha256", JSON_REQUIRED, &hex, e);
    if (rc)
        return rc;
    strncat(text, hex, sizeof text - strlen(text) - 1);
    rc = subject_check(text, subject, e);
    if (!rc)
        rc = json_string(entry, "name", JSON_OPTIONAL, &name, e);
    if (!rc && name)
        rc = repository_read(name, out, e);
    if (!rc)
        rc = json_object(entry, "annotations", JSON_OPTIONAL, &annotations, e);
    return rc || !annotations ? rc : annotations_read(annotations, out, e);
}

static int statement_read(const cJSON *root, const struct digest *subject, struct trust_claim *out,
                          struct err *e)
{
    const cJSON *subjects;
    const char *type, *predicate;
    int rc = json_string(root, "_type", JSON_REQUIRED, &type, e);

    if (!rc && strcmp(type, STATEMENT_V1) != 0 && strcmp(type, STATEMENT_V01) != 0)
        rc = err_set(e, ERR_SIGNATURE, "_type: want an in-toto statement, got \"%.60s\"", type);
    if (!rc)
        rc = json_string(root, "predicateType", JSON_REQUIRED, &predicate, e);
    if (!rc && strcmp(predicate, SIGN_PREDICATE) != 0)
        rc = err_set(e, ERR_SIGNATURE, "it attests \"%.80s\", which is no permission to install", predicate);
    if (!rc)
        rc = json_array(root, "subject", JSON_REQUIRED, &subjects, e);
    if (!rc && cJSON_GetArraySize(subjects) != 1)
        rc = err_set(e, ERR_SIGNATURE, "subject: want one, got %d", cJSON_GetArraySize(subjects));
    return rc ? rc : statement_subject_read(subjects->child, subject, out, e);
}

int trust_claim_read(const struct trust_signed *s, const struct digest *subject, struct trust_claim *out,
                     struct err *e)
{
    cJSON *root;
    int rc;

    memset(out, 0, sizeof *out);
    if (s->form == TRUST_MESSAGE)
        return 0;
    rc = json_parse((const char *)s->payload, s->payload_len, &root, e);
    if (rc)
        return err_prefix(e, "signed payload");
    rc = s->form == TRUST_SIMPLE      ? simple_read(root, subject, out, e)
         : s->form == TRUST_STATEMENT ? statement_read(root, subject, out, e)
                                      : err_set(e, ERR_SIGNATURE, "no signature of an image");
    json_free(root);
    return rc;
}
