/* The role stage, for the files that it is made of: stage.c is the way from a digest to a slot that may be armed,
 * stage_slot.c what is done to the slot. */
#ifndef SLIPWAY_UPDATE_STAGE_PRIV_H
#define SLIPWAY_UPDATE_STAGE_PRIV_H

#include "oci/image.h"
#include "slot/disk.h"
#include "slot/tree.h"
#include "update/partial.h"
#include "update/resume.h"
#include "update/stage.h"
#include "update/vouch.h"

struct stage {
    const struct conf *conf;
    const struct stage_job *job;
    const char *place;
    char device_id[64];         /* "": not known */
    char active[CONF_PATH_MAX]; /* where the active slot's files are */
    char toc_paths[SLOT_CNT][CONF_PATH_MAX + 16];
    struct pump pump;
    const uint8_t *blocks; /* that decode lends (stream/blocks.h) */
    struct partial partial;
    bool same;  /* as what runs */
    bool parts; /* so far the registry sent them */
    struct entry entry;
    struct resume resume;
    bool streamed; /* the present layer was, and `noted`: its table is whole */
    bool noted;
    struct slot_tree *tree;
    struct slot_disk *disk; /* this or `tree` */
    int active_fd;          /* of a disk slot: the active one; -1: not at hand */
    uint64_t active_len;
    struct oci_index_choice choice;
    struct oci_manifest manifest;
    struct oci_config config;
    struct vouched vouched;
    uint64_t trust_version; /* of the image */
    struct plan_found plan; /* of a look */
    uint64_t stream_ms;     /* spent while whole layers came */
    struct stage_progress progress;
    uint64_t progress_at_ms;
    uint64_t content_max;
};

/* stage.c: tell agentd, at once or now and then. */
void stage_phase(struct stage *s, enum stage_phase phase);
void stage_tick(void *ctx);

/* stage_slot.c: decode is at the other end of the pump and of s->partial from here on. */
void stage_decode_connect(struct stage *s);
/* Install the image, and read it back; or count what that would take, into s->plan. */
int stage_tree_install(struct stage *s, struct err *e);
int stage_tree_look(struct stage *s, struct err *e);
int stage_disk_install(struct stage *s, struct err *e);
int stage_disk_look(struct stage *s, struct err *e);

#endif
