/* The app's output: a ring of fixed size in memory. Lines of stdout and stderr in the order they came; the oldest
 * bytes make room. */
#ifndef SLIPWAY_SUP_LOG_H
#define SLIPWAY_SUP_LOG_H

#include <stddef.h>
#include <stdint.h>

struct app_log {
    uint64_t end; /* bytes ever written */
    char ring[CONFIG_APP_LOG_KB * 1024];
};

void app_log_append(struct app_log *l, const void *data, size_t len);
/* Copy what lies at absolute position `from` (clamped to what is still held) into `out`. *at receives the position
 * really read from. Returns the number of bytes. */
size_t app_log_read(const struct app_log *l, uint64_t from, char *out, size_t cap, uint64_t *at);

#endif
