/* Readiness and health of a real app: its check, what it says by sd_notify(3), and when it is ended for it. And what is
 * made of an image's config and the device's, and of a board's memory. */
#include <sys/socket.h>
#include <sys/un.h>

#include "base/conf_app.h"
#include "sup/budget.h"
#include "sup/effective.h"
#include "sup_owner.h"

#define GUARD_MS 15000

static void wait_state(enum app_state s)
{
    uint64_t end = now_ms() + GUARD_MS;

    while (app.state != s) {
        if (now_ms() > end)
            fail_msg("%s instead of %s", app_state_name(app.state), app_state_name(s));
        loop_for(20);
    }
}

static void start(const char *script, const char *check)
{
    const struct app_setup setup = {&policy, "", 0, 1, 3, dir, dir, on_notice, NULL, 65534};

    policy.stop_timeout_s = 1;
    spec_args("/bin/sh", "-c", script);
    if (check) {
        spec.health_cnt = 3;
        text_add("/bin/sh");
        text_add("-c");
        text_add(check);
    }
    spec.health_interval_ms = 100;
    spec.health_timeout_ms = 500;
    spec.health_retries = 2;
    app_init(&app, &loop, &setup);
    if (app_start(&app, &spec, "/", &err))
        fail_msg("%s", err.text);
}

static bool log_has(const char *part)
{
    static char text[8192];
    uint64_t at;

    text[app_log_read(&app.log, 0, text, sizeof text - 1, &at)] = '\0';
    return strstr(text, part);
}

/* --- health check -------------------------------------------------------------------------------------------------- */

static void ready_with_the_first_success(void **state)
{
    (void)state;
    start("sleep 0.6; touch /tmp/good; sleep 30", "[ -e /tmp/good ] && echo $$ >/tmp/pid");
    assert_int_equal(app.state, APP_STARTING);
    app.spec.health_start_ms = 5000; /* as if the image said so: failures until then do not count */
    wait_state(APP_READY);
    assert_true(log_has("health check: exit code 1 (0 of 2)"));
    while (!notice_cnt)
        loop_for(50);
    assert_int_equal(notices[0], APP_IS_STABLE);
}

static void unhealthy_is_ended(void **state)
{
    (void)state;
    start("trap '' TERM; sleep 30; sleep 30",
          "[ $(cat /tmp/n 2>/dev/null | wc -c) -lt 3 ] && printf x >>/tmp/n");
    wait_state(APP_READY);
    wait_state(APP_STOPPING);
    wait_state(APP_FAILED);
    assert_int_equal(notices[notice_cnt - 1], APP_GAVE_UP);
    assert_int_equal(app.last_exit.cause, CAUSE_UNHEALTHY);
    assert_true(log_has("health check: exit code 1 (2 of 2)"));
    assert_true(log_has("slipway: unhealthy"));
}

static void a_check_that_hangs_fails(void **state)
{
    (void)state;
    start("sleep 30; true", "sleep 20");
    wait_state(APP_FAILED);
    assert_true(log_has("took longer than its time-out"));
    assert_int_equal(app.last_exit.cause, CAUSE_UNHEALTHY);
}

static void a_stop_wins_over_a_failure(void **state)
{
    (void)state;
    policy.restart = RESTART_ALWAYS;
    start("trap '' TERM; sleep 30; sleep 30", "false");
    wait_state(APP_STOPPING);
    assert_true(app.failing);
    app_stop(&app);
    wait_state(APP_DOWN);
    assert_int_equal(notices[notice_cnt - 1], APP_STOPPED);
}

/* --- sd_notify ----------------------------------------------------------------------------------------------------- */

/* From outside, as busybox has no sender; that the app has the socket in reach is told by itself. */
static void say(const char *words)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, app.notify.path, sizeof addr.sun_path);
    assert_int_equal(sendto(fd, words, strlen(words), 0, (struct sockaddr *)&addr, sizeof addr),
                     strlen(words));
    close(fd);
    loop_for(30);
}

static void ready_when_it_says_so(void **state)
{
    (void)state;
    policy.ready_by_notify = true;
    start("[ -S $NOTIFY_SOCKET ] && [ -w $NOTIFY_SOCKET ] && echo reach; sleep 30", NULL);
    say("STATUS=nearly\n\001\nX=1");
    assert_int_equal(app.state, APP_STARTING);
    assert_string_equal(app.status, "nearly");
    say("READY=1");
    assert_int_equal(app.state, APP_READY);
    loop_for(200);
    assert_true(log_has("reach"));
}

/* An image's check tells how it does later; it neither makes the app ready, nor has it to come first. */
static void ready_when_it_says_so_with_a_check(void **state)
{
    (void)state;
    policy.ready_by_notify = true;
    start("sleep 30; true", "sleep 0.2; true");
    say("READY=1");
    assert_false(app.health.healthy);
    assert_int_equal(app.state, APP_READY);
}

static void a_check_does_not_speak_for_it(void **state)
{
    (void)state;
    policy.ready_by_notify = true;
    start("sleep 30; true", "true");
    for (int i = 0; i < 100 && !app.health.healthy; i++)
        loop_for(50);
    assert_true(app.health.healthy);
    assert_int_equal(app.state, APP_STARTING);
    say("READY=1");
    assert_int_equal(app.state, APP_READY);
}

static void late_is_ended(void **state)
{
    uint64_t before = now_ms();

    (void)state;
    policy.ready_by_notify = true;
    policy.start_timeout_s = 1;
    start("sleep 30; true", NULL);
    say("EXTEND_TIMEOUT_USEC=1500000");
    wait_state(APP_FAILED);
    assert_int_equal(app.last_exit.cause, CAUSE_LATE);
    assert_true(now_ms() - before > 1400);
}

static void silence_is_ended(void **state)
{
    (void)state;
    policy.watchdog_s = 1;
    start("echo $WATCHDOG_USEC; sleep 30", NULL);
    for (int i = 0; i < 4; i++) {
        loop_for(500);
        say("WATCHDOG=1");
    }
    assert_int_equal(app.state, APP_READY);
    wait_state(APP_FAILED);
    assert_int_equal(app.last_exit.cause, CAUSE_SILENT);
    assert_true(log_has("Z 1000000"));
}

/* --- what is run --------------------------------------------------------------------------------------------------- */

static void the_device_stands_over_the_image(void **state)
{
    static struct app_spec image, out;
    char args[] = "-x", env[] = "B=9 C=3";

    (void)state;
    memset(&spec, 0, sizeof spec);
    for (const char *const *s =
             (const char *const[]){"entry", "-e", "cmd", "A=1", "B=2", "check", "/vol", NULL};
         *s; s++)
        text_add(*s);
    spec.arg_cnt = 3;
    spec.entry_cnt = 2;
    spec.env_cnt = 2;
    spec.health_cnt = spec.volume_cnt = 1;
    image = spec;
    assert_int_equal(conf_app_put(&policy, "args", args, &err), 0);
    assert_int_equal(conf_app_put(&policy, "env", env, &err), 0);
    snprintf(policy.user, sizeof policy.user, "me");
    assert_int_equal(effective_spec(&image, &policy, &out, &err), 0);
    assert_int_equal(out.arg_cnt, 3);
    assert_string_equal(app_spec_text(&out, APP_TEXT_ARG, 2), "-x");
    assert_int_equal(out.env_cnt, 3);
    assert_string_equal(app_spec_text(&out, APP_TEXT_ENV, 0), "A=1");
    assert_string_equal(app_spec_text(&out, APP_TEXT_ENV, 1), "B=9");
    assert_string_equal(app_spec_text(&out, APP_TEXT_HEALTH, 0), "check");
    assert_string_equal(app_spec_text(&out, APP_TEXT_VOLUME, 0), "/vol");
    assert_null(app_spec_text(&out, APP_TEXT_VOLUME, 1));
    assert_string_equal(out.user, "me");
    image.text_len = 10;
    assert_int_equal(effective_spec(&image, &policy, &out, &err), ERR_FORMAT);
}

static void what_does_not_fit_is_refused(void **state)
{
    const uint32_t agent = CONFIG_MEM_AGENTD_KB + CONFIG_MEM_FETCH_KB + CONFIG_MEM_STAGE_KB +
                           CONFIG_MEM_DECODE_KB + CONFIG_MEM_BLOCKS_KB;
    uint32_t kb;

    (void)state;
    assert_int_equal(budget_fit(1000, 0, 0, agent + CONFIG_APP_RESERVE_KB + 1000, &kb, &err), 0);
    assert_int_equal(kb, 1000);
    assert_int_equal(budget_fit(0, 0, 0, agent + CONFIG_APP_RESERVE_KB + 5000, &kb, &err), 0);
    assert_int_equal(kb, 5000);
    assert_int_equal(budget_fit(1001, 0, 0, agent + CONFIG_APP_RESERVE_KB + 1000, &kb, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "memory: app 1001 KB + agent "));
    assert_int_equal(budget_fit(0, 0, 0, 1000, &kb, &err), ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ready_with_the_first_success),
        TEST(unhealthy_is_ended),
        TEST(a_check_that_hangs_fails),
        TEST(a_stop_wins_over_a_failure),
        TEST(ready_when_it_says_so),
        TEST(ready_when_it_says_so_with_a_check),
        TEST(a_check_does_not_speak_for_it),
        TEST(late_is_ended),
        TEST(silence_is_ended),
        TEST(the_device_stands_over_the_image),
        TEST(what_does_not_fit_is_refused),
    };

    return cmocka_run_group_tests_name("sup_health", tests, NULL, NULL);
}
