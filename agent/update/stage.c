#include "update/stage.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/reach.h"
#include "base/sandbox.h"
#include "hal/board.h"
#include "oci/fetch.h"
#include "oci/image.h"
#include "slot/disk.h"
#include "slot/tree.h"
#include "stream/blocks.h"
#include "stream/job.h"
#include "update/partial.h"
#include "update/resume.h"
#include "update/tables.h"
#include "update/talk.h"
#include "update/vouch.h"

#define ACTIVE_DIR "/active" /* in stage's root */
#define PROGRESS_MS 500
#define MANIFEST_MAX ((uint64_t)CONFIG_OCI_JSON_MAX_KB * 1024)

struct stage {
    const struct conf *conf;
    const struct stage_job *job;
    const char *place;
    char active[CONF_PATH_MAX]; /* where the active slot's files are */
    char toc_paths[SLOT_CNT][CONF_PATH_MAX + 16];
    struct pump pump;
    const uint8_t *blocks; /* that decode lends (stream/blocks.h) */
    struct partial partial;
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

static const char *place_of(const struct conf *conf, enum slot_id slot)
{
    const char *own = slot == SLOT_A ? conf->slots.a : conf->slots.b;

    return own[0] ? own : board.slots[slot];
}

static void progress_send(struct stage *s)
{
    struct slot_tree_stats stats = {0};
    struct err ignored;

    if (s->tree)
        slot_tree_stats(s->tree, &stats);
    s->progress.slot = s->disk ? s->disk->bytes : stats.bytes;
    s->progress.bytes = s->pump.bytes_total;
    s->progress_at_ms = board.clock->boot_ms();
    /* agentd watches this process anyway: progress lost is nothing lost */
    (void)frame_write(STAGE_FD_REPORT, FRAME_PROGRESS, &s->progress, sizeof s->progress, &ignored);
}

static void progress_tick(void *ctx)
{
    struct stage *s = ctx;

    if (board.clock->boot_ms() - s->progress_at_ms >= PROGRESS_MS)
        progress_send(s);
}

static void phase_enter(struct stage *s, enum stage_phase phase)
{
    s->progress.phase = phase;
    progress_send(s);
}

/* The envelope role is gone when this returns, and with it all that unsigned bytes may have done to it. */
static int image_vouch(struct stage *s, struct err *e)
{
    const struct stage_job *job = s->job;
    struct pump *p = &s->pump;
    int rc;

    if (!s->conf->trust.required) {
        s->vouched.image =
            (struct oci_index_choice){.digest = job->digest, .size = MANIFEST_MAX, .media = job->media};
        return 0;
    }
    pump_init(p, STAGE_FD_BODY, STAGE_FD_ENVELOPE_RAW, STAGE_FD_ENVELOPE_ENTRIES);
    rc = vouch_image(s->conf, p, &job->digest, job->media, job->look, &s->vouched, e);
    close(STAGE_FD_ENVELOPE_RAW);
    close(STAGE_FD_ENVELOPE_ENTRIES);
    return rc < 0 ? err_prefix(e, "signature") : 0;
}

static int image_resolve(struct stage *s, struct err *e)
{
    struct fetch_request request = {
        .kind = FETCH_MANIFEST, .digest = s->vouched.image.digest, .size = MANIFEST_MAX};
    struct oci_manifest *m = &s->manifest;
    uint32_t media = s->vouched.image.media;
    int rc;

    s->choice = s->vouched.image;
    if (media == MEDIA_OCI_INDEX || media == MEDIA_DOCKER_INDEX) {
        rc = talk_document(&s->pump, JOB_INDEX, &request, media, &s->choice, sizeof s->choice, e);
        if (rc < 0)
            return err_prefix(e, "index");
        if (s->choice.size > MANIFEST_MAX)
            return err_set(e, ERR_LIMIT, "manifest of %" PRIu64 " bytes, this build takes %" PRIu64,
                           s->choice.size, MANIFEST_MAX);
        request.digest = s->choice.digest;
        request.size = s->choice.size;
    }
    rc = talk_document(&s->pump, JOB_MANIFEST, &request, s->choice.media, m, sizeof *m, e);
    if (rc < 0)
        return err_prefix(e, "manifest");
    if (m->layer_cnt == 0 || m->layer_cnt > CONFIG_OCI_LAYER_MAX)
        return err_set(e, ERR_PEER, "decode gave a manifest of %u layers", m->layer_cnt);
    request = (struct fetch_request){.kind = FETCH_BLOB, .digest = m->config.digest, .size = m->config.size};
    if (m->config.size > MANIFEST_MAX)
        return err_set(e, ERR_LIMIT, "config of %" PRIu64 " bytes, this build takes %" PRIu64, m->config.size,
                       MANIFEST_MAX);
    rc = talk_document(&s->pump, JOB_CONFIG, &request, MEDIA_UNKNOWN, &s->config, sizeof s->config, e);
    if (rc < 0)
        return err_prefix(e, "config");
    if (s->config.diff_cnt != m->layer_cnt)
        return err_set(e, ERR_FORMAT, "config has %u diff_ids, manifest has %u layers", s->config.diff_cnt,
                       m->layer_cnt);
    s->config.version[sizeof s->config.version - 1] = '\0';
    s->config.disk[sizeof s->config.disk - 1] = '\0';
    for (uint32_t i = 0; i < m->layer_cnt; i++)
        s->progress.bytes_total += m->layers[i].size;
    return 0;
}

static void layer_enter(struct stage *s, uint32_t i)
{
    s->progress.layer = s->manifest.layer_cnt - i;
    s->progress.layer_cnt = s->manifest.layer_cnt;
    phase_enter(s, STAGE_LAYERS);
}

static int checkpoint_take(struct entry_pipe *pipe, uint32_t len, struct err *e)
{
    struct stage *s = (struct stage *)((char *)pipe - offsetof(struct stage, pump.said.pipe));

    return resume_take(&s->resume, pipe, len, e);
}

static int layer_begin(struct stage *s, uint32_t i, const struct checkpoint *from, struct err *e)
{
    const struct oci_blob *blob = &s->manifest.layers[i];
    struct fetch_request request = {.kind = FETCH_BLOB, .digest = blob->digest, .size = blob->size};
    struct job job = {
        .kind = JOB_LAYER,
        .codec = blob->codec,
        .size = blob->size,
        .content_max = s->content_max,
        .diff_id = s->config.diff_ids[i],
        .every = s->resume.every,
        .go_on = from != NULL,
    };
    int rc;

    snprintf(job.only, sizeof job.only, "%s", s->config.disk);
    if (!from)
        return talk_begin(&s->pump, &request, &job, e);
    request.offset = job.offset = from->pump.hash.len;
    rc = talk_begin(&s->pump, &request, &job, e);
    pump_go_on(&s->pump, &from->pump);
    return rc < 0 ? rc
                  : frame_write_two(STAGE_FD_RAW, FRAME_CHECKPOINT, &from->job, sizeof from->job, from->place,
                                    from->len, e);
}

/* Give each entry of the layer to `apply`, or of what follows a checkpoint. */
static int layer_take(struct stage *s, uint32_t i, const struct checkpoint *from,
                      int (*apply)(struct stage *s, struct content *c, struct err *e), struct err *e)
{
    struct frame head;
    int rc = layer_begin(s, i, from, e);

    while (rc == 0) {
        struct content content = {.pipe = &s->pump.said.pipe};

        rc = entry_pipe_head(&s->pump.said.pipe, &head, e);
        if (rc < 0)
            return rc;
        if (head.type == FRAME_JOB_END && s->resume.owed)
            return err_set(e, ERR_PEER, "decode did not go on with the entry that was cut");
        if (head.type != FRAME_ENTRY)
            return talk_end(&s->pump, &head, &s->manifest.layers[i].digest, e);
        rc = entry_read(&s->pump.said.pipe, &head, &s->entry, e);
        if (rc < 0)
            return rc;
        if (s->entry.type == ENTRY_NODE && s->entry.node.type == NODE_FILE)
            content.left = s->entry.node.size;
        rc = resume_entry(&s->resume, &s->entry, &content, e);
        if (rc == 0)
            rc = apply(s, &content, e);
        resume_entry_end(&s->resume);
        if (rc < 0 && content.refused)
            rc = talk_refused(&s->pump, &s->manifest.layers[i].digest, e);
        progress_tick(s);
    }
    return rc;
}

/* The same, or count what it would cost. */
static int layer_stream(struct stage *s, uint32_t i, const struct checkpoint *from,
                        int (*apply)(struct stage *s, struct content *c, struct err *e), struct err *e)
{
    struct plan_cost *cost = &s->plan.cost;
    uint64_t from_ms = board.clock->boot_ms();
    int rc = 0;

    if (s->job->look) {
        cost->layers_whole++;
        cost->requests++;
        cost->download += s->manifest.layers[i].size;
    } else {
        rc = layer_take(s, i, from, apply, e);
        s->stream_ms += board.clock->boot_ms() - from_ms;
    }
    return rc;
}

/* By its table of contents. 1: it has none, or may not be taken by it. */
static int layer_partial(struct stage *s, uint32_t i, struct err *e)
{
    const struct oci_blob *blob = &s->manifest.layers[i];
    int rc = 1;

    if (blob->toc.len > 0 && s->parts && !s->conf->update.full_verification) {
        rc = partial_layer(&s->partial, blob, e);
        s->parts = rc <= 0;
    }
    return rc;
}

static void partial_init(struct stage *s)
{
    s->partial = (struct partial){.dir = s->conf->agent.stage_dir,
                                  .ops = s->disk ? &partial_disk : &partial_tree,
                                  .slot = s->disk ? (void *)s->disk : (void *)s->tree,
                                  .only = s->config.disk,
                                  .entry = &s->entry,
                                  .cost = s->job->look ? &s->plan.cost : NULL,
                                  .tick = progress_tick,
                                  .tick_ctx = s};
    feed_init(&s->partial.feed, STAGE_FD_BODY, STAGE_FD_RAW, STAGE_FD_ENTRIES, &s->pump.bytes_total);
    s->partial.feed.tick = progress_tick;
    s->partial.feed.tick_ctx = s;
    s->parts = true;
}

static int tree_apply(struct stage *s, struct content *c, struct err *e)
{
    return slot_tree_entry(s->tree, &s->entry, c, e);
}

/* Where the table of a layer is written while it streams: that of a long one may be needed to go on. */
static struct table_path table_of_streaming(const struct stage *s, uint32_t i)
{
    const char *dir = s->conf->agent.stage_dir;

    return resume_is_for(s->manifest.layers[i].size) ? table_of_stream(dir) : table_path(dir, "new");
}

/* From one end to the other, or from a checkpoint on; what is in it is noted for the next time. */
static int tree_stream(struct stage *s, uint32_t i, struct err *e)
{
    const struct oci_blob *blob = &s->manifest.layers[i];
    const struct checkpoint_of of = {
        .layer = blob->digest, .manifest = s->choice.digest, .slot = s->job->slot};
    struct table_path table = table_of_streaming(s, i);
    const struct checkpoint *from = NULL;
    int rc = 0;

    if (!s->job->look && tables_begin(s->conf->agent.stage_dir, e) == 0)
        rc = resume_begin(&s->resume, &of, blob->size, table.text, &s->config.diff_ids[i], &s->entry, e);
    if (rc < 0)
        return rc;
    if (rc > 0) {
        from = &s->resume.file.it;
        log_info("layer %u of %u goes on at byte %" PRIu64 " of %" PRIu64, i + 1, s->manifest.layer_cnt,
                 from->pump.hash.len, blob->size);
    }
    rc = layer_stream(s, i, from, tree_apply, e);
    s->streamed = rc == 0 && !s->job->look;
    s->noted = (rc == 0 && slot_tree_layer_noted(s->tree)) || s->noted;
    if (rc < 0) /* but for the network, there is something wrong with what came, or with what was kept */
        resume_end(&s->resume, !s->pump.fetch_failed);
    return rc;
}

/* The layer is in the slot, and the TOC says so: a cut from here on does not bring it back. */
static int tree_streamed(struct stage *s, uint32_t i, struct err *e)
{
    const char *dir = s->conf->agent.stage_dir;
    struct table_path path = table_of_layer(dir, &s->config.diff_ids[i]), table = table_of_streaming(s, i);
    int rc = slot_tree_sync(s->tree, e);

    if (rc == 0 && s->noted && rename(table.text, path.text) < 0)
        log_warning("%s: %s", path.text, strerror(errno));
    resume_end(&s->resume, true);
    return rc;
}

/* The slots hold all of it: 1 when it is applied, 0 when not. */
static int tree_known(struct stage *s, uint32_t i, struct err *e)
{
    const struct digest *diff_id = &s->config.diff_ids[i];
    struct table_path path = table_of_layer(s->conf->agent.stage_dir, diff_id);
    int rc = slot_tree_layer_known(s->tree, path.text, diff_id, &s->entry, e);

    if (rc > 0) {
        s->plan.cost.layers_local++;
        log_info("layer %u of %u was streamed before: nothing to fetch", i + 1, s->manifest.layer_cnt);
    }
    return rc;
}

/* By its table of contents, by the table of an earlier stream, or from one end to the other. */
static int tree_entries(struct stage *s, uint32_t i, struct err *e)
{
    int rc = layer_partial(s, i, e);

    if (rc > 0 && s->conf->update.full_verification)
        return layer_stream(s, i, NULL, tree_apply, e);
    if (rc > 0) {
        rc = tree_known(s, i, e);
        rc = rc == 0 ? tree_stream(s, i, e) : rc > 0 ? 0 : rc;
    }
    return rc;
}

static int tree_layer(struct stage *s, uint32_t i, struct err *e)
{
    bool again = false;
    int rc = slot_tree_layer(s->tree, e);

    s->streamed = s->noted = false;
    do {
        if (rc == 0)
            rc = tree_entries(s, i, e);
        if (rc == 0)
            rc = slot_tree_layer_end(s->tree, &again, e);
        if (rc == 0 && again)
            rc = slot_tree_layer_again(s->tree, e);
    } while (rc == 0 && again);
    return rc == 0 && s->streamed ? tree_streamed(s, i, e) : rc;
}

/* All tables of contents, before the slot is written to. Those of an image that has a wrong one are not kept. */
static int tables_get(struct stage *s, struct err *e)
{
    const struct oci_blob *layers = s->manifest.layers;
    static bool fetched[CONFIG_OCI_LAYER_MAX];
    uint32_t i;
    int rc = 0;

    for (i = 0; rc == 0 && i < s->manifest.layer_cnt; i++)
        if (layers[i].toc.len > 0)
            rc = partial_table(&s->partial, &layers[i], &fetched[i], e);
    s->parts = rc == 0;
    if (rc >= 0)
        return 0;
    err_prefix(e, "layer %u of %u", i, s->manifest.layer_cnt);
    for (i = 0; i < s->manifest.layer_cnt; i++)
        if (fetched[i])
            (void)unlink(table_of_toc(s->conf->agent.stage_dir, &layers[i].toc.digest).text);
    return rc;
}

/* Top down. The slot is open, for writing or for a look. */
static int tree_layers(struct stage *s, struct err *e)
{
    int rc = 0;

    /* what the booted slot holds may be copied */
    slot_tree_reuse(s->tree, s->active, s->toc_paths[slot_other(s->job->slot)]);
    for (uint32_t i = s->manifest.layer_cnt; rc == 0 && i-- > 0;) {
        layer_enter(s, i);
        rc = tree_layer(s, i, e);
        if (rc < 0)
            err_prefix(e, "layer %u of %u", i + 1, s->manifest.layer_cnt);
    }
    return rc;
}

static int tree_look(struct stage *s, struct err *e)
{
    struct plan_cost *cost = &s->plan.cost;
    struct slot_tree_stats stats;
    int rc = slot_tree_look(s->tree, board.tree, s->place, s->toc_paths[s->job->slot], e);

    if (rc == 0)
        rc = tree_layers(s, e);
    slot_tree_stats(s->tree, &stats);
    slot_tree_abort(s->tree);
    cost->files_kept = stats.found.files_kept;
    cost->files_copied = stats.found.files_copied;
    cost->files_fetched = stats.found.files_wanted;
    cost->kept = stats.found.kept;
    cost->copied = stats.found.copied;
    cost->chunks = stats.found.chunks;
    cost->fetched = stats.found.wanted;
    cost->write = stats.bytes.written + stats.found.wanted;
    return rc;
}

static int tree_install(struct stage *s, struct err *e)
{
    const char *toc_path = s->toc_paths[s->job->slot];
    int rc = slot_tree_begin(s->tree, board.tree, s->place, toc_path, e);

    if (rc == 0)
        rc = tree_layers(s, e);
    if (rc == 0) {
        phase_enter(s, STAGE_SEALING);
        rc = slot_tree_seal(s->tree, board.needs, BOARD_NEEDS_MAX, e);
    }
    if (rc == 0) {
        phase_enter(s, STAGE_VERIFYING);
        rc = slot_tree_verify(s->tree, board.tree, s->place, toc_path, e);
        if (rc < 0) /* it does not tell what the slot holds, and must not be believed the next time */
            (void)unlink(toc_path);
    }
    if (rc < 0)
        slot_tree_abort(s->tree);
    else
        checkpoints_drop(&s->resume.file); /* of an image that is not wanted any more */
    tables_prune(s->conf->agent.stage_dir, &s->manifest, &s->config);
    return rc;
}

static int disk_apply(struct stage *s, struct content *c, struct err *e)
{
    return slot_disk_entry(s->disk, &s->entry, c, e);
}

/* Top down, until one has the file. */
static int disk_layers(struct stage *s, struct err *e)
{
    int rc = 0;

    slot_disk_reuse(s->disk, s->active_fd, s->active_len, s->toc_paths[slot_other(s->job->slot)]);
    for (uint32_t i = s->manifest.layer_cnt; rc == 0 && s->disk->len == 0 && i-- > 0;) {
        layer_enter(s, i);
        rc = layer_partial(s, i, e);
        if (rc > 0)
            rc = layer_stream(s, i, NULL, disk_apply, e);
        if (rc < 0)
            err_prefix(e, "layer %u of %u", i + 1, s->manifest.layer_cnt);
    }
    return rc;
}

static int disk_begin(struct stage *s, struct err *e)
{
    return slot_disk_begin(s->disk, board.disk, s->place, s->toc_paths[s->job->slot], s->job->look, e);
}

static int disk_look(struct stage *s, struct err *e)
{
    struct plan_cost *cost = &s->plan.cost;
    int rc = disk_begin(s, e);

    if (rc == 0)
        rc = disk_layers(s, e);
    cost->chunks = s->disk->patch.found;
    cost->fetched = s->disk->list.content;
    cost->files_fetched = cost->fetched > 0;
    cost->files_kept = s->disk->len > 0 && cost->fetched == 0;
    cost->write = s->disk->bytes.written + cost->fetched;
    slot_disk_abort(s->disk);
    return rc;
}

static int disk_install(struct stage *s, struct err *e)
{
    int rc = disk_begin(s, e);

    if (rc == 0)
        rc = disk_layers(s, e);
    if (rc == 0 && s->disk->len == 0)
        rc = err_set(e, ERR_ABSENT, "no layer has the file %s that label dev.slipway.disk names",
                     s->config.disk);
    if (rc == 0) {
        phase_enter(s, STAGE_SEALING);
        rc = slot_disk_seal(s->disk, e);
    }
    if (rc == 0) {
        phase_enter(s, STAGE_VERIFYING);
        rc = slot_disk_verify(s->disk, e);
        if (rc < 0) /* as in tree_install() */
            (void)unlink(s->toc_paths[s->job->slot]);
    }
    if (rc < 0)
        slot_disk_abort(s->disk);
    tables_prune(s->conf->agent.stage_dir, &s->manifest, &s->config);
    return rc;
}

/* Nothing was written so far, and nothing will be before agentd has marked the slot as being written: an image that is
 * refused leaves the version in the other slot as it was. */
static int go_ask(struct err *e)
{
    struct frame head;
    int rc = frame_write(STAGE_FD_REPORT, FRAME_READY, NULL, 0, e);

    if (rc == 0)
        rc = frame_read_head(STAGE_FD_REPORT, &head, e);
    if (rc == 0 && head.type != FRAME_GO)
        rc = err_set(e, ERR_PEER, "agentd sent frame %u where a go was expected", head.type);
    return rc;
}

/* From here on decode is at the other end. */
static void pump_connect(struct stage *s)
{
    pump_init(&s->pump, STAGE_FD_BODY, STAGE_FD_RAW, STAGE_FD_ENTRIES);
    s->pump.said.pipe.blocks = s->blocks;
    s->pump.said.pipe.back_fd = STAGE_FD_BACK;
    s->pump.said.pipe.checkpoint = checkpoint_take;
    s->pump.tick = progress_tick;
    s->pump.tick_ctx = s;
}

/* Is this an image that the slot may have? */
static int image_admit(struct stage *s, struct err *e)
{
    int rc;

    phase_enter(s, STAGE_RESOLVING);
    rc = image_vouch(s, e);
    pump_connect(s);
    partial_init(s);
    if (rc == 0)
        rc = image_resolve(s, e);
    if (rc == 0 && s->conf->trust.required)
        rc = vouch_admit(s->conf, &s->vouched.claim, &s->manifest, s->job->floor, &s->trust_version, e);
    if (rc < 0)
        return rc;
    if (s->conf->slots.disk && !s->config.disk[0])
        return err_set(e, ERR_POLICY, "slots are of kind disk, but the image has no label dev.slipway.disk");
    if (!s->conf->slots.disk && s->config.disk[0])
        return err_set(e, ERR_POLICY, "image has label dev.slipway.disk, but slots are of kind tree");
    return 0;
}

/* What is larger packed than it may be unpacked is refused before anything of it comes. */
static int layers_measure(struct stage *s, struct err *e)
{
    uint64_t most;
    int rc;

    s->content_max = UINT64_MAX; /* of a disk's layer, the file that is taken has to fit, and nothing else */
    if (s->disk)
        return 0;
    rc = slot_tree_layer_max(board.tree, s->place, &s->content_max, e);
    most = s->content_max + s->content_max / 1000; /* what does not shrink grows a little */
    for (uint32_t i = 0; rc == 0 && i < s->manifest.layer_cnt; i++)
        if (s->manifest.layers[i].size > most)
            rc = err_set(e, ERR_SPACE,
                         "the slot takes layers of up to %" PRIu64 " bytes, layer %u of %u has %" PRIu64,
                         most, i + 1, s->manifest.layer_cnt, s->manifest.layers[i].size);
    return rc;
}

static int install(struct stage *s, struct err *e)
{
    int rc = image_admit(s, e);

    if (rc == 0)
        rc = layers_measure(s, e);
    if (rc == 0 && !s->conf->update.full_verification)
        rc = tables_get(s, e);
    if (rc == 0)
        rc = go_ask(e);
    if (rc < 0)
        return rc;
    return s->disk ? disk_install(s, e) : tree_install(s, e);
}

/* The same decisions by the same code, but for those that hang on a layer's stream. */
static int look(struct stage *s, struct err *e)
{
    int rc = image_admit(s, e);

    if (rc == 0)
        rc = layers_measure(s, e);
    s->plan.cost.layers = s->manifest.layer_cnt;
    snprintf(s->plan.version, sizeof s->plan.version, "%s", s->config.version);
    if (rc == 0)
        rc = s->disk ? disk_look(s, e) : tree_look(s, e);
    return rc < 0 ? rc : frame_write(STAGE_FD_REPORT, FRAME_PLAN, &s->plan, sizeof s->plan, e);
}

/* The memory of one kind of slot. */
static bool slot_memory_take(struct stage *s)
{
    if (!s->conf->slots.disk)
        return (s->tree = slot_tree_new()) != NULL;
    s->disk = calloc(1, sizeof *s->disk);
    return s->disk && slot_disk_init(s->disk);
}

static void done_send(struct stage *s, struct err *e)
{
    static struct stage_done done;
    struct slot_tree_stats stats = {0};

    if (s->tree)
        slot_tree_stats(s->tree, &stats);
    done.manifest = s->choice.digest;
    done.trust_version = s->trust_version;
    done.signed_s = s->vouched.claim.signed_s;
    snprintf(done.version, sizeof done.version, "%s", s->config.version);
    done.app = s->config.app;
    done.bytes_fetched = s->pump.bytes_total;
    done.nodes = stats.nodes;
    done.hash_kib_s = hash_engine_speed();
    done.bytes_hashed = s->pump.bytes_hashed;
    done.disk_len = s->disk ? s->disk->len : 0;
    done.disk_xxh64 = s->disk ? s->disk->xxh64 : 0;
    done.fetch_ms = s->stream_ms + (uint64_t)s->partial.us / 1000;
    if (frame_write(STAGE_FD_REPORT, FRAME_DONE, &done, sizeof done, e) < 0)
        log_error("%s", e->text);
}

/* Files of the machine that stage needs: its own, the active slot's to copy from, and by /proc nodes that can't be opened
 * (hal/linux/tree_posix.c). The slot is let in by its driver. */
static int files_let(struct stage *s, struct err *e)
{
    const struct conf *conf = s->conf;
    int rc = reach_begin(e);

    if (rc == 0)
        rc = reach_let(conf->agent.stage_dir, REACH_WRITE, e);
    for (size_t i = 0; rc == 0 && i < CONF_KEY_MAX && conf->trust.keys[i][0]; i++)
        rc = reach_let(conf->trust.keys[i], REACH_READ, e);
    if (rc < 0)
        return rc;
    if (s->disk) { /* the active one is open before, so that nothing in there leads to it */
        struct err none;

        if (board.disk->open(place_of(conf, slot_other(s->job->slot)), false, &s->active_fd, &s->active_len,
                             &none) < 0)
            s->active_fd = -1;
        return board.disk->confine(s->place, e);
    }
    rc = board.app_root(slot_other(s->job->slot), s->active, sizeof s->active, e);
    if (rc == 0)
        rc = reach_let_as(s->active, ACTIVE_DIR, REACH_READ, e);
    if (rc == 0 && reach_possible())
        snprintf(s->active, sizeof s->active, ACTIVE_DIR);
    if (rc == 0)
        rc = reach_let("/proc/self", REACH_READ, e);
    return rc == 0 ? board.tree->confine(s->place, e) : rc;
}

int stage_main(const struct conf *conf, const struct stage_job *job)
{
    struct stage *s = calloc(1, sizeof *s);
    struct err e = {0}, sent;
    int rc;

    log_role("stage");
    signal(SIGPIPE, SIG_IGN);
    hash_start();
    if (s)
        s->conf = conf;
    if (!s || !slot_memory_take(s)) {
        err_set(&e, ERR_LIMIT, "stage does not fit under its ceiling of %d KB", CONFIG_MEM_STAGE_KB);
        (void)frame_write_err(STAGE_FD_REPORT, &e, &sent);
        return 1;
    }
    s->job = job;
    s->place = place_of(conf, job->slot);
    resume_init(&s->resume, conf->agent.stage_dir, s->tree, &s->pump);
    for (int i = 0; i < SLOT_CNT; i++)
        snprintf(s->toc_paths[i], sizeof s->toc_paths[i], "%s/toc-%c", conf->agent.stage_dir, 'a' + i);
    s->blocks = blocks_view(STAGE_FD_BLOCKS, &e);
    rc = s->blocks ? files_let(s, &e) : e.code;
    if (rc == 0)
        rc = sandbox_enter(SANDBOX_STAGE, conf->agent.worker_uid, &e);
    if (rc == 0)
        rc = job->look ? look(s, &e) : install(s, &e);
    if (!job->look)
        progress_send(s); /* counts to keep, of a failure too */
    if (rc < 0) {
        if (frame_write_err(STAGE_FD_REPORT, &e, &sent) < 0)
            log_error("%s", e.text);
        return 1;
    }
    if (!job->look)
        done_send(s, &e);
    return 0;
}
