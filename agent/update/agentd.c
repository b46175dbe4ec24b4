#include "update/agentd.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/version.h"
#include "ctl/server.h"
#include "hal/board.h"
#include "oci/auth.h"
#include "update/machine.h"

struct agentd {
    const struct conf *conf;
    const char *conf_path;
    struct loop loop;
    struct shared shared;
    struct machine machine; /* the system's; the apps' are behind it */
    int signal_fd;
    int watchdog_fd; /* -1: none */
    uint32_t watchdog_s;
    struct loop_timer watchdog_timer;
};

static void children_reap(struct agentd *d)
{
    struct rusage used;
    int status;
    pid_t pid;

    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0)
        machine_reap(&d->machine, pid, status, used.ru_maxrss);
}

static void signal_ready(void *ctx, short revents)
{
    struct agentd *d = ctx;
    struct signalfd_siginfo info;

    (void)revents;
    if (io_read_full(d->signal_fd, &info, sizeof info) != sizeof info)
        return;
    if (info.ssi_signo == SIGCHLD) {
        children_reap(d);
        return;
    }
    log_info("ending on signal %u", info.ssi_signo);
    machine_stop(&d->machine);
}

static int signals_open(struct agentd *d, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_errno(e, "signals");
    d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (d->signal_fd < 0)
        return err_errno(e, "signals");
    loop_fd_add(&d->loop, d->signal_fd, POLLIN, signal_ready, d);
    return 0;
}

static void watchdog_due(void *ctx)
{
    struct agentd *d = ctx;
    struct err e;

    if (board.watchdog->feed(d->watchdog_fd, &e) < 0)
        log_error("watchdog: %s", e.text);
    loop_timer_set(&d->loop, &d->watchdog_timer, d->watchdog_s * 1000ull / 4);
}

static void watchdog_begin(struct agentd *d)
{
    struct err e;

    d->watchdog_fd = -1;
    d->watchdog_s = d->conf->agent.watchdog_s;
    d->watchdog_timer = (struct loop_timer){.due = watchdog_due, .ctx = d};
    if (!IS_ENABLED(CONFIG_WATCHDOG) || d->watchdog_s == 0)
        return;
    if (board.watchdog->start(&d->watchdog_fd, &d->watchdog_s, &e) < 0) {
        log_warning("watchdog: %s; going on without", e.text);
        return;
    }
    watchdog_due(d);
}

/* VmHWM; getrusage(2) would count what this process was before exec, too. */
static uint32_t own_peak_kib(void)
{
    char text[2048];
    const char *at = io_read_file("/proc/self/status", text, sizeof text) > 0 ? strstr(text, "VmHWM:") : NULL;

    return at ? (uint32_t)strtoul(at + strlen("VmHWM:"), NULL, 10) : 0;
}

static void *on_target(void *ctx, const char *app, struct err *e)
{
    struct machine *m = machine_find(&((struct agentd *)ctx)->machine, app);

    if (!m)
        err_set(e, ERR_ABSENT, "there is no app %.40s: agent.conf has no [app %.40s]", app, app);
    return m;
}

static void on_status(void *target, struct status *out)
{
    static const char *const causes[] = {"unknown", "power-on", "watchdog", "software"};
    struct machine *m = target;
    const struct agentd *d = (struct agentd *)((char *)m->lead - offsetof(struct agentd, machine));
    struct err e;

    snprintf(out->agent_version, sizeof out->agent_version, "%s", SLIPWAY_VERSION);
    snprintf(out->board, sizeof out->board, "%s", board.name);
    if (board.identity->device_id(out->device_id, sizeof out->device_id, &e) < 0)
        snprintf(out->device_id, sizeof out->device_id, "unknown");
    snprintf(out->reset_cause, sizeof out->reset_cause, "%s", causes[board.reset->cause()]);
    out->now_s = board.clock->wall_s();
    out->uptime_s = board.clock->boot_ms() / 1000;
    out->watchdog_s = d->watchdog_fd >= 0 ? d->watchdog_s : 0;
    snprintf(out->roles[0].name, sizeof out->roles[0].name, "agentd");
    out->roles[0].limit_kib = CONFIG_MEM_AGENTD_KB;
    out->roles[0].peak_kib = own_peak_kib();
    out->hash_kib_s = hash_engine_speed();
    snprintf(out->hash_engine, sizeof out->hash_engine, "%s", hash_engine_name());
    sandbox_describe(out->sandbox, sizeof out->sandbox);
    machine_status(m, out);
}

static void on_plan(void *target, struct plan *out)
{
    machine_plan(target, out);
}

static int on_order(void *target, enum ctl_order order, const char *source, struct err *e)
{
    struct machine *m = target;

    switch (order) {
    case CTL_PLAN:
        return machine_look(m, source, e);
    case CTL_UPDATE:
    case CTL_DOWNGRADE:
        return machine_update(m, order == CTL_DOWNGRADE, source, e);
    case CTL_CONFIRM:
        return machine_confirm(m, e);
    case CTL_ROLLBACK:
        return machine_rollback(m, e);
    case CTL_HOLD:
    case CTL_RELEASE:
        return machine_hold(m, order == CTL_HOLD, e);
    case CTL_SCRUB:
        return machine_scrub(m, e);
    case CTL_NO_ORDER:
        break;
    }
    return err_set(e, ERR_UNSUPPORTED, "no order");
}

static int on_config(void *ctx, void (*see)(void *see_ctx, const struct conf_value *v), void *see_ctx,
                     const char **path, bool *changed, struct err *e)
{
    static struct conf now;
    struct agentd *d = ctx;
    int rc = conf_show(d->conf_path, &now, see, see_ctx, e);

    *path = d->conf_path;
    *changed = rc == 0 && memcmp(&now, d->conf, sizeof now) != 0;
    return rc;
}

static size_t on_history(void *target, uint32_t *from, struct event *out, size_t max)
{
    return history_read(&((struct machine *)target)->history, from, out, max);
}

static const struct app_log *on_log(void *target)
{
    return &((struct machine *)target)->app.log;
}

/* --- apps that follow images of their own ------------------------------------------------------------------------- */

struct beside {
    struct conf conf;
    struct machine machine;
};

/* One that can't start is no reason for the system to stop. Memory is taken for as many as agent.conf names. */
static void beside_start(struct agentd *d)
{
    size_t cnt = 0;
    struct beside *b;

    while (cnt < CONFIG_APPS_MAX && d->conf->apps[cnt].name[0])
        cnt++;
    b = cnt > 0 ? calloc(cnt, sizeof *b) : NULL;
    if (cnt > 0 && !b)
        log_error("%zu apps do not fit under agentd's ceiling of %d KB", cnt, CONFIG_MEM_AGENTD_KB);
    for (size_t i = 0; b && i < cnt; i++) {
        struct err e = {0};

        b[i].conf = *d->conf;
        if (conf_view(&b[i].conf, d->conf->apps[i].name, &e) < 0 ||
            machine_start_beside(&b[i].machine, &d->machine, &b[i].conf, &e) < 0)
            log_error("app %s: %s", d->conf->apps[i].name, e.text);
    }
}

/* Only the soft limit: the roles and the app take limits of their own. */
static void ceiling_set(void)
{
    struct rlimit r;

    if (IS_ENABLED(__SANITIZE_ADDRESS__) || getrlimit(RLIMIT_DATA, &r) < 0)
        return;
    r.rlim_cur = CONFIG_MEM_AGENTD_KB * 1024ul;
    if (setrlimit(RLIMIT_DATA, &r) < 0)
        log_warning("memory ceiling: %s", strerror(errno));
}

static int agentd_start(struct agentd *d, const char *conf_path, struct err *e)
{
    const struct ctl_owner owner = {
        .ctx = d,
        .target = on_target,
        .status = on_status,
        .plan = on_plan,
        .order = on_order,
        .config = on_config,
        .history = on_history,
        .log = on_log,
    };

    loop_init(&d->loop, board.clock->boot_ms);
    watchdog_begin(d);
    /* it is what fetch will say; the app runs all the same */
    if (auth_check(&d->conf->registry, board.secret, e) < 0)
        log_error("%s", e->text);
    if (signals_open(d, e) < 0)
        return e->code;
    if (!ctl_server_start(&d->loop, &d->conf->control, board.serial, &owner, e))
        return err_prefix(e, "control");
    if (machine_start(&d->machine, &d->shared, &d->loop, d->conf, conf_path, e) < 0)
        return e->code;
    beside_start(d);
    return 0;
}

/* What agentd has is taken here, once: as data of the program it would count to the ceiling of every role. */
int agentd_main(const struct conf *conf, const char *conf_path)
{
    struct agentd *d = calloc(1, sizeof *d);
    struct err e = {0};
    char sandbox[48];
    int rc;

    ceiling_set();
    hash_start();
    if (!d) {
        log_error("agentd does not fit into memory");
        return 1;
    }
    d->conf = conf;
    d->conf_path = conf_path;
    rc = agentd_start(d, conf_path, &e);
    if (rc < 0) {
        log_error("%s", e.text);
        return 1;
    }
    sandbox_describe(sandbox, sizeof sandbox);
    log_info("sandbox: %s", sandbox);
    log_info("%s: following %s/%s:%s, slot %c", board.name, conf->registry.host, conf->registry.repository,
             conf->registry.tag, 'A' + (int)d->machine.booted);
    rc = loop_run(&d->loop);
    if (rc < 0)
        log_error("poll: %s", strerror(-rc));
    return rc < 0;
}
