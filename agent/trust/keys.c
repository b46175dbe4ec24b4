#include "trust/keys.h"

#include <errno.h>
#include <mbedtls/md.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/log.h"

#define PEM_MAX 1024
#define P256_BITS 256
#define P384_BITS 384

static bool key_is_ecdsa(mbedtls_pk_context *key)
{
    size_t bits = mbedtls_pk_get_bitlen(key);

    return mbedtls_pk_can_do(key, MBEDTLS_PK_ECDSA) && (bits == P256_BITS || bits == P384_BITS);
}

/* `text` is PEM with its NUL, or DER. */
static int key_add(struct trust_keys *k, const uint8_t *text, size_t len, struct err *e)
{
    mbedtls_pk_context *key = &k->keys[k->cnt];

    mbedtls_pk_init(key);
    k->cnt++;
    if (mbedtls_pk_parse_public_key(key, text, len) || !key_is_ecdsa(key))
        return err_set(e, ERR_CONFIG,
                       "no public key of ECDSA on P-256 or P-384 (Ed25519 and RSA are not supported)");
    for (uint32_t i = 0; i + 1 < k->cnt; i++) {
        uint8_t a[160], b[160];
        int a_len = mbedtls_pk_write_pubkey_der(&k->keys[i], a, sizeof a);
        int b_len = mbedtls_pk_write_pubkey_der(key, b, sizeof b);

        /* the DER stands at the end of the buffer */
        if (a_len > 0 && a_len == b_len &&
            !memcmp(a + sizeof a - (size_t)a_len, b + sizeof b - (size_t)b_len, (size_t)a_len))
            return err_set(e, ERR_CONFIG, "the same key as number %u of the list", i + 1);
    }
    return 0;
}

static int key_load(struct trust_keys *k, const char *path, struct err *e)
{
    char pem[PEM_MAX];
    struct stat st;
    ssize_t len = io_read_file(path, pem, sizeof pem);

    if (len < 0 || stat(path, &st) < 0) {
        err_errno(e, "%s", path);
        e->code = ERR_CONFIG;
        return ERR_CONFIG;
    }
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return err_set(e, ERR_CONFIG, "%s: others than its owner may write it (mode %04o); chmod go-w", path,
                       (unsigned)st.st_mode & 07777);
    if (key_add(k, (const uint8_t *)pem, (size_t)len + 1, e))
        return err_prefix(e, "%s", path);
    return 0;
}

int trust_keys_load(const struct conf_trust *conf, struct trust_keys *out, struct err *e)
{
    int rc = 0;

    memset(out, 0, sizeof *out);
    out->threshold = conf->threshold;
    for (int i = 0; rc == 0 && i < CONF_KEY_MAX && conf->keys[i][0]; i++)
        rc = key_load(out, conf->keys[i], e);
    return rc ? err_prefix(e, "trust") : 0;
}

int trust_keys_root(const struct notice_root *root, struct trust_keys *out, struct err *e)
{
    int rc = 0;

    memset(out, 0, sizeof *out);
    out->threshold = root->threshold;
    for (uint32_t i = 0; rc == 0 && i < root->key_cnt; i++)
        rc = key_add(out, root->keys[i].der, root->keys[i].len, e);
    if (rc == 0 && (out->threshold == 0 || out->threshold > out->cnt))
        rc = err_set(e, ERR_CONFIG, "threshold %u of %u keys", out->threshold, out->cnt);
    return rc ? err_prefix(e, "root version %u", root->version) : 0;
}

void trust_keys_free(struct trust_keys *k)
{
    for (uint32_t i = 0; i < k->cnt; i++)
        mbedtls_pk_free(&k->keys[i]);
    k->cnt = 0;
}

/* DSSE signs its "pre-authentication encoding": the payload with its type and both lengths in front. */
static int bytes_hash(mbedtls_md_type_t type, const struct trust_signed *s, uint8_t *out)
{
    mbedtls_md_context_t md;
    char front[80] = "";
    int rc;

    if (s->form == TRUST_STATEMENT)
        snprintf(front, sizeof front, "DSSEv1 28 application/vnd.in-toto+json %u ", s->payload_len);
    mbedtls_md_init(&md);
    rc = mbedtls_md_setup(&md, mbedtls_md_info_from_type(type), 0);
    if (rc == 0)
        rc = mbedtls_md_starts(&md);
    if (rc == 0)
        rc = mbedtls_md_update(&md, (const uint8_t *)front, strlen(front));
    if (rc == 0)
        rc = mbedtls_md_update(&md, s->payload, s->payload_len);
    if (rc == 0)
        rc = mbedtls_md_finish(&md, out);
    mbedtls_md_free(&md);
    return rc;
}

static enum verdict verify_with(mbedtls_pk_context *key, mbedtls_md_type_t type, const struct trust_signed *s,
                                const struct digest *subject)
{
    uint8_t hash[64];
    size_t len = type == MBEDTLS_MD_SHA384 ? 48 : DIGEST_LEN;

    if (s->form == TRUST_MESSAGE && type == MBEDTLS_MD_SHA256)
        memcpy(hash, subject->b, DIGEST_LEN);
    else if (s->form == TRUST_MESSAGE || bytes_hash(type, s, hash))
        return VERDICT_MISMATCH;
    return mbedtls_pk_verify(key, type, hash, len, s->signature, s->signature_len) == 0 ? VERDICT_MATCH
                                                                                        : VERDICT_MISMATCH;
}

enum verdict trust_key_verify(struct trust_keys *k, uint32_t at, const struct trust_signed *s,
                              const struct digest *subject)
{
    mbedtls_pk_context *key = &k->keys[at];

    ASSERT(at < k->cnt);
    if (s->signature_len == 0 || s->signature_len > sizeof s->signature || s->payload_len > sizeof s->payload)
        return VERDICT_MISMATCH;
    if (verify_with(key, MBEDTLS_MD_SHA256, s, subject) == VERDICT_MATCH)
        return VERDICT_MATCH;
    if (mbedtls_pk_get_bitlen(key) != P384_BITS)
        return VERDICT_MISMATCH;
    return verify_with(key, MBEDTLS_MD_SHA384, s, subject);
}
