#include "sup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/io.h"
#include "base/log.h"

#define LEFTOVER_WAIT_MS 5000
#define LEFTOVER_STEP_MS 20
#define FILE_MAX 4096

/* What is left without a controller: limits of resources (setrlimit(2)), which the child sets. */
#define NO_MEMORY "memory limited for each process alone"
#define NO_CPU "no cpu limit"
#define NO_PIDS "pids limited by user, not for root"

/* --- files --------------------------------------------------------------------------------------------------------- */

static int file_write(const char *dir, const char *name, const char *text)
{
    char path[CONF_PATH_MAX + 32];
    int fd, rc;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = IO_RETRY(open(path, O_WRONLY | O_CLOEXEC));
    if (fd < 0)
        return -1;
    rc = io_write_full(fd, text, strlen(text));
    close(fd);
    return rc;
}

static ssize_t file_read(const char *dir, const char *name, char *out, size_t cap)
{
    char path[CONF_PATH_MAX + 32];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return io_read_file(path, out, cap);
}

/* A number in a file of one, or behind `key` in a file of "key number" lines. "max" and nothing are unknown. */
static uint64_t value_read(const char *dir, const char *name, const char *key)
{
    char text[FILE_MAX];
    const char *at = text;
    size_t len = key ? strlen(key) : 0;

    if (file_read(dir, name, text, sizeof text) < 0)
        return UINT64_MAX;
    while (key && at && (strncmp(at, key, len) || at[len] != ' '))
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
    at = at ? at + len : "";
    at += *at == ' ';
    return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : UINT64_MAX;
}

/* --- the group ----------------------------------------------------------------------------------------------------- */

/* Where cgroup2 is mounted: a line "ID ID 0:0 / MOUNT OPTIONS - cgroup2 ...". "": nowhere. */
static void mount_find(char out[160])
{
    FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[1024];

    out[0] = '\0';
    while (f && !out[0] && fgets(line, sizeof line, f))
        if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s / %159s", out) != 1)
            out[0] = '\0';
    if (f)
        fclose(f);
}

static void missing_add(struct cgroup *g, const char *what)
{
    size_t at = strlen(g->missing);

    snprintf(g->missing + at, sizeof g->missing - at, "%s%s", at ? ", " : "", what);
}

/* A controller that is not there, or that cgroup v1 has, can't be switched on. */
static bool controller_enable(struct cgroup *g, const char *name, const char *file, const char *without)
{
    char order[16], path[CONF_PATH_MAX + 32];

    snprintf(order, sizeof order, "+%s", name);
    (void)file_write(g->root, "cgroup.subtree_control", order);
    snprintf(path, sizeof path, "%s/%s", g->dir, file);
    if (!access(path, W_OK))
        return true;
    missing_add(g, without);
    return false;
}

static bool is_empty(const struct cgroup *g)
{
    return value_read(g->dir, "cgroup.events", "populated") != 1;
}

/* Before Linux 5.14 there is no cgroup.kill. */
void cgroup_kill(const struct cgroup *g)
{
    char text[FILE_MAX];
    char *at = text, *end;

    if (!g->dir[0] || !file_write(g->dir, "cgroup.kill", "1"))
        return;
    if (file_read(g->dir, "cgroup.procs", text, sizeof text) < 0)
        return;
    for (long pid; (pid = strtol(at, &end, 10)) > 0 && end > at; at = end)
        (void)kill((pid_t)pid, SIGKILL);
}

/* Only at start, when there is nothing else to do: what is still there would be doubled. */
static void leftovers_end(const struct cgroup *g)
{
    const struct timespec step = {0, LEFTOVER_STEP_MS * 1000000};

    if (is_empty(g))
        return;
    log_warning("app: one that an earlier agent left is ended");
    for (int ms = 0; ms < LEFTOVER_WAIT_MS && !is_empty(g); ms += LEFTOVER_STEP_MS) {
        cgroup_kill(g);
        nanosleep(&step, NULL);
    }
    if (!is_empty(g))
        log_error("app: the one that an earlier agent left can't be ended");
}

void cgroup_open(struct cgroup *g, const char *state_dir)
{
    memset(g, 0, sizeof *g);
    mount_find(g->root);
    if (!g->root[0] || access(g->root, W_OK)) {
        missing_add(g, "no cgroup v2: " NO_MEMORY ", " NO_CPU ", " NO_PIDS);
        return;
    }
    snprintf(g->dir, sizeof g->dir, "%s/slipway-%08lx", g->root,
             crc32(0, (const Bytef *)state_dir, (uInt)strlen(state_dir)));
    leftovers_end(g);
    cgroup_remove(g);
}

void cgroup_remove(const struct cgroup *g)
{
    if (g->dir[0] && rmdir(g->dir) && errno != ENOENT)
        log_warning("%s: %s", g->dir, strerror(errno));
}

static int limit_write(const struct cgroup *g, const char *name, const char *text, struct err *e)
{
    return file_write(g->dir, name, text) ? err_errno(e, "%s of the app's cgroup", name) : 0;
}

int cgroup_make(struct cgroup *g, uint32_t memory_kb, uint32_t cpu_percent, uint32_t pids, struct err *e)
{
    char text[48];

    if (!g->dir[0])
        return 0;
    if (mkdir(g->dir, 0755) && errno != EEXIST)
        return err_errno(e, "%s", g->dir);
    g->missing[0] = '\0';
    g->memory = controller_enable(g, "memory", "memory.max", NO_MEMORY);
    g->cpu = controller_enable(g, "cpu", "cpu.max", NO_CPU);
    g->pids = controller_enable(g, "pids", "pids.max", NO_PIDS);
    snprintf(text, sizeof text, "%lluK", (unsigned long long)memory_kb);
    if (g->memory && (limit_write(g, "memory.max", memory_kb ? text : "max", e) ||
                      limit_write(g, "memory.oom.group", "1", e)))
        return e->code;
    if (g->memory)
        (void)file_write(g->dir, "memory.swap.max", "0"); /* not there without swap */
    snprintf(text, sizeof text, "%u 100000", (unsigned)cpu_percent * 1000);
    if (g->cpu && limit_write(g, "cpu.max", cpu_percent ? text : "max", e))
        return e->code;
    snprintf(text, sizeof text, "%u", (unsigned)pids);
    return g->pids ? limit_write(g, "pids.max", pids ? text : "max", e) : 0;
}

static uint64_t kib(uint64_t bytes)
{
    return bytes == UINT64_MAX ? bytes : bytes / 1024;
}

void cgroup_usage(const struct cgroup *g, struct cgroup_usage *out)
{
    memset(out, 0xff, sizeof *out);
    if (g->memory) {
        out->memory_kb = kib(value_read(g->dir, "memory.current", NULL));
        out->memory_peak_kb = kib(value_read(g->dir, "memory.peak", NULL));
        out->oom_kills = value_read(g->dir, "memory.events", "oom_kill");
    }
    if (g->pids) {
        out->pids = value_read(g->dir, "pids.current", NULL);
        out->pids_hits = value_read(g->dir, "pids.events", "max");
    }
}
