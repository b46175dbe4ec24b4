/* Port: the boot record, which the boot loader reads to choose a slot and counts down.
 *
 * The boot loader's side of the contract (boards/CHECKLIST.md): take the first slot in order that has tries left,
 * take one off its tries, store that, start it. When it has used up all tries it starts over with the slots that had
 * some at the last store(); one that store() gave none is never started. Only agent/update/activate.c calls store().
 */
#ifndef SLIPWAY_HAL_BOOTREC_H
#define SLIPWAY_HAL_BOOTREC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum slot_id { SLOT_A = 0, SLOT_B = 1, SLOT_CNT = 2 };

static inline enum slot_id slot_other(enum slot_id s)
{
    return s == SLOT_A ? SLOT_B : SLOT_A;
}

struct bootrec {
    enum slot_id first; /* tried first; the other one is second */
    uint8_t left
        [SLOT_CNT]; /* starts left before the boot loader passes the slot over; 0..9. Some boot loaders have
                               one count: of the slot that is not first they know whether it has any */
};

struct bootrec_caps {
    bool atomic; /* a cut during store() leaves the old record or the new one */
    bool
        one_start; /* it has no count: when reset.restart() asks for it, a slot that is first and on trial is started
                       once, and after that the other one again */
    uint8_t copies; /* how many the medium holds */
};

struct bootrec_health {
    uint8_t copies_good; /* as load() found them */
};

struct bootrec_ops {
    struct bootrec_caps caps;
    /* `arg` is the board's (struct board: bootrec_arg). ERR_BOOT when no copy is good. */
    int (*load)(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e);
    /* Durable when it returns 0. Keeps every variable that is not ours; repairs a bad copy. */
    int (*store)(const void *arg, const struct bootrec *r, struct err *e);
    /* The slot this system was started from. */
    int (*booted)(const void *arg, enum slot_id *out, struct err *e);
};

#endif
