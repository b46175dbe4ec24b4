/* The supervisor with a real loop and real children of /bin/sh. */
#include <dirent.h>
#include <sys/stat.h>

#include "base/io.h"
#include "sup_owner.h"

#define GUARD_MS 20000

static void on_guard(void *ctx)
{
    (void)ctx;
    fail_msg("the loop did not end");
}

static void loop_until(int cnt)
{
    struct loop_timer guard = {.due = on_guard};

    stop_at = cnt;
    if (notice_cnt >= cnt)
        return;
    loop_timer_set(&loop, &guard, GUARD_MS);
    assert_int_equal(loop_run(&loop), 0);
    loop_timer_clear(&loop, &guard);
}

static void spec_env(const char *pair)
{
    text_add(pair);
    spec.env_cnt++;
}

static void shell(const char *script)
{
    spec_args("/bin/sh", "-c", script);
}

static void init(enum conf_restart restart, uint32_t stable_s, uint32_t budget)
{
    const struct app_setup setup = {&policy, "", 0, stable_s, budget, dir, dir, on_notice, NULL, 65534};

    policy.restart = restart;
    policy.stop_timeout_s = 5;
    app_init(&app, &loop, &setup);
}

static void start(void)
{
    if (app_start(&app, &spec, "/", &err))
        fail_msg("app_start: %s", err.text);
    assert_int_equal(app.state, APP_READY);
    assert_true(app.pid > 0);
}

/* Without the times in front of the lines and what the agent itself adds. */
static const char *output(void)
{
    static char text[8192], raw[8192];
    uint64_t at;

    raw[app_log_read(&app.log, 0, raw, sizeof raw - 1, &at)] = '\0';
    text[0] = '\0';
    for (char *line = raw, *end; *line; line = end) {
        char *body = strchr(line, 'Z');

        end = strchr(line, '\n') ? strchr(line, '\n') + 1 : line + strlen(line);
        if (body == line + 23 && body[1] == ' ')
            strncat(text, body + 2, (size_t)(end - body - 2));
    }
    return text;
}

static void assert_output_has(const char *part)
{
    if (!strstr(output(), part))
        fail_msg("\"%s\" is not in: %s", part, output());
}

/* --- ends ---------------------------------------------------------------------------------------------------------- */

static void exit_code_is_kept(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    shell("exit 7");
    start();
    loop_until(1);
    assert_int_equal(notices[0], APP_GAVE_UP);
    assert_int_equal(app.state, APP_FAILED);
    assert_true(app.last_exit.valid);
    assert_false(app.last_exit.by_signal);
    assert_int_equal(app.last_exit.code, 7);
    assert_int_equal(app.pid, 0);
}

static void signal_is_kept(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    shell("sleep 30; true");
    start();
    assert_int_equal(kill(app.pid, SIGKILL), 0);
    loop_until(1);
    assert_true(app.last_exit.by_signal);
    assert_int_equal(app.last_exit.code, SIGKILL);
}

static void success_ends_on_failure_policy(void **state)
{
    (void)state;
    init(RESTART_ON_FAILURE, 5, 3);
    shell("exit 0");
    start();
    loop_until(1);
    assert_int_equal(notices[0], APP_GAVE_UP);
    assert_int_equal(app.state, APP_DOWN);
}

static void other_children_are_not_ours(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    shell("sleep 30");
    start();
    assert_false(app_reap(&app, app.pid + 1, 0));
    assert_false(app_reap(&app, 0, 0));
    assert_false(app_reap(&app, -1, 0));
    assert_int_equal(app.state, APP_READY);
    assert_int_equal(app_start(&app, &spec, "/", &err), ERR_STATE);
}

/* --- stop ---------------------------------------------------------------------------------------------------------- */

static void stop_uses_the_image_signal(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 5, 3);
    shell("trap 'echo int; exit 3' INT; trap '' TERM; echo ready; while :; do sleep 0.05; done");
    spec.stop_signal = SIGINT;
    start();
    while (!strstr(output(), "ready"))
        loop_for(20);
    app_stop(&app);
    assert_int_equal(app.state, APP_STOPPING);
    loop_until(1);
    assert_int_equal(notices[0], APP_STOPPED);
    assert_int_equal(app.state, APP_DOWN);
    assert_int_equal(app.last_exit.code, 3);
    assert_int_equal(app.crashes, 0);
    assert_output_has("int\n");
}

static void stop_kills_after_the_time_out(void **state)
{
    uint64_t before;

    (void)state;
    init(RESTART_ALWAYS, 5, 3);
    app.policy.stop_timeout_s = 1;
    shell("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    start();
    while (!strstr(output(), "ready"))
        loop_for(20);
    before = now_ms();
    app_stop(&app);
    app_stop(&app);
    loop_until(1);
    assert_int_equal(notices[0], APP_STOPPED);
    assert_true(app.last_exit.by_signal);
    assert_int_equal(app.last_exit.code, SIGKILL);
    assert_in_range(now_ms() - before, 950, 4000);
}

static void stop_when_down_answers_at_once(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 5, 3);
    app_stop(&app);
    assert_int_equal(notice_cnt, 1);
    assert_int_equal(notices[0], APP_STOPPED);
}

static void stop_ends_the_back_off(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 5, 9);
    shell("exit 1");
    start();
    loop_until(1);
    assert_int_equal(app.state, APP_BACKOFF);
    app_stop(&app);
    assert_int_equal(app.state, APP_DOWN);
    assert_int_equal(notices[1], APP_STOPPED);
    loop_for(1300);
    assert_int_equal(notice_cnt, 2);
}

/* --- restarts ------------------------------------------------------------------------------------------------------ */

static void crashes_use_up_the_budget(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 5, 3);
    shell("echo run; exit 1");
    start();
    loop_until(3);
    assert_int_equal(notices[0], APP_CRASHED);
    assert_int_equal(notices[1], APP_CRASHED);
    assert_int_equal(notices[2], APP_GAVE_UP);
    assert_int_equal(app.state, APP_FAILED);
    assert_int_equal(app.restarts, 2);
    assert_in_range(notice_at[1] - notice_at[0], 950, 1900);
    assert_in_range(notice_at[2] - notice_at[1], 1950, 3500);
    assert_string_equal(output(), "run\nrun\nrun\n");
    loop_for(200);
    assert_int_equal(notice_cnt, 3);
    start();
    assert_int_equal(app.crashes, 0);
}

static void stable_run_resets_the_count(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 1, 2);
    shell("sleep 1.5; exit 1");
    start();
    app.crashes = 1;
    loop_until(2);
    assert_int_equal(notices[0], APP_IS_STABLE);
    assert_int_equal(notices[1], APP_CRASHED);
    assert_int_equal(app.crashes, 0);
    assert_int_equal(app.state, APP_BACKOFF);
    assert_in_range(app.last_exit.ran_ms, 1400, 5000);
    loop_until(3);
    assert_in_range(notice_at[2] - notice_at[1], 1950, 3500);
    assert_int_equal(notices[2], APP_IS_STABLE);
}

/* --- the child ----------------------------------------------------------------------------------------------------- */

/* Whether a process with this word in its command line is there. */
static bool is_running(const char *word)
{
    DIR *proc = opendir("/proc");
    bool found = false;

    for (struct dirent *d; !found && (d = readdir(proc));) {
        char path[300], text[512];
        ssize_t len;

        snprintf(path, sizeof path, "/proc/%s/cmdline", d->d_name);
        len = io_read_file(path, text, sizeof text);
        found = len > 0 && memmem(text, (size_t)len, word, strlen(word));
    }
    closedir(proc);
    return found;
}

static void assert_gone(const char *word)
{
    for (int i = 0; i < 100; i++) {
        if (!is_running(word))
            return;
        usleep(20000);
    }
    fail_msg("%s still runs", word);
}

/* In a session of its own and away from its parent: neither a group nor a parent leads to it. */
#define DOUBLE_FORK "(setsid sleep 61.0625 & ) ; sleep 0.3; "

static void leftovers_are_killed(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    shell(DOUBLE_FORK "exit 1");
    start();
    loop_for(150);
    assert_true(is_running("61.0625"));
    loop_until(1);
    assert_gone("61.0625");
}

static void child_is_set_up(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    shell(
        "env; umask; pwd; ls /proc/self/fd | wc -l; readlink /proc/self/fd/0; echo err >&2; cut -d' ' -f5,6 "
        "/proc/self/stat; echo $$; grep SigBlk /proc/self/status");
    spec_env("A=b c");
    snprintf(spec.cwd, sizeof spec.cwd, "usr");
    setenv("SECRET", "1", 1);
    umask(077);
    signal(SIGUSR2, SIG_IGN);
    start();
    loop_until(1);
    assert_output_has("A=b c\n");
    assert_output_has("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n");
    assert_output_has("HOME=/");
    assert_null(strstr(output(), "SECRET"));
    assert_output_has("0022\n/usr\n");
    assert_output_has("\n4\n/dev/null\nerr\n"); /* 0, 1, 2 and the folder that ls reads */
    assert_output_has("SigBlk:\t0000000000000000\n");
}

static void program_is_looked_for_along_path(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 3);
    spec_args("sh", "-c", "echo found");
    spec_env("PATH=/nowhere:/bin/sh:/bin");
    start();
    loop_until(1);
    assert_string_equal(output(), "found\n");
}

static void refused(const char *part)
{
    assert_true(app_start(&app, &spec, "/", &err) < 0);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" is not in: %s", part, err.text);
    assert_output_has(part);
    loop_until(1);
    assert_int_equal(app.pid, 0);
}

static void missing_binary_is_a_crash(void **state)
{
    (void)state;
    init(RESTART_ALWAYS, 5, 2);
    spec_args("/no/such/program", NULL, NULL);
    refused("/no/such/program: No such file or directory");
    assert_int_equal(notices[0], APP_CRASHED);
    assert_int_equal(app.state, APP_BACKOFF);
    loop_until(2);
    assert_int_equal(notices[1], APP_GAVE_UP);
}

static void missing_name_tells_the_path(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 2);
    spec_args("no-such-program", NULL, NULL);
    spec_env("PATH=/bin:/usr/bin");
    refused("no-such-program: looked for along /bin:/usr/bin: No such file");
}

static void missing_interpreter_is_named(void **state)
{
    char file[] = "/var/test_sup_app.XXXXXX"; /* the app has a /tmp of its own */
    int fd = mkstemp(file);

    (void)state;
    init(RESTART_NO, 5, 2);
    assert_int_equal(io_write_full(fd, "#!/no/such/sh\n", 14), 0);
    assert_int_equal(fchmod(fd, 0755), 0);
    close(fd);
    spec_args(file, NULL, NULL);
    refused("interpreter or loader is not in the image");
    unlink(file);
}

static void unknown_user_is_refused(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 2);
    shell("true");
    snprintf(spec.user, sizeof spec.user, "nobody-knows");
    refused("user \"nobody-knows\" is not in the image's etc/passwd");
}

static void other_refusals(void **state)
{
    (void)state;
    init(RESTART_NO, 5, 2);
    spec_args(NULL, NULL, NULL);
    refused("neither Entrypoint nor Cmd");
    notice_cnt = 0;
    shell("true");
    snprintf(spec.cwd, sizeof spec.cwd, "/no/such/folder");
    refused("working directory /no/such/folder");
    notice_cnt = 0;
    shell("true");
    spec.text_len--;
    refused("are cut off");
}

static void user_is_become(void **state)
{
    (void)state;
    if (geteuid())
        skip();
    init(RESTART_NO, 5, 2);
    shell("id -u; id -g; id -G");
    snprintf(spec.user, sizeof spec.user, "12345:54321");
    start();
    loop_until(1);
    assert_string_equal(output(), "12345\n54321\n54321\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exit_code_is_kept),
        TEST(signal_is_kept),
        TEST(success_ends_on_failure_policy),
        TEST(other_children_are_not_ours),
        TEST(stop_uses_the_image_signal),
        TEST(stop_kills_after_the_time_out),
        TEST(stop_when_down_answers_at_once),
        TEST(stop_ends_the_back_off),
        TEST(crashes_use_up_the_budget),
        TEST(stable_run_resets_the_count),
        TEST(leftovers_are_killed),
        TEST(child_is_set_up),
        TEST(program_is_looked_for_along_path),
        TEST(missing_binary_is_a_crash),
        TEST(missing_name_tells_the_path),
        TEST(missing_interpreter_is_named),
        TEST(unknown_user_is_refused),
        TEST(other_refusals),
        TEST(user_is_become),
    };

    return cmocka_run_group_tests_name("sup_app", tests, NULL, NULL);
}
