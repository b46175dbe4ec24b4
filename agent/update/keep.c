#include "update/keep.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "hal/board.h"
#include "update/patience.h"

void keep_state(struct machine *m)
{
    struct err e;

    if (state_save(&m->store, &e) < 0)
        log_error("%s", e.text);
}

void keep_trust(struct machine *m)
{
    struct err e;

    if (state_trust_save(&m->store, &e) < 0)
        log_error("%s", e.text);
}

void keep_slot(struct machine *m, enum slot_id slot)
{
    struct err e;

    if (state_slot_save(&m->store, slot, &e) < 0)
        log_error("%s", e.text);
}

void keep_floor(struct machine *m)
{
    struct state_trust *t = &m->store.trust;
    uint64_t version = t->slot_version[m->booted];

    if (version > t->floor || (version && t->floor == STATE_FLOOR_UNKNOWN))
        t->floor = version;
    patience_time_raise(m, board.clock->wall_s());
    keep_trust(m);
}

static void event_add(struct machine *m, const char *what, enum slot_id slot, const struct digest *tag,
                      const struct err *cause)
{
    const struct slot_record *s = &m->store.slots[slot];
    struct event event = {.when_s = board.clock->wall_s(), .slot = 'A' + slot, .digest = *tag};

    snprintf(event.what, sizeof event.what, "%s", what);
    if (digest_compare(tag, &s->tag) == VERDICT_MATCH)
        snprintf(event.version, sizeof event.version, "%.31s", s->version);
    if (cause) {
        event.code = cause->code;
        snprintf(event.text, sizeof event.text, "%.159s", cause->text);
    }
    history_add(&m->history, &event);
}

void keep_event(struct machine *m, const char *what, enum slot_id slot)
{
    event_add(m, what, slot, &m->store.slots[slot].tag, NULL);
}

void keep_failure(struct machine *m, const char *event, enum slot_id slot, const struct digest *tag)
{
    struct state_failure *f = &m->store.state.failure;

    memset(f, 0, sizeof *f);
    f->code = m->cause.code;
    snprintf(f->event, sizeof f->event, "%s", event);
    memcpy(f->text, m->cause.text, sizeof f->text);
    f->when_s = board.clock->wall_s();
    f->digest = *tag;
    log_error("%s%s: %s", m->label, event, m->cause.text);
    event_add(m, event, slot, tag, &m->cause);
}

bool keep_knows_failure(const struct machine *m)
{
    const struct state_failure *f = &m->store.state.failure;

    return digest_compare(&f->digest, &m->tag.digest) == VERDICT_MATCH && f->code == m->cause.code &&
           !strcmp(f->event, "install") && !strcmp(f->text, m->cause.text);
}

void keep_wear(struct machine *m)
{
    struct slot_bytes *n = &m->progress.slot;

    m->store.state.slot_bytes_written += n->written;
    m->store.state.slot_bytes_kept += n->kept;
    m->store.state.slot_bytes_read += n->read;
    memset(n, 0, sizeof *n);
}
