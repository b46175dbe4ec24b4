/* What people ask of the machine, by agentctl: it fits the present state and becomes an event, or it is refused. */
#include <stdio.h>
#include <string.h>

#include "oci/layout.h"
#include "update/keep.h"
#include "update/machine.h"

static int ask_check(const struct machine *m, enum machine_event ev, struct err *e)
{
    return machine_fits(m, ev)
               ? 0
               : err_set(e, ERR_STATE, "not while the agent is %s", machine_state_name(m->state));
}

static int machine_ask(struct machine *m, enum machine_event ev, struct err *e)
{
    int rc = ask_check(m, ev, e);

    if (rc == 0)
        machine_event(m, ev);
    return rc;
}

static int image_need(const struct machine *m, struct err *e)
{
    return m->conf->registry.host[0]
               ? 0
               : err_set(e, ERR_CONFIG, "no image to follow: set image under [registry] in agent.conf");
}

/* Where the next poll looks: at the registry, or in the image layout that a person named. */
static int source_set(struct machine *m, const char *source, struct err *e)
{
    if ((m->state == MACHINE_POLLING || m->queued) && strcmp(source, m->source) != 0)
        return err_set(e, ERR_STATE, "not while the agent looks elsewhere");
    if (strlen(source) >= sizeof m->source)
        return err_set(e, ERR_LIMIT, "the name of the source is too long");
    if (source[0] && strncmp(source, LAYOUT_DIR "/", strlen(LAYOUT_DIR) + 1) != 0 &&
        strncmp(source, LAYOUT_ARCHIVE "/", strlen(LAYOUT_ARCHIVE) + 1) != 0)
        return err_set(e, ERR_FORMAT, "want oci:/DIRECTORY or oci-archive:/FILE, got \"%.80s\"", source);
    snprintf(m->source, sizeof m->source, "%s", source);
    return 0;
}

int machine_look(struct machine *m, const char *source, struct err *e)
{
    if (image_need(m, e) < 0 || ask_check(m, EVENT_PLAN, e) < 0 || source_set(m, source, e) < 0)
        return e->code;
    machine_event(m, EVENT_PLAN);
    return 0;
}

int machine_update(struct machine *m, bool older, const char *source, struct err *e)
{
    if (image_need(m, e) < 0)
        return e->code;
    if (machine_is_held(m))
        return err_set(e, ERR_STATE, "updates are held; `agentctl release` lets them go on");
    if (ask_check(m, EVENT_ASKED, e) < 0 ||
        source_set(m, source, e) < 0) /* what is refused is not remembered */
        return e->code;
    m->asked = true;
    m->older = older;
    machine_event(m, EVENT_ASKED);
    return 0;
}

int machine_confirm(struct machine *m, struct err *e)
{
    if (m->state != MACHINE_TRIAL)
        return err_set(e, ERR_STATE, "there is no version on trial");
    return machine_ask(m, EVENT_CONFIRM, e);
}

int machine_rollback(struct machine *m, struct err *e)
{
    /* a board with no record at all was never updated: its other slot really is empty */
    bool never_updated =
        machine_booted(m)->condition == SLOT_EMPTY && machine_other(m)->condition == SLOT_EMPTY;

    if (never_updated || !state_slot_bootable(machine_other(m)))
        return err_set(e, ERR_STATE, "slot %c holds no good version to go back to",
                       'A' + (int)slot_other(m->booted));
    return machine_ask(m, EVENT_ROLLBACK, e);
}

int machine_hold(struct machine *m, bool hold, struct err *e)
{
    int rc;

    if (m != m->lead)
        return err_set(e, ERR_STATE, "a hold is for the whole board, not for one app");
    if (m->store.state.held == hold)
        return 0;
    m->store.state.held = hold;
    rc = state_save(&m->store, e);
    if (rc < 0) {
        m->store.state.held = !hold;
        return rc;
    }
    keep_event(m, hold ? "held" : "released", m->booted);
    return 0;
}
