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

/* What the server asks of its owner. All answer at once; `look`, `update` and `rollback` only start something. */
struct ctl_owner {
    void *ctx;
    void (*status)(void *ctx, struct status *out);
    int (*look)(void *ctx, struct err *e); /* make a plan; `plan` tells how far it is */
    void (*plan)(void *ctx, struct plan *out);
    /* Poll now and install what is there, failed digest or not; with `older`, under the floor of versions, too. */
    int (*update)(void *ctx, bool older, struct err *e);
    int (*confirm)(void *ctx, struct err *e); /* end the trial now; ERR_STATE when there is none */
    int (*rollback)(void *ctx,
                    struct err *e); /* go back to the other slot; ERR_STATE when it holds no good version */
    int (*hold)(void *ctx, struct err *e); /* install nothing new until `release` */
    int (*release)(void *ctx, struct err *e);
    /* As history_read() of update/history.h. */
    size_t (*history)(void *ctx, uint32_t *from, struct event *out, size_t max);
    const struct app_log *log;
};

struct ctl_server; /* one per process */

/* Listen on conf->socket (mode 0660, its directory is made) and open conf->serial where one is set. A serial line
 * that can't be opened is warned of, not fatal. */
struct ctl_server *ctl_server_start(struct loop *loop, const struct conf_control *conf,
                                    const struct serial_ops *serial, const struct ctl_owner *owner,
                                    struct err *e);

#endif
