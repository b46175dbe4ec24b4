#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_env.h"
#include "kernel.h"
#include "slot/disk.h"
#include "slot/sum.h"
#include "slot/tree.h"
#include "update/activate.h"
#include "update/machine.h"

#define STATE_DIR "/data/slipway"
#define STABLE_S 30u
#define TRIES 3u
#define RESPAWNS_MAX 5
#define POLLS_MAX 24
#define POLLS_PATIENCE 6
#define STORM_STARTS 10 /* more than all slots have tries */
#define TIME_MAX_MS (7 * 24 * 3600 * 1000ull)
#define DISK_LEN 6000u
#define DEVICE_LEN (16u * MEDIUM_SECTOR)

struct world world;

static struct {
    jmp_buf out;
    bool runs; /* `out` is good */
    const struct medium_image *from;
    uint64_t tree_hash[V_CNT];
    uint8_t disk_image[V_CNT][DISK_LEN];
    struct machine machine;
    struct loop loop;
    struct slot_tree *tree;
    struct slot_disk disk;
    struct loop_timer worker_timer, app_timer, hand_timer;
    struct digest deploying; /* zero: a poll */
    enum slot_id deploy_slot;
    bool net_failed;
    unsigned polls, settled;
    enum version settled_with;
    uint64_t settled_hash[2];
} own;

static struct conf conf = {
    .registry = {.host = "registry.example.com", .repository = "fleet/web", .tag = "stable"},
    .update = {.poll_interval_s = 60, .stable_s = STABLE_S, .tries = TRIES, .automatic = true},
    .agent = {.state_dir = STATE_DIR},
};

void world_fail(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(world.why, sizeof world.why, fmt, ap);
    va_end(ap);
    if (!own.runs) {
        fprintf(stderr, "cuts: %s\n%s", world.why, kernel_log());
        __builtin_trap();
    }
    longjmp(own.out, WORLD_FAILED);
}

void world_restart(void)
{
    longjmp(own.out, WORLD_RESTARTS);
}

/* --- what a version is -------------------------------------------------------------------------------------------- */

static struct digest digest_of(enum version v)
{
    struct digest d;

    memset(&d, 0x40 + (int)v, sizeof d);
    return d;
}

/* Text that tells version `v` from the others in every sector. */
static uint64_t content_fill(char *out, size_t len, const char *what, int v)
{
    size_t at = 0;

    while (at < len) {
        char line[48];
        int n = snprintf(line, sizeof line, "%s %d at %zu\n", what, v, at);
        size_t part = (size_t)n < len - at ? (size_t)n : len - at;

        memcpy(out + at, line, part);
        at += part;
    }
    return len;
}

struct source {
    struct entry_pipe pipe;
    const char *data;
    uint64_t at, len;
    struct frame frames[2];
    struct entry_end end;
    unsigned sent; /* bytes of frames and end */
    struct content content;
};

static int source_read(struct entry_pipe *p, void *buf, uint32_t len, struct err *e)
{
    struct source *s = (struct source *)p;
    uint8_t tail[sizeof s->frames + sizeof s->end];

    (void)e;
    if (s->content.in_frame > 0) {
        memcpy(buf, s->data + s->at, len);
        s->at += len;
        return 0;
    }
    memcpy(tail, s->frames, sizeof s->frames);
    memcpy(tail + sizeof s->frames, &s->end, sizeof s->end);
    ASSERT(s->sent + len <= sizeof tail);
    memcpy(buf, tail + s->sent, len);
    s->sent += len;
    return 0;
}

static int64_t source_move(struct entry_pipe *p, int fd, uint64_t len, struct err *e)
{
    struct source *s = (struct source *)p;

    if (io_write_full(fd, s->data + s->at, len) < 0)
        return err_errno(e, "write");
    s->at += len;
    return (int64_t)len;
}

static struct content *source_open(struct source *s, const char *data, uint64_t len)
{
    *s = (struct source){.pipe = {.read = source_read, .move = source_move}, .data = data, .len = len};
    s->frames[0] = (struct frame){.type = FRAME_DATA, .len = (uint32_t)len};
    s->frames[1] = (struct frame){.type = FRAME_ENTRY_END, .len = sizeof s->end};
    s->end.xxh64 = sum_bytes(data, len, 0);
    s->sent = len > 0 ? 0 : sizeof(struct frame);
    s->content = (struct content){.pipe = &s->pipe, .left = len};
    return &s->content;
}

struct item {
    int layer;
    enum entry_type entry;
    enum node_type type;
    const char *path, *target;
    uint32_t len;
    bool same; /* in every version */
};

static const struct item items[] = {
    {1, ENTRY_NODE, NODE_DIR, "app", NULL, 0, false},
    {1, ENTRY_NODE, NODE_FILE, "app/version", NULL, 9, false},
    {1, ENTRY_NODE, NODE_FILE, "app/data", NULL, 700, false},
    {1, ENTRY_WHITEOUT, 0, "etc/old", NULL, 0, false},
    {0, ENTRY_NODE, NODE_DIR, "boot", NULL, 0, false},
    {0, ENTRY_NODE, NODE_FILE, "boot/kernel", NULL, 600, false},
    {0, ENTRY_NODE, NODE_DIR, "usr", NULL, 0, true},
    {0, ENTRY_NODE, NODE_FILE, "usr/agentd", NULL, 520, true},
    {0, ENTRY_HARDLINK, 0, "usr/agentctl", "usr/agentd", 0, true},
    {0, ENTRY_NODE, NODE_FILE, "etc/old", NULL, 30, true},
    {0, ENTRY_NODE, NODE_SYMLINK, "etc/link", "../app/data", 0, true},
};

static int item_apply(const struct item *it, enum version v, struct err *e)
{
    static struct entry en;
    static char data[1024];
    struct source s;
    struct content *content = NULL;

    en.type = it->entry;
    snprintf(en.path, sizeof en.path, "%s", it->path);
    snprintf(en.target, sizeof en.target, "%s", it->target ? it->target : "");
    memset(&en.node, 0, sizeof en.node);
    if (it->entry == ENTRY_NODE)
        en.node = (struct node){.type = it->type, .mode = 0755, .mtime_s = it->same ? 1000 : 1000 + (int)v};
    en.node.target = it->target ? en.target : NULL;
    if (it->type == NODE_FILE) {
        en.node.size = content_fill(data, it->len, it->path, it->same ? 0 : (int)v);
        content = source_open(&s, data, it->len);
    }
    return slot_tree_entry(own.tree, &en, content, e);
}

/* What update/stage.c does with a tree slot, without the pipes. */
static int tree_install(enum slot_id slot, enum version v, struct err *e)
{
    static const char *const needs[] = {"boot/kernel", "usr/agentd"};
    const char *place = board.slots[slot];
    const char *toc = slot == SLOT_A ? STATE_DIR "/toc-a" : STATE_DIR "/toc-b";
    uint64_t content_max;
    bool again;
    int rc = slot_tree_begin(own.tree, board.tree, place, toc, &content_max, e);

    for (int layer = 1; rc == 0 && layer >= 0; layer--) {
        rc = slot_tree_layer(own.tree, e);
        for (size_t i = 0; rc == 0 && i < sizeof items / sizeof items[0]; i++)
            if (items[i].layer == layer)
                rc = item_apply(&items[i], v, e);
        if (rc == 0)
            rc = slot_tree_layer_end(own.tree, &again, e);
        if (rc == 0 && world.step && world.step->net_fails && !own.net_failed) {
            own.net_failed = true;
            rc = err_set(e, ERR_NET, "connection lost");
        }
    }
    if (rc == 0)
        rc = slot_tree_seal(own.tree, needs, 2, e);
    if (rc == 0 && world.bad != BAD_NO_READ_BACK)
        rc = slot_tree_verify(own.tree, board.tree, place, toc, e);
    if (rc < 0)
        slot_tree_abort(own.tree);
    return rc;
}

static int disk_install(enum slot_id slot, enum version v, struct err *e)
{
    struct source s;
    int rc = slot_disk_begin(&own.disk, board.disk, board.slots[slot], e);

    if (rc == 0)
        rc = slot_disk_write(&own.disk, DISK_LEN, source_open(&s, (char *)own.disk_image[v], DISK_LEN), e);
    if (rc == 0)
        rc = slot_disk_seal(&own.disk, e);
    if (rc == 0 && world.bad != BAD_NO_READ_BACK)
        rc = slot_disk_verify(&own.disk, e);
    if (rc < 0)
        slot_disk_abort(&own.disk);
    return rc;
}

/* --- what a slot holds -------------------------------------------------------------------------------------------- */

static uint16_t slot_root(enum slot_id slot)
{
    if (world.step->disk)
        return slot == SLOT_A ? DEV_SLOT_A : DEV_SLOT_B;
    return slot == SLOT_A ? FS_SLOT_A : FS_SLOT_B;
}

static bool disk_sector_is(uint16_t device, uint32_t sector, enum version v)
{
    const uint8_t *got = medium_bytes(medium.now.nodes[device].sectors[sector]);
    uint32_t at = sector * MEDIUM_SECTOR;
    size_t len = DISK_LEN - at < MEDIUM_SECTOR ? DISK_LEN - at : MEDIUM_SECTOR;

    return memcmp(got, own.disk_image[v] + at, len) == 0;
}

static bool slot_is(uint16_t root, enum version v)
{
    bool same = true;

    if (!world.step->disk)
        return medium_tree_hash(&medium.now, root) == own.tree_hash[v];
    for (uint32_t s = 0; s * MEDIUM_SECTOR < DISK_LEN; s++)
        same = same && disk_sector_is(root, s, v);
    return same;
}

enum version world_slot_version(enum slot_id slot)
{
    for (enum version v = V_FACTORY; v < V_CNT; v++)
        if (slot_is(slot_root(slot), v))
            return v;
    return V_NONE;
}

/* On a raw partition: the first sector, which has the superblock, is that of a version. */
bool world_slot_has_kernel(enum slot_id slot)
{
    uint16_t root = slot_root(slot);
    uint16_t boot;

    for (enum version v = V_FACTORY; world.step->disk && v < V_CNT; v++)
        if (disk_sector_is(root, 0, v))
            return true;
    boot = medium_find(&medium.now, root, medium_name("boot"));
    return !world.step->disk && boot != 0 && medium_find(&medium.now, boot, medium_name("kernel")) != 0;
}

/* --- the worker, in place of update/worker.c ---------------------------------------------------------------------- */

static void hand_due(void *ctx);

/* The person who rolls back does so when the device is idle, and again when a cut made nothing of it. */
static void idle_seen(void)
{
    struct machine *m = &own.machine;
    struct digest tag = digest_of(world.step->tag);
    struct err e;

    if (world.step->roll_back && !state_digest_failed(&m->store.state, &tag)) {
        if (machine_rollback(m, &e) < 0)
            world_fail("rollback is refused: %s", e.text);
        return;
    }
    if (m->store.state.trial_slot == 0 && m->failures == 0)
        longjmp(own.out, WORLD_SETTLED);
}

static void poll_end(struct worker *w)
{
    struct fetch_resolved r = {.digest = digest_of(world.step->tag), .media = 1};

    w->owner.resolved(w->owner.ctx, &r);
    if (own.machine.state == MACHINE_IDLE)
        idle_seen();
}

static void deploy_end(struct worker *w)
{
    static struct stage_done done;
    enum version v = (enum version)(own.deploying.b[0] - 0x40);
    struct err e = {0};
    int rc = w->owner.ready(w->owner.ctx, &e);

    if (rc == 0)
        rc = world.step->disk ? disk_install(own.deploy_slot, v, &e) : tree_install(own.deploy_slot, v, &e);
    memset(&own.deploying, 0, sizeof own.deploying);
    if (rc < 0) {
        w->owner.failed(w->owner.ctx, &e);
        return;
    }
    memset(&done, 0, sizeof done);
    done.manifest = digest_of(v);
    snprintf(done.version, sizeof done.version, "v%d", (int)v);
    done.app.arg_cnt = v != V_NO_APP;
    done.app.stop_signal = (uint16_t)v; /* so that app_start() knows whose app it is */
    w->owner.done(w->owner.ctx, &done);
}

static void worker_due(void *ctx)
{
    if (digest_is_zero(&own.deploying))
        poll_end(ctx);
    else
        deploy_end(ctx);
}

void worker_init(struct worker *w, struct loop *loop, const char *conf_path, const struct worker_owner *owner)
{
    (void)conf_path;
    *w = (struct worker){.loop = loop, .owner = *owner};
    own.worker_timer = (struct loop_timer){.due = worker_due, .ctx = w};
    memset(&own.deploying, 0, sizeof own.deploying);
}

int worker_poll(struct worker *w, struct err *e)
{
    (void)e;
    if (++own.polls % POLLS_PATIENCE == 0 && kernel.fault == FAULT_EROFS)
        world_restart(); /* a filesystem that takes nothing more is looked at again when it is mounted anew */
    if (own.polls > POLLS_MAX && kernel.fault == FAULT_DEAD)
        longjmp(own.out, WORLD_SETTLED);
    if (own.polls > POLLS_MAX || kernel.now_ms > TIME_MAX_MS)
        world_fail("does not settle: %u polls, %u starts", own.polls, world.boots);
    loop_timer_set(w->loop, &own.worker_timer, 100);
    return 0;
}

int worker_deploy(struct worker *w, enum slot_id slot, const struct digest *digest, uint32_t media,
                  bool trust, uint64_t floor, struct err *e)
{
    (void)media, (void)trust, (void)floor, (void)e;
    own.deploying = *digest;
    own.deploy_slot = slot;
    loop_timer_set(w->loop, &own.worker_timer, 100);
    return 0;
}

void worker_cancel(struct worker *w)
{
    loop_timer_clear(w->loop, &own.worker_timer);
}

bool worker_busy(const struct worker *w)
{
    (void)w;
    return own.worker_timer.armed;
}

bool worker_reap(struct worker *w, pid_t pid, int status, long maxrss_kib)
{
    (void)w, (void)pid, (void)status, (void)maxrss_kib;
    return false;
}

const char *worker_role_name(enum worker_role r)
{
    (void)r;
    return "none";
}

uint32_t worker_role_limit_kib(enum worker_role r)
{
    (void)r;
    return 0;
}

/* --- the app, in place of sup/app.c ------------------------------------------------------------------------------- */

static void app_due(void *ctx)
{
    struct app *a = ctx;

    if (a->image->stop_signal == V_CRASHES) {
        a->state = APP_FAILED;
        a->last_exit = (struct app_exit){.valid = true, .code = 3, .ran_ms = 900};
        a->notice(a->ctx, APP_GAVE_UP);
    } else {
        a->notice(a->ctx, APP_IS_STABLE);
    }
}

void app_init(struct app *a, struct loop *loop, const struct app_setup *setup)
{
    memset(a, 0, sizeof *a);
    a->loop = loop;
    a->policy = *setup->policy;
    a->stable_s = setup->stable_s;
    a->notice = setup->notice;
    a->ctx = setup->ctx;
    own.app_timer = (struct loop_timer){.due = app_due, .ctx = a};
}

int app_start(struct app *a, const struct app_spec *spec, const char *root, struct err *e)
{
    (void)root, (void)e;
    a->image = spec;
    a->state = APP_READY;
    if (spec->stop_signal == V_CRASHES)
        loop_timer_set(a->loop, &own.app_timer, 3000);
    else if (!world.step->by_hand)
        loop_timer_set(a->loop, &own.app_timer, a->stable_s * 1000ull);
    return 0;
}

void app_stop(struct app *a)
{
    loop_timer_clear(a->loop, &own.app_timer);
    a->state = APP_DOWN;
    a->notice(a->ctx, APP_STOPPED);
}

bool app_reap(struct app *a, pid_t pid, int status)
{
    (void)a, (void)pid, (void)status;
    return false;
}

void app_usage(struct app *a, struct cgroup_usage *out)
{
    (void)a;
    memset(out, 0, sizeof *out);
}

const char *app_state_name(enum app_state s)
{
    (void)s;
    return "none";
}

const char *app_cause_words(enum app_cause c)
{
    (void)c;
    return "by itself";
}

void app_missing(const struct app *a, char *out, size_t cap)
{
    (void)a;
    if (cap > 0)
        out[0] = '\0';
}

/* --- the board, and its known-bad variants ------------------------------------------------------------------------ */

static const struct uboot_env_place env_place = {
    .device = {"/dev/env", "/dev/env"},
    .offset = {0, ENV_GAP},
    .size = ENV_SIZE,
    .lock = UBOOT_ENV_LOCK,
};

static int nothing_synced(int fd, struct err *e)
{
    (void)fd, (void)e;
    return 0;
}

/* BAD_ARM_FIRST: what was to be remembered before the flip, kept back until after it. */
static struct {
    char name[16];
    int copy;
    size_t len;
    uint8_t bytes[RECORD_PAYLOAD_MAX];
} held[16];
static int held_cnt;

static ssize_t bad_read(const char *dir, const char *name, int copy, void *buf, size_t cap, struct err *e)
{
    if (world.bad == BAD_ONE_COPY && copy == 1)
        return 0;
    return store_linux.read(dir, name, copy, buf, cap, e);
}

static int bad_write(const char *dir, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    if (world.bad == BAD_ARM_FIRST && own.machine.state == MACHINE_INSTALLING && strcmp(name, "state") == 0) {
        ASSERT(held_cnt < (int)(sizeof held / sizeof held[0]) && len <= sizeof held[0].bytes);
        snprintf(held[held_cnt].name, sizeof held[0].name, "%s", name);
        held[held_cnt].copy = copy;
        held[held_cnt].len = len;
        memcpy(held[held_cnt++].bytes, buf, len);
        return 0;
    }
    return store_linux.write(dir, name, world.bad == BAD_ONE_COPY ? 0 : copy, buf, len, e);
}

static int bad_two_writes(const void *arg, const struct bootrec *r, struct err *e)
{
    struct bootrec half;
    struct bootrec_health health;
    int rc = bootrec_uboot.load(arg, &half, &health, e);

    half.first = r->first;
    if (rc == 0)
        rc = bootrec_uboot.store(arg, &half, e);
    return rc < 0 ? rc : bootrec_uboot.store(arg, r, e);
}

/* As the driver does it, but for what is bad: over the copy that is good, or with both slots in order. */
static int bad_driver(const void *arg, const struct bootrec *r, struct err *e)
{
    static const char *const left[] = {"BOOT_A_LEFT", "BOOT_B_LEFT"};
    struct uboot_env env;
    int rc = uboot_env_read(arg, &env, e);

    if (rc == 0)
        rc = uboot_env_set(&env, "BOOT_ORDER", r->first == SLOT_A ? "A B" : "B A", e);
    for (int i = 0; i < SLOT_CNT && rc == 0; i++)
        rc = uboot_env_set(&env, left[i], (const char[2]){(char)('0' + r->left[i]), 0}, e);
    if (world.bad == BAD_SAME_COPY)
        env.newest = 1 - env.newest;
    return rc < 0 ? rc : uboot_env_write(arg, &env, e);
}

static int bad_store(const void *arg, const struct bootrec *r, struct err *e)
{
    int rc = world.bad == BAD_TWO_WRITES                                 ? bad_two_writes(arg, r, e)
             : world.bad == BAD_SAME_COPY || world.bad == BAD_NAMES_BOTH ? bad_driver(arg, r, e)
                                                                         : bootrec_uboot.store(arg, r, e);

    for (int i = 0; rc == 0 && i < held_cnt; i++)
        rc = store_linux.write(STATE_DIR, held[i].name, held[i].copy, held[i].bytes, held[i].len, e);
    held_cnt = 0;
    return rc;
}

static int booted(const void *arg, enum slot_id *out, struct err *e)
{
    return bootrec_uboot.booted(arg, out, e);
}

static int load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    return bootrec_uboot.load(arg, out, health, e);
}

static uint64_t boot_ms(void)
{
    return kernel.now_ms;
}

static int64_t wall_s(void)
{
    return 1700000000;
}

static struct tree_ops tree;
static struct disk_ops disk;
static const struct bootrec_ops bootrec = {
    .caps = {.atomic = true, .copies = 2}, .load = load, .store = bad_store, .booted = booted};
static const struct clock_ops clock_cuts = {.boot_ms = boot_ms, .wall_s = wall_s};
static const struct store_ops store = {.read = bad_read, .write = bad_write};

const struct board board = {
    .name = "cuts",
    .platform = {"linux", "arm", "v7"},
    .slots = {"/dev/slot-a", "/dev/slot-b"},
    .needs = {"boot/kernel", "usr/agentd"},
    .app_root = linux_app_root,
    .tree = &tree,
    .disk = &disk,
    .bootrec = &bootrec,
    .bootrec_arg = &env_place,
    .reset = &reset_linux,
    .clock = &clock_cuts,
    .store = &store,
};

static void board_init(void)
{
    tree = tree_linux;
    disk = disk_linux;
    if (world.bad == BAD_NO_SLOT_SYNC) {
        tree.sync = nothing_synced;
        disk.sync = nothing_synced;
    }
    kernel.no_data_sync = world.bad == BAD_NO_DATA_SYNC;
    kernel.no_dir_sync = world.bad == BAD_NO_DIR_SYNC;
    held_cnt = 0;
}

/* --- power -------------------------------------------------------------------------------------------------------- */

int __real_record_load(struct record *r, void *payload, struct err *e);
int __wrap_record_load(struct record *r, void *payload, struct err *e);
int __wrap_record_load(struct record *r, void *payload, struct err *e)
{
    int rc = __real_record_load(r, payload, e);

    if (rc < 0)
        world_fail("state is unreadable: %s", e->text);
    return rc;
}

static void hand_due(void *ctx)
{
    struct err e;

    (void)ctx;
    if (own.machine.state == MACHINE_TRIAL && machine_confirm(&own.machine, &e) < 0)
        world_fail("confirm is refused: %s", e.text);
}

/* init starts agentd again when it ends. */
static void agentd_run(void)
{
    struct err e = {0};

    for (int i = 0; i < RESPAWNS_MAX; i++) {
        kernel_start();
        slot_tree_abort(own.tree);
        own.disk.fd = -1;
        loop_init(&own.loop, boot_ms);
        own.hand_timer = (struct loop_timer){.due = hand_due};
        if (machine_start(&own.machine, &own.loop, &conf, "/agent.conf", &e) == 0) {
            if (own.machine.state == MACHINE_TRIAL && world.step->by_hand)
                loop_timer_set(&own.loop, &own.hand_timer, 5000);
            (void)loop_run(&own.loop);
            world_fail("agentd ended");
        }
        log_error("%s", e.text);
        kernel.now_ms += 1000;
    }
    world_fail("agentd does not start: %s", e.text);
}

static void power_on(void)
{
    enum version v;

    medium_reset(own.from);
    kernel_start();
    kernel.guarded[0] = kernel.guarded[1] = FS_NONE;
    world.booted = uboot_start();
    v = world_slot_version(world.booted);
    if (v == V_NONE)
        world_fail("slot %c is started, and holds no whole version", 'A' + (int)world.booted);
    if (v == V_PANICS)
        longjmp(own.out, WORLD_RESTARTS);
    snprintf(kernel.cmdline, sizeof kernel.cmdline, "quiet slipway.slot=%c\n", 'A' + (int)world.booted);
    kernel.guarded[0] = world.booted == SLOT_A ? FS_SLOT_A : FS_SLOT_B;
    kernel.guarded[1] = world.booted == SLOT_A ? DEV_SLOT_A : DEV_SLOT_B;
    log_info("--- power on: slot %c, v%d", 'A' + (int)world.booted, (int)v);
    agentd_run();
}

/* --- the end ------------------------------------------------------------------------------------------------------ */

static void end_check(void)
{
    const struct machine *m = &own.machine;
    const struct step *s = world.step;
    enum version want = s->ends_with != V_NONE ? s->ends_with : s->tag;
    enum version v = world_slot_version(world.booted);
    struct digest tag = digest_of(s->tag);

    if (v != want)
        world_fail("ends with v%d, want v%d", (int)v, (int)want);
    uboot_expect(world.booted, TRIES, world_slot_version(slot_other(world.booted)) != V_NONE);
    if (s->event != NULL &&
        (strcmp(m->store.state.failure.event, s->event) != 0 || m->store.state.failure.code == 0 ||
         digest_compare(&m->store.state.failure.digest, &tag) != VERDICT_MATCH))
        world_fail("the cause is not recorded: want a failed %s, have '%s': %s", s->event,
                   m->store.state.failure.event, m->store.state.failure.text);
    if (s->event != NULL && !state_digest_failed(&m->store.state, &tag))
        world_fail("the failed version would be tried again");
}

/* What is remembered, and what it says of the running slot, must be on flash as it is in memory. */
static void flash_check(void)
{
    static struct state_store onflash;

    kernel_start();
    state_open(&onflash, board.store, STATE_DIR);
    if (memcmp(&onflash.state, &own.machine.store.state, sizeof onflash.state) != 0 ||
        memcmp(onflash.slots, own.machine.store.slots, sizeof onflash.slots) != 0)
        world_fail("the records on flash are not those in memory");
}

/* Settled once: start again, after which nothing may be left to do. */
static enum world_end settled(void)
{
    int end = setjmp(own.out);

    if (end != 0)
        return (enum world_end)end;
    if (kernel.fault ==
        FAULT_DEAD) /* no version can be kept; that something whole runs is all there is to ask for */
        return WORLD_SETTLED;
    end_check();
    if (!world.power_cuts)
        flash_check();
    if (own.settled++ == 0) {
        own.settled_with = (enum version)world.booted;
        for (int i = 0; i < SLOT_CNT; i++)
            own.settled_hash[i] = medium_tree_hash(&medium.now, slot_root((enum slot_id)i));
        return WORLD_RESTARTS;
    }
    for (int i = 0; i < SLOT_CNT; i++)
        if (own.settled_hash[i] != medium_tree_hash(&medium.now, slot_root((enum slot_id)i)))
            world_fail("the start after it changed slot %c", 'A' + i);
    if (own.settled_with != (enum version)world.booted)
        world_fail("the start after it is in the other slot");
    medium_reset(own.from);
    return WORLD_SETTLED;
}

static void run_begin(const struct medium_image *from, const struct step *step)
{
    own.from = from;
    own.settled = own.polls = 0;
    own.net_failed = false;
    world.step = step;
    world.boots = 0;
    world.why[0] = '\0';
    conf.slots.disk = step->disk;
    kernel.calls = kernel.slot_sectors = 0;
    kernel.fault_hit = false;
    kernel.now_ms = 1000;
    kernel_log_clear();
    board_init();
    medium_load(from);
    own.runs = true;
}

enum world_end world_run(const struct medium_image *from, const struct step *step)
{
    volatile enum world_end end = WORLD_RESTARTS;

    run_begin(from, step);
    while (end == WORLD_RESTARTS) {
        int way = setjmp(own.out);

        if (way == 0)
            power_on();
        end = (enum world_end)way;
        if (end == WORLD_SETTLED)
            end = settled();
    }
    own.runs = false;
    return end;
}

enum world_end world_storm(const struct medium_image *from, const struct step *step)
{
    int way;

    run_begin(from, step);
    way = setjmp(own.out);
    for (int i = 0; way == 0 && i < STORM_STARTS; i++) {
        enum slot_id slot;

        medium_reset(own.from);
        slot = uboot_start();
        if (world_slot_version(slot) == V_NONE)
            world_fail("start %d of a storm is of slot %c, which holds no whole version", i + 1,
                       'A' + (int)slot);
    }
    own.runs = false;
    return way == 0 ? WORLD_SETTLED : (enum world_end)way;
}

/* --- the factory -------------------------------------------------------------------------------------------------- */

static void slot_fill(enum slot_id slot, enum version v)
{
    struct err e = {0};
    bool disk_slot = world.step->disk;

    if ((disk_slot ? disk_install(slot, v, &e) : tree_install(slot, v, &e)) < 0) {
        fprintf(stderr, "v%d: %s\n", (int)v, e.text);
        fprintf(stderr, "%s", kernel_log());
        __builtin_trap();
    }
}

static void factory_make(const struct step *kind, struct medium_image *out)
{
    struct medium_image blank;

    medium_format(&blank, DEVICE_LEN);
    own.from = &blank;
    world.step = kind;
    medium_load(&blank);
    kernel.fault = FAULT_NONE;
    kernel.guarded[0] = kernel.guarded[1] = FS_NONE;
    kernel_start();
    uboot_factory();
    medium_do(&(struct medium_op){
        .kind = OP_MAKE, .fs = FS_DATA, .type = MEDIUM_DIR, .node = FS_CNT, .meta.mode = 0700});
    medium_do(&(struct medium_op){
        .kind = OP_LINK, .owner = FS_DATA, .node = FS_CNT, .name = medium_name("slipway")});
    for (enum version v = V_CNT; v-- > V_FACTORY;) {
        slot_fill(SLOT_A, v);
        own.tree_hash[v] = kind->disk ? own.tree_hash[v] : medium_tree_hash(&medium.now, FS_SLOT_A);
    }
    /* the agent makes its own folder */
    medium_do(&(struct medium_op){.kind = OP_UNLINK, .owner = FS_DATA, .name = medium_name("slipway")});
    *out = medium.now;
    medium_load(out);
    *out = medium.now;
}

void world_init(struct medium_image *factory_tree, struct medium_image *factory_disk)
{
    static const struct step of_tree = {.disk = false}, of_disk = {.disk = true};

    if (own.tree == NULL)
        own.tree = slot_tree_new();
    slot_tree_abort(own.tree);
    own.disk.fd = -1;
    world.bad = BAD_NONE;
    board_init();
    for (int v = 0; v < V_CNT; v++)
        content_fill((char *)own.disk_image[v], DISK_LEN, "image", v);
    factory_make(&of_tree, factory_tree);
    factory_make(&of_disk, factory_disk);
}
