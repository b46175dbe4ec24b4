/* stage: the conductor of one deployment, and the only process that writes to the inactive slot.
 *
 * It asks fetch for the manifest, the config and each layer, hashes what comes while tee(2) hands the same bytes to
 * decode, and applies the entries that come back. It parses neither JSON nor tar.
 *
 *     fetch --body--> stage --raw--> decode
 *       ^--request---   ^---entries----'         stage --report--> agentd
 *                         blocks -back->
 */
#ifndef SLIPWAY_UPDATE_STAGE_H
#define SLIPWAY_UPDATE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/app_spec.h"
#include "base/conf.h"
#include "base/hash.h"
#include "hal/board.h"
#include "slot/compare.h"

/* Descriptors that the roles find open at start. */
enum role_fd {
    FETCH_FD_REQUEST = 3,
    FETCH_FD_BODY = 4,
    FETCH_FD_METER = 5,
    STAGE_FD_REQUEST = 3,
    STAGE_FD_BODY = 4,
    STAGE_FD_RAW = 5,
    STAGE_FD_ENTRIES = 6,
    STAGE_FD_REPORT = 7, /* a socket: agentd answers FRAME_READY on it */
    STAGE_FD_BLOCKS = 8,
    STAGE_FD_BACK = 9,
    STAGE_FD_ENVELOPE_RAW = 10,
    STAGE_FD_ENVELOPE_ENTRIES = 11,
    DECODE_FD_RAW = 3,
    DECODE_FD_ENTRIES = 4,
    DECODE_FD_BLOCKS = 5,
    DECODE_FD_BACK = 6,
};

enum stage_phase { STAGE_RESOLVING = 1, STAGE_LAYERS, STAGE_SEALING, STAGE_VERIFYING };

struct stage_progress { /* FRAME_PROGRESS */
    uint32_t phase;
    uint32_t layer, layer_cnt;   /* 1 is the top one, which comes first */
    uint64_t bytes, bytes_total; /* of compressed blobs */
    struct slot_bytes slot;      /* what it cost the slot so far */
};

struct stage_done {         /* FRAME_DONE: the slot holds the image, was read back and matched */
    struct digest config;   /* of the image */
    bool same;              /* the booted slot has it, and nothing was done: only the manifest is new */
    uint64_t trust_version; /* as signed; 0: signatures are off */
    int64_t signed_s;       /* when, as the signature says; 0: it does not */
    char version[64];
    struct app_spec app;
    uint64_t bytes_fetched;
    uint32_t nodes;
    uint32_t hash_kib_s;           /* of stage's engine, as measured at its start */
    uint64_t bytes_hashed;         /* by stage and decode together */
    uint64_t fetch_ms;             /* spent while layers came */
    uint64_t disk_len, disk_xxh64; /* of a disk slot: the filesystem image */
};

struct stage_job {
    enum slot_id slot;    /* to be written */
    struct digest digest; /* what the tag resolved to */
    uint32_t media;       /* enum oci_media */
    uint64_t floor;       /* no signed version under this */
    struct digest booted; /* config of what runs; zero: not known, or no matter */
    struct digest failed; /* config of what failed its trial; the same */
    bool asked;           /* by a person: the rollout's turn is not waited for */
    int64_t time_floor_s; /* it can't be earlier than this */
    bool look;            /* find out what it would take, and change nothing */
};

/* Role main of stage: install an image. Before the first write it says FRAME_READY and waits for FRAME_GO; of a look, it
 * says FRAME_PLAN and ends. */
int stage_main(const struct conf *conf, const struct stage_job *job);
/* Role main of decode, and of envelope: serve jobs until DECODE_FD_RAW ends. */
int decode_main(uint32_t uid, bool envelope);

#endif
