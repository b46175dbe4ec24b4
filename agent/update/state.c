#include "update/state.h"

#include <string.h>

#include "base/log.h"

#define STATE_MAGIC 0x74735753u /* "SWst" */
#define SLOT_MAGIC 0x6c735753u  /* "SWsl" */
#define TRUST_MAGIC 0x75745753u /* "SWtu" */
#define STATE_VERSION 1

_Static_assert(sizeof(struct slot_record) <= RECORD_PAYLOAD_MAX, "a slot record fits a record");

static int record_open(struct record *r, const struct store_ops *store, const char *dir, const char *name,
                       uint32_t magic, void *payload, uint32_t len)
{
    struct err e = {0};
    int rc;

    *r = (struct record){
        .store = store, .dir = dir, .name = name, .magic = magic, .version = STATE_VERSION, .len = len};
    rc = record_load(r, payload, &e);
    if (rc < 0)
        log_warning("state: %s: %s; starting without it", name, e.text);
    return rc;
}

void state_open(struct state_store *s, const struct store_ops *store, const char *dir)
{
    memset(s, 0, sizeof *s);
    record_open(&s->state_record, store, dir, "state", STATE_MAGIC, &s->state, sizeof s->state);
    if (record_open(&s->trust_record, store, dir, "trust", TRUST_MAGIC, &s->trust, sizeof s->trust) < 0)
        s->trust.floor = STATE_FLOOR_UNKNOWN;
    record_open(&s->slot_records[SLOT_A], store, dir, "slot-a", SLOT_MAGIC, &s->slots[SLOT_A],
                sizeof s->slots[0]);
    record_open(&s->slot_records[SLOT_B], store, dir, "slot-b", SLOT_MAGIC, &s->slots[SLOT_B],
                sizeof s->slots[0]);
}

int state_save(struct state_store *s, struct err *e)
{
    s->state.writes++;
    return record_save(&s->state_record, &s->state, e) < 0 ? err_prefix(e, "state") : 0;
}

int state_trust_save(struct state_store *s, struct err *e)
{
    s->state.writes++;
    return record_save(&s->trust_record, &s->trust, e) < 0 ? err_prefix(e, "trust record") : 0;
}

int state_slot_save(struct state_store *s, enum slot_id slot, struct err *e)
{
    s->state.writes++;
    return record_save(&s->slot_records[slot], &s->slots[slot], e) < 0 ? err_prefix(e, "slot record") : 0;
}

bool state_slot_bootable(const struct slot_record *s)
{
    return s->condition == SLOT_GOOD || s->condition == SLOT_EMPTY;
}

static struct digest *failed_find(const struct state *s, const struct digest *d)
{
    for (int i = 0; i < STATE_FAILED_MAX; i++)
        if (!digest_is_zero(d) && digest_compare(&s->failed[i], d) == VERDICT_MATCH)
            return (struct digest *)(uintptr_t)&s->failed[i];
    return NULL;
}

bool state_digest_failed(const struct state *s, const struct digest *d)
{
    return failed_find(s, d) != NULL;
}

void state_digest_fail(struct state *s, const struct digest *d)
{
    if (digest_is_zero(d) || failed_find(s, d))
        return;
    s->failed[s->failed_cnt++ % STATE_FAILED_MAX] = *d;
}

void state_digest_forgive(struct state *s, const struct digest *d)
{
    struct digest *held = failed_find(s, d);

    if (held)
        memset(held, 0, sizeof *held);
}
