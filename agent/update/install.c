#include "update/install.h"

#include <string.h>

#include "base/log.h"
#include "update/activate.h"
#include "update/keep.h"
#include "update/machine_scrub.h"
#include "update/manners.h"
#include "update/patience.h"

#define PACE_BYTES_MIN (1u << 20) /* less says nothing of how fast more would come */

enum machine_state install_failed(struct machine *m)
{
    bool wrote = m->progress.slot.written > 0;

    keep_wear(m);
    manners_end(m);
    if (m->cause.code == ERR_HELD) {
        bool turn = m->cause.after_s > 0, paused = !turn && manners_are_needed(m);

        m->waiting = paused ? m->waiting : m->cause;
        log_info("%swaiting: %s", m->label, m->waiting.text);
        if (turn)
            patience_turn(m);
        if (paused)
            keep_state(m);
        if (turn || paused)
            patience_poll(m);
        else
            patience_failed(m);
        return MACHINE_IDLE;
    }
    if (keep_knows_failure(m) && !wrote) {
        log_warning("%sinstall: as before: %s", m->label, m->cause.text);
    } else {
        keep_failure(m, m->mending ? "mend" : "install", slot_other(m->booted),
                     m->mending ? &machine_other(m)->tag : &m->tag.digest);
        keep_state(m);
    }
    patience_retry(m);
    patience_failed(m);
    return MACHINE_IDLE;
}

/* What a slot held was admitted when it was installed, whatever has been confirmed since: no floor. */
static struct stage_job mend_job(const struct machine *m)
{
    enum slot_id slot = slot_other(m->booted);
    const struct slot_record *s = &m->store.slots[slot];

    return (struct stage_job){.slot = slot, .digest = s->tag, .media = s->media, .asked = true};
}

struct stage_job install_job(const struct machine *m)
{
    enum slot_id slot = slot_other(m->booted);
    const struct slot_record *s = &m->store.slots[slot];

    return (struct stage_job){.slot = slot,
                              .digest = m->tag.digest,
                              .media = m->tag.media,
                              .asked = m->asked,
                              .booted = m->store.slots[m->booted].config,
                              .failed = s->condition == SLOT_BAD ? s->config : (struct digest){{0}},
                              .floor = m->older ? 0 : m->store.trust.floor};
}

enum machine_state install_begin(struct machine *m, bool mend)
{
    struct stage_job job;

    m->mending = mend;
    job = mend ? mend_job(m) : install_job(m);
    scrubs_end(m);
    manners_bind(m, m->asked);
    m->asked = m->older = false;
    memset(&m->progress, 0, sizeof m->progress);
    if (worker_deploy(m->worker, &job, m->conf->trust.required, &m->cause) < 0)
        return install_failed(m);
    return MACHINE_INSTALLING;
}

int install_mark(struct machine *m, struct err *e)
{
    enum slot_id slot = slot_other(m->booted);
    struct slot_record *s = &m->store.slots[slot];
    int rc = activate_disarm(m->conf, slot, e);

    if (rc < 0 || m->mending)
        return rc;
    memset(s, 0, sizeof *s);
    s->condition = SLOT_WRITING;
    s->tag = m->tag.digest;
    s->media = m->tag.media;
    rc = state_slot_save(&m->store, slot, e);
    if (rc == 0)
        log_info("%sinstalling into slot %c", m->label, 'A' + (int)slot);
    return rc;
}

/* A store that failed may have changed the boot record all the same. When that can't be undone either, the trial stays
 * pending: whichever slot starts next, it is not taken for confirmed. */
static void arm_undo(struct machine *m, enum slot_id slot)
{
    struct err e;

    if (activate_disarm(m->conf, slot, &e) == 0)
        m->store.state.trial_slot = 0;
    else
        log_error("%s", e.text);
}

/* It is what it was, and may be gone back to again. */
static enum machine_state mend_done(struct machine *m, enum slot_id slot)
{
    m->store.slots[slot].condition = SLOT_GOOD;
    keep_wear(m);
    if (state_slot_save(&m->store, slot, &m->cause) < 0 ||
        activate_permit(m->conf, slot, (uint8_t)m->conf->update.tries, &m->cause) < 0) {
        m->store.slots[slot].condition = SLOT_DAMAGED;
        keep_slot(m, slot);
        return install_failed(m);
    }
    log_info("slot %c is mended", 'A' + (int)slot);
    keep_event(m, "mended", slot);
    keep_state(m);
    patience_poll(m);
    return MACHINE_IDLE;
}

/* What runs has another manifest now, and with it perhaps a higher version. */
static enum machine_state install_same(struct machine *m)
{
    struct slot_record *s = &m->store.slots[m->booted];

    s->tag = m->tag.digest;
    s->media = m->tag.media;
    m->store.trust.slot_version[m->booted] = m->installed->trust_version;
    keep_floor(m);
    keep_slot(m, m->booted);
    log_info("slot %c has this image already: only its manifest is new", 'A' + (int)m->booted);
    keep_event(m, "adopted", m->booted);
    patience_poll(m);
    return MACHINE_IDLE;
}

/* The slot holds the image and was read back. Order matters: first remember, then arm, so that a cut between the two
 * finds a verified slot and only has to arm it again. */
enum machine_state install_done(struct machine *m)
{
    enum slot_id slot = slot_other(m->booted);
    struct slot_record *s = &m->store.slots[slot];
    const struct stage_done *d = m->installed;

    if (d->same)
        return install_same(m);
    m->store.state.scrub[slot].when_s = 0;
    m->store.state.scrub[slot].files = 0;
    if (m->mending)
        return mend_done(m, slot);
    s->condition = SLOT_GOOD;
    s->config = d->config;
    memcpy(s->version, d->version, sizeof s->version);
    s->installed_s = board.clock->wall_s();
    s->app = d->app;
    s->app_cnt = d->app.arg_cnt > 0;
    s->disk_len = d->disk_len;
    s->disk_xxh64 = d->disk_xxh64;
    if (!m->source[0] && d->bytes_fetched >= PACE_BYTES_MIN && d->fetch_ms > 0)
        m->store.state.fetch_bytes_s = d->bytes_fetched * 1000 / d->fetch_ms;
    keep_wear(m);
    manners_end(m);
    memcpy(m->store.state.peak_kib, m->worker->peak_kib, sizeof m->worker->peak_kib);
    m->store.state.trial_slot = 1 + (uint32_t)slot;
    m->store.trust.slot_version[slot] = d->trust_version;
    patience_time_raise(m, d->signed_s);
    if (state_slot_save(&m->store, slot, &m->cause) < 0 || state_trust_save(&m->store, &m->cause) < 0 ||
        state_save(&m->store, &m->cause) < 0 ||
        activate_arm(m->conf, slot, (uint8_t)m->conf->update.tries, &m->cause) < 0) {
        arm_undo(m, slot);
        return install_failed(m);
    }
    log_info("%sslot %c is verified and armed: %s", m->label, 'A' + (int)slot, s->version);
    keep_event(m, "installed", slot);
    return machine_reboot(m);
}
