/* Values of header fields. */
#include <string.h>
#include <time.h>

#include "oci/http.h"

/* Digits alone, at most 18 of them. */
static bool number_take(const char **text, uint64_t *out)
{
    const char *start = *text;
    uint64_t n = 0;

    for (; **text >= '0' && **text <= '9' && *text - start < 19; (*text)++)
        n = 10 * n + (uint64_t)(**text - '0');
    *out = n;
    return *text > start && *text - start < 19;
}

uint32_t http_retry_after(const char *text, int64_t now)
{
    struct tm tm = {0};
    const char *end = text;
    uint64_t n;
    int64_t then;

    if (number_take(&end, &n) && *end == '\0')
        return n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end)
        return 0;
    then = (int64_t)timegm(&tm);
    if (then <= now)
        return 0;
    return then - now > UINT32_MAX ? UINT32_MAX : (uint32_t)(then - now);
}

bool http_content_range(const char *text, struct http_reply *out)
{
    uint64_t first, last, total = UINT64_MAX;

    if (strncmp(text, "bytes ", 6))
        return false;
    text += 6;
    if (!number_take(&text, &first) || *text++ != '-' || !number_take(&text, &last) || *text++ != '/')
        return false;
    if (*text == '*')
        text++;
    else if (!number_take(&text, &total))
        return false;
    if (*text || last < first || last >= total)
        return false;
    out->range_first = first;
    out->range_last = last;
    out->range_total = total;
    return true;
}
