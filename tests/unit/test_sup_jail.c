/* What an app in its jail sees and may do, told by real children. Each proof has its counterpart: what is refused in the
 * jail works where the device's configuration allows it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/conf_app.h"
#include "base/io.h"
#include "sup/child.h"

static struct conf_app conf;
static struct jail jail;
static struct app_spec spec;
static struct err err;
static char dir[32];
static char text[16384];

static void text_add(const char *s)
{
    size_t len = strlen(s) + 1;

    memcpy(spec.text + spec.text_len, s, len);
    spec.text_len = (uint16_t)(spec.text_len + len);
}

static void conf_put(const char *name, const char *value)
{
    char copy[256];

    snprintf(copy, sizeof copy, "%s", value);
    if (conf_app_put(&conf, name, copy, &err))
        fail_msg("%s", err.text);
    jail_probe(&jail, conf.network);
}

/* Run a script to its end. Returns its exit code; what it printed is in `text`. */
static int run(const char *script)
{
    const struct child_plan plan = {.spec = &spec, .root = "/", .jail = &jail};
    int out, status;
    ssize_t len = 0, n;
    pid_t pid;

    spec.arg_cnt = 3;
    spec.cwd[0] = '/';
    spec.text_len = 0;
    text_add("/bin/sh");
    text_add("-c");
    text_add(script);
    for (size_t i = 0; i < spec.volume_cnt; i++)
        text_add("/srv");
    if (child_start(&plan, &pid, &out, &err)) {
        if (pid)
            waitpid(pid, &status, 0);
        return -1;
    }
    fcntl(out, F_SETFL, 0);
    while (len < (ssize_t)sizeof text - 1 &&
           (n = IO_RETRY(read(out, text + len, sizeof text - 1 - (size_t)len))) > 0)
        len += n;
    text[len] = '\0';
    close(out);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void assert_prints(const char *script, const char *want)
{
    assert_int_equal(run(script), 0);
    if (strcmp(text, want) != 0)
        fail_msg("%s printed %s, want %s", script, text, want);
}

static int set_up(void **state)
{
    (void)state;
    memset(&conf, 0, sizeof conf);
    memset(&spec, 0, sizeof spec);
    conf.tmpfs_kb = 1024;
    snprintf(dir, sizeof dir, "/var/test_sup_jail.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    jail = (struct jail){.cgroup = "", .notify = "", .conf = &conf, .state_dir = dir};
    jail_probe(&jail, NETWORK_HOST);
    return 0;
}

static int tear_down(void **state)
{
    char command[64];

    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* --- what it sees -------------------------------------------------------------------------------------------------- */

static void it_is_alone(void **state)
{
    (void)state;
    assert_prints("echo $$; [ $(ls -d /proc/[0-9]* | wc -l) -le 4 ] && echo few", "1\nfew\n");
}

static void the_root_is_read_only(void **state)
{
    (void)state;
    assert_int_equal(run("touch /etc/x 2>&1; mount -o remount,rw / 2>&1; touch /etc/x"), 1);
    assert_non_null(strstr(text, "Read-only file system"));
    assert_prints("for d in /tmp /run /dev/shm; do echo a >$d/x && cat $d/x; done", "a\na\na\n");
    assert_int_equal(access("/run/x", F_OK), -1);
    assert_prints("head -c 3000000 /dev/zero 2>/dev/null >/tmp/x; stat -c %s /tmp/x", "1048576\n");
}

static void what_lies_outside_is_gone(void **state)
{
    (void)state;
    assert_prints("grep -c '^[0-9]* [0-9]* [0-9:]* [^ ]* / ' /proc/self/mountinfo", "1\n");
    assert_int_equal(run("ls -d /sys/firmware/* 2>/dev/null"), 2);
}

static void proc_is_masked(void **state)
{
    (void)state;
    assert_prints("cat /proc/kcore /proc/timer_list /proc/keys 2>/dev/null | head -c9 | wc -c", "0\n");
    assert_int_equal(run("echo h >/proc/sysrq-trigger"), 2);
    assert_int_equal(run("echo x >/proc/sys/kernel/hostname"), 2);
    assert_int_equal(run("touch /sys/x"), 1);
}

static void dev_is_minimal(void **state)
{
    (void)state;
    assert_prints(
        "ls -C -w 200 /dev; [ -c /dev/null ] && echo x >/dev/null && head -c2 /dev/zero | wc -c",
        "fd  full  null	ptmx  pts  random  shm	stderr	stdin  stdout  tty  urandom  zero\n2\n");
    assert_int_equal(run("mknod /dev/shm/m b 254 0"), 1);
}

static void a_named_device_is_there(void **state)
{
    (void)state;
    conf_put("devices", "/dev/kmsg");
    assert_prints("stat -c '%F %t:%T' /dev/kmsg", "character special file 1:b\n");
    conf_put("devices", "/dev/none-such");
    assert_int_equal(run("true"), -1);
    assert_non_null(strstr(err.text, "device /dev/none-such"));
}

static void a_volume_lasts(void **state)
{
    char path[64];
    struct stat st, like;

    (void)state;
    conf_put("volumes", "data:/mnt");
    spec.volume_cnt = 1;
    assert_int_equal(run("echo kept >/mnt/x; echo too >/srv/y"), 0);
    assert_prints("cat /mnt/x /srv/y", "kept\ntoo\n");
    snprintf(path, sizeof path, "%s/volumes/data/x", dir);
    assert_int_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/volumes/-srv", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(stat("/srv", &like), 0);
    assert_int_equal(st.st_mode, like.st_mode);
    memset(conf.volumes, 0, sizeof conf.volumes);
    conf_put("volumes", "data:/mnt:ro");
    assert_int_equal(run("touch /mnt/z"), 1);
    memset(conf.volumes, 0, sizeof conf.volumes);
    conf_put("volumes", "data:/no/such/place");
    assert_int_equal(run("true"), -1);
    assert_non_null(strstr(err.text, "the image has no /no/such/place"));
}

static void the_network_is_none(void **state)
{
    (void)state;
    assert_int_equal(run("[ $(grep -c : /proc/net/dev) = 1 ]"), 1);
    conf_put("network", "none");
    assert_prints("grep -c : /proc/net/dev; cat /sys/class/net/lo/operstate", "1\nunknown\n");
}

/* The agent makes the file to which the link leads, when it can: inside. */
static void links_of_the_image_do_not_lead_outside(void **state)
{
    static const char *const folders[] = {"", "/proc", "/dev", "/etc"};
    char root[48], path[64], target[64], made[48];
    const struct child_plan plan = {.spec = &spec, .root = root, .jail = &jail};
    pid_t pid;
    int out;

    (void)state;
    snprintf(root, sizeof root, "%s/root", dir);
    snprintf(made, sizeof made, "%s/made", dir);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        assert_return_code(mkdir(path, 0755), errno);
    }
    snprintf(path, sizeof path, "%s/etc/resolv.conf", root);
    snprintf(target, sizeof target, "..%s", made);
    assert_return_code(symlink(target, path), errno);
    text_add("/nothing");
    spec.arg_cnt = 1;
    spec.cwd[0] = '/';
    assert_int_not_equal(child_start(&plan, &pid, &out, &err), 0);
    assert_non_null(strstr(err.text, "nothing")); /* as far as its start */
    if (pid)
        waitpid(pid, NULL, 0);
    assert_int_equal(access(made, F_OK), -1);
}

static void resolv_conf_is_the_boards(void **state)
{
    char want[4096] = "";

    (void)state;
    if (io_read_file("/etc/resolv.conf", want, sizeof want) < 0)
        skip();
    assert_prints("cat /etc/resolv.conf", want);
}

/* --- what it may do ------------------------------------------------------------------------------------------------ */

static void capabilities_are_few(void **state)
{
    (void)state;
    assert_prints("grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'",
                  "CapPrm:00000000800405fb\nCapEff:00000000800405fb\nCapBnd:00000000800405fb\nNoNewPrivs:1\n"
                  "Seccomp:2\n");
    conf_put("capabilities", "-ALL, +NET_RAW");
    assert_prints("grep CapBnd /proc/self/status", "CapBnd:\t0000000000002000\n");
    snprintf(spec.user, sizeof spec.user, "1234");
    assert_prints("grep -E 'CapEff' /proc/self/status", "CapEff:\t0000000000000000\n");
}

static void system_calls_are_filtered(void **state)
{
    (void)state;
    assert_int_equal(run("unshare -U true 2>&1"), 1);
    assert_non_null(strstr(text, "Operation not permitted"));
    assert_int_equal(run("mount -t tmpfs x /tmp"), 32);
    assert_int_equal(run("umount /proc/kcore"), 32);
    conf_put("capabilities", "+SYS_ADMIN");
    assert_int_equal(run("unshare -U true"), 0);
    assert_int_equal(run("mount -t tmpfs x /tmp"), 0);
}

/* In place of cgroup v2. */
static void resources_are_limited(void **state)
{
    const char *const hog = "head -c 40000000 /dev/zero | tail -c 30000000 2>/dev/null | wc -c";

    (void)state;
    assert_prints(hog, "30000000\n");
    jail.data_kb = 16384;
    assert_prints(hog, "0\n");
    jail.data_kb = 0;
    snprintf(spec.user, sizeof spec.user, "61234");
    assert_int_equal(run("sleep 1 & sleep 1 & sleep 1 & wait"), 0);
    jail.nproc = 3;
    assert_int_equal(run("sleep 1 & sleep 1 & sleep 1 & wait"), 2);
}

static void an_unfiltered_kernel_is_told(void **state)
{
    (void)state;
    assert_string_equal(jail.missing, "");
    jail.seccomp = false; /* the known-bad: the same calls go through */
    assert_int_equal(run("unshare -U true"), 0);
}

/* --- how it ends --------------------------------------------------------------------------------------------------- */

/* A process that starts an app, as agentd does, and is killed. */
static void it_ends_with_its_agent(void **state)
{
    const struct child_plan plan = {.spec = &spec, .root = "/", .jail = &jail};
    int fds[2], out;
    pid_t agent, app = 0;
    char path[32];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    spec.arg_cnt = 3;
    spec.text_len = 0;
    text_add("/bin/sh");
    text_add("-c");
    text_add("trap '' TERM HUP; setsid sleep 60 & sleep 60; sleep 60");
    snprintf(spec.user, sizeof spec.user,
             "1234"); /* the kernel's memory of whose death to wait for ends there */
    agent = fork();
    if (!agent) {
        child_start(&plan, &app, &out, &err);
        (void)!write(fds[1], &app, sizeof app);
        pause();
    }
    assert_int_equal(read(fds[0], &app, sizeof app), sizeof app);
    assert_true(app > 0);
    assert_int_equal(kill(app, 0), 0);
    assert_int_equal(kill(agent, SIGKILL), 0);
    assert_int_equal(waitpid(agent, NULL, 0), agent);
    snprintf(path, sizeof path, "/proc/%d/stat", app);
    for (int i = 0; i < 100; i++) {
        char stat[256] = "";

        if (io_read_file(path, stat, sizeof stat) < 0 || strstr(stat, ") Z"))
            return;
        usleep(20000);
    }
    fail_msg("the app still runs");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_alone),
        TEST(the_root_is_read_only),
        TEST(what_lies_outside_is_gone),
        TEST(proc_is_masked),
        TEST(dev_is_minimal),
        TEST(a_named_device_is_there),
        TEST(a_volume_lasts),
        TEST(the_network_is_none),
        TEST(resolv_conf_is_the_boards),
        TEST(links_of_the_image_do_not_lead_outside),
        TEST(capabilities_are_few),
        TEST(system_calls_are_filtered),
        TEST(resources_are_limited),
        TEST(an_unfiltered_kernel_is_told),
        TEST(it_ends_with_its_agent),
    };

    if (geteuid()) {
        puts("SKIP: namespaces need root");
        return 0;
    }
    return cmocka_run_group_tests_name("sup_jail", tests, NULL, NULL);
}
