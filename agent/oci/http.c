#include "oci/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <mbedtls/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "base/io.h"

#define CONNECT_TIMEOUT_S 20L
#define STALL_BYTES_S 64L /* slower than this for STALL_S: cut */
#define STALL_S 30L
#define BUFFER_LEN 65536L
#define REFUSED_BODY_MAX 65536 /* of an answer that is no success, read for the sake of the connection */
#define PEM_MAX (1024 * 1024)
#define KEY_MAX 8192

struct http {
    CURL *easy;
    CURLSH *share; /* of TLS sessions: only so can they be saved and loaded */
    const struct conf_registry *conf;
    struct curl_blob ca, cert, key;
    struct certificate_time *time;
    struct traffic traffic;
    char message[CURL_ERROR_SIZE];
    char location[HTTP_LOCATION_MAX];
    char authorization[HTTP_AUTHORIZATION_MAX + 32];
    /* of the exchange that is under way */
    const struct http_request *q;
    struct http_reply *reply;
    struct err *e;
    bool head_seen;
    bool refused; /* *e was set by a callback */
    bool encoded;
    uint64_t refused_len;
};

static struct http the_http;

/* --- start ---------------------------------------------------------------------------------------------------- */

static int pem_load(const char *path, const char *what, struct curl_blob *out, struct err *e)
{
    struct stat st;
    char *text;
    ssize_t n;

    if (path[0] == '\0')
        return 0;
    if (stat(path, &st) < 0)
        return err_set(e, ERR_CONFIG, "%s: %s: %s", what, path, strerror(errno));
    if (st.st_size > PEM_MAX)
        return err_set(e, ERR_CONFIG, "%s: %s: larger than %d bytes", what, path, PEM_MAX);
    text = malloc((size_t)st.st_size + 2);
    if (!text)
        return err_set(e, ERR_LIMIT, "%s: no memory", what);
    n = io_read_file(path, text, (size_t)st.st_size + 2);
    if (n < 0) {
        free(text);
        return err_set(e, ERR_CONFIG, "%s: %s: %s", what, path, strerror(errno));
    }
    /* Its NUL counts: mbedTLS takes a text without one for DER, and libcurl hands the key on as it is. */
    *out = (struct curl_blob){.data = text, .len = (size_t)n + 1, .flags = CURL_BLOB_NOCOPY};
    return 0;
}

static int key_load(const char *place, const struct secret_ops *secret, struct curl_blob *out, struct err *e)
{
    static char pem[KEY_MAX];
    ssize_t n = place[0] ? secret->read(place, pem, sizeof pem, e) : 0;

    if (n < 0)
        return err_prefix(e, "client_key");
    if (n > 0)
        *out = (struct curl_blob){.data = pem, .len = (size_t)n + 1, .flags = CURL_BLOB_NOCOPY};
    return 0;
}

static CURLcode on_tls(CURL *easy, void *config, void *ctx)
{
    (void)easy;
    mbedtls_ssl_conf_verify(config, certificate_check, ctx);
    return CURLE_OK;
}

/* A libcurl of another TLS library (make DEPS=system) judges dates by the clock alone. */
static bool tls_is_mbedtls(void)
{
    const char *name = curl_version_info(CURLVERSION_NOW)->ssl_version;

    return name && !strncmp(name, "mbedTLS", 7);
}

static void tls_set(struct http *h)
{
    if (tls_is_mbedtls()) {
        curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_FUNCTION, on_tls);
        curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_DATA, h->time);
    }
    curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(h->easy, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(h->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (h->ca.data)
        curl_easy_setopt(h->easy, CURLOPT_CAINFO_BLOB, &h->ca);
    if (h->cert.data) {
        curl_easy_setopt(h->easy, CURLOPT_SSLCERTTYPE, "PEM");
        curl_easy_setopt(h->easy, CURLOPT_SSLCERT_BLOB, &h->cert);
    }
    if (h->key.data) {
        curl_easy_setopt(h->easy, CURLOPT_SSLKEYTYPE, "PEM");
        curl_easy_setopt(h->easy, CURLOPT_SSLKEY_BLOB, &h->key);
    }
}

static size_t on_body(char *data, size_t one, size_t len, void *ctx);

static void options_set(struct http *h)
{
    const char *schemes = h->conf->plain_http ? "http,https" : "https";

    curl_easy_setopt(h->easy, CURLOPT_SHARE, h->share);
    curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->message);
    curl_easy_setopt(h->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->easy, CURLOPT_PROTOCOLS_STR, schemes);
    curl_easy_setopt(h->easy, CURLOPT_REDIR_PROTOCOLS_STR, schemes);
    curl_easy_setopt(h->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(h->easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(h->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(h->easy, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
    curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_S);
    curl_easy_setopt(h->easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, BUFFER_LEN);
    curl_easy_setopt(h->easy, CURLOPT_MAXCONNECTS, 2L);
    curl_easy_setopt(h->easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(h->easy, CURLOPT_USERAGENT, "slipway");
    curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
    traffic_begin(&h->traffic, h->easy);
    tls_set(h);
    /* Proxies come from the configuration alone, not from the environment; "" says so. */
    if (IS_ENABLED(CONFIG_HTTP_PROXY)) {
        curl_easy_setopt(h->easy, CURLOPT_PROXY, h->conf->proxy);
        curl_easy_setopt(h->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    }
}

int http_open(const struct conf_registry *conf, const struct secret_ops *secret,
              struct certificate_time *when, struct http **out, struct err *e)
{
    struct http *h = &the_http;
    int rc;

    memset(h, 0, sizeof *h);
    h->conf = conf;
    h->time = when;
    if (conf->proxy[0] && !IS_ENABLED(CONFIG_HTTP_PROXY))
        return err_set(e, ERR_UNSUPPORTED, "proxy: not in this build");
    rc = pem_load(conf->ca, "ca", &h->ca, e);
    if (!rc)
        rc = pem_load(conf->client_cert, "client_cert", &h->cert, e);
    if (!rc)
        rc = key_load(conf->client_key, secret, &h->key, e);
    if (rc)
        return rc;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(h->easy = curl_easy_init()) ||
        !(h->share = curl_share_init()) ||
        curl_share_setopt(h->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION))
        return err_set(e, ERR_LIMIT, "libcurl does not start");
    options_set(h);
    *out = h;
    return 0;
}

void *http_easy(struct http *h)
{
    return h->easy;
}

struct traffic *http_traffic(struct http *h)
{
    return &h->traffic;
}

/* In small pieces, where they are held to a rate: a server may give up a client that takes nothing for long. */
void http_bind(struct http *h, const struct traffic_bounds *bounds, volatile uint32_t *meter)
{
    long piece = (long)bounds->rate_kib_s * 1024 / TRAFFIC_PIECES;

    traffic_bind(&h->traffic, bounds, meter);
    if (piece > 0 && piece < BUFFER_LEN)
        curl_easy_setopt(h->easy, CURLOPT_BUFFERSIZE, piece);
}

/* --- the answer's head ---------------------------------------------------------------------------------------- */

/* The field's value, cut to `cap`; false when it is absent. */
static bool field(struct http *h, const char *name, char *out, size_t cap)
{
    struct curl_header *got;

    out[0] = '\0';
    if (curl_easy_header(h->easy, name, 0, CURLH_HEADER, -1, &got) != CURLHE_OK)
        return false;
    snprintf(out, cap, "%s", got->value);
    return true;
}

static void challenges_take(struct http *h, struct http_reply *r)
{
    size_t used = 0;
    struct curl_header *got;

    for (size_t at = 0;
         curl_easy_header(h->easy, "WWW-Authenticate", at, CURLH_HEADER, -1, &got) == CURLHE_OK; at++) {
        size_t len = strlen(got->value);

        if (used + len + 3 > sizeof r->challenge)
            continue;
        used += (size_t)snprintf(r->challenge + used, sizeof r->challenge - used, "%s%s", used ? ", " : "",
                                 got->value);
    }
}

static void head_take(struct http *h)
{
    struct http_reply *r = h->reply;
    long status = 0;
    curl_off_t length = -1;
    char text[128];

    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    r->status = (int)status;
    r->has_length = length >= 0;
    r->length = length >= 0 ? (uint64_t)length : 0;
    field(h, "Content-Type", r->media, sizeof r->media);
    field(h, "Docker-Content-Digest", r->digest, sizeof r->digest);
    challenges_take(h, r);
    r->has_range = field(h, "Content-Range", text, sizeof text) && http_content_range(text, r);
    if (field(h, "Retry-After", text, sizeof text))
        r->retry_after_s = http_retry_after(text, (int64_t)time(NULL));
    h->encoded = field(h, "Content-Encoding", text, sizeof text) && strcasecmp(text, "identity");
    h->head_seen = true;
}

static bool is_success(const struct http_reply *r)
{
    return r->status >= 200 && r->status < 300;
}

/* Look at the head as soon as it is there, once. */
static int head_handle(struct http *h)
{
    int rc;

    if (h->head_seen)
        return 0;
    head_take(h);
    if (!is_success(h->reply))
        return 0;
    if (h->encoded)
        rc = err_set(h->e, ERR_POLICY, "a Content-Encoding came that was not asked for");
    else
        rc = h->q->head ? h->q->head(h->q->ctx, h->reply, h->e) : 0;
    h->refused = rc != 0;
    return rc;
}

static void excerpt_take(struct http *h, const char *data, size_t len)
{
    size_t used = strlen(h->reply->excerpt);

    for (; len > 0 && used < sizeof h->reply->excerpt - 1; data++, len--)
        h->reply->excerpt[used++] = *data >= 0x20 && *data <= 0x7e ? *data : ' ';
    h->reply->excerpt[used] = '\0';
}

static size_t on_body(char *data, size_t one, size_t len, void *ctx)
{
    struct http *h = ctx;

    (void)one;
    if (head_handle(h))
        return CURL_WRITEFUNC_ERROR;
    if (!is_success(h->reply)) {
        excerpt_take(h, data, len);
        h->refused_len += len;
        return h->refused_len > REFUSED_BODY_MAX ? CURL_WRITEFUNC_ERROR : len;
    }
    if ((h->q->body && h->q->body(h->q->ctx, data, len, h->e)) || traffic_check(&h->traffic, h->e)) {
        h->refused = true;
        return CURL_WRITEFUNC_ERROR;
    }
    traffic_pace(&h->traffic, len);
    return len;
}

/* --- errors --------------------------------------------------------------------------------------------------- */

static int code_of(CURLcode rc)
{
    switch (rc) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return ERR_TLS;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
    case CURLE_PROXY:
        return ERR_NET;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_LOGIN_DENIED:
        return ERR_POLICY;
    case CURLE_OUT_OF_MEMORY:
        return ERR_LIMIT;
    default:
        return ERR_REGISTRY;
    }
}

/* A certificate is judged by the board's clock, which may be the one that is wrong. */
static int certificate_time_error(struct http *h, const char *text)
{
    time_t now = certificate_now(h->time);
    struct tm day;
    char today[16] = "?";

    if (gmtime_r(&now, &day))
        strftime(today, sizeof today, "%Y-%m-%d", &day);
    return err_set(h->e, ERR_TLS, "%s; %s %s", text,
                   now > time(NULL) ? "the board's clock is wrong, but it is not before"
                                    : "the board's clock says",
                   today);
}

static int tls_error(struct http *h, const char *text)
{
    char fault[160];

    if (h->time->bad) {
        certificate_fault(h->time, fault, sizeof fault);
        text = fault;
    }
    if (!h->ca.data)
        return err_set(h->e, ERR_TLS, "no `ca` is configured, so no certificate is trusted: %s", text);
    if (strstr(text, "expired") || strstr(text, "future"))
        return certificate_time_error(h, text);
    if (strstr(text, "not correctly signed"))
        return err_set(h->e, ERR_TLS, "%s: `ca` is %s", text, h->conf->ca);
    return err_set(h->e, ERR_TLS, "%s", text);
}

static int failure(struct http *h, CURLcode rc, bool *transient)
{
    const char *text = h->message[0] ? h->message : curl_easy_strerror(rc);
    int code = code_of(rc);
    size_t len = strlen(h->message);

    while (len > 0 && (h->message[len - 1] == '\n' || h->message[len - 1] == ' '))
        h->message[--len] = '\0';
    /* With TLS 1.3 a server refuses the client's certificate only after the handshake. */
    if (code == ERR_NET && strstr(text, "alert message"))
        code = ERR_TLS;
    if (code == ERR_TLS)
        return tls_error(h, text);
    if (code == ERR_LIMIT)
        return err_set(h->e, code, "fetch is at its ceiling of %d KB", CONFIG_MEM_FETCH_KB);
    *transient = code == ERR_NET;
    /* what mbedTLS calls 0 is a connection that ended without TLS's own goodbye */
    if (strstr(text, "(-0x0000)"))
        text = "the connection ended";
    return err_set(h->e, code, "%s", text);
}

/* --- one exchange --------------------------------------------------------------------------------------------- */

static struct curl_slist *fields_make(struct http *h, const char *authorization)
{
    struct curl_slist *list, *more;
    char accept[512];

    snprintf(accept, sizeof accept, "Accept: %s", h->q->accept ? h->q->accept : "*/*");
    list = more = curl_slist_append(NULL, accept);
    if (more && !h->q->head_only)
        more = curl_slist_append(list, "Accept-Encoding: identity");
    if (more && authorization[0]) {
        snprintf(h->authorization, sizeof h->authorization, "Authorization: %s", authorization);
        more = curl_slist_append(list, h->authorization);
    }
    if (!more)
        curl_slist_free_all(list);
    return more ? list : NULL;
}

static int exchange(struct http *h, const char *url, const char *authorization, bool *transient)
{
    struct curl_slist *fields = fields_make(h, authorization);
    char range[48];
    CURLcode rc;

    if (!fields)
        return err_set(h->e, ERR_LIMIT, "no memory");
    h->head_seen = h->refused = h->encoded = false;
    h->refused_len = 0;
    h->message[0] = '\0';
    memset(h->reply, 0, sizeof *h->reply);
    snprintf(range, sizeof range, "%llu-", (unsigned long long)h->q->offset);
    if (h->q->end)
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)h->q->offset,
                 (unsigned long long)h->q->end - 1);
    curl_easy_setopt(h->easy, CURLOPT_URL, url);
    curl_easy_setopt(h->easy, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt(h->easy, CURLOPT_NOBODY, h->q->head_only ? 1L : 0L);
    curl_easy_setopt(h->easy, CURLOPT_RANGE, h->q->offset || h->q->end ? range : NULL);
    curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, fields);
    rc = curl_easy_perform(h->easy);
    traffic_count(&h->traffic);
    curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(fields);
    if (rc == CURLE_OK)
        return head_handle(h);
    if (h->refused)
        return h->e->code;
    if (h->head_seen && !is_success(h->reply))
        return 0;
    return failure(h, rc, transient);
}

/* --- redirects ------------------------------------------------------------------------------------------------ */

static bool part_equal(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    bool same = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(b, part, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && !strcasecmp(x, y);

    curl_free(x);
    curl_free(y);
    return same;
}

static bool origin_equal(const char *a, const char *b)
{
    CURLU *x = curl_url(), *y = curl_url();
    bool same = x && y && curl_url_set(x, CURLUPART_URL, a, 0) == CURLUE_OK &&
                curl_url_set(y, CURLUPART_URL, b, 0) == CURLUE_OK && part_equal(x, y, CURLUPART_SCHEME) &&
                part_equal(x, y, CURLUPART_HOST) && part_equal(x, y, CURLUPART_PORT);

    curl_url_cleanup(x);
    curl_url_cleanup(y);
    return same;
}

static bool is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Copy where to go next to h->location, which lives longer than libcurl's own copy. */
static int redirect_take(struct http *h)
{
    char *to = NULL;

    curl_easy_getinfo(h->easy, CURLINFO_REDIRECT_URL, &to);
    if (!to)
        return err_set(h->e, ERR_REGISTRY, "status %d without a Location", h->reply->status);
    if (strlen(to) >= sizeof h->location)
        return err_set(h->e, ERR_LIMIT, "redirected to an address of %zu bytes, limit is %zu", strlen(to),
                       sizeof h->location - 1);
    if (strncasecmp(to, "https://", 8) && !h->conf->plain_http)
        return err_set(h->e, ERR_POLICY, "redirected to %.60s, which is not HTTPS", to);
    memcpy(h->location, to, strlen(to) + 1);
    return 0;
}

int http_run(struct http *h, const struct http_request *q, struct http_reply *reply, bool *transient,
             struct err *e)
{
    const char *url = q->url;
    const char *authorization = q->authorization;
    bool moved = false;

    *transient = false;
    h->time->bad = 0;
    h->q = q;
    h->reply = reply;
    h->e = e;
    for (int hops = 0; hops <= HTTP_REDIRECT_MAX; hops++) {
        int rc = traffic_check(&h->traffic, e);

        if (!rc)
            rc = exchange(h, url, authorization, transient);
        reply->moved = moved;
        if (rc || !is_redirect(reply->status))
            return rc;
        rc = redirect_take(h);
        if (rc)
            return rc;
        url = h->location;
        moved = moved || !origin_equal(q->url, url);
        if (moved)
            authorization = "";
    }
    return err_set(e, ERR_REGISTRY, "more than %d redirects", HTTP_REDIRECT_MAX);
}
