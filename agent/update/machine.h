/* The update machine of a target (update/target.h): one state table drives polling, installing, the trial of a new
 * version, confirming and rolling back (agent/DESIGN.md, "Update machine"). A board has one for its system, and one for
 * each app that follows an image of its own; for an app, read its restart where a reboot is spoken of. They share one
 * worker, so one is served after the other.
 *
 *     IDLE -> POLLING -> INSTALLING -> REBOOTING ~~> TRIAL -> IDLE          confirmed
 *       ^--------'-----------'                         '----> REBOOTING     rolled back
 *     IDLE -> POLLING -> PLANNING -> IDLE                                   agentctl plan
 */
#ifndef SLIPWAY_UPDATE_MACHINE_H
#define SLIPWAY_UPDATE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/loop.h"
#include "ctl/plan.h"
#include "ctl/status.h"
#include "hal/board.h"
#include "sup/app.h"
#include "sup/checks.h"
#include "update/history.h"
#include "update/state.h"
#include "update/worker.h"

enum machine_state {
    MACHINE_IDLE = 0,
    MACHINE_POLLING,
    MACHINE_INSTALLING,
    MACHINE_REBOOTING,
    MACHINE_TRIAL,
    MACHINE_PLANNING,
    MACHINE_STATE_CNT
};

enum machine_event {
    EVENT_POLL_DUE = 0,
    EVENT_ASKED,    /* agentctl update */
    EVENT_RESOLVED, /* the tag's digest is known: m->tag */
    EVENT_INSTALLED,
    EVENT_WORKER_FAILED, /* m->cause */
    EVENT_HEALTHY,       /* the app was up for the stable time, or the image starts none */
    EVENT_CHECKED,       /* the system's own checks found nothing */
    EVENT_UNHEALTHY,     /* the app was given up, or a check found something: m->cause */
    EVENT_APP_STOPPED,
    EVENT_CONFIRM,  /* agentctl confirm */
    EVENT_ROLLBACK, /* agentctl rollback */
    EVENT_PLAN,     /* agentctl plan */
    EVENT_PLANNED,  /* stage has counted */
    MACHINE_EVENT_CNT
};

enum plan_state { PLAN_NONE = 0, PLAN_MAKING, PLAN_READY, PLAN_FAILED };

/* The last one that was asked for (update/machine_plan.h). */
struct machine_plan {
    enum plan_state state;
    struct err cause;   /* of PLAN_FAILED */
    struct err waiting; /* why what the tag names is not installed by itself; code 0: it will be */
    struct digest tag;
    bool current; /* the booted slot has it */
    bool counted; /* found is filled */
    struct plan_found found;
};

/* What a board has once, for all its targets. */
struct shared {
    struct worker worker;
    struct manners {
        uint32_t metered; /* the worker's meter at the last look */
        uint64_t unsaved; /* bytes since the day's sum was saved */
        uint64_t day_ms;  /* when this day's began, for a board without a clock */
    } manners;            /* update/manners.h */
    struct scrubs {
        struct worker worker;
        struct loop_timer timer;
        uint64_t read_ms[SLOT_CNT]; /* when each was read, or agentd started */
        uint32_t todo;              /* bit n: slot n */
        bool by_hand;
        enum slot_id slot; /* the one that is read now */
        struct stage_progress progress;
    } scrubs; /* update/machine_scrub.h; of the system's slots */
};

struct machine {
    struct loop *loop;
    const struct conf *conf; /* the target's view */
    struct machine *lead;    /* the system's, which has the hold and the day's sum for all */
    struct machine *next;    /* of all machines, beginning with the system's; NULL after the last */
    struct worker *worker;   /* these three are those of all */
    struct manners *manners;
    struct scrubs *scrubs;
    char label[CONF_NAME_MAX + 8]; /* "app web: " in front of what is logged; "" for the system */
    char root[CONF_PATH_MAX];      /* of the running version */
    struct state_store store;
    struct history history;
    struct app app;
    struct checks checks; /* of a system on trial, once its app is healthy */
    enum machine_state state;
    bool halted;                    /* an app that ends with the system */
    bool queued;                    /* its poll is due, and another target has the worker */
    char source[WORKER_SOURCE_MAX]; /* an image layout in place of the registry (oci/layout.h), or "" */
    enum slot_id booted;
    struct fetch_resolved tag; /* as last resolved */
    bool asked;            /* a person wants this: try a failed digest again, install without `automatic` */
    uint32_t failures;     /* of polls and installs, in a row: they set the back-off */
    uint32_t wait_s;       /* how long the registry asked to be left alone when it last failed */
    struct err poll_cause; /* of the last one */
    struct err waiting;    /* why a version that is known is not installed yet; code 0: it is not so */
    uint64_t again_ms;     /* the wait has an end then; 0: that is not known */
    bool older;            /* a person wants this even under the floor */
    uint64_t seen_ms;      /* when the tag's digest was seen first; 0: before this start */
    int64_t polled_s;
    struct {
        struct digest digest; /* of the tag whose install failed last */
        uint32_t cnt;         /* times in a row */
        uint64_t again_ms;    /* not by itself before this */
    } retry;
    struct {
        struct digest digest; /* of the tag whose image is for others first, by its rollout */
        struct err cause;
        int64_t at_s; /* this device's turn; INT64_MAX: never */
        bool waits;   /* it has not come */
    } turn;
    bool mending; /* the install is of what the other slot held before */
    struct stage_progress progress;
    const struct stage_done *installed;
    struct err cause;
    struct machine_plan plan;
    bool unconfirmed; /* the boot record could not be stored at the start */
    bool ending;      /* agentd itself is to end, once all apps have; the lead's */
    struct loop_timer poll_timer, health_timer, restart_timer;
};

static inline struct slot_record *machine_booted(struct machine *m)
{
    return &m->store.slots[m->booted];
}

static inline struct slot_record *machine_other(struct machine *m)
{
    return &m->store.slots[slot_other(m->booted)];
}

static inline bool machine_is_held(const struct machine *m)
{
    return m->lead->store.state.held;
}

/* The system's: read what is remembered, see what was booted and decide what that means, start the app, plan the first
 * poll. *shared is filled. */
int machine_start(struct machine *m, struct shared *shared, struct loop *loop, const struct conf *conf,
                  const char *conf_path, struct err *e);
/* The same for an app, whose view *conf is. */
int machine_start_beside(struct machine *m, struct machine *lead, const struct conf *conf, struct err *e);
/* What agentctl asks for; ERR_STATE when it does not fit. */
int machine_update(struct machine *m, bool older, const char *source, struct err *e);
int machine_confirm(struct machine *m, struct err *e);
int machine_rollback(struct machine *m, struct err *e);
/* Hold: keep what runs, install nothing new; kept across reboots. */
int machine_hold(struct machine *m, bool hold, struct err *e);
/* Begin to read the slots, to see whether they are as they were written. */
int machine_scrub(struct machine *m, struct err *e);
/* Begin to make a plan; what came of it is told by machine_plan(). */
int machine_look(struct machine *m, const char *source, struct err *e);
void machine_plan(const struct machine *m, struct plan *out);
void machine_status(struct machine *m, struct status *out);
const char *machine_state_name(enum machine_state s);
/* The machine of an app by its name, or of the system (""); NULL: there is none. */
struct machine *machine_find(struct machine *lead, const char *name);
/* Part of the machine: does the event have a meaning in the present state? Then it may come. */
bool machine_fits(const struct machine *m, enum machine_event ev);
void machine_event(struct machine *m, enum machine_event ev);
/* Stop the app and restart the board; part of the machine. The app's end comes as an event, perhaps before this returns. */
enum machine_state machine_reboot(struct machine *m);
/* These two for the lead. A child of agentd ended. */
void machine_reap(struct machine *m, pid_t pid, int status, long maxrss_kib);
/* End the workers and all apps; the loop is stopped when they are gone. */
void machine_stop(struct machine *m);

#endif
