#include "update/stage_priv.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/reach.h"
#include "base/sandbox.h"
#include "hal/board.h"
#include "oci/fetch.h"
#include "stream/blocks.h"
#include "stream/job.h"
#include "update/tables.h"
#include "update/talk.h"
#include "update/target.h"

#define ACTIVE_DIR "/active" /* in stage's root */
#define PROGRESS_MS 500
#define MANIFEST_MAX ((uint64_t)CONFIG_OCI_JSON_MAX_KB * 1024)

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

void stage_tick(void *ctx)
{
    struct stage *s = ctx;

    if (board.clock->boot_ms() - s->progress_at_ms >= PROGRESS_MS)
        progress_send(s);
}

void stage_phase(struct stage *s, enum stage_phase phase)
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
    m->rollout.salt[sizeof m->rollout.salt - 1] = '\0';
    m->rollout.channels[sizeof m->rollout.channels - 1] = '\0';
    s->config.version[sizeof s->config.version - 1] = '\0';
    s->config.disk[sizeof s->config.disk - 1] = '\0';
    for (uint32_t i = 0; i < m->layer_cnt; i++)
        s->progress.bytes_total += m->layers[i].size;
    return 0;
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

/* Is this an image that the slot may have? */
static int image_admit(struct stage *s, struct err *e)
{
    int rc;

    stage_phase(s, STAGE_RESOLVING);
    rc = image_vouch(s, e);
    stage_decode_connect(s);
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
    if (target_is_app(s->conf) && s->config.app.arg_cnt == 0)
        return err_set(e, ERR_POLICY, "the image of an app needs an Entrypoint or a Cmd");
    return 0;
}

/* Is it this device's turn? Those that have no id share one place. */
static int turn_find(const struct stage *s, struct err *e)
{
    int64_t clock_s = board.clock->wall_s();
    struct rollout r = s->manifest.rollout;

    if (r.ramp_s < conf_spread_s(s->conf))
        r.ramp_s = conf_spread_s(s->conf);
    return rollout_turn(&r, s->config.version, s->device_id, s->conf->update.channel,
                        clock_s > s->job->time_floor_s ? clock_s : s->job->time_floor_s, e);
}

/* What is larger packed than it may be unpacked is refused before anything of it comes. */
static int layers_measure(struct stage *s, struct err *e)
{
    uint64_t most;
    int rc;

    s->content_max = UINT64_MAX; /* of a disk's layer, the file that is taken has to fit, and nothing else */
    if (s->disk)
        return 0;
    rc = slot_tree_layer_max(target_tree(s->conf), s->place, &s->content_max, e);
    most = s->content_max + s->content_max / 1000; /* what does not shrink grows a little */
    for (uint32_t i = 0; rc == 0 && i < s->manifest.layer_cnt; i++)
        if (s->manifest.layers[i].size > most)
            rc = err_set(e, ERR_SPACE,
                         "the slot takes layers of up to %" PRIu64 " bytes, layer %u of %u has %" PRIu64,
                         most, i + 1, s->manifest.layer_cnt, s->manifest.layers[i].size);
    return rc;
}

static bool has_config(const struct stage *s, const struct digest *config)
{
    return !digest_is_zero(config) && digest_compare(config, &s->manifest.config.digest) == VERDICT_MATCH;
}

/* A person waits for nothing. */
static int time_check(const struct stage *s, struct err *e)
{
    if (s->job->asked)
        return 0;
    if (!has_config(s, &s->job->failed))
        return turn_find(s, e);
    err_set(e, ERR_HELD, "this image failed its trial here, with another manifest");
    e->after_s = ROLLOUT_NEVER;
    return e->code;
}

static int install(struct stage *s, struct err *e)
{
    int rc = image_admit(s, e);

    s->same = rc == 0 && has_config(s, &s->job->booted);
    if (s->same)
        return 0;
    if (rc == 0)
        rc = time_check(s, e);
    if (rc == 0)
        rc = layers_measure(s, e);
    if (rc == 0 && !s->conf->update.full_verification)
        rc = tables_get(s, e);
    if (rc == 0)
        rc = go_ask(e);
    if (rc < 0)
        return rc;
    return s->disk ? stage_disk_install(s, e) : stage_tree_install(s, e);
}

/* The same decisions by the same code, but for those that hang on a layer's stream. */
static int look(struct stage *s, struct err *e)
{
    int rc = image_admit(s, e);

    s->plan.same = rc == 0 && has_config(s, &s->job->booted);
    if (s->plan.same)
        return frame_write(STAGE_FD_REPORT, FRAME_PLAN, &s->plan, sizeof s->plan, e);
    if (rc == 0)
        (void)time_check(s, &s->plan.waiting);
    if (rc == 0)
        rc = layers_measure(s, e);
    s->plan.cost.layers = s->manifest.layer_cnt;
    snprintf(s->plan.version, sizeof s->plan.version, "%s", s->config.version);
    if (rc == 0)
        rc = s->disk ? stage_disk_look(s, e) : stage_tree_look(s, e);
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
    done.config = s->manifest.config.digest;
    done.same = s->same;
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
    if (rc == 0 && target_is_app(conf)) /* a root is for all targets */
        rc = reach_let(conf->agent.root_dir, REACH_WRITE, e);
    for (size_t i = 0; rc == 0 && i < CONF_KEY_MAX && conf->trust.keys[i][0]; i++)
        rc = reach_let(conf->trust.keys[i], REACH_READ, e);
    if (rc < 0)
        return rc;
    if (s->disk) { /* the active one is open before, so that nothing in there leads to it */
        struct err none;

        if (board.disk->open(target_place(conf, slot_other(s->job->slot)), false, &s->active_fd,
                             &s->active_len, &none) < 0)
            s->active_fd = -1;
        return board.disk->confine(s->place, e);
    }
    rc = target_root(conf, slot_other(s->job->slot), s->active, sizeof s->active, e);
    if (rc == 0)
        rc = reach_let_as(s->active, ACTIVE_DIR, REACH_READ, e);
    if (rc == 0 && reach_possible())
        snprintf(s->active, sizeof s->active, ACTIVE_DIR);
    if (rc == 0)
        rc = reach_let("/proc/self", REACH_READ, e);
    return rc == 0 ? target_tree(conf)->confine(s->place, e) : rc;
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
    if (board.identity->device_id(s->device_id, sizeof s->device_id, &e) < 0)
        log_warning("%s", e.text);
    s->place = target_place(conf, job->slot);
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
