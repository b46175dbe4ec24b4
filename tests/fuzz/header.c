/* Fields of HTTP that say something, answers of token services, and the credentials file. */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "oci/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct auth_challenge challenge;
    static struct http_reply reply;
    static struct auth_host host;
    static char basic[AUTH_BASIC_MAX];
    struct err e;
    char *text;

    if (len-- == 0 || !(text = malloc(len + 1)))
        return 0;
    memcpy(text, data + 1, len);
    text[len] = '\0';
    if (data[0] % 4 == 0)
        (void)auth_challenge_parse(text, &challenge);
    else if (data[0] % 4 == 1)
        (void)auth_config_find(text, len, "registry.example.com", basic, &e);
    else if (data[0] % 4 == 3)
        (void)auth_token_take(&host, text, len, &e);
    else {
        (void)http_retry_after(text, 1767225600);
        (void)http_content_range(text, &reply);
        (void)oci_media_parse(text, len);
    }
    free(text);
    return 0;
}
