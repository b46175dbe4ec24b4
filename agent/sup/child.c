#include "sup/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "sup/user.h"

#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define REASON_FD 3
#define EXIT_NOT_STARTED 127

struct program {
    char *argv[APP_ARG_MAX + 1];
    char *envp[APP_ENV_MAX + 5];
    char home[160];
    char notify[CONF_PATH_MAX + 16];
    char watchdog[40];
};

struct pipes {
    int out[2];
    int reason[2];
};

/* --- in the child -------------------------------------------------------------------------------------------------- */

static void fds_close_from(unsigned first)
{
    long end = sysconf(_SC_OPEN_MAX);

#ifdef SYS_close_range
    if (!syscall(SYS_close_range, first, ~0u, 0))
        return;
#endif
    for (long fd = (long)first; fd < end; fd++)
        close((int)fd);
}

/* stdout and stderr the pipe, the reason at a known place, all others closed. */
static int fds_set(int out, int *reason, struct err *e)
{
    out = fcntl(out, F_DUPFD, REASON_FD + 1);
    *reason = fcntl(*reason, F_DUPFD_CLOEXEC, REASON_FD + 1);
    if (dup2(out, 1) < 0 || dup2(out, 2) < 0 || dup3(*reason, REASON_FD, O_CLOEXEC) < 0)
        return err_errno(e, "descriptors");
    *reason = REASON_FD;
    fds_close_from(REASON_FD + 1);
    return 0;
}

/* That of the app's own /dev. */
static int null_set(bool quiet, struct err *e)
{
    int null = IO_RETRY(open("/dev/null", O_RDWR | O_CLOEXEC));

    if (null < 0 || dup2(null, 0) < 0 || (quiet && (dup2(null, 1) < 0 || dup2(null, 2) < 0)))
        return err_errno(e, "/dev/null");
    close(null);
    return 0;
}

static void signals_reset(void)
{
    sigset_t none;

    for (int s = 1; s < NSIG; s++)
        signal(s, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The ceiling of data is agentd's own. Without the right to lift it the app gets as much as there is. */
static void limits_set(const struct jail *j)
{
    const rlim_t data = j->data_kb ? (rlim_t)j->data_kb * 1024 : RLIM_INFINITY;
    struct rlimit l = {data, data}, procs = {j->nproc, j->nproc};

    if (j->nproc)
        (void)!setrlimit(RLIMIT_NPROC, &procs);
    if (!setrlimit(RLIMIT_DATA, &l) || getrlimit(RLIMIT_DATA, &l))
        return;
    l.rlim_cur = l.rlim_max;
    (void)!setrlimit(RLIMIT_DATA, &l);
}

/* The first to go when the board has no memory left, before the agent. Without /proc it is like the others. */
static void oom_volunteer(void)
{
    int fd = IO_RETRY(open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC));

    if (fd < 0)
        return;
    (void)io_write_full(fd, "500", 3);
    close(fd);
}

static int cwd_enter(const struct app_spec *spec, struct err *e)
{
    char cwd[sizeof spec->cwd + 1];

    snprintf(cwd, sizeof cwd, "%s%.*s", spec->cwd[0] == '/' ? "" : "/", (int)sizeof spec->cwd - 1, spec->cwd);
    return chdir(cwd) ? err_errno(e, "working directory %s", cwd) : 0;
}

/* The app ends with its agent, whose successor starts it anew: it is never there twice. The kernel forgets this at each
 * change of user, so it is asked for last; whoever died before that has left nobody to read the reason. */
static int life_bind(int reason, struct err *e)
{
    struct pollfd p = {.fd = reason};

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        return err_errno(e, "bind to agentd");
    if (poll(&p, 1, 0) > 0 && (p.revents & POLLERR))
        _exit(EXIT_NOT_STARTED);
    return 0;
}

/* Who is not root can only be itself: an image without a user runs as the agent does. */
static int user_become(const struct app_spec *spec, struct app_user *u, struct err *e)
{
    if (app_user_find("/etc", spec->user, u, e))
        return e->code;
    if (geteuid() && (!spec->user[0] || (u->uid == geteuid() && u->gid == getegid())))
        return 0;
    if (setgroups(u->group_cnt, u->groups) || setresgid(u->gid, u->gid, u->gid) ||
        setresuid(u->uid, u->uid, u->uid))
        return err_errno(e, "user %u, group %u", (unsigned)u->uid, (unsigned)u->gid);
    return 0;
}

static const char *env_find(char *const envp[], const char *name)
{
    size_t len = strlen(name);

    for (; *envp; envp++)
        if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
            return *envp + len + 1;
    return NULL;
}

/* Point into the spec's text, which may come from a damaged file. */
static int texts_point(char **out, const struct app_spec *spec, enum app_text kind, struct err *e)
{
    for (size_t i = 0; i < app_spec_cnt(spec, kind); i++) {
        out[i] = (char *)(uintptr_t)app_spec_text(spec, kind, i);
        if (!out[i])
            return err_set(e, ERR_FORMAT, "arguments and environment are cut off");
    }
    return 0;
}

static int program_fill(struct program *p, const struct child_plan *plan, const struct app_user *u,
                        struct err *e)
{
    const struct jail *j = plan->jail;
    enum app_text kind = plan->beside ? APP_TEXT_HEALTH : APP_TEXT_ARG;
    size_t envs = app_spec_cnt(plan->spec, APP_TEXT_ENV);

    if (texts_point(p->argv, plan->spec, kind, e) || texts_point(p->envp, plan->spec, APP_TEXT_ENV, e))
        return e->code;
    if (!p->argv[0] || !p->argv[0][0])
        return err_set(e, ERR_APP, "the image has neither Entrypoint nor Cmd");
    if (!env_find(p->envp, "PATH"))
        p->envp[envs++] = PATH_DEFAULT;
    snprintf(p->home, sizeof p->home, "HOME=%s", u->home);
    if (!env_find(p->envp, "HOME"))
        p->envp[envs++] = p->home;
    if (!j->notify[0])
        return 0;
    snprintf(p->notify, sizeof p->notify, "NOTIFY_SOCKET=%s",
             j->namespaces & CLONE_NEWNS ? JAIL_NOTIFY_SOCKET : j->notify);
    p->envp[envs++] = p->notify;
    snprintf(p->watchdog, sizeof p->watchdog, "WATCHDOG_USEC=%u000000", (unsigned)j->conf->watchdog_s);
    if (j->conf->watchdog_s)
        p->envp[envs++] = p->watchdog;
    return 0;
}

static int exec_failed(const char *file, struct err *e)
{
    struct stat st;

    if (errno == ENOENT && !stat(file, &st))
        return err_set(e, -ENOENT, "%s: its interpreter or loader is not in the image", file);
    return err_errno(e, "%s", file);
}

/* Replace this process. A file that is not there, or may not be run, does not end the search along PATH. */
static int program_exec(struct program *p, struct err *e)
{
    const char *name = p->argv[0];
    bool denied = false;

    if (strchr(name, '/')) {
        execve(name, p->argv, p->envp);
        return exec_failed(name, e);
    }
    for (const char *dir = env_find(p->envp, "PATH"); dir;) {
        size_t len = strcspn(dir, ":");
        char file[512];

        if (snprintf(file, sizeof file, "%.*s%s%s", (int)len, dir, len ? "/" : "", name) < (int)sizeof file) {
            execve(file, p->argv, p->envp);
            denied = denied || errno == EACCES;
            if (errno != EACCES && errno != ENOTDIR && (errno != ENOENT || !access(file, F_OK)))
                return exec_failed(file, e);
        }
        dir = dir[len] ? dir + len + 1 : NULL;
    }
    errno = denied ? EACCES : ENOENT;
    return err_errno(e, "%.200s: looked for along %.80s", name, env_find(p->envp, "PATH"));
}

static int privileges_give_up(const struct child_plan *plan, struct app_user *u, uint64_t keep, struct err *e)
{
    if (!(plan->jail->namespaces & CLONE_NEWNS))
        return user_become(plan->spec, u, e);
    if (jail_bound(keep, e) || user_become(plan->spec, u, e))
        return e->code;
    return jail_drop(keep, e);
}

static int child_prepare(struct program *p, const struct child_plan *plan, int out, int *reason,
                         struct err *e)
{
    uint64_t keep = jail_capabilities(plan->jail->conf);
    struct app_user user;

    setsid();
    umask(022);
    limits_set(plan->jail);
    oom_volunteer();
    if ((!plan->beside && jail_net_join(plan->jail, e)) || fds_set(out, reason, e) || life_bind(*reason, e) ||
        (plan->beside ? jail_join(plan->jail, plan->beside, e)
                      : jail_enter(plan->jail, plan->spec, plan->root, e)) ||
        null_set(plan->beside, e) || cwd_enter(plan->spec, e) || privileges_give_up(plan, &user, keep, e) ||
        program_fill(p, plan, &user, e) || life_bind(*reason, e))
        return e->code;
    signals_reset();
    return jail_seal(plan->jail, keep, e);
}

static void child_run(const struct child_plan *plan, int out, int reason) __attribute__((noreturn));
static void child_run(const struct child_plan *plan, int out, int reason)
{
    static struct program program;
    struct err e = {0};

    if (!child_prepare(&program, plan, out, &reason, &e))
        program_exec(&program, &e);
    (void)io_write_full(reason, &e, sizeof e);
    _exit(EXIT_NOT_STARTED);
}

/* --- in the parent ------------------------------------------------------------------------------------------------- */

static void pair_close(int fds[2])
{
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int pipes_open(struct pipes *p, struct err *e)
{
    *p = (struct pipes){{-1, -1}, {-1, -1}};
    if (!pipe2(p->out, O_CLOEXEC) && !pipe2(p->reason, O_CLOEXEC) && !fcntl(p->out[0], F_SETFL, O_NONBLOCK))
        return 0;
    err_errno(e, "pipe");
    pair_close(p->out);
    pair_close(p->reason);
    return e->code;
}

/* clone(2) itself: fork() can't make namespaces, and clone3 is missing before Linux 5.3. With no stack of its own the
 * order of the arguments does not matter. Handlers of the agent must not run in the child, so signals wait until it has
 * reset them. */
static pid_t fork_quietly(int namespaces, sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, before);
    return (pid_t)syscall(SYS_clone, (long)namespaces | SIGCHLD, 0L, 0L, 0L, 0L);
}

/* A child beside the app is born into its pid namespace; its others it joins by itself. */
static pid_t child_fork(const struct child_plan *plan, sigset_t *before, struct err *e)
{
    bool join = plan->beside && (plan->jail->namespaces & CLONE_NEWPID);
    int namespaces = plan->beside ? 0 : jail_clone_flags(plan->jail);
    struct err ignored;
    pid_t pid;

    sigprocmask(SIG_SETMASK, NULL, before);
    if (join && jail_pid_join(plan->beside, e))
        return -1;
    pid = fork_quietly(namespaces, before);
    if (pid < 0)
        err_errno(e, "clone");
    if (pid != 0 && join && jail_pid_join(0, &ignored))
        log_error("%s", ignored.text);
    return pid;
}

/* 0 when the pipe was closed by exec. */
static int reason_read(int fd, struct err *e)
{
    struct err reason;
    ssize_t n = io_read_full(fd, &reason, sizeof reason);

    if (n == 0)
        return 0;
    if (n != (ssize_t)sizeof reason)
        return err_set(e, ERR_APP, "ended before it could be started");
    reason.text[sizeof reason.text - 1] = '\0';
    return err_set(e, reason.code, "%s", reason.text);
}

int child_start(const struct child_plan *plan, pid_t *pid, int *out_fd, struct err *e)
{
    struct pipes p;
    sigset_t before;

    *pid = 0;
    if (out_fd)
        *out_fd = -1;
    if (pipes_open(&p, e))
        return e->code;
    *pid = child_fork(plan, &before, e);
    if (*pid == 0)
        child_run(plan, p.out[1], p.reason[1]);
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(p.out[1]);
    close(p.reason[1]);
    p.out[1] = p.reason[1] = -1;
    if (*pid < 0) {
        *pid = 0;
    } else if (!reason_read(p.reason[0], e)) {
        close(p.reason[0]);
        if (out_fd)
            *out_fd = p.out[0];
        else
            close(p.out[0]);
        return 0;
    }
    pair_close(p.out);
    pair_close(p.reason);
    return e->code;
}
