/* Credentials and what a registry asks for: Basic (RFC 7617) and Bearer tokens (distribution specification, token
 * authentication). The credentials file is Docker's config.json, of which `auths` is read. One entry is kept for each
 * host of the configuration; a token is kept until shortly before it runs out, for one host and within this process.
 */
#ifndef SLIPWAY_OCI_AUTH_H
#define SLIPWAY_OCI_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "hal/secret.h"
#include "oci/http.h"

#define AUTH_BASIC_MAX 512
#define AUTH_HOST_MAX (CONF_MIRROR_MAX + 1)
#define AUTH_TOKEN_DEFAULT_S 60

enum auth_scheme { AUTH_NONE = 0, AUTH_BASIC, AUTH_BEARER };

/* A challenge of WWW-Authenticate (RFC 9110, 11.6.1), quotes undone. */
struct auth_challenge {
    enum auth_scheme scheme;
    char realm[512]; /* Bearer: address of the token service */
    char service[256];
    char scope[512];
    char error[64]; /* "invalid_token", "insufficient_scope" */
};

struct auth_host {
    char host[CONF_HOST_MAX];
    char basic[AUTH_BASIC_MAX];          /* base64 of user:password, "" when there is none */
    char header[HTTP_AUTHORIZATION_MAX]; /* Authorization that worked or may work, "" at first */
    int64_t expires_ms;                  /* of header, on CLOCK_BOOTTIME; 0: never */
};

struct auth {
    uint32_t cnt;
    struct auth_host hosts[AUTH_HOST_MAX];
};

/* Fill in the hosts of `conf` (mirrors first, the registry last) with what the credentials file has on them.
 * ERR_CONFIG names the file, never what is in it. */
int auth_load(const struct conf_registry *conf, const struct secret_ops *secret, struct auth *out,
              struct err *e);
/* Whether fetch will be able to read the secrets that `conf` names. ERR_CONFIG. */
int auth_check(const struct conf_registry *conf, const struct secret_ops *secret, struct err *e);

/* What to send to this host now; "" for nothing. */
const char *auth_header(struct auth_host *h);
void auth_forget(struct auth_host *h);

/* Answer a 401: set h->header, asking the token service if need be. `repository` makes the scope when the challenge
 * has none. ERR_AUTH when nothing can answer it. */
int auth_answer(struct auth_host *h, struct http *http, const char *challenge, const char *repository,
                bool plain_http, bool *transient, struct err *e);

/* The first challenge of the list that is Bearer, else Basic; false when there is neither. */
bool auth_challenge_parse(const char *text, struct auth_challenge *out);

/* Read `auths` of a config.json text for `host`; leaves "" in `basic` when it has nothing on it. */
int auth_config_find(const char *text, size_t len, const char *host, char basic[AUTH_BASIC_MAX],
                     struct err *e);

/* Read what a token service answered: h->header, and until when it is good. */
int auth_token_take(struct auth_host *h, const char *text, size_t len, struct err *e);

#endif
