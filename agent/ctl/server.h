/* The control server of agentd: one JSON object a line, over a UNIX socket, and over a serial line in frames with a
 * CRC (agent/FORMAT.md, "Control protocol"). Fixed number of clients, fixed buffers; a slow or mad client is dropped.
 *
 *     {"v":1,"cmd":"status"}            ->  {"v":1,"ok":true,"status":{...}}
 *     {"v":1,"cmd":"rollback"}          ->  {"v":1,"ok":false,"code":"state","error":"no other version to go to"}
 */
#ifndef SLIPWAY_CTL_SERVER_H
#define SLIPWAY_CTL_SERVER_H

#include "base/conf.h"
#include "base/err.h"
#include "base/event.h"
#include "base/loop.h"
#include "ctl/plan.h"
#include "ctl/status.h"
#include "hal/serial.h"
#include "sup/log.h"

/* What a person may order. Each has a verb of its name. */
enum ctl_order {
    CTL_NO_ORDER = 0,
    CTL_PLAN,      /* make a plan; the owner's plan() tells how far it is */
    CTL_UPDATE,    /* poll now and install what is there, failed digest or not */
    CTL_DOWNGRADE, /* the same, under the floor of versions, too */
    CTL_CONFIRM,   /* end the trial now; ERR_STATE when there is none */
    CTL_ROLLBACK,  /* go back to the other slot; ERR_STATE when it holds no good version */
    CTL_HOLD,      /* install nothing new until `release` */
    CTL_RELEASE,
    CTL_SCRUB, /* read the slots now */
};

/* What the server asks of its owner. All answer at once; plans, updates and a rollback only start. */
struct ctl_owner {
    void *ctx;
    /* What the others are asked about: the system ("") or an app by its name. NULL and *e: there is none. */
    void *(*target)(void *ctx, const char *app, struct err *e);
    void (*status)(void *target, struct status *out); /* fill what is all zero */
    void (*plan)(void *target, struct plan *out);
    /* `source`: of a plan, an update and a downgrade, the image layout to look into; "": the registry. */
    int (*order)(void *target, enum ctl_order order, const char *source, struct err *e);
    /* As history_read() of update/history.h. */
    size_t (*history)(void *target, uint32_t *from, struct event *out, size_t max);
    const struct app_log *(*log)(void *target);
    /* As conf_show() of base/conf.h for the file of this agent. *changed: it is not what the agent read at its start. */
    int (*config)(void *ctx, void (*see)(void *see_ctx, const struct conf_value *v), void *see_ctx,
                  const char **path, bool *changed, struct err *e);
};

struct ctl_server; /* one per process */

/* Listen on conf->socket (mode 0660, its directory is made) and open conf->serial where one is set. A serial line
 * that can't be opened is warned of, not fatal. */
struct ctl_server *ctl_server_start(struct loop *loop, const struct conf_control *conf,
                                    const struct serial_ops *serial, const struct ctl_owner *owner,
                                    struct err *e);

#endif
