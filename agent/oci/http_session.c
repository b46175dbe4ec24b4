#include <curl/curl.h>
#include <string.h>

#include "oci/http.h"

/* A saved session: this head, then libcurl's salted hash of whom it is with, then the session itself. */
struct saved {
    uint16_t peer_len;
    uint16_t data_len;
};

struct room {
    uint8_t *at;
    size_t left;
};

#if LIBCURL_VERSION_NUM >= 0x080c00

/* Those that do not fit are left out: they only save bytes. */
static CURLcode on_session(CURL *easy, void *ctx, const char *peer, const unsigned char *hash,
                           size_t hash_len, const unsigned char *data, size_t data_len,
                           curl_off_t valid_until, int version, const char *alpn, size_t early_max)
{
    struct room *room = ctx;
    struct saved head = {.peer_len = (uint16_t)hash_len, .data_len = (uint16_t)data_len};
    size_t len = sizeof head + hash_len + data_len;

    (void)easy, (void)peer, (void)valid_until, (void)version, (void)alpn, (void)early_max;
    if (hash_len > UINT16_MAX || data_len > UINT16_MAX || len > room->left)
        return CURLE_OK;
    memcpy(room->at, &head, sizeof head);
    memcpy(room->at + sizeof head, hash, hash_len);
    memcpy(room->at + sizeof head + hash_len, data, data_len);
    room->at += len;
    room->left -= len;
    return CURLE_OK;
}

size_t http_sessions_save(struct http *h, void *out, size_t cap)
{
    struct room room = {out, cap};

    (void)curl_easy_ssls_export(http_easy(h), on_session, &room);
    return cap - room.left;
}

void http_sessions_load(struct http *h, const void *in, size_t len)
{
    const uint8_t *at = in;
    struct saved head;

    while (len >= sizeof head) {
        memcpy(&head, at, sizeof head);
        at += sizeof head;
        len -= sizeof head;
        if ((size_t)head.peer_len + head.data_len > len)
            return;
        (void)curl_easy_ssls_import(http_easy(h), NULL, at, head.peer_len, at + head.peer_len, head.data_len);
        at += head.peer_len + head.data_len;
        len -= (size_t)head.peer_len + head.data_len;
    }
}

#else /* a libcurl of the system's that keeps its sessions to itself */

size_t http_sessions_save(struct http *h, void *out, size_t cap)
{
    (void)h, (void)out, (void)cap;
    return 0;
}

void http_sessions_load(struct http *h, const void *in, size_t len)
{
    (void)h, (void)in, (void)len;
}

#endif
