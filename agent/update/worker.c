#include "update/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/role.h"
#include "base/shared.h"
#include "stream/blocks.h"
#include "stream/frame.h"

#define SESSIONS_USES_MAX 100 /* then the certificate is looked at again */
#define PIPE_WISH (256 * 1024)
#define CASUALTY_LOOKS 200 /* a millisecond each */

static const struct {
    const char *name;
    uint32_t limit_kib;
} roles[WORKER_ROLE_CNT] = {
    [WORKER_FETCH] = {"fetch", CONFIG_MEM_FETCH_KB},
    [WORKER_STAGE] = {"stage", CONFIG_MEM_STAGE_KB},
    [WORKER_DECODE] = {"decode", CONFIG_MEM_DECODE_KB},
    [WORKER_ENVELOPE] = {"envelope", CONFIG_MEM_DECODE_KB},
};

const char *worker_role_name(enum worker_role r)
{
    return roles[r].name;
}

uint32_t worker_role_limit_kib(enum worker_role r)
{
    return roles[r].limit_kib;
}

static int process_start(struct worker *w, enum worker_role role, const int *fds, int cnt, char *const argv[],
                         struct err *e)
{
    pid_t pid = role_start(roles[role].limit_kib, fds, cnt, argv);

    if (pid < 0)
        return err_errno(e, "start %s", roles[role].name);
    w->pids[role] = pid;
    return 0;
}

static void pipes_close(int (*pipes)[2], int cnt)
{
    for (int i = 0; i < cnt; i++)
        for (int k = 0; k < 2; k++)
            if (pipes[i][k] >= 0)
                close(pipes[i][k]);
}

static int pipes_open(int (*pipes)[2], int cnt, struct err *e)
{
    for (int i = 0; i < cnt; i++)
        pipes[i][0] = pipes[i][1] = -1;
    for (int i = 0; i < cnt; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) < 0) {
            pipes[i][0] = pipes[i][1] = -1;
            pipes_close(pipes, i);
            return err_errno(e, "pipe");
        }
        /* larger pipes only save switches; a kernel that refuses keeps its own size */
        (void)fcntl(pipes[i][0], F_SETPIPE_SZ, PIPE_WISH);
    }
    return 0;
}

/* From now on, or no more: sealing and reading back tell nothing on the way. */
static void stall_watch(struct worker *w, bool on)
{
    if (on)
        loop_timer_set(w->loop, &w->stall, CONFIG_STALL_S * 1000ull);
    else
        loop_timer_clear(w->loop, &w->stall);
}

static void stall_due(void *ctx);

int worker_init(struct worker *w, struct loop *loop, const char *conf_path, const struct worker_owner *owner,
                struct err *e)
{
    memset(w, 0, sizeof *w);
    w->loop = loop;
    w->conf_path = conf_path;
    w->owner = *owner;
    w->app = w->source = "";
    w->stall = (struct loop_timer){.due = stall_due, .ctx = w};
    w->report_fd = -1;
    w->request_fd = -1;
    w->meter_fd = shared_make("meter", FETCH_METER_LEN, e);
    if (w->meter_fd < 0)
        return w->meter_fd;
    w->meter = shared_map(w->meter_fd, FETCH_METER_LEN, false, e);
    return w->meter ? 0 : e->code;
}

bool worker_busy(const struct worker *w)
{
    for (int i = 0; i < WORKER_ROLE_CNT; i++)
        if (w->pids[i])
            return true;
    return w->report_fd >= 0;
}

static void channels_close(struct worker *w)
{
    if (w->report_fd >= 0) {
        loop_fd_remove(w->loop, w->report_fd);
        close(w->report_fd);
        w->report_fd = -1;
    }
    if (w->request_fd >= 0) {
        close(w->request_fd);
        w->request_fd = -1;
    }
}

static void roles_kill(struct worker *w)
{
    for (int i = 0; i < WORKER_ROLE_CNT; i++)
        if (w->pids[i])
            kill(w->pids[i], SIGKILL);
}

static void worker_end(struct worker *w, enum worker_end end)
{
    w->end = end;
    stall_watch(w, false);
    channels_close(w);
    roles_kill(w);
}

void worker_cancel(struct worker *w)
{
    worker_end(w, WORKER_TOLD);
}

void worker_stop(struct worker *w)
{
    worker_cancel(w);
    for (int i = 0; i < WORKER_ROLE_CNT; i++) {
        siginfo_t info;

        if (w->pids[i]) /* it was killed, and is reaped like any other */
            (void)IO_RETRY(waitid(P_PID, (id_t)w->pids[i], &info, WEXITED | WNOWAIT));
    }
}

/* A role ended of itself. Its ceiling is told with a signal, since both kernel and libraries may answer to a lack of
 * memory with one. */
static void casualty_note(struct worker *w, enum worker_role role, bool by_signal, int number)
{
    if (w->casualty.code)
        return;
    if (by_signal)
        err_set(&w->casualty, ERR_PEER, "%s was ended by signal %d (memory ceiling %u KB)", roles[role].name,
                number, roles[role].limit_kib);
    else
        err_set(&w->casualty, ERR_PEER, "%s ended with code %d", roles[role].name, number);
}

/* Who lies dead already, before all are killed. A pipe ends a moment before its process can be waited for. */
static void casualty_find(struct worker *w)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    for (int look = 0; look < CASUALTY_LOOKS && !w->casualty.code; look++) {
        for (int i = 0; i < WORKER_ROLE_CNT; i++) {
            siginfo_t info = {0};

            if (w->pids[i] && waitid(P_PID, (id_t)w->pids[i], &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
                info.si_pid && info.si_code != CLD_EXITED)
                casualty_note(w, (enum worker_role)i, true, info.si_status);
        }
        nanosleep(&moment, NULL);
    }
}

static void worker_fail(struct worker *w, const struct err *cause)
{
    if (w->end != WORKER_RUNS)
        return;
    w->cause = *cause;
    /* whoever reports this only saw a pipe end */
    if ((cause->code == ERR_PEER || cause->code == -EPIPE) && cause != &w->casualty) {
        casualty_find(w);
        if (w->casualty.code)
            err_set(&w->cause, ERR_PEER, "%s: %s", cause->text, w->casualty.text);
    }
    worker_end(w, WORKER_FAILED);
}

static void stall_due(void *ctx)
{
    struct err e;

    err_set(&e, ERR_LIMIT, "no progress in %d s", CONFIG_STALL_S);
    worker_fail(ctx, &e);
}

static void owner_tell(struct worker *w)
{
    enum worker_end end = w->end;

    w->end = WORKER_TOLD;
    if (end == WORKER_RESOLVED)
        w->owner.resolved(w->owner.ctx, &w->report.resolved);
    else if (end == WORKER_SCRUBBED)
        w->owner.scrubbed(w->owner.ctx, &w->report.scrubbed);
    else if (end == WORKER_PLANNED)
        w->owner.planned(w->owner.ctx, &w->report.plan);
    else if (end == WORKER_DONE)
        w->owner.done(w->owner.ctx, &w->report.done);
    else if (end == WORKER_FAILED)
        w->owner.failed(w->owner.ctx, &w->cause);
}

static int report_handle(struct worker *w, struct err *e)
{
    struct frame head;
    int rc = frame_read_head(w->report_fd, &head, e);

    if (rc < 0)
        return rc;
    switch (head.type) {
    case FRAME_PROGRESS:
        rc = frame_read_fixed(w->report_fd, &head, &w->report.progress, sizeof w->report.progress, e);
        if (rc == 0) {
            stall_watch(w, w->report.progress.phase < STAGE_SEALING);
            w->owner.progress(w->owner.ctx, &w->report.progress);
        }
        return rc;
    case FRAME_SESSIONS:
        if (head.len > sizeof w->sessions)
            return err_set(e, ERR_PEER, "fetch sent sessions of %u bytes", head.len);
        w->sessions_len = head.len;
        return frame_read_fixed(w->report_fd, &head, w->sessions, head.len, e);
    case FRAME_RESOLVED:
        rc = frame_read_fixed(w->report_fd, &head, &w->report.resolved, sizeof w->report.resolved, e);
        if (rc == 0)
            worker_end(w, WORKER_RESOLVED);
        return rc;
    case FRAME_READY:
        rc = w->owner.ready(w->owner.ctx, e);
        return rc < 0 ? rc : frame_write(w->report_fd, FRAME_GO, NULL, 0, e);
    case FRAME_PLAN:
        rc = frame_read_fixed(w->report_fd, &head, &w->report.plan, sizeof w->report.plan, e);
        if (rc == 0)
            worker_end(w, WORKER_PLANNED);
        return rc;
    case FRAME_SCRUBBED:
        rc = frame_read_fixed(w->report_fd, &head, &w->report.scrubbed, sizeof w->report.scrubbed, e);
        if (rc == 0)
            worker_end(w, WORKER_SCRUBBED);
        return rc;
    case FRAME_DONE:
        rc = frame_read_fixed(w->report_fd, &head, &w->report.done, sizeof w->report.done, e);
        if (rc == 0)
            worker_end(w, WORKER_DONE);
        return rc;
    case FRAME_ERR:
        return frame_read_err(w->report_fd, &head, e);
    default:
        return err_set(e, ERR_PEER, "the worker sent frame %u", head.type);
    }
}

/* Readable alone does not say it: so is the end of a socket. */
static bool report_waits(const struct worker *w)
{
    int len = 0;

    return ioctl(w->report_fd, FIONREAD, &len) == 0 && len > 0;
}

static void report_ready(void *ctx, short revents)
{
    struct worker *w = ctx;
    struct err e = {0};

    (void)revents;
    if (!report_waits(w))
        loop_fd_remove(w->loop, w->report_fd); /* it is ending, and worker_reap() will be told of what */
    else if (report_handle(w, &e) < 0)
        worker_fail(w, &e);
}

static int started(struct worker *w, int rc, int report_fd)
{
    if (rc < 0) {
        close(report_fd);
        roles_kill(w);
        return rc;
    }
    w->end = WORKER_RUNS;
    stall_watch(w, true);
    w->casualty = (struct err){0};
    w->report_fd = report_fd;
    loop_fd_add(w->loop, report_fd, POLLIN, report_ready, w);
    return 0;
}

int worker_poll(struct worker *w, struct err *e)
{
    enum { REQUEST, BODY, PIPE_CNT };
    char time_text[24];
    char *argv[] = {"slipway",
                    "fetch",
                    "-c",
                    (char *)(uintptr_t)w->conf_path,
                    "-w",
                    (char *)(uintptr_t)w->app,
                    "-t",
                    time_text,
                    w->source[0] ? "-o" : NULL,
                    (char *)(uintptr_t)w->source,
                    NULL};
    struct fetch_request request = {.kind = FETCH_RESOLVE};
    int p[PIPE_CNT][2];
    int rc = pipes_open(p, PIPE_CNT, e);

    if (rc < 0)
        return rc;
    snprintf(time_text, sizeof time_text, "%" PRId64, w->time_floor_s);
    rc = process_start(w, WORKER_FETCH, (int[]){p[REQUEST][0], p[BODY][1], w->meter_fd}, 3, argv, e);
    close(p[REQUEST][0]);
    close(p[BODY][1]);
    w->request_fd = p[REQUEST][1];
    if (w->source[0]) {
        w->sessions_len = 0;
    } else if (w->sessions_len && w->sessions_uses++ < SESSIONS_USES_MAX) {
        if (rc == 0)
            rc = frame_write(w->request_fd, FRAME_SESSIONS, w->sessions, w->sessions_len, e);
    } else {
        w->sessions_uses = 0;
    }
    w->sessions_len = 0; /* a poll that fails with them is followed by one without */
    if (rc == 0)
        rc = frame_write(w->request_fd, FRAME_REQUEST, &request, sizeof request, e);
    if (rc < 0) {
        close(w->request_fd);
        w->request_fd = -1;
    }
    return started(w, rc, p[BODY][0]);
}

static int socket_open(int *ends, struct err *e)
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? err_errno(e, "socket") : 0;
}

int worker_deploy(struct worker *w, const struct stage_job *job, bool trust, struct err *e)
{
    enum { REQUEST, BODY, RAW, ENTRIES, BACK, ENVELOPE_RAW, ENVELOPE_ENTRIES, PIPE_CNT };
    char *conf = (char *)(uintptr_t)w->conf_path, *app = (char *)(uintptr_t)w->app;
    char digest_text[DIGEST_TEXT_LEN], booted_text[DIGEST_TEXT_LEN], failed_text[DIGEST_TEXT_LEN];
    char media_text[12], floor_text[24], time_text[24];
    char bytes_text[24], until_text[12];
    char *fetch[] = {"slipway",
                     "fetch",
                     "-c",
                     conf,
                     "-w",
                     app,
                     "-t",
                     time_text,
                     "-b",
                     bytes_text,
                     "-u",
                     until_text,
                     w->source[0] ? "-o" : NULL,
                     (char *)(uintptr_t)w->source,
                     NULL};
    char *decode[] = {"slipway", "decode", "-c", conf, NULL};
    char *envelope[] = {"slipway", "envelope", "-c", conf, NULL};
    char *stage[] = {"slipway",
                     "stage",
                     "-c",
                     conf,
                     "-w",
                     app,
                     "-s",
                     job->slot == SLOT_A ? "A" : "B",
                     "-d",
                     digest_text,
                     "-m",
                     media_text,
                     "-f",
                     floor_text,
                     "-t",
                     time_text,
                     "-r",
                     booted_text,
                     "-F",
                     failed_text,
                     job->look    ? "-l"
                     : job->asked ? "-p"
                                  : NULL,
                     NULL};
    int p[PIPE_CNT][2], report_ends[2], blocks;
    int rc = pipes_open(p, PIPE_CNT, e);

    if (rc < 0)
        return rc;
    blocks = blocks_make(e);
    rc = blocks < 0 ? blocks : socket_open(report_ends, e);
    if (rc < 0) {
        pipes_close(p, PIPE_CNT);
        if (blocks >= 0)
            close(blocks);
        return rc;
    }
    digest_format(&job->digest, digest_text);
    digest_format(&job->booted, booted_text);
    digest_format(&job->failed, failed_text);
    snprintf(media_text, sizeof media_text, "%u", job->media);
    snprintf(time_text, sizeof time_text, "%" PRId64, w->time_floor_s);
    snprintf(floor_text, sizeof floor_text, "%" PRIu64, job->floor);
    snprintf(bytes_text, sizeof bytes_text, "%" PRIu64, w->bytes_max);
    snprintf(until_text, sizeof until_text, "%" PRIu32, w->time_max_s);
    rc = process_start(w, WORKER_FETCH, (int[]){p[REQUEST][0], p[BODY][1], w->meter_fd}, 3, fetch, e);
    if (rc == 0)
        rc = process_start(w, WORKER_DECODE, (int[]){p[RAW][0], p[ENTRIES][1], blocks, p[BACK][0]}, 4, decode,
                           e);
    if (rc == 0 && trust)
        rc = process_start(w, WORKER_ENVELOPE, (int[]){p[ENVELOPE_RAW][0], p[ENVELOPE_ENTRIES][1]}, 2,
                           envelope, e);
    if (rc == 0)
        rc = process_start(w, WORKER_STAGE,
                           (int[]){p[REQUEST][1], p[BODY][0], p[RAW][1], p[ENTRIES][0], report_ends[1],
                                   blocks, p[BACK][1], p[ENVELOPE_RAW][1], p[ENVELOPE_ENTRIES][0]},
                           9, stage, e);
    pipes_close(p, PIPE_CNT);
    close(blocks);
    close(report_ends[1]);
    return started(w, rc, report_ends[0]);
}

int worker_scrub(struct worker *w, const struct scrub_job *job, struct err *e)
{
    char len_text[24], sum_text[24];
    char *argv[] = {"slipway",
                    "scrub",
                    "-c",
                    (char *)(uintptr_t)w->conf_path,
                    "-s",
                    job->slot == SLOT_A ? "A" : "B",
                    "-n",
                    len_text,
                    "-x",
                    sum_text,
                    job->active ? "-a" : NULL,
                    NULL};
    int ends[2], rc = socket_open(ends, e);

    if (rc < 0)
        return rc;
    snprintf(len_text, sizeof len_text, "%" PRIu64, job->disk_len);
    snprintf(sum_text, sizeof sum_text, "%" PRIx64, job->disk_xxh64);
    rc = process_start(w, WORKER_STAGE, (int[]){ends[1]}, 1, argv, e);
    close(ends[1]);
    return started(w, rc, ends[0]);
}

/* Its report, if it made one, still lies in the pipe and comes first. */
static void reporter_ended(struct worker *w, enum worker_role role, int status)
{
    while (w->end == WORKER_RUNS && w->report_fd >= 0 && report_waits(w))
        report_ready(w, POLLIN);
    if (w->end != WORKER_RUNS)
        return;
    casualty_note(w, role, WIFSIGNALED(status), WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    worker_fail(w, &w->casualty);
}

bool worker_reap(struct worker *w, pid_t pid, int status, long maxrss_kib)
{
    for (int i = 0; i < WORKER_ROLE_CNT; i++) {
        enum worker_role role = (enum worker_role)i;

        if (w->pids[i] != pid)
            continue;
        w->pids[i] = 0;
        if (maxrss_kib > (long)w->peak_kib[i])
            w->peak_kib[i] = (uint32_t)maxrss_kib;
        if (role == WORKER_STAGE || (role == WORKER_FETCH && w->request_fd >= 0))
            reporter_ended(w, role, status);
        else if (w->end == WORKER_RUNS && WIFSIGNALED(status))
            casualty_note(w, role, true, WTERMSIG(status));
        if (!worker_busy(w))
            owner_tell(w);
        return true;
    }
    return false;
}
