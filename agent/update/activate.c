#include "update/activate.h"

/* *whole: every copy is good. */
static int load(const struct board *b, struct bootrec *r, bool *whole, struct err *e)
{
    struct bootrec_health health;
    int rc = b->bootrec->load(b->bootrec_arg, r, &health, e);

    *whole = rc == 0 && health.copies_good == b->bootrec->caps.copies;
    return rc < 0 ? err_prefix(e, "boot record") : 0;
}

static int store(const struct board *b, const struct bootrec *r, struct err *e)
{
    int rc = b->bootrec->store(b->bootrec_arg, r, e);

    return rc < 0 ? err_prefix(e, "boot record") : 0;
}

int activate_disarm(const struct board *b, enum slot_id slot, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0 || (whole && r.left[slot] == 0 && r.first == slot_other(slot)))
        return rc;
    r.first = slot_other(slot);
    r.left[slot] = 0;
    return store(b, &r, e);
}

int activate_arm(const struct board *b, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot;
    r.left[slot] = tries;
    r.left[slot_other(slot)] = tries;
    return store(b, &r, e);
}

int activate_again(const struct board *b, enum slot_id slot, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0)
        return rc;
    if (r.first != slot || r.left[slot] == 0)
        return err_set(e, ERR_BOOT, "boot record: slot %c is not armed", 'A' + (int)slot);
    r.left[slot]--;
    return store(b, &r, e);
}

int activate_permit(const struct board *b, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot_other(slot);
    r.left[slot] = tries;
    r.left[slot_other(slot)] = tries; /* what was loaded may be the older copy */
    return store(b, &r, e);
}

int activate_confirm(const struct board *b, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0 || (whole && r.first == slot && r.left[slot] == tries))
        return rc;
    r.first = slot;
    r.left[slot] = tries;
    return store(b, &r, e);
}

int activate_roll_back(const struct board *b, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(b, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot_other(slot);
    r.left[slot_other(slot)] = tries;
    r.left[slot] = 0;
    return store(b, &r, e);
}
