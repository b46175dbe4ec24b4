#include "sup/log.h"

#include <string.h>

void app_log_append(struct app_log *l, const void *data, size_t len)
{
    const char *from = data;
    size_t cap = sizeof l->ring;

    if (len > cap) {
        l->end += len - cap;
        from += len - cap;
        len = cap;
    }
    while (len) {
        size_t at = (size_t)(l->end % cap);
        size_t part = len < cap - at ? len : cap - at;

        memcpy(l->ring + at, from, part);
        l->end += part;
        from += part;
        len -= part;
    }
}

size_t app_log_read(const struct app_log *l, uint64_t from, char *out, size_t cap, uint64_t *at)
{
    uint64_t oldest = l->end > sizeof l->ring ? l->end - sizeof l->ring : 0;
    size_t done = 0;

    if (from < oldest)
        from = oldest;
    if (from > l->end)
        from = l->end;
    *at = from;
    while (done < cap && from < l->end) {
        size_t pos = (size_t)(from % sizeof l->ring);
        size_t part = sizeof l->ring - pos;

        if (part > l->end - from)
            part = (size_t)(l->end - from);
        if (part > cap - done)
            part = cap - done;
        memcpy(out + done, l->ring + pos, part);
        done += part;
        from += part;
    }
    return done;
}
