/* One HTTP exchange at a time over a single libcurl handle, whose connection is kept between exchanges.
 *
 * Redirects are followed here, not by libcurl, so that it is plain to see that Authorization goes to the host that was
 * asked and to no other. Knows nothing of registries: statuses other than redirects are handed up as they are.
 * RFC 9110 (semantics), RFC 9112 (HTTP/1.1).
 */
#ifndef SLIPWAY_OCI_HTTP_H
#define SLIPWAY_OCI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "hal/secret.h"
#include "oci/certificate.h"
#include "oci/traffic.h"

#define HTTP_URL_MAX 1024      /* of a request */
#define HTTP_LOCATION_MAX 4096 /* of a redirect: signed URLs of object stores are long */
#define HTTP_AUTHORIZATION_MAX 8192
#define HTTP_REDIRECT_MAX 5

/* What stands before the body. */
struct http_reply {
    int status;
    bool moved;      /* after a redirect: another host may have answered */
    bool has_length; /* Content-Length */
    bool has_range;  /* Content-Range, well formed */
    uint64_t length;
    uint64_t range_first;
    uint64_t range_last;
    uint64_t range_total;   /* UINT64_MAX: not told */
    uint32_t retry_after_s; /* Retry-After, 0 when there is none */
    char media[128];        /* Content-Type */
    char digest[80];        /* Docker-Content-Digest */
    char challenge[2048];   /* all WWW-Authenticate, joined by ", " */
    char excerpt[120];      /* the beginning of the body of an answer that is no success */
};

struct http_request {
    const char *url;
    const char *authorization; /* "" for none */
    const char *accept;        /* media types, or NULL for any */
    bool head_only;
    uint64_t offset; /* first byte wanted; 0 sends no Range, unless there is an end */
    uint64_t end;    /* the byte behind the last one wanted; 0: all there are */
    /* Called once for a 2xx, before its body; an error ends the exchange. */
    int (*head)(void *ctx, const struct http_reply *reply, struct err *e);
    /* Called for each piece of the body of a 2xx. */
    int (*body)(void *ctx, const void *data, size_t len, struct err *e);
    void *ctx;
};

struct http;

/* The one client of this process; reads the CA and client certificate files. Never closed. `when` lives as long. */
int http_open(const struct conf_registry *conf, const struct secret_ops *secret,
              struct certificate_time *when, struct http **out, struct err *e);

/* Returns 0 when an answer came whole, whatever its status. Otherwise an error: of the callbacks, ERR_TLS, ERR_NET,
 * ERR_POLICY (a redirect that is not followed, Content-Encoding) or ERR_REGISTRY (no HTTP). *transient tells whether
 * the same request may work later. */
int http_run(struct http *h, const struct http_request *q, struct http_reply *reply, bool *transient,
             struct err *e);

/* What all exchanges carry, and how far they may go: ERR_HELD beyond. */
struct traffic *http_traffic(struct http *h);
/* Before the first exchange. */
void http_bind(struct http *h, const struct traffic_bounds *bounds, volatile uint32_t *meter);

/* TLS sessions, to be gone on with by a later process (RFC 8446, 2.2): a poll then costs neither certificates nor
 * signatures. Opaque to all but libcurl; they hold keys, so they stay in memory. Save returns the length, 0 when there
 * are none; load passes over what it does not understand. */
size_t http_sessions_save(struct http *h, void *out, size_t cap);
void http_sessions_load(struct http *h, const void *in, size_t len);

/* For the files of this module: the handle of libcurl. */
void *http_easy(struct http *h);

/* Retry-After: seconds or an HTTP date (RFC 9110, 10.2.3), seen at `now` (seconds since 1970); 0 for what is neither. */
uint32_t http_retry_after(const char *text, int64_t now);
/* Content-Range "bytes first-last/total"; false for anything else (RFC 9110, 14.4). */
bool http_content_range(const char *text, struct http_reply *out);

#endif
