#include "oci/auth.h"

#include <curl/curl.h>
#include <mbedtls/base64.h>
#include <mbedtls/platform_util.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "oci/json.h"
#include "oci/retry.h"

#define CREDENTIALS_MAX 65536
#define TOKEN_REPLY_MAX 32768
#define TOKEN_EARLY_MS 5000 /* a token is not used in its last seconds */

static char scratch[CREDENTIALS_MAX]; /* the credentials file, later answers of token services */

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- credentials file ----------------------------------------------------------------------------------------- */

/* "https://host:port/v1/" and "host:port" name the same host. */
static bool key_names_host(const char *key, const char *host)
{
    const char *scheme = strstr(key, "://");
    size_t len;

    if (scheme)
        key = scheme + 3;
    len = strcspn(key, "/");
    return strlen(host) == len && !strncasecmp(key, host, len);
}

static int basic_from_auth(const char *auth, char basic[AUTH_BASIC_MAX], struct err *e)
{
    unsigned char plain[AUTH_BASIC_MAX];
    size_t len = 0;
    bool good;

    good = strlen(auth) < AUTH_BASIC_MAX &&
           !mbedtls_base64_decode(plain, sizeof plain, &len, (const unsigned char *)auth, strlen(auth)) &&
           memchr(plain, ':', len) && strcspn(auth, "\r\n ") == strlen(auth);
    mbedtls_platform_zeroize(plain, sizeof plain);
    if (!good)
        return err_set(e, ERR_CONFIG, "auth: want base64 of user:password, at most %d characters",
                       AUTH_BASIC_MAX - 1);
    memcpy(basic, auth, strlen(auth) + 1);
    return 0;
}

static int basic_from_names(const char *user, const char *password, char basic[AUTH_BASIC_MAX], struct err *e)
{
    char plain[AUTH_BASIC_MAX];
    int n = snprintf(plain, sizeof plain, "%s:%s", user, password);
    size_t len;
    int rc = -1;

    if (n > 0 && (size_t)n < sizeof plain && !strchr(user, ':'))
        rc = mbedtls_base64_encode((unsigned char *)basic, AUTH_BASIC_MAX, &len, (const unsigned char *)plain,
                                   (size_t)n);
    mbedtls_platform_zeroize(plain, sizeof plain);
    if (rc)
        return err_set(e, ERR_CONFIG, "username and password: too long, or a colon in the username");
    return 0;
}

static int entry_take(const cJSON *entry, char basic[AUTH_BASIC_MAX], struct err *e)
{
    const char *auth, *user, *password;
    int rc = json_string(entry, "auth", JSON_OPTIONAL, &auth, e);

    if (!rc)
        rc = json_string(entry, "username", JSON_OPTIONAL, &user, e);
    if (!rc)
        rc = json_string(entry, "password", JSON_OPTIONAL, &password, e);
    if (rc)
        return rc;
    if (auth && *auth)
        return basic_from_auth(auth, basic, e);
    if (user && password)
        return basic_from_names(user, password, basic, e);
    return err_set(e, ERR_CONFIG,
                   "want auth, or username and password (identity tokens and helpers are not read)");
}

int auth_config_find(const char *text, size_t len, const char *host, char basic[AUTH_BASIC_MAX],
                     struct err *e)
{
    cJSON *root;
    const cJSON *auths;
    int rc = json_parse(text, len, &root, e);

    basic[0] = '\0';
    if (rc)
        return rc;
    rc = json_object(root, "auths", JSON_OPTIONAL, &auths, e);
    for (const cJSON *entry = rc || !auths ? NULL : auths->child; entry; entry = entry->next) {
        if (!key_names_host(entry->string, host))
            continue;
        rc = entry_take(entry, basic, e);
        if (rc)
            err_prefix(e, "auths: %s", host);
        break;
    }
    json_free(root);
    return rc;
}

static int hosts_fill(const char *text, size_t len, struct auth *out, struct err *e)
{
    for (uint32_t i = 0; i < out->cnt; i++) {
        int rc = auth_config_find(text, len, out->hosts[i].host, out->hosts[i].basic, e);

        if (rc)
            return rc;
    }
    return 0;
}

int auth_check(const struct conf_registry *conf, const struct secret_ops *secret, struct err *e)
{
    if (conf->credentials[0] && secret->check(conf->credentials, e) < 0)
        return err_prefix(e, "credentials");
    if (conf->client_key[0] && secret->check(conf->client_key, e) < 0)
        return err_prefix(e, "client_key");
    return 0;
}

int auth_load(const struct conf_registry *conf, const struct secret_ops *secret, struct auth *out,
              struct err *e)
{
    ssize_t len;
    int rc;

    memset(out, 0, sizeof *out);
    for (int i = 0; i < CONF_MIRROR_MAX && conf->mirrors[i][0]; i++)
        snprintf(out->hosts[out->cnt++].host, CONF_HOST_MAX, "%s", conf->mirrors[i]);
    snprintf(out->hosts[out->cnt++].host, CONF_HOST_MAX, "%s", conf->host);
    if (conf->credentials[0] == '\0')
        return 0;
    len = secret->read(conf->credentials, scratch, sizeof scratch, e);
    if (len < 0)
        return err_prefix(e, "credentials");
    rc = hosts_fill(scratch, (size_t)len, out, e);
    mbedtls_platform_zeroize(scratch, sizeof scratch);
    if (!rc)
        return 0;
    e->code = ERR_CONFIG;
    return err_prefix(e, "credentials: %s", conf->credentials);
}

/* --- tokens --------------------------------------------------------------------------------------------------- */

const char *auth_header(struct auth_host *h)
{
    if (h->expires_ms && now_ms() >= h->expires_ms)
        auth_forget(h);
    return h->header;
}

void auth_forget(struct auth_host *h)
{
    h->header[0] = '\0';
    h->expires_ms = 0;
}

struct token_reply {
    size_t len;
};

static int token_body(void *ctx, const void *data, size_t len, struct err *e)
{
    struct token_reply *t = ctx;

    if (len > TOKEN_REPLY_MAX - t->len)
        return err_set(e, ERR_LIMIT, "answer longer than %d bytes", TOKEN_REPLY_MAX);
    memcpy(scratch + t->len, data, len);
    t->len += len;
    return 0;
}

/* realm?service=..&scope=.., values escaped by libcurl's URL code. */
static int token_url(const struct auth_challenge *c, const char *repository, char *out, size_t cap,
                     struct err *e)
{
    CURLU *u = curl_url();
    char part[640];
    char *text = NULL;
    const unsigned flags = CURLU_APPENDQUERY | CURLU_URLENCODE;
    bool good = u && curl_url_set(u, CURLUPART_URL, c->realm, 0) == CURLUE_OK;

    snprintf(part, sizeof part, "service=%s", c->service);
    if (good && c->service[0])
        good = curl_url_set(u, CURLUPART_QUERY, part, flags) == CURLUE_OK;
    if (c->scope[0])
        snprintf(part, sizeof part, "scope=%s", c->scope);
    else
        snprintf(part, sizeof part, "scope=repository:%s:pull", repository);
    good = good && curl_url_set(u, CURLUPART_QUERY, part, flags) == CURLUE_OK &&
           curl_url_get(u, CURLUPART_URL, &text, 0) == CURLUE_OK && strlen(text) < cap;
    if (good)
        memcpy(out, text, strlen(text) + 1);
    curl_free(text);
    curl_url_cleanup(u);
    return good ? 0 : err_set(e, ERR_AUTH, "realm is no usable address: \"%.100s\"", c->realm);
}

int auth_token_take(struct auth_host *h, const char *text, size_t len, struct err *e)
{
    cJSON *root;
    const char *token = NULL, *access = NULL;
    uint64_t expires_s = 0;
    int rc = json_parse(text, len, &root, e);

    if (rc)
        return rc;
    rc = json_string(root, "token", JSON_OPTIONAL, &token, e);
    if (!rc)
        rc = json_string(root, "access_token", JSON_OPTIONAL, &access, e);
    if (!rc)
        rc = json_uint(root, "expires_in", JSON_OPTIONAL, &expires_s, e);
    token = token && *token ? token : access;
    if (!rc && (!token || !*token))
        rc = err_set(e, ERR_AUTH, "neither token nor access_token in the answer");
    if (!rc && strlen(token) + 8 > sizeof h->header)
        rc = err_set(e, ERR_LIMIT, "token of %zu bytes, limit is %zu", strlen(token), sizeof h->header - 8);
    if (!rc && strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=") !=
                   strlen(token))
        rc = err_set(e, ERR_FORMAT, "token: a character that no token has");
    if (!rc) {
        if (expires_s == 0 || expires_s > 86400)
            expires_s = expires_s ? 86400 : AUTH_TOKEN_DEFAULT_S;
        snprintf(h->header, sizeof h->header, "Bearer %s", token);
        h->expires_ms = now_ms() + (int64_t)expires_s * 1000;
        h->expires_ms -= expires_s > 10 ? TOKEN_EARLY_MS : 0;
    }
    json_free(root);
    return rc;
}

static int token_fetch(struct auth_host *h, struct http *http, const struct auth_challenge *c,
                       const char *repository, bool *transient, struct err *e)
{
    char url[HTTP_URL_MAX * 2], basic[AUTH_BASIC_MAX + 8] = "";
    struct token_reply t = {0};
    struct http_reply reply;
    struct http_request q = {
        .url = url, .authorization = basic, .accept = "application/json", .body = token_body, .ctx = &t};
    int rc = token_url(c, repository, url, sizeof url, e);

    if (rc)
        return rc;
    if (h->basic[0])
        snprintf(basic, sizeof basic, "Basic %s", h->basic);
    rc = http_run(http, &q, &reply, transient, e);
    mbedtls_platform_zeroize(basic, sizeof basic);
    if (rc)
        return rc;
    if (reply.status == 401 || reply.status == 403)
        return err_set(e, ERR_AUTH, "%s (status %d)",
                       h->basic[0] ? "credentials refused" : "no credentials for this host", reply.status);
    if (reply.status != 200) {
        *transient = retry_status(reply.status);
        return err_set(e, ERR_REGISTRY, "want status 200, got %d", reply.status);
    }
    rc = auth_token_take(h, scratch, t.len, e);
    mbedtls_platform_zeroize(scratch, TOKEN_REPLY_MAX);
    return rc;
}

int auth_answer(struct auth_host *h, struct http *http, const char *challenge, const char *repository,
                bool plain_http, bool *transient, struct err *e)
{
    struct auth_challenge c;
    int rc;

    *transient = false;
    auth_forget(h);
    if (!auth_challenge_parse(challenge, &c))
        return err_set(e, ERR_AUTH, "status 401: want a Basic or Bearer challenge, got \"%.80s\"", challenge);
    if (c.scheme == AUTH_BASIC) {
        if (!h->basic[0])
            return err_set(e, ERR_AUTH, "asks for a password, and `credentials` has none for this host");
        snprintf(h->header, sizeof h->header, "Basic %s", h->basic);
        return 0;
    }
    if (strncasecmp(c.realm, "https://", 8) && !plain_http)
        return err_set(e, ERR_POLICY, "token service %.100s is not HTTPS", c.realm);
    rc = token_fetch(h, http, &c, repository, transient, e);
    return rc ? err_prefix(e, "token from %.100s", c.realm) : 0;
}
