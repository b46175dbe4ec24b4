/* What `agentctl status` shows: filled by update/, rendered as JSON (schema 1, agent/FORMAT.md) by ctl/.
 * Strings may hold any bytes; what is not printable ASCII comes out as '?'. */
#ifndef SLIPWAY_CTL_STATUS_H
#define SLIPWAY_CTL_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/conf.h"
#include "base/err.h"
#include "base/event.h"
#include "base/hash.h"
#include "hal/bootrec.h"
#include "hal/wear.h"
#include "sup/app.h"

#define STATUS_SCHEMA 1

struct status_slot {
    char state[16]; /* "active", "trial", "good", "bad", "empty", "writing" */
    bool known;     /* the fields below are filled */
    struct digest digest;
    char version[64];
    int64_t installed_s; /* wall time, 0: never or unknown */
    uint8_t tries_left;
    int64_t
        scrubbed_s; /* wall time when it was read to see whether it is sound; 0: not since it was installed */
    uint32_t damaged; /* files that were not as written then */
};

struct status_role { /* a process of the agent */
    char name[8];
    uint32_t limit_kib; /* ceiling of its data, as RLIMIT_DATA counts: touched or not */
    uint32_t peak_kib;  /* highest resident size seen, program and all; of workers ever; 0: has not run */
};

struct status {
    int64_t now_s;              /* wall time of this status, the base of "12 s ago"; 0: unknown */
    char target[CONF_NAME_MAX]; /* the app that this is of; "": the system */
    char agent_version[24];
    char board[32];
    char device_id[64];
    char reset_cause[16];
    uint64_t uptime_s;   /* of the board */
    uint32_t watchdog_s; /* its time-out; 0: none runs */

    char image[520];  /* host/repository:tag followed */
    bool plain_http;  /* said aloud */
    bool held;        /* no new version until a person releases it */
    bool unsigned_ok; /* the same: policy = off */
    char state[16];   /* of the update machine: "idle", "polling", "installing", "rebooting", "trial", ... */
    char detail[ERR_TEXT_MAX + 16]; /* "layer 2 of 3, 12.1 of 38.2 MB", "poll failed: <the chain>" or "" */
    uint32_t percent;               /* while installing */
    bool scrubbing;                 /* a slot is being read; `detail` says which */
    int64_t last_poll_s;            /* wall time; 0: not yet */
    int64_t next_poll_in_s;         /* -1: none planned */
    int64_t waits_until_s;    /* wall time at which a version that waits goes on; 0: not known, or none */
    uint64_t today_bytes;     /* downloaded since midnight, polls and all */
    struct digest tag_digest; /* zero: not known yet */

    enum slot_id booted;
    struct status_slot slots[SLOT_CNT];

    struct {
        char state[12]; /* app_state_name() */
        int pid;
        uint64_t up_s;
        uint32_t restarts;
        struct app_exit last_exit;
        char weaker[192]; /* how it is held less than it ought to be; "": in nothing */
        char says[80];    /* STATUS of sd_notify(3); "": nothing */
        uint64_t memory_kib, memory_peak_kib, pids; /* UINT64_MAX: unknown */
        uint32_t memory_limit_kib, pids_limit;      /* 0: not enforced */
        uint64_t oom_kills, pids_hits;              /* since agentd started */
    } app;

    /* The system's status: one line for each app beside it, whose own status says more. */
    uint32_t beside_cnt;
    struct status_beside {
        char name[CONF_NAME_MAX];
        char app[12];     /* app_state_name() */
        char update[16];  /* of its update machine */
        char version[64]; /* that runs, or would; "": none was installed */
        bool failing;     /* it does not run, or its last update failed */
    } beside[CONF_TARGET_MAX];

    struct {
        char cause[16];          /* err_name(); "none" */
        char text[ERR_TEXT_MAX]; /* the chain; "" */
        char event[16];          /* what it was: "install", "trial", "rollback", "confirm", "app" */
        int64_t when_s;
        struct digest digest; /* of the version concerned; zero: none */
    } last_failure;

    uint64_t slot_bytes_written; /* for life; of content */
    uint64_t slot_bytes_kept;    /* the same: was there already, or is hidden */
    uint64_t slot_bytes_read;    /* the same: to compare and to read back */
    uint32_t state_writes;       /* record writes for life */
    struct wear wear;            /* what the slots' flash says itself */
    struct status_role roles[4];
    uint32_t hash_kib_s;
    char hash_engine[16];
    char sandbox[48]; /* what holds the roles back here: "seccomp, Landlock" */
};

struct json;
struct cJSON;

/* Add the members of schema 1 to the object `to`; with `why`, only those that explain the last failure. */
void status_add(struct json *j, struct cJSON *to, const struct status *s, bool why);

/* The digest as text, or null for none. */
void status_digest_add(struct json *j, struct cJSON *to, const char *key, const struct digest *d);

/* Add the members of one event of the history. */
void status_event_add(struct json *j, struct cJSON *to, const struct event *e);

/* One line of JSON without line break. Returns its length, or -1 when it does not fit. */
int status_to_json(const struct status *s, char *out, size_t cap);

#endif
