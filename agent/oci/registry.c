#include "oci/registry.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "oci/retry.h"
#include "stream/frame.h"

#define PROGRESS_LEN 65536 /* a try that brought this much does not count as failed */

#define ACCEPT                                                                                               \
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "                  \
    "application/vnd.docker.distribution.manifest.list.v2+json, "                                            \
    "application/vnd.docker.distribution.manifest.v2+json"

/* One thing asked for, over all hosts and tries. */
struct ask {
    struct registry *r;
    enum fetch_kind kind;
    char path[400]; /* below /v2/ */
    char name[112]; /* for messages */
    bool head_only;
    bool exact; /* the body has `size` bytes; otherwise at most that many */
    uint64_t size;
    uint64_t end;  /* FETCH_PART: byte behind the last one wanted, else 0 */
    bool closed;   /* it refused a range without an end */
    bool whole;    /* FETCH_PART: it may come out of the whole */
    bool enough;   /* FETCH_PART: the rest of the whole is not wanted */
    uint64_t next; /* first byte not handed on */
    uint64_t at;   /* place of the next byte that comes */
    int fd;        /* bytes go there, or when it is -1 into the hash */
    struct hash hash;
    enum oci_media media;
    bool has_digest;
    struct digest digest; /* Docker-Content-Digest, or the hash's */
    uint32_t tries;
    bool transient;
    uint32_t after_s;
};

/* --- the answer ----------------------------------------------------------------------------------------------- */

static bool is_blob(const struct ask *a)
{
    return a->kind == FETCH_BLOB || a->kind == FETCH_PART;
}

static int media_check(struct ask *a, const struct http_reply *r, struct err *e)
{
    a->media = oci_media_parse(r->media, strlen(r->media));
    if (is_blob(a) && !strncasecmp(r->media, "text/html", 9))
        return err_set(e, ERR_REGISTRY, "want a blob, got an HTML page");
    if (!is_blob(a) && a->media == MEDIA_UNKNOWN)
        return err_set(e, ERR_REGISTRY, "want a manifest or index, got Content-Type \"%.80s\"", r->media);
    return 0;
}

static int length_check(const struct ask *a, uint64_t length, struct err *e)
{
    if (a->exact ? length == a->size : length <= a->size)
        return 0;
    return err_set(e, ERR_SIZE, "want %s%llu bytes, got %llu", a->exact ? "" : "at most ",
                   (unsigned long long)a->size, (unsigned long long)length);
}

/* The part that came must begin where we stopped, and be a part of a whole of the right size. */
static int range_check(const struct ask *a, const struct http_reply *r, struct err *e)
{
    if (a->end > 0 && r->has_range && r->range_last != a->end - 1)
        return err_set(e, ERR_REGISTRY, "status 206: want the bytes to %llu, got those to %llu",
                       (unsigned long long)a->end - 1, (unsigned long long)r->range_last);
    if ((a->next == 0 && a->end == 0) || !r->has_range || r->range_first != a->next)
        return err_set(e, ERR_REGISTRY, "status 206: want the bytes from %llu on, got %s%llu",
                       (unsigned long long)a->next, r->has_range ? "those from " : "no such range, ",
                       (unsigned long long)r->range_first);
    return r->range_total == UINT64_MAX ? 0 : length_check(a, r->range_total, e);
}

static int on_head(void *ctx, const struct http_reply *r, struct err *e)
{
    struct ask *a = ctx;
    int rc = media_check(a, r, e);

    if (rc)
        return rc;
    a->has_digest = a->head_only && !r->moved && digest_parse(r->digest, strlen(r->digest), &a->digest);
    a->at = r->status == 206 ? a->next : 0;
    if (r->status == 206)
        return range_check(a, r, e);
    if (r->status != 200)
        return err_set(e, ERR_REGISTRY, "want status 200, got %d", r->status);
    if (a->end > 0 && !a->whole)
        return err_set(e, ERR_UNSUPPORTED, "sends the whole instead of the part asked for");
    return r->has_length && !a->head_only ? length_check(a, r->length, e) : 0;
}

static int on_body(void *ctx, const void *data, size_t len, struct err *e)
{
    struct ask *a = ctx;
    uint64_t known =
        a->next > a->at ? a->next - a->at : 0; /* bytes of this piece that were handed on before */
    int rc;

    if (len > a->size - a->at)
        return err_set(e, ERR_SIZE, "more than %llu bytes", (unsigned long long)a->size);
    a->at += len;
    if (known >= len)
        return 0;
    data = (const char *)data + known;
    len -= (size_t)known;
    if (a->end > 0 && a->at >= a->end) {
        len -= (size_t)(a->at - a->end);
        a->enough = a->at > a->end;
        a->at = a->end;
    }
    if (a->fd >= 0 && len > 0) {
        rc = frame_write(a->fd, FRAME_BODY, data, (uint32_t)len, e);
        if (rc)
            return err_set(e, ERR_PEER, "the reader of the body went away");
    } else if (a->fd < 0) {
        hash_update(&a->hash, data, len);
    }
    a->next = a->at;
    return a->enough ? err_set(e, ERR_STATE, "the rest is not wanted") : 0;
}

static int denied(const struct auth_host *host, const struct http_reply *r, struct err *e)
{
    const char *why = "access refused, and `credentials` has none for this host";

    if (r->moved)
        why = "refused by another host, after a redirect";
    else if (host->basic[0])
        why = "credentials refused";
    return err_set(e, ERR_AUTH, "%s (status %d)", why, r->status);
}

static int status_error(struct ask *a, const struct auth_host *host, const struct http_reply *r,
                        struct err *e)
{
    a->after_s = r->retry_after_s;
    a->transient = retry_status(r->status);
    if (r->status == 401 || r->status == 403)
        return denied(host, r, e);
    if (r->status == 404)
        return err_set(e, ERR_ABSENT, "no such %s (status 404)",
                       a->kind == FETCH_RESOLVE ? "repository or tag" : "content, though the image names it");
    if (r->status == 416 && a->end > 0 && !a->whole)
        return err_set(e, ERR_UNSUPPORTED, "sends no parts (status 416)");
    if (r->status == 416 && a->exact && !a->closed && a->next > 0 && a->next < a->size) {
        a->closed = a->transient = true;
        return err_set(e, ERR_REGISTRY, "takes no range without an end (status 416)");
    }
    if (r->status == 416)
        return err_set(e, ERR_SIZE, "shorter than %llu bytes (status 416)", (unsigned long long)a->size);
    return err_set(e, ERR_REGISTRY, "want status 200, got %d%s%s", r->status, r->excerpt[0] ? ": " : "",
                   r->excerpt);
}

/* --- one try -------------------------------------------------------------------------------------------------- */

static int ask_once(struct ask *a, struct auth_host *host, struct http_reply *reply, struct err *e)
{
    char url[HTTP_URL_MAX];
    int rc;
    struct http_request q = {
        .url = url,
        .authorization = auth_header(host),
        .accept = is_blob(a) ? NULL : ACCEPT,
        .head_only = a->head_only,
        .offset = a->fd >= 0 ? a->next : 0,
        .end = a->closed ? a->size : a->end,
        .head = on_head,
        .body = on_body,
        .ctx = a,
    };

    snprintf(url, sizeof url, "%s://%s/v2/%s", a->r->conf->plain_http ? "http" : "https", host->host,
             a->path);
    a->tries++;
    if (a->fd >= 0 || a->head_only)
        return http_run(a->r->http, &q, reply, &a->transient, e);
    a->next = 0;
    hash_begin(&a->hash);
    rc = http_run(a->r->http, &q, reply, &a->transient, e);
    hash_end(&a->hash, &a->digest);
    return rc;
}

/* One request, and a second one with what the registry's challenge asks for. */
static int ask_try(struct ask *a, struct auth_host *host, struct err *e)
{
    struct http_reply reply = {0};
    int rc;

    a->transient = false;
    a->after_s = 0;
    rc = ask_once(a, host, &reply, e);
    if (!rc && reply.status == 401 && !reply.moved) {
        rc = auth_answer(host, a->r->http, reply.challenge, a->r->conf->repository, a->r->conf->plain_http,
                         &a->transient, e);
        if (!rc)
            rc = ask_once(a, host, &reply, e);
        if (!rc && reply.status == 401)
            auth_forget(host);
    }
    if (a->enough)
        return 0;
    if (rc && a->transient && a->next > 0 && a->next < a->size && a->exact)
        return err_prefix(e, "cut after %llu of %llu bytes", (unsigned long long)a->next,
                          (unsigned long long)a->size);
    if (rc)
        return rc;
    if (reply.status < 200 || reply.status >= 300)
        return status_error(a, host, &reply, e);
    if (a->exact && a->next < (a->end > 0 ? a->end : a->size)) {
        a->transient = true;
        return err_set(e, ERR_SIZE, "want %llu bytes, got %llu",
                       (unsigned long long)(a->end > 0 ? a->end : a->size), (unsigned long long)a->next);
    }
    return 0;
}

/* --- hosts and tries ------------------------------------------------------------------------------------------ */

static int pause_ms(const struct ask *a, uint32_t ms, struct err *e)
{
    struct pollfd p = {.fd = a->r->watch_fd};
    int n = IO_RETRY(poll(&p, 1, (int)ms));

    return n > 0 ? err_set(e, ERR_PEER, "the requester went away") : 0;
}

static int ask_host(struct ask *a, struct auth_host *host, unsigned tries_max, struct err *e)
{
    for (unsigned tries = 1;; tries++) {
        uint64_t before = a->next;
        uint32_t ms;
        int rc = ask_try(a, host, e);

        if (!rc)
            return 0;
        if (rc == ERR_PEER)
            return rc;
        err_prefix(e, "%s/%s", host->host, a->name);
        if (a->next > before && a->next - before >= PROGRESS_LEN)
            tries = 1;
        if (!a->transient || tries >= tries_max)
            return rc;
        if (a->after_s > RETRY_AFTER_MAX_S) {
            err_append(e, ", asks to be left alone for %u s", a->after_s);
            e->after_s = a->after_s;
            return rc;
        }
        ms = retry_pause_ms(tries, a->after_s, retry_random());
        log_info("%s; again in %u ms", e->text, ms);
        rc = pause_ms(a, ms, e);
        if (rc)
            return rc;
    }
}

static int ask_run(struct ask *a, struct err *e)
{
    struct auth *auth = &a->r->auth;
    uint32_t last = auth->cnt - 1;

    for (uint32_t i = 0; i < last; i++) {
        int rc = ask_host(a, &auth->hosts[i], RETRY_TRIES_MIRROR, e);

        if (!rc || rc == ERR_PEER || rc == ERR_HELD)
            return rc;
        log_warning("mirror: %s", e->text);
    }
    return ask_host(a, &auth->hosts[last], RETRY_TRIES, e);
}

/* --- the three kinds ------------------------------------------------------------------------------------------ */

static void ask_begin(struct ask *a, struct registry *r, enum fetch_kind kind, const char *what,
                      const char *reference)
{
    const char *repository = r->conf->repository;

    memset(a, 0, sizeof *a);
    a->r = r;
    a->kind = kind;
    a->fd = -1;
    snprintf(a->path, sizeof a->path, "%s/%s/%s", repository, what, reference);
    snprintf(a->name, sizeof a->name, "%.60s%s%.30s%s", repository,
             strncmp(reference, "sha256:", 7) ? ":" : "@", reference, strlen(reference) > 30 ? ".." : "");
}

int registry_resolve(struct registry *r, struct fetch_resolved *out, struct err *e)
{
    struct ask a;
    uint64_t wire = traffic_count(http_traffic(r->http));
    int rc;

    ask_begin(&a, r, FETCH_RESOLVE, "manifests", r->conf->tag);
    a.size = (uint64_t)CONFIG_OCI_JSON_MAX_KB * 1024;
    a.head_only = true;
    rc = ask_run(&a, e);
    if (!rc && !a.has_digest) {
        a.head_only = false;
        rc = ask_run(&a, e);
    }
    if (rc)
        return rc;
    *out = (struct fetch_resolved){.digest = a.digest,
                                   .media = a.media,
                                   .wire = traffic_count(http_traffic(r->http)) - wire,
                                   .expired_s = r->time.expired_s};
    return 0;
}

static int body_get(struct ask *a, const struct fetch_request *q, int fd, struct fetch_end *out,
                    struct err *e)
{
    uint64_t wire = traffic_count(http_traffic(a->r->http));
    int rc;

    a->fd = fd;
    a->size = q->size;
    rc = ask_run(a, e);
    if (rc)
        return rc;
    *out = (struct fetch_end){
        .media = a->media, .tries = a->tries, .wire = traffic_count(http_traffic(a->r->http)) - wire};
    return 0;
}

int registry_manifest(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                      struct err *e)
{
    struct ask a;
    char digest[DIGEST_TEXT_LEN];

    digest_format(&q->digest, digest);
    ask_begin(&a, r, FETCH_MANIFEST, "manifests", digest);
    return body_get(&a, q, fd, out, e);
}

int registry_blob(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                  struct err *e)
{
    struct ask a;
    char digest[DIGEST_TEXT_LEN];

    digest_format(&q->digest, digest);
    ask_begin(&a, r, (enum fetch_kind)q->kind, "blobs", digest);
    a.exact = true;
    a.next = q->offset;
    if (q->kind == FETCH_PART && (q->offset >= q->end || q->end > q->size))
        return err_set(e, ERR_STATE, "bytes %llu to %llu of a blob of %llu", (unsigned long long)q->offset,
                       (unsigned long long)q->end, (unsigned long long)q->size);
    if (q->kind == FETCH_PART) {
        a.end = q->end;
        a.whole = q->whole != 0;
    }
    if (q->offset > q->size)
        return err_set(e, ERR_STATE, "offset %llu of a blob of %llu bytes", (unsigned long long)q->offset,
                       (unsigned long long)q->size);
    if (q->offset == q->size && q->size > 0) {
        *out = (struct fetch_end){0};
        return 0;
    }
    return body_get(&a, q, fd, out, e);
}

/* One of the names under which it may be found. */
static int named_get(struct registry *r, const struct fetch_request *q, const char *what,
                     const char *reference, int fd, struct fetch_end *out, struct err *e)
{
    struct ask a;

    ask_begin(&a, r, (enum fetch_kind)q->kind, what, reference);
    return body_get(&a, q, fd, out, e);
}

int registry_named(struct registry *r, const struct fetch_request *q, int fd, struct fetch_end *out,
                   struct err *e)
{
    char digest[DIGEST_TEXT_LEN], tag[160];
    const char *hex = digest + strlen("sha256:");
    int rc = 0;

    digest_format(&q->digest, digest);
    snprintf(tag, sizeof tag, "sha256-%s%s", hex, q->kind == FETCH_SIGNATURES ? ".sig" : "");
    if (q->kind == FETCH_ROOT)
        snprintf(tag, sizeof tag, "slipway-root");
    if (q->kind == FETCH_BRAKE)
        snprintf(tag, sizeof tag, "%s.brake", r->conf->tag);
    if (q->kind == FETCH_REFERRERS)
        rc = named_get(r, q, "referrers", digest, fd, out, e);
    if (q->kind != FETCH_REFERRERS || rc == ERR_ABSENT)
        rc = named_get(r, q, "manifests", tag, fd, out, e);
    if (rc != ERR_ABSENT)
        return rc;
    *out = (struct fetch_end){0};
    return 0;
}
