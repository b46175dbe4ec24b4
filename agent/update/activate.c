#include "update/activate.h"

#include "update/target.h"

/* *whole: every copy is good. */
static int load(const struct conf *c, struct bootrec *r, bool *whole, struct err *e)
{
    struct target_boot boot = target_boot(c);
    struct bootrec_health health;
    int rc = boot.ops->load(boot.arg, r, &health, e);

    *whole = rc == 0 && health.copies_good == boot.ops->caps.copies;
    return rc < 0 ? err_prefix(e, "boot record") : 0;
}

static int store(const struct conf *c, const struct bootrec *r, struct err *e)
{
    struct target_boot boot = target_boot(c);
    int rc = boot.ops->store(boot.arg, r, e);

    return rc < 0 ? err_prefix(e, "boot record") : 0;
}

int activate_disarm(const struct conf *c, enum slot_id slot, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0 || (whole && r.left[slot] == 0 && r.first == slot_other(slot)))
        return rc;
    r.first = slot_other(slot);
    r.left[slot] = 0;
    return store(c, &r, e);
}

int activate_arm(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot;
    r.left[slot] = tries;
    r.left[slot_other(slot)] = tries;
    return store(c, &r, e);
}

int activate_again(const struct conf *c, enum slot_id slot, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0)
        return rc;
    if (r.first != slot || r.left[slot] == 0)
        return err_set(e, ERR_BOOT, "boot record: slot %c is not armed", 'A' + (int)slot);
    r.left[slot]--;
    return store(c, &r, e);
}

int activate_permit(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot_other(slot);
    r.left[slot] = tries;
    r.left[slot_other(slot)] = tries; /* what was loaded may be the older copy */
    return store(c, &r, e);
}

int activate_confirm(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0 || (whole && r.first == slot && r.left[slot] == tries))
        return rc;
    r.first = slot;
    r.left[slot] = tries;
    return store(c, &r, e);
}

int activate_roll_back(const struct conf *c, enum slot_id slot, uint8_t tries, struct err *e)
{
    struct bootrec r;
    bool whole;
    int rc = load(c, &r, &whole, e);

    if (rc < 0)
        return rc;
    r.first = slot_other(slot);
    r.left[slot_other(slot)] = tries;
    r.left[slot] = 0;
    return store(c, &r, e);
}
