#include "update/history.h"

#include "base/log.h"

#define HISTORY_MAGIC 0x69685753u /* "SWhi" */
#define HISTORY_VERSION 1

_Static_assert(sizeof(((struct history *)0)->kept) <= RECORD_PAYLOAD_MAX, "the history fits a record");

void history_open(struct history *h, const struct store_ops *store, const char *dir)
{
    struct err e = {0};

    h->record = (struct record){.store = store,
                                .dir = dir,
                                .name = "history",
                                .magic = HISTORY_MAGIC,
                                .version = HISTORY_VERSION,
                                .len = sizeof h->kept};
    if (record_load(&h->record, &h->kept, &e) < 0)
        log_warning("history: %s; starting without it", e.text);
}

void history_add(struct history *h, const struct event *event)
{
    struct err e;

    h->kept.ring[h->kept.cnt++ % HISTORY_MAX] = *event;
    if (record_save(&h->record, &h->kept, &e) < 0)
        log_error("%s", e.text);
}

size_t history_read(const struct history *h, uint32_t *from, struct event *out, size_t max)
{
    uint32_t end = h->kept.cnt;
    uint32_t first = end > HISTORY_MAX ? end - HISTORY_MAX : 0;
    size_t n = 0;

    if (*from < first || *from > end)
        *from = *from > end ? end : first;
    for (uint32_t i = *from; i < end && n < max; i++)
        out[n++] = h->kept.ring[i % HISTORY_MAX];
    return n;
}
