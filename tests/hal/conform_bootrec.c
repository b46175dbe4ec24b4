#include "hal/conform.h"

const char *conform_bootrec(const struct bootrec_ops *ops, const void *arg)
{
    struct bootrec_health health;
    struct bootrec r, back;
    struct err e = {0};

    for (unsigned i = 0; i < 2 * 10 * 10; i++) {
        r = (struct bootrec){i % 2 ? SLOT_B : SLOT_A, {(uint8_t)(i / 2 % 10), (uint8_t)(i / 20)}};
        if (r.left[SLOT_A] == 0 && r.left[SLOT_B] == 0)
            continue;
        if (ops->store(arg, &r, &e) != 0)
            return "store fails";
        if (ops->load(arg, &back, &health, &e) != 0)
            return "load fails after store";
        if (back.first != r.first)
            return "the order is not what was stored";
        if (back.left[r.first] != r.left[r.first])
            return "the tries are not what was stored";
        if ((back.left[slot_other(r.first)] > 0) != (r.left[slot_other(r.first)] > 0))
            return "that the other slot may start is not as it was stored";
        if (health.copies_good > ops->caps.copies)
            return "more good copies than there are";
        if (i > 3 && health.copies_good != ops->caps.copies)
            return "store leaves a copy bad";
    }
    r.left[SLOT_B] = 10;
    if (ops->store(arg, &r, &e) >= 0)
        return "10 tries are stored";
    if (ops->load(arg, &back, &health, &e) != 0 || back.left[SLOT_B] != 9)
        return "a refused store changed the record";
    return NULL;
}
