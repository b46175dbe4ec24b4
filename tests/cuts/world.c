#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "kernel.h"
#include "update/activate.h"
#include "update/machine.h"
#include "versions.h"

#define STABLE_S 30u
#define TRIES 3u
#define RESPAWNS_MAX 5
#define POLLS_MAX 24
#define POLLS_PATIENCE 6
#define STORM_STARTS 10 /* more than all slots have tries */
#define TIME_MAX_MS (2 * 24 * 3600 * 1000ull)

struct world world;

static struct {
    jmp_buf out;
    bool runs;    /* `out` is good */
    bool tryboot; /* the reboot was one for it */
    const struct medium_image *from;
    struct machine machine;
    struct shared shared;
    struct loop loop;
    struct loop_timer worker_timer, scrub_timer, app_timer, hand_timer;
    struct scrub_job scrub;
    struct digest deploying; /* zero: a poll */
    enum slot_id deploy_slot;
    unsigned polls, settled;
    enum slot_id settled_in;
    uint64_t settled_hash[2];
} own;

static struct conf conf = {
    .registry = {.host = "registry.example.com", .repository = "fleet/web", .tag = "stable"},
    .update = {.poll_interval_s = 60, .stable_s = STABLE_S, .tries = TRIES, .automatic = true},
    .agent = {.state_dir = WORLD_STATE_DIR},
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

bool world_is_installing(void)
{
    return own.machine.state == MACHINE_INSTALLING;
}

void world_restart(bool tryboot)
{
    own.tryboot = tryboot;
    longjmp(own.out, WORLD_RESTARTS);
}

static struct digest digest_of(enum version v)
{
    struct digest d;

    memset(&d, 0x40 + (int)v, sizeof d);
    return d;
}

/* Where something is broken for good no version can be kept; that a whole one runs is all there is to ask for. */
static bool is_broken(void)
{
    return kernel.fault == FAULT_DEAD || kernel.fault == FAULT_ENV;
}

static void time_up(void)
{
    if (is_broken())
        longjmp(own.out, WORLD_SETTLED);
    world_fail("does not settle: %u polls, %u starts", own.polls, world.boots);
}

void world_tick(void)
{
    if (kernel.now_ms > TIME_MAX_MS)
        time_up();
}

/* --- the worker, in place of update/worker.c ---------------------------------------------------------------------- */

static void hand_due(void *ctx);

/* The person who rolls back does so when the device is idle, and again when a cut made nothing of it. */
static void idle_seen(void)
{
    struct machine *m = &own.machine;
    struct digest tag = digest_of(world.step->tag);
    struct err e;

    if (world.step->roll_back && !m->waiting.code && !state_digest_failed(&m->store.state, &tag)) {
        if (machine_rollback(m, &e) < 0)
            world_fail("rollback is refused: %s", e.text);
        return;
    }
    if (world.step->rots &&
        (version_of_slot(slot_other(m->booted)) == V_NONE || machine_other(m)->condition != SLOT_GOOD)) {
        (void)machine_scrub(m, &e); /* refused while the slot waits to be mended */
        return;
    }
    if (m->store.state.trial_slot == 0 && m->failures == 0 && !m->unconfirmed && !m->waiting.code)
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
        rc = version_install(own.deploy_slot, v, &e);
    memset(&own.deploying, 0, sizeof own.deploying);
    if (rc < 0) {
        w->owner.failed(w->owner.ctx, &e);
        return;
    }
    memset(&done, 0, sizeof done);
    done.config = digest_of(v);
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

static void scrub_due(void *ctx)
{
    struct worker *w = ctx;
    struct scrubbed found = {0};
    struct err e = {0};
    int rc =
        own.scrub.active ? 0 : version_scrub(own.scrub.slot, w->owner.ready, w->owner.ctx, &found.files, &e);

    if (rc < 0)
        w->owner.failed(w->owner.ctx, &e);
    else
        w->owner.scrubbed(w->owner.ctx, &found);
}

int worker_init(struct worker *w, struct loop *loop, const char *conf_path, const struct worker_owner *owner,
                struct err *e)
{
    static const volatile uint32_t meter;

    (void)conf_path;
    (void)e;
    *w = (struct worker){.loop = loop, .owner = *owner, .meter = &meter};
    if (owner->scrubbed) {
        own.scrub_timer = (struct loop_timer){.due = scrub_due, .ctx = w};
        return 0;
    }
    own.worker_timer = (struct loop_timer){.due = worker_due, .ctx = w};
    memset(&own.deploying, 0, sizeof own.deploying);
    return 0;
}

int worker_poll(struct worker *w, struct err *e)
{
    (void)e;
    if (++own.polls % POLLS_PATIENCE == 0 && kernel.fault == FAULT_EROFS)
        world_restart(
            false); /* a filesystem that takes nothing more is looked at again when it is mounted anew */
    if (own.polls > POLLS_MAX)
        time_up();
    loop_timer_set(w->loop, &own.worker_timer, 100);
    return 0;
}

int worker_deploy(struct worker *w, const struct stage_job *job, bool trust, struct err *e)
{
    (void)trust, (void)e;
    own.deploying = job->digest;
    own.deploy_slot = job->slot;
    loop_timer_set(w->loop, &own.worker_timer, 100);
    return 0;
}

int worker_scrub(struct worker *w, const struct scrub_job *job, struct err *e)
{
    (void)e;
    own.scrub = *job;
    loop_timer_set(w->loop, &own.scrub_timer, 100);
    return 0;
}

void worker_stop(struct worker *w)
{
    worker_cancel(w);
}

void worker_cancel(struct worker *w)
{
    loop_timer_clear(w->loop, w == own.scrub_timer.ctx ? &own.scrub_timer : &own.worker_timer);
}

bool worker_busy(const struct worker *w)
{
    return w == own.scrub_timer.ctx ? own.scrub_timer.armed : own.worker_timer.armed;
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
        version_begin(false);
        loop_init(&own.loop, board.clock->boot_ms);
        own.hand_timer = (struct loop_timer){.due = hand_due};
        if (machine_start(&own.machine, &own.shared, &own.loop, &conf, "/agent.conf", &e) == 0) {
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

static enum slot_id loader_start(void)
{
    bool asked = own.tryboot;

    own.tryboot = false;
    return world.step->loader == LOADER_TRYBOOT ? tryboot_start(asked) : uboot_start();
}

static void power_on(void)
{
    enum version v;

    medium_reset(own.from);
    kernel_start();
    kernel.guarded[0] = kernel.guarded[1] = FS_NONE;
    world.booted = loader_start();
    v = version_of_slot(world.booted);
    if (v == V_NONE)
        world_fail("slot %c is started, and holds no whole version", 'A' + (int)world.booted);
    if (v == V_PANICS)
        longjmp(own.out, WORLD_RESTARTS);
    if (world.step->loader == LOADER_SCRIPT)
        snprintf(kernel.cmdline, sizeof kernel.cmdline, "quiet slipway.slot=%c\n", 'A' + (int)world.booted);
    else
        snprintf(kernel.cmdline, sizeof kernel.cmdline, "quiet root=/dev/mmcblk0p%s rootwait\n",
                 world.booted == SLOT_A ? CUTS_PART_A : CUTS_PART_B);
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
    enum version v = version_of_slot(world.booted);
    struct digest tag = digest_of(s->tag);

    if (s->rots && version_of_slot(slot_other(world.booted)) != V_GOOD)
        world_fail("the other slot is not mended");
    if (v != want)
        world_fail("ends with v%d, want v%d", (int)v, (int)want);
    (s->loader == LOADER_TRYBOOT ? tryboot_expect : uboot_expect)(
        world.booted, TRIES, version_of_slot(slot_other(world.booted)) != V_NONE);
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
    state_open(&onflash, board.store, WORLD_STATE_DIR);
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
    if (is_broken())
        return WORLD_SETTLED;
    end_check();
    if (!world.power_cuts)
        flash_check();
    if (own.settled++ == 0) {
        own.settled_in = world.booted;
        for (int i = 0; i < SLOT_CNT; i++)
            own.settled_hash[i] = medium_tree_hash(&medium.now, version_slot_root((enum slot_id)i));
        return WORLD_RESTARTS;
    }
    for (int i = 0; i < SLOT_CNT; i++)
        if (own.settled_hash[i] != medium_tree_hash(&medium.now, version_slot_root((enum slot_id)i)))
            world_fail("the start after it changed slot %c", 'A' + i);
    if (own.settled_in != world.booted)
        world_fail("the start after it is in the other slot");
    medium_reset(own.from);
    return WORLD_SETTLED;
}

static void run_begin(const struct medium_image *from, const struct step *step)
{
    own.from = from;
    own.settled = own.polls = 0;
    own.tryboot = false;
    version_begin(true);
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
    if (step->rots && version_is_rotten(from)) /* it may be started: nobody knows yet */
        return WORLD_SETTLED;

    run_begin(from, step);
    way = setjmp(own.out);
    for (int i = 0; way == 0 && i < STORM_STARTS; i++) {
        enum slot_id slot;

        medium_reset(own.from);
        slot = loader_start();
        if (version_of_slot(slot) == V_NONE)
            world_fail("start %d of a storm is of slot %c, which holds no whole version", i + 1,
                       'A' + (int)slot);
    }
    own.runs = false;
    return way == 0 ? WORLD_SETTLED : (enum world_end)way;
}
