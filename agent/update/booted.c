#include "update/booted.h"

#include "base/log.h"
#include "update/activate.h"
#include "update/keep.h"
#include "update/target.h"

void booted_record_failed(struct machine *m, const struct err *e)
{
    log_error("%s%s", m->label, e->text);
    m->unconfirmed = true;
    loop_timer_set(m->loop, &m->health_timer, m->conf->update.stable_s * 1000ull);
}

static void booted_confirm(struct machine *m)
{
    struct err e;

    if (activate_confirm(m->conf, m->booted, (uint8_t)m->conf->update.tries, &e) < 0)
        booted_record_failed(m, &e);
}

/* Two records say so. A cut may come when one of them could not be written. */
static bool was_given_up(const struct machine *m)
{
    const struct slot_record *s = &m->store.slots[m->booted];

    return s->condition == SLOT_BAD || state_digest_failed(&m->store.state, &s->tag);
}

bool booted_settle(struct machine *m)
{
    struct err e;

    if (!was_given_up(m) || !state_slot_bootable(machine_other(m))) {
        booted_confirm(m);
        return false;
    }
    if (activate_roll_back(m->conf, m->booted, (uint8_t)m->conf->update.tries, &e) == 0)
        return true;
    booted_record_failed(m, &e);
    return false;
}

/* Remember why before the boot record changes: a cut between the two finds a bad slot booted and goes back then. */
int booted_give_up(struct machine *m, const char *event, enum slot_id slot, struct err *e)
{
    struct slot_record *s = &m->store.slots[slot];

    keep_failure(m, event, slot, &s->tag);
    state_digest_fail(&m->store.state, &s->tag);
    s->condition = SLOT_BAD;
    m->store.state.trial_slot = 0;
    keep_slot(m, slot);
    keep_state(m);
    return activate_roll_back(m->conf, slot, (uint8_t)m->conf->update.tries, e);
}

/* A trial is pending, but was never armed: a cut or a failure came between. What is armed must be whole; and a trial
 * whose failure could not be remembered might be repeated for ever. */
static void trial_resume(struct machine *m, enum slot_id slot)
{
    uint8_t tries = (uint8_t)m->conf->update.tries;
    bool whole = m->store.slots[slot].condition == SLOT_GOOD;
    struct err e;

    m->store.state.trial_slot = whole ? 1 + (uint32_t)slot : 0;
    if (state_save(&m->store, &e) < 0)
        log_error("slot %c is not armed: %s", 'A' + (int)slot, e.text);
    else if (whole) {
        log_info("%sslot %c was verified but not armed: arming it now", m->label, 'A' + (int)slot);
        if (activate_arm(m->conf, slot, tries, &e) == 0)
            m->state = MACHINE_REBOOTING;
        else
            booted_record_failed(m, &e);
        return;
    }
    booted_confirm(m);
}

/* The boot loader started a slot on trial once and went back, or was cut off before that: ask again. */
static void trial_again(struct machine *m, enum slot_id slot)
{
    struct err e;

    log_info("slot %c did not get as far as a confirmation: once more", 'A' + (int)slot);
    if (activate_again(m->conf, slot, &e) == 0)
        m->state = MACHINE_REBOOTING;
    else
        booted_record_failed(m, &e);
}

/* A version was armed, but the other slot is running: either it was never started, or the boot loader used up its
 * tries. */
static int trial_missed(struct machine *m, struct err *e)
{
    enum slot_id slot = slot_other(m->booted);
    struct bootrec r;
    struct bootrec_health health;
    struct target_boot boot = target_boot(m->conf);
    int rc = boot.ops->load(boot.arg, &r, &health, e);

    if (rc < 0)
        return rc;
    if (r.first != slot) {
        trial_resume(m, slot);
        return 0;
    }
    if (boot.ops->caps.one_start && r.left[slot] > 1) {
        trial_again(m, slot);
        return 0;
    }
    err_set(&m->cause, ERR_BOOT,
            "slot %c never got as far as a confirmation in %u starts; %s fell back to slot %c",
            'A' + (int)slot, m->conf->update.tries, target_is_app(m->conf) ? "the agent" : "the boot loader",
            'A' + (int)m->booted);
    if (booted_give_up(m, "trial", slot, e) < 0)
        booted_record_failed(m, e);
    return 0;
}

int booted_judge(struct machine *m, struct err *e)
{
    uint32_t trial = m->store.state.trial_slot;

    if (trial == 1 + (uint32_t)m->booted) {
        m->state = MACHINE_TRIAL;
        return 0;
    }
    if (trial)
        return trial_missed(m, e);
    if (booted_settle(m))
        m->state = MACHINE_REBOOTING;
    return 0;
}
