/* The history: the newest HISTORY_MAX events of a board, kept as one record, for `agentctl history`. Every entry costs
 * one save of the record (8 KiB, twice), so only what changed the board goes in: no polls, no starts.
 */
#ifndef SLIPWAY_UPDATE_HISTORY_H
#define SLIPWAY_UPDATE_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/event.h"
#include "update/record.h"

#define HISTORY_MAX 32

struct history {
    struct record record;
    struct {
        uint32_t cnt; /* of all time; ring[] holds the newest */
        uint32_t zero;
        struct event ring[HISTORY_MAX];
    } kept;
};

/* A damaged record is zeroed, and said in the log. */
void history_open(struct history *h, const struct store_ops *store, const char *dir);
/* An entry that cannot be kept is said in the log; it is no reason to stop. */
void history_add(struct history *h, const struct event *event);
/* Copy up to `max` events from number `*from` (0: the first of all time) on; *from becomes the number of the first one
 * copied, which is later when older ones have left the ring. Returns how many. */
size_t history_read(const struct history *h, uint32_t *from, struct event *out, size_t max);

#endif
