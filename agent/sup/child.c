#include "sup/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "sup/user.h"

#define PATH_DEFAULT "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define REASON_FD 3
#define EXIT_NOT_STARTED 127

struct program {
    char *argv[APP_ARG_MAX + 1];
    char *envp[APP_ENV_MAX + 3];
    char home[160];
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

/* stdin /dev/null, stdout and stderr the pipe, the reason at a known place, all others closed. */
static int fds_set(int out, int *reason, struct err *e)
{
    int null = IO_RETRY(open("/dev/null", O_RDWR));

    if (null < 0)
        return err_errno(e, "/dev/null");
    null = fcntl(null, F_DUPFD, REASON_FD + 1);
    out = fcntl(out, F_DUPFD, REASON_FD + 1);
    *reason = fcntl(*reason, F_DUPFD_CLOEXEC, REASON_FD + 1);
    if (dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 || dup3(*reason, REASON_FD, O_CLOEXEC) < 0)
        return err_errno(e, "descriptors");
    *reason = REASON_FD;
    fds_close_from(REASON_FD + 1);
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

/* The ceiling is agentd's own. Without the right to lift it the app gets as much as there is. */
static void limit_lift(void)
{
    struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY};

    if (!setrlimit(RLIMIT_DATA, &l) || getrlimit(RLIMIT_DATA, &l))
        return;
    l.rlim_cur = l.rlim_max;
    (void)!setrlimit(RLIMIT_DATA, &l);
}

static int root_enter(const struct app_spec *spec, const char *root, struct err *e)
{
    char cwd[sizeof spec->cwd + 1];

    snprintf(cwd, sizeof cwd, "%s%.*s", spec->cwd[0] == '/' ? "" : "/", (int)sizeof spec->cwd - 1, spec->cwd);
    if (strcmp(root, "/") && (chroot(root) || chdir("/")))
        return err_errno(e, "chroot to %s", root);
    if (chdir(cwd))
        return err_errno(e, "working directory %s", cwd);
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

/* Point into the spec's text, which is checked: it comes from a file. */
static int program_fill(struct program *p, struct app_spec *spec, const struct app_user *u, struct err *e)
{
    size_t cnt = (size_t)spec->arg_cnt + spec->env_cnt, envs = 0;
    char *at = spec->text, *end = spec->text + spec->text_len;

    if (spec->arg_cnt > APP_ARG_MAX || spec->env_cnt > APP_ENV_MAX || spec->text_len > sizeof spec->text)
        return err_set(e, ERR_LIMIT, "more arguments or environment than fit");
    for (size_t i = 0; i < cnt; i++) {
        char *stop = memchr(at, '\0', (size_t)(end - at));

        if (!stop)
            return err_set(e, ERR_FORMAT, "arguments and environment are cut off");
        if (i < spec->arg_cnt)
            p->argv[i] = at;
        else
            p->envp[envs++] = at;
        at = stop + 1;
    }
    if (!spec->arg_cnt || !p->argv[0][0])
        return err_set(e, ERR_APP, "the image has neither Entrypoint nor Cmd");
    if (!env_find(p->envp, "PATH"))
        p->envp[envs++] = PATH_DEFAULT;
    snprintf(p->home, sizeof p->home, "HOME=%s", u->home);
    if (!env_find(p->envp, "HOME"))
        p->envp[envs++] = p->home;
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

static void child_run(struct app_spec *spec, const char *root, int out, int reason) __attribute__((noreturn));
static void child_run(struct app_spec *spec, const char *root, int out, int reason)
{
    static struct program program;
    struct app_user user;
    struct err e = {0};

    setsid();
    umask(022);
    limit_lift();
    if (!fds_set(out, &reason, &e) && !root_enter(spec, root, &e) && !user_become(spec, &user, &e) &&
        !program_fill(&program, spec, &user, &e)) {
        signals_reset();
        program_exec(&program, &e);
    }
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

/* Handlers of the agent must not run in the child, so signals wait until it has reset them. */
static pid_t fork_quietly(sigset_t *before)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, before);
    return fork();
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

int child_start(const struct app_spec *spec, const char *root, pid_t *pid, int *out_fd, struct err *e)
{
    struct pipes p;
    sigset_t before;
    int saved;

    *pid = 0;
    *out_fd = -1;
    if (pipes_open(&p, e))
        return e->code;
    *pid = fork_quietly(&before);
    if (*pid == 0)
        child_run((struct app_spec *)(uintptr_t)spec, root, p.out[1], p.reason[1]);
    saved = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(p.out[1]);
    close(p.reason[1]);
    p.out[1] = p.reason[1] = -1;
    errno = saved;
    if (*pid < 0) {
        *pid = 0;
        err_errno(e, "fork");
    } else if (!reason_read(p.reason[0], e)) {
        close(p.reason[0]);
        *out_fd = p.out[0];
        return 0;
    }
    pair_close(p.out);
    pair_close(p.reason);
    return e->code;
}
