#include "sup/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"

/* A power cut may leave a new head with old bytes, which is a wrong line and no wrong program. */
struct log_head {
    char magic[8];
    uint32_t version;
    uint32_t cap;
    uint64_t end;
    uint64_t zero;
};
_Static_assert(sizeof(struct log_head) == 32, "the head is what FORMAT.md says");

static const struct log_head head_want = {"SLIPLOG", 1, sizeof(((struct app_log *)0)->ring), 0, 0};

/* --- file ---------------------------------------------------------------------------------------------------------- */

static void file_drop(struct app_log *l)
{
    close(l->fd);
    l->fd = -1;
}

static void file_write(struct app_log *l, const void *data, size_t len, size_t at)
{
    struct log_head head = head_want;

    if (l->fd <= 0)
        return;
    head.end = l->end;
    if (!io_pwrite_full(l->fd, data, len, (off_t)(sizeof head + at)) &&
        !io_pwrite_full(l->fd, &head, sizeof head, 0))
        return;
    log_warning("app log: %s; it goes on in memory only", strerror(errno));
    file_drop(l);
}

static bool file_take(struct app_log *l)
{
    struct log_head head;

    if (io_pread_full(l->fd, &head, sizeof head, 0) != (ssize_t)sizeof head)
        return false;
    l->end = head.end;
    head.end = 0;
    return !memcmp(&head, &head_want, sizeof head) &&
           io_pread_full(l->fd, l->ring, sizeof l->ring, sizeof head) == (ssize_t)sizeof l->ring;
}

void app_log_open(struct app_log *l, const char *path)
{
    l->fd = IO_RETRY(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (l->fd < 0) {
        log_warning("app log: %s: %s; it is kept in memory only", path, strerror(errno));
        return;
    }
    if (file_take(l)) {
        l->line_open = l->end && l->ring[(l->end - 1) % sizeof l->ring] != '\n';
        return;
    }
    l->end = 0;
    memset(l->ring, 0, sizeof l->ring);
    if (ftruncate(l->fd, 0) || ftruncate(l->fd, (off_t)(sizeof(struct log_head) + sizeof l->ring)))
        file_drop(l);
}

/* --- ring ---------------------------------------------------------------------------------------------------------- */

void app_log_append(struct app_log *l, const void *data, size_t len)
{
    const char *from = data;
    size_t cap = sizeof l->ring;

    if (len)
        l->line_open = from[len - 1] != '\n';

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
        file_write(l, from, part, at);
        from += part;
        len -= part;
    }
}

static size_t time_write(char *out, size_t cap, int64_t wall_ms)
{
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    size_t n = gmtime_r(&s, &tm) ? strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm) : 0;

    return n + (size_t)snprintf(out + n, cap - n, ".%03dZ ", (int)(wall_ms % 1000));
}

/* One append for as many whole lines as the buffer takes: the file is written for each. */
void app_log_stamp(struct app_log *l, int64_t wall_ms, const void *data, size_t len)
{
    char stamp[40], out[4096];
    size_t stamp_len = time_write(stamp, sizeof stamp, wall_ms), n = 0;
    const char *from = data;

    while (len) {
        const char *end = memchr(from, '\n', len);
        size_t part = end ? (size_t)(end - from) + 1 : len;

        if (n + stamp_len + 1 > sizeof out) {
            app_log_append(l, out, n);
            n = 0;
        }
        if (n ? out[n - 1] == '\n' : !l->line_open) {
            memcpy(out + n, stamp, stamp_len);
            n += stamp_len;
        }
        part = part < sizeof out - n ? part : sizeof out - n;
        memcpy(out + n, from, part);
        n += part;
        from += part;
        len -= part;
    }
    app_log_append(l, out, n);
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

static uint64_t line_end(const struct app_log *l, uint64_t at)
{
    while (at < l->end && l->ring[at % sizeof l->ring] != '\n')
        at++;
    return at < l->end ? at + 1 : at;
}

/* Times are written so that they sort as they stand. */
uint64_t app_log_find(const struct app_log *l, int64_t wall_ms)
{
    bool cut = l->end > sizeof l->ring;
    uint64_t at = cut ? line_end(l, l->end - sizeof l->ring) : 0;
    char want[40], has[40];
    size_t len = time_write(want, sizeof want, wall_ms);

    for (; at < l->end; at = line_end(l, at)) {
        uint64_t from;

        if (app_log_read(l, at, has, len, &from) == len && memcmp(has, want, len) >= 0)
            return at;
    }
    return l->end;
}
