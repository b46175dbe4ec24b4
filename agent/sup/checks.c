#include "sup/checks.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/app_spec.h"
#include "base/io.h"
#include "base/log.h"
#include "sup/child.h"

#define DATA_KB 32768
#define SAID_MAX 120

/* --- which ---------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int names_read(struct checks *c, DIR *d, struct err *e)
{
    for (struct dirent *entry; (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        if (c->cnt == CHECK_MAX)
            return err_set(e, ERR_LIMIT, "more than %d health checks in /%s", CHECK_MAX, CHECKS_DIR);
        if (snprintf(c->names[c->cnt], CHECK_NAME_MAX, "%s", entry->d_name) >= CHECK_NAME_MAX)
            return err_set(e, ERR_LIMIT, "health check %.40s...: its name is too long", entry->d_name);
        c->cnt++;
    }
    qsort(c->names, c->cnt, CHECK_NAME_MAX, by_name);
    return 0;
}

static int names_find(struct checks *c, struct err *e)
{
    char path[CONF_PATH_MAX + sizeof CHECKS_DIR + 1];
    DIR *d;
    int rc;

    c->cnt = c->at = 0;
    snprintf(path, sizeof path, "%s/%s", c->root, CHECKS_DIR);
    d = opendir(path);
    if (!d)
        return errno == ENOENT ? 0 : err_errno(e, "health checks: %s", path);
    rc = names_read(c, d, e);
    closedir(d);
    return rc;
}

/* --- one after the other -------------------------------------------------------------------------------------------- */

static void child_forget(struct checks *c)
{
    loop_timer_clear(c->loop, &c->timer);
    if (c->out_fd >= 0)
        close(c->out_fd);
    c->out_fd = -1;
    c->pid = 0;
}

static void finish(struct checks *c, const struct err *failure)
{
    child_forget(c);
    c->running = false;
    c->done(c->ctx, failure);
}

static int check_run(struct checks *c, const char *name, struct err *e)
{
    const struct conf_app conf = {.tmpfs_kb = CONFIG_APP_TMPFS_KB};
    struct app_spec spec = {.arg_cnt = 1, .cwd = "/"};
    struct jail jail = {
        .cgroup = "", .notify = "", .data_kb = DATA_KB, .conf = &conf, .state_dir = c->state_dir};
    const struct child_plan plan = {.spec = &spec, .root = c->root, .jail = &jail};

    jail_probe(&jail, NETWORK_HOST);
    spec.text_len = (uint16_t)(1 + snprintf(spec.text, sizeof spec.text, "/%s/%s", CHECKS_DIR, name));
    return child_start(&plan, &c->pid, &c->out_fd, e);
}

/* A child that only says why it did not start is nobody's. */
static void next_run(struct checks *c)
{
    const char *name = c->names[c->at];
    struct err e = {0};

    if (c->at == c->cnt) {
        finish(c, NULL);
        return;
    }
    c->late = false;
    if (!check_run(c, name, &e)) {
        loop_timer_set(c->loop, &c->timer, c->limit_s * 1000ull);
        return;
    }
    err_prefix(&e, "health check %s", name);
    e.code = ERR_APP;
    finish(c, &e);
}

/* The start of what it printed tells why. */
static void failure_describe(struct checks *c, int status, struct err *e)
{
    char said[SAID_MAX + 1];
    ssize_t len = IO_RETRY(read(c->out_fd, said, SAID_MAX));

    said[len > 0 ? len : 0] = '\0';
    said[strcspn(said, "\n")] = '\0';
    if (c->late)
        err_set(e, ERR_APP, "health check %s: took longer than %u s", c->names[c->at], c->limit_s);
    else
        err_set(e, ERR_APP, "health check %s: %s %d", c->names[c->at],
                WIFEXITED(status) ? "exit code" : "signal",
                WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    if (said[0])
        err_append(e, ": %s", said);
}

bool checks_reap(struct checks *c, pid_t pid, int status)
{
    struct err e;

    if (!c->pid || pid != c->pid)
        return false;
    if (WIFEXITED(status) && !WEXITSTATUS(status) && !c->late) {
        log_info("health check %s: passed", c->names[c->at]);
        child_forget(c);
        c->at++;
        next_run(c);
        return true;
    }
    failure_describe(c, status, &e);
    finish(c, &e);
    return true;
}

/* Its time is up; or, where none runs, it is time for the first. */
static void due(void *ctx)
{
    struct checks *c = ctx;
    struct err e;

    if (c->pid) {
        c->late = true;
        (void)kill(-c->pid, SIGKILL);
    } else if (names_find(c, &e)) {
        finish(c, &e);
    } else {
        next_run(c);
    }
}

/* --- for the owner --------------------------------------------------------------------------------------------------- */

void checks_init(struct checks *c, struct loop *loop, uint32_t limit_s, const char *state_dir,
                 void (*done)(void *ctx, const struct err *failure), void *ctx)
{
    memset(c, 0, sizeof *c);
    c->loop = loop;
    c->limit_s = limit_s;
    c->state_dir = state_dir;
    c->done = done;
    c->ctx = ctx;
    c->out_fd = -1;
    c->timer = (struct loop_timer){.due = due, .ctx = c};
}

void checks_start(struct checks *c, const char *root)
{
    if (c->running)
        return;
    c->running = true;
    snprintf(c->root, sizeof c->root, "%s", root);
    loop_timer_set(c->loop, &c->timer, 0);
}

void checks_stop(struct checks *c)
{
    if (c->pid)
        (void)kill(-c->pid, SIGKILL);
    child_forget(c);
    c->running = false;
}
