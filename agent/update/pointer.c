#include "update/pointer.h"

#include <string.h>

#include "hal/board.h"
#include "update/record.h"

#define POINTER_MAGIC 0x74705753u /* "SWpt" */
#define POINTER_VERSION 1

struct pointer {
    uint32_t first; /* enum slot_id */
    uint8_t left[SLOT_CNT];
    uint8_t zero[2];
};

/* The name and the configuration live longer than any record that is open. */
static struct record record_of(const struct conf *c)
{
    return (struct record){.store = board.store,
                           .dir = c->agent.state_dir,
                           .name = "pointer",
                           .magic = POINTER_MAGIC,
                           .version = POINTER_VERSION,
                           .len = sizeof(struct pointer)};
}

static int load_from(struct record *r, struct bootrec *out, struct err *e)
{
    struct pointer p;
    int rc = record_load(r, &p, e);

    if (rc < 0)
        return rc;
    *out = (struct bootrec){.first = p.first == SLOT_B ? SLOT_B : SLOT_A};
    memcpy(out->left, p.left, sizeof out->left);
    return rc;
}

/* A copy that was bad has been mended by the time this returns; before the first store there is none, and that is whole. */
static int pointer_load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    struct record r = record_of(arg);
    int rc = load_from(&r, out, e);

    health->copies_good = STORE_COPIES;
    return rc < 0 ? rc : 0;
}

static int pointer_store(const void *arg, const struct bootrec *b, struct err *e)
{
    struct record r = record_of(arg);
    struct pointer p = {.first = (uint32_t)b->first};
    struct bootrec old;

    /* for the sequence; when nothing can be read of it, it begins anew */
    (void)load_from(&r, &old, e);
    memcpy(p.left, b->left, sizeof p.left);
    return record_save(&r, &p, e) < 0 ? err_prefix(e, "pointer") : 0;
}

static int pointer_booted(const void *arg, enum slot_id *out, struct err *e)
{
    return pointer_take(arg, 0, out, e);
}

/* As on every boot record, tries that are used up on both sides say nothing any more: the first one it is. */
int pointer_take(const struct conf *c, uint32_t trial, enum slot_id *out, struct err *e)
{
    struct bootrec_health health;
    struct bootrec b;
    int rc = pointer_load(c, &b, &health, e);

    if (rc < 0)
        return err_prefix(e, "pointer");
    *out = b.left[b.first] || !b.left[slot_other(b.first)] ? b.first : slot_other(b.first);
    if (trial != 1 + (uint32_t)*out || !b.left[*out])
        return 0;
    b.left[*out]--;
    return pointer_store(c, &b, e);
}

const struct bootrec_ops pointer_ops = {
    .caps = {.atomic = true, .copies = STORE_COPIES},
    .load = pointer_load,
    .store = pointer_store,
    .booted = pointer_booted,
};
