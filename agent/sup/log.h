/* The app's output: a ring of fixed size, lines of stdout and stderr in the order they came, each with its time; the
 * oldest bytes make room. It stands in memory and in a file of that size (agent/FORMAT.md, "App log"), by which it
 * outlives agentd.
 */
#ifndef SLIPWAY_SUP_LOG_H
#define SLIPWAY_SUP_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app_log {
    uint64_t end; /* bytes ever written */
    char ring[CONFIG_APP_LOG_KB * 1024];
    int fd;         /* of the file; 0 or less: none */
    bool line_open; /* the last byte was no line's end */
};

/* Take up what the file at `path` holds, or make it. Without a file (it can't be made, it is damaged beyond the ring's
 * bounds) the log begins empty; a write that fails is warned of once, and the file left alone from then on. */
void app_log_open(struct app_log *l, const char *path);
/* Bytes as they come. */
void app_log_append(struct app_log *l, const void *data, size_t len);
/* The same with the time (seconds since 1970, UTC) in front of each line: "2026-11-23T12:51:16.123Z ". */
void app_log_stamp(struct app_log *l, int64_t wall_ms, const void *data, size_t len);
/* Where the first line begins that bears this time or a later one; the end when none does. */
uint64_t app_log_find(const struct app_log *l, int64_t wall_ms);
/* Copy what lies at absolute position `from` (clamped to what is still held) into `out`. *at receives the position
 * really read from. Returns the number of bytes. */
size_t app_log_read(const struct app_log *l, uint64_t from, char *out, size_t cap, uint64_t *at);

#endif
