/* What `agentctl plan` shows: filled by update/, rendered as JSON (plan schema 1, plan.schema.json) by ctl/. */
#ifndef SLIPWAY_CTL_PLAN_H
#define SLIPWAY_CTL_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/plan.h"
#include "hal/bootrec.h"

#define PLAN_SCHEMA 1

struct plan {
    char state[8];              /* "none", "making", "ready", "failed" */
    char error[ERR_TEXT_MAX];   /* of "failed" */
    char image[520];            /* host/repository:tag */
    struct digest digest;       /* what the tag names; zero: not known */
    bool current;               /* the board runs it: there is nothing to do */
    char waiting[ERR_TEXT_MAX]; /* why it is not installed by itself; "": it will be */
    enum slot_id slot;          /* that would be written */
    bool reboots;               /* to start it; else only the app is started anew */
    bool counted;               /* version and cost are known */
    char version[64];
    struct plan_cost cost;
    uint64_t fetch_bytes_s; /* pace of the last download; 0: not known */
};

struct json;
struct cJSON;

/* Add the members of schema 1 to the object `to`. */
void plan_add(struct json *j, struct cJSON *to, const struct plan *p);

#endif
