/* What a deployment does to the slot: layer by layer from the top down, each by the cheapest way there is; then seal it and
 * read it back. */
#include "update/stage_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "hal/board.h"
#include "oci/fetch.h"
#include "stream/job.h"
#include "update/tables.h"
#include "update/talk.h"
#include "update/target.h"

static int checkpoint_take(struct entry_pipe *pipe, uint32_t len, struct err *e)
{
    struct stage *s = (struct stage *)((char *)pipe - offsetof(struct stage, pump.said.pipe));

    return resume_take(&s->resume, pipe, len, e);
}

static void partial_init(struct stage *s)
{
    s->partial = (struct partial){.dir = s->conf->agent.stage_dir,
                                  .ops = s->disk ? &partial_disk : &partial_tree,
                                  .slot = s->disk ? (void *)s->disk : (void *)s->tree,
                                  .only = s->config.disk,
                                  .entry = &s->entry,
                                  .cost = s->job->look ? &s->plan.cost : NULL,
                                  .tick = stage_tick,
                                  .tick_ctx = s};
    feed_init(&s->partial.feed, STAGE_FD_BODY, STAGE_FD_RAW, STAGE_FD_ENTRIES, &s->pump.bytes_total);
    s->partial.feed.tick = stage_tick;
    s->partial.feed.tick_ctx = s;
    s->parts = true;
}

void stage_decode_connect(struct stage *s)
{
    pump_init(&s->pump, STAGE_FD_BODY, STAGE_FD_RAW, STAGE_FD_ENTRIES);
    s->pump.said.pipe.blocks = s->blocks;
    s->pump.said.pipe.back_fd = STAGE_FD_BACK;
    s->pump.said.pipe.checkpoint = checkpoint_take;
    s->pump.tick = stage_tick;
    s->pump.tick_ctx = s;
    partial_init(s);
}

static void layer_enter(struct stage *s, uint32_t i)
{
    s->progress.layer = s->manifest.layer_cnt - i;
    s->progress.layer_cnt = s->manifest.layer_cnt;
    stage_phase(s, STAGE_LAYERS);
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
        stage_tick(s);
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

int stage_tree_look(struct stage *s, struct err *e)
{
    struct plan_cost *cost = &s->plan.cost;
    struct slot_tree_stats stats;
    int rc = slot_tree_look(s->tree, target_tree(s->conf), s->place, s->toc_paths[s->job->slot], e);

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

int stage_tree_install(struct stage *s, struct err *e)
{
    const char *toc_path = s->toc_paths[s->job->slot];
    int rc = slot_tree_begin(s->tree, target_tree(s->conf), s->place, toc_path, e);

    if (rc == 0)
        rc = tree_layers(s, e);
    if (rc == 0) {
        stage_phase(s, STAGE_SEALING);
        rc = slot_tree_seal(s->tree, target_needs(s->conf), BOARD_NEEDS_MAX, e);
    }
    if (rc == 0) {
        stage_phase(s, STAGE_VERIFYING);
        rc = slot_tree_verify(s->tree, target_tree(s->conf), s->place, toc_path, e);
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

int stage_disk_look(struct stage *s, struct err *e)
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

int stage_disk_install(struct stage *s, struct err *e)
{
    int rc = disk_begin(s, e);

    if (rc == 0)
        rc = disk_layers(s, e);
    if (rc == 0 && s->disk->len == 0)
        rc = err_set(e, ERR_ABSENT, "no layer has the file %s that label dev.slipway.disk names",
                     s->config.disk);
    if (rc == 0) {
        stage_phase(s, STAGE_SEALING);
        rc = slot_disk_seal(s->disk, e);
    }
    if (rc == 0) {
        stage_phase(s, STAGE_VERIFYING);
        rc = slot_disk_verify(s->disk, e);
        if (rc < 0) /* as in stage_tree_install() */
            (void)unlink(s->toc_paths[s->job->slot]);
    }
    if (rc < 0)
        slot_disk_abort(s->disk);
    tables_prune(s->conf->agent.stage_dir, &s->manifest, &s->config);
    return rc;
}
