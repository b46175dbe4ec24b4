/* What the agent remembers across restarts (agent/FORMAT.md, "State"): one record for the machine, one for what
 * it must not go back under, and one for each slot. */
#ifndef SLIPWAY_UPDATE_STATE_H
#define SLIPWAY_UPDATE_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/app_spec.h"
#include "base/err.h"
#include "base/hash.h"
#include "hal/bootrec.h"
#include "update/record.h"

#define STATE_FAILED_MAX 8
#define STATE_ROLE_MAX 4

struct state_failure {
    int32_t code; /* enum err_code or a negative errno; 0: none */
    char event[16];
    char text[ERR_TEXT_MAX];
    int64_t when_s;
    struct digest digest; /* of the tag; zero: none concerned */
};

struct state {
    uint32_t trial_slot;                    /* 1 + enum slot_id of the slot on trial; 0: none */
    uint32_t failed_cnt;                    /* of all time; failed[] holds the newest */
    struct digest failed[STATE_FAILED_MAX]; /* digests not to be tried again by themselves */
    struct state_failure failure;           /* the last one */
    uint64_t slot_bytes_written;
    uint32_t writes;                   /* of records, for life */
    uint32_t held;                     /* 1: no new version until a person releases it */
    uint32_t peak_kib[STATE_ROLE_MAX]; /* struct worker's, as of the last install */
    uint64_t slot_bytes_kept, slot_bytes_read;
    uint64_t fetch_bytes_s; /* pace of the last download that was long enough to tell; 0: none was */
    uint64_t day_bytes;     /* downloaded on that day, as far as it was saved */
    uint32_t day, zero;     /* year since 1900 * 1000 + day of it, local time; 0: not known */
    struct {
        int64_t when_s;       /* read whole to see whether it is sound; 0: never */
        uint32_t files, zero; /* damaged then */
    } scrub[SLOT_CNT];
};

/* SLOT_DAMAGED: it was good, and flash lost some of it; to be mended. */
enum slot_condition { SLOT_EMPTY = 0, SLOT_WRITING, SLOT_GOOD, SLOT_BAD, SLOT_DAMAGED };

struct slot_record {
    uint32_t condition;   /* enum slot_condition */
    uint32_t app_cnt;     /* 1: app is filled */
    struct digest tag;    /* what the tag resolved to: index or manifest */
    struct digest config; /* of the image: the same files and settings, whatever manifest they came by */
    char version[64];
    int64_t installed_s;
    struct app_spec app;
    uint64_t disk_len, disk_xxh64; /* of a disk slot: its filesystem image; 0: not known */
    uint32_t media, zero;          /* enum oci_media of `tag`; 0: not known */
};

/* Its record is there and can't be read: no version is known to be high enough. It stays until a person has installed
 * one (`agentctl downgrade`) and that is confirmed. */
#define STATE_FLOOR_UNKNOWN UINT64_MAX

struct state_trust {
    uint64_t floor; /* no signed version under this is installed; rises when one is confirmed */
    uint64_t slot_version[SLOT_CNT]; /* as signed, of what the slots hold; 0: unknown */
    struct digest seen;              /* what the tag named last, if [trust] asks how long */
    int64_t seen_s;                  /* when it did so first */
    int64_t time_floor_s;            /* it can't be earlier than this */
};

struct state_store {
    struct record state_record, trust_record, slot_records[SLOT_CNT];
    struct state state;
    struct state_trust trust;
    struct slot_record slots[SLOT_CNT];
};

/* Read all records; damaged ones are zeroed, and said in the log. That of trust has an unknown floor then. */
void state_open(struct state_store *s, const struct store_ops *store, const char *dir);
int state_save(struct state_store *s, struct err *e);
int state_trust_save(struct state_store *s, struct err *e);
int state_slot_save(struct state_store *s, enum slot_id slot, struct err *e);

/* It may be started. A slot without a record is the one that was flashed at the factory. */
bool state_slot_bootable(const struct slot_record *s);

bool state_digest_failed(const struct state *s, const struct digest *d);
void state_digest_fail(struct state *s, const struct digest *d);
void state_digest_forgive(struct state *s, const struct digest *d);

#endif
