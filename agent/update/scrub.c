#include "update/scrub.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/reach.h"
#include "base/sandbox.h"
#include "hal/board.h"
#include "slot/disk.h"
#include "slot/tree.h"
#include "stream/frame.h"
#include "update/stage.h"

#define PROGRESS_MS 500
#define ACTIVE_DIR "/active"  /* in the root of this process */
#define IOPRIO_IDLE (3 << 13) /* linux/ioprio.h, which older headers lack */

struct scrub {
    const struct scrub_job *job;
    const char *place;
    char active[CONF_PATH_MAX]; /* its root */
    bool changes;               /* and the running system can write to it */
    char toc_path[CONF_PATH_MAX + 16];
    struct stage_progress progress;
    uint64_t from_ms, told_ms;
};

static void progress_send(struct scrub *s)
{
    struct err ignored;

    s->told_ms = board.clock->boot_ms();
    /* agentd watches this process anyway: progress lost is nothing lost */
    (void)frame_write(SCRUB_FD_REPORT, FRAME_PROGRESS, &s->progress, sizeof s->progress, &ignored);
}

/* Not before its time. */
static void on_read(void *ctx, uint64_t bytes)
{
    struct scrub *s = ctx;
    uint64_t now = board.clock->boot_ms(), due;

    s->progress.bytes += bytes;
    due = s->from_ms + s->progress.bytes * 1000 / (CONFIG_SCRUB_KB_S * 1024ull);
    if (now - s->told_ms >= PROGRESS_MS)
        progress_send(s);
    if (due > now)
        (void)poll(NULL, 0, (int)(due - now));
}

/* Whoever else wants the processor or the medium comes first. What a kernel lacks of this is no reason not to look. */
static void step_back(void)
{
    if (setpriority(PRIO_PROCESS, 0, 19) < 0 || syscall(SYS_ioprio_set, 1, 0, IOPRIO_IDLE) < 0)
        log_info("scrub: with the usual priority");
}

/* The slot will be written to: agentd takes it out of what may be started first. */
static int go_ask(struct err *e)
{
    struct frame head;
    int rc = frame_write(SCRUB_FD_REPORT, FRAME_READY, NULL, 0, e);

    if (rc == 0)
        rc = frame_read_head(SCRUB_FD_REPORT, &head, e);
    if (rc == 0 && head.type != FRAME_GO)
        rc = err_set(e, ERR_PEER, "agentd sent frame %u where a go was expected", head.type);
    return rc;
}

static int tree_scrub(struct scrub *s, struct scrubbed *out, struct err *e)
{
    static struct slot_damage damage;
    struct slot_tree *tree = slot_tree_new();
    const struct slot_scrub how = {.ops = board.tree,
                                   .place = s->job->active ? s->active : s->place,
                                   .toc_path = s->toc_path,
                                   .active = s->job->active,
                                   .changes = s->changes,
                                   .tick = on_read,
                                   .ctx = s};
    int rc;

    if (!tree)
        return err_set(e, ERR_LIMIT, "it does not fit under its ceiling of %d KB", CONFIG_MEM_STAGE_KB);
    rc = slot_tree_scrub_size(tree, s->toc_path, &s->progress.bytes_total, e);
    if (rc == 0)
        rc = slot_tree_scrub(tree, &how, &damage, e);
    if (rc == 0 && damage.files > 0 && !s->job->active) {
        rc = go_ask(e);
        if (rc == 0)
            rc = slot_tree_scrub_mark(tree, &how, &damage, e);
    }
    out->files = damage.files;
    out->first = damage.first;
    return rc;
}

static int disk_scrub(struct scrub *s, struct scrubbed *out, struct err *e)
{
    struct slot_disk *disk = calloc(1, sizeof *disk);
    int rc;

    if (!disk || !slot_disk_init(disk))
        return err_set(e, ERR_LIMIT, "no memory to look at a disk slot");
    disk->ops = board.disk;
    disk->place = s->place;
    disk->len = s->job->disk_len;
    disk->xxh64 = s->job->disk_xxh64;
    disk->tick = on_read;
    disk->tick_ctx = s;
    if (disk->len == 0)
        return err_set(e, ERR_ABSENT, "nothing is on record of it");
    s->progress.bytes_total = disk->len;
    rc = slot_disk_verify(disk, e);
    if (rc != ERR_FLASH && rc != -EIO)
        return rc;
    out->files = 1;
    out->first = *e;
    if (s->job->active)
        return 0;
    rc = go_ask(e);
    /* the chunks that it names are not there to be relied on */
    if (rc == 0 && unlink(s->toc_path) < 0 && errno != ENOENT)
        rc = err_errno(e, "%s", s->toc_path);
    return rc;
}

/* The active slot is seen without what is mounted on top of it. */
static int active_let(struct scrub *s, struct err *e)
{
    struct statvfs fs;
    int rc = board.app_root(s->job->slot, s->active, sizeof s->active, e);

    if (rc == 0 && statvfs(s->active, &fs) < 0)
        rc = err_errno(e, "%s", s->active);
    if (rc < 0)
        return rc;
    s->changes = !(fs.f_flag & ST_RDONLY);
    rc = reach_let_as(s->active, ACTIVE_DIR, REACH_READ, e);
    if (reach_possible())
        snprintf(s->active, sizeof s->active, ACTIVE_DIR);
    return rc;
}

static int files_let(struct scrub *s, const struct conf *conf, struct err *e)
{
    int rc = reach_begin(e);

    if (rc == 0)
        rc = reach_let(conf->agent.stage_dir, REACH_WRITE, e);
    if (rc == 0 && conf->slots.disk)
        return board.disk->confine(s->place, e);
    if (rc == 0)
        rc = reach_let("/proc/self", REACH_READ, e);
    if (rc < 0)
        return rc;
    return s->job->active ? active_let(s, e) : board.tree->confine(s->place, e);
}

int scrub_main(const struct conf *conf, const struct scrub_job *job)
{
    const char *own[SLOT_CNT] = {conf->slots.a, conf->slots.b};
    static struct scrub s;
    static struct scrubbed out;
    struct err e = {0}, sent;
    int rc;

    log_role("scrub");
    signal(SIGPIPE, SIG_IGN);
    step_back();
    s.job = job;
    s.place = own[job->slot][0] ? own[job->slot] : board.slots[job->slot];
    s.from_ms = board.clock->boot_ms();
    snprintf(s.toc_path, sizeof s.toc_path, "%s/toc-%c", conf->agent.stage_dir, 'a' + (int)job->slot);
    rc = files_let(&s, conf, &e);
    if (rc == 0)
        rc = sandbox_enter(SANDBOX_STAGE, conf->agent.worker_uid, &e);
    if (rc == 0)
        rc = conf->slots.disk ? disk_scrub(&s, &out, &e) : tree_scrub(&s, &out, &e);
    out.bytes = s.progress.bytes;
    rc = rc < 0 ? frame_write_err(SCRUB_FD_REPORT, &e, &sent)
                : frame_write(SCRUB_FD_REPORT, FRAME_SCRUBBED, &out, sizeof out, &sent);
    return rc < 0;
}
