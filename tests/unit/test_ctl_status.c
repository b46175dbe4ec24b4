/* Status as JSON, and the page made of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/json.h"
#include "ctl/render.h"
#include "ctl/status.h"
#include "ctl_page.h"

static struct status s;

static void typical(void)
{
    s = (struct status){
        .now_s = 1000000,
        .agent_version = "0.1.0",
        .board = "testboard",
        .device_id = "3f2a91c07d55",
        .reset_cause = "software",
        .uptime_s = 751,
        .watchdog_s = 60,
        .image = "registry.example.com/fleet/web:stable",
        .state = "idle",
        .last_poll_s = 999988,
        .next_poll_in_s = 288,
        .booted = SLOT_B,
        .slots =
            {{.state = "good", .known = true, .version = "v1", .tries_left = 3, .digest.b = {0x3f, 0x2a}},
             {.state = "active", .known = true, .version = "v2", .tries_left = 3, .digest.b = {0x91, 0xbc}}},
        .app = {.state = "ready",
                .pid = 131,
                .up_s = 42,
                .memory_kib = 12400,
                .memory_limit_kib = 65536,
                .memory_peak_kib = 13000,
                .pids = 3,
                .pids_limit = 512},
        .tag_digest.b = {0x91, 0xbc},
        .slot_bytes_written = 123456789,
        .slot_bytes_kept = 23456789,
        .slot_bytes_read = 3456789,
        .state_writes = 42,
        .roles = {{"agentd", 1024, 400}},
        .hash_kib_s = 46080,
        .hash_engine = "mbedtls",
        .last_failure.cause = "none",
    };
}

static void trial_failed(void)
{
    typical();
    s.booted = SLOT_A;
    snprintf(s.slots[1].state, sizeof s.slots[1].state, "bad");
    snprintf(s.last_failure.cause, sizeof s.last_failure.cause, "app");
    snprintf(s.last_failure.event, sizeof s.last_failure.event, "trial");
    snprintf(s.last_failure.text, sizeof s.last_failure.text,
             "trial: app: exited with code 3 after 1.0 s (3 times)");
    s.last_failure.when_s = 999000;
    s.last_failure.digest = s.slots[1].digest;
    s.app.last_exit = (struct app_exit){.valid = true, .code = 3, .ran_ms = 1040};
}

/* Every field as long and as large as it can get, of the given byte. */
static void worst(char c)
{
    memset(&s, 0xff, sizeof s);
    s.now_s = s.last_poll_s = s.next_poll_in_s = s.last_failure.when_s = 999999999999999;
    s.uptime_s = s.app.up_s = s.slot_bytes_written = s.slot_bytes_kept = s.slot_bytes_read =
        s.app.last_exit.ran_ms = 999999999999999;
    s.booted = SLOT_A;
    s.plain_http = s.held = s.unsigned_ok = s.scrubbing = true;
    s.waits_until_s = s.today_bytes = 999999999999999;
    s.app.pid = 2147483647;
    s.app.last_exit.valid = true;
    s.app.last_exit.by_signal = false;
    FILL(s.agent_version, c), FILL(s.board, c), FILL(s.device_id, c), FILL(s.reset_cause, c),
        FILL(s.image, c);
    FILL(s.state, c), FILL(s.detail, c), FILL(s.app.state, c), FILL(s.hash_engine, c), FILL(s.sandbox, c);
    FILL(s.app.weaker, c), FILL(s.app.says, c);
    s.app.memory_kib = s.app.memory_peak_kib = s.app.pids = s.app.oom_kills = s.app.pids_hits =
        999999999999999;
    s.app.last_exit.cause = CAUSE_MEMORY;
    s.wear = (struct wear){
        .kind = WEAR_EMMC, .used_percent = {4294967295, 4294967295}, .spare = WEAR_SPARE_UNKNOWN};
    FILL(s.last_failure.cause, c), FILL(s.last_failure.text, c), FILL(s.last_failure.event, c);
    for (int i = 0; i < SLOT_CNT; i++) {
        FILL(s.slots[i].state, c), FILL(s.slots[i].version, c);
        s.slots[i].known = true;
        s.slots[i].installed_s = s.slots[i].scrubbed_s = 999999999999999;
    }
    for (int i = 0; i < 4; i++)
        FILL(s.roles[i].name, c);
    s.target[0] = '\0'; /* an app's has none beside it */
    s.beside_cnt = CONFIG_APPS_MAX;
    for (uint32_t i = 0; i < s.beside_cnt; i++) {
        FILL(s.beside[i].name, c), FILL(s.beside[i].app, c), FILL(s.beside[i].update, c);
        FILL(s.beside[i].version, c);
        s.beside[i].failing = true;
    }
}

static cJSON *parsed(void)
{
    int len = status_to_json(&s, json, sizeof json);
    cJSON *o;

    assert_true(len > 0);
    assert_int_equal(len, strlen(json));
    assert_null(strchr(json, '\n'));
    o = cJSON_Parse(json);
    assert_non_null(o);
    return o;
}

static void render(void (*how)(const cJSON *o, FILE *out))
{
    cJSON *o = parsed();

    page_draw(how, o);
    cJSON_Delete(o);
}

static const cJSON *get(const cJSON *o, const char *a, const char *b)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, a);

    return b ? cJSON_GetObjectItemCaseSensitive(item, b) : item;
}

/* What a scrub found is an alarm where the board runs on it; the other slot is mended. */
static void test_damage(void **state)
{
    cJSON *o;

    (void)state;
    typical();
    s.slots[SLOT_A].damaged = 2;
    render(render_status);
    assert_null(strstr(page, "DAMAGE"));
    assert_says("OK: v2 runs from slot B.");
    s.slots[SLOT_B].damaged = 3;
    render(render_status);
    assert_says("FLASH DAMAGE: 3 in the running slot B");
    o = parsed();
    assert_true(render_is_failing(o));
    cJSON_Delete(o);
}

/* What flash says of itself, as far as it does. */
static void test_wear(void **state)
{
    cJSON *o;

    (void)state;
    typical();
    o = parsed();
    assert_true(cJSON_IsNull(get(o, "flash", "wear")));
    cJSON_Delete(o);
    s.wear = (struct wear){.kind = WEAR_EMMC, .used_percent = {20, 0}, .spare = WEAR_SPARE_NORMAL};
    o = parsed();
    assert_int_equal(get(get(o, "flash", "wear"), "used_a_percent", NULL)->valueint, 20);
    assert_true(cJSON_IsNull(get(get(o, "flash", "wear"), "used_b_percent", NULL)));
    cJSON_Delete(o);
    render(render_status);
    assert_says("; eMMC: 20 % used");
    s.wear.spare = WEAR_SPARE_LOW;
    render(render_status);
    assert_says("; eMMC IS WORN");
    s.wear = (struct wear){.kind = WEAR_UBI, .erased_max = 1234};
    render(render_status);
    assert_says("; 1234 erasures");
}

static void test_fields(void **state)
{
    cJSON *o;
    const cJSON *slot;

    (void)state;
    typical();
    o = parsed();
    assert_int_equal(get(o, "schema", NULL)->valueint, 1);
    assert_string_equal(get(o, "follow", "image")->valuestring, "registry.example.com/fleet/web:stable");
    assert_true(cJSON_IsFalse(get(o, "follow", "plain_http")));
    assert_string_equal(get(o, "booted", NULL)->valuestring, "B");
    assert_int_equal(get(o, "update", "next_poll_in_s")->valueint, 288);
    slot = cJSON_GetArrayItem(get(o, "slots", NULL), 1);
    assert_string_equal(get(slot, "version", NULL)->valuestring, "v2");
    assert_string_equal(get(slot, "digest", NULL)->valuestring,
                        "sha256:91bc000000000000000000000000000000000000000000000000000000000000");
    assert_true(cJSON_IsNull(get(slot, "installed_s", NULL)));
    assert_true(cJSON_IsNull(get(o, "last_failure", NULL)));
    assert_true(cJSON_IsNull(get(o, "app", "last_exit")));
    assert_true(get(o, "flash", "slot_bytes_written")->valuedouble == 123456789);
    assert_true(get(o, "flash", "slot_bytes_kept")->valuedouble == 23456789);
    assert_true(get(o, "flash", "slot_bytes_read")->valuedouble == 3456789);
    assert_int_equal(cJSON_GetArraySize(get(o, "roles", NULL)), 1);
    cJSON_Delete(o);
}

static void test_hold_is_said(void **state)
{
    cJSON *o;

    (void)state;
    typical();
    s.held = true;
    o = parsed();
    assert_true(cJSON_IsTrue(get(o, "update", "held")));
    cJSON_Delete(o);
    render(render_status);
    assert_says("update    idle, HELD; last poll");
}

/* With a cause, which may take more lines, and without. */
static void test_event(void **state)
{
    struct event event = {.when_s = 1000000, .slot = 'B', .what = "trial", .version = "v3", .code = ERR_APP};
    struct json j;

    (void)state;
    memset(event.text, 'x', sizeof event.text - 1);
    for (int i = 0; i < 2; i++) {
        cJSON *root = json_start(&j);
        cJSON *o;
        FILE *out = fmemopen(page, sizeof page - 1, "w");

        memset(page, 0, sizeof page);
        status_event_add(&j, root, &event);
        assert_true(json_finish(&j, json, sizeof json) > 0);
        o = cJSON_Parse(json);
        render_event(o, out);
        fclose(out);
        cJSON_Delete(o);
        assert_fits(RENDER_COLUMNS, i == 0 ? 4 : 1);
        assert_says("1970-01-12 13:46:40 UTC  B  trial      v3 ?\n");
        event.code = 0;
    }
}

static void test_unknowns_are_null(void **state)
{
    cJSON *o;

    (void)state;
    typical();
    s.next_poll_in_s = -1;
    s.last_poll_s = 0;
    s.slots[0].known = false;
    memset(&s.tag_digest, 0, sizeof s.tag_digest);
    o = parsed();
    assert_true(cJSON_IsNull(get(o, "update", "next_poll_in_s")));
    assert_true(cJSON_IsNull(get(o, "update", "last_poll_s")));
    assert_true(cJSON_IsNull(get(o, "follow", "digest")));
    assert_null(get(cJSON_GetArrayItem(get(o, "slots", NULL), 0), "version", NULL));
    cJSON_Delete(o);
}

static void test_worst_lengths_fit_an_answer(void **state)
{
    const char bytes[] = {'x', '"', '\\', '\n', '\x01', '\xff'};

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        worst(bytes[i]);
        assert_in_range(status_to_json(&s, json, sizeof json), 1, CTL_RESPONSE_MAX - 64);
    }
    assert_int_equal(status_to_json(&s, json, 1000), -1);
}

static void test_safe_strings(void **state)
{
    char t[] =
        "a\tb\n\x1b[31m \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xc0\x80 \xed\xa0\x80 \xff \xc2\x9b\x7f";
    char ascii[] = "\xc3\xa4.";

    (void)state;
    json_make_safe(t, sizeof t - 1, false);
    assert_string_equal(t, "a\tb\n?[31m \xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 ?? ??? ? ???");
    json_make_safe(ascii, sizeof ascii - 1, true);
    assert_string_equal(ascii, "??.");
    assert_int_equal(json_utf8_cut("ab\xe2\x82", 4), 2);
    assert_int_equal(json_utf8_cut("ab\xe2\x82\xac", 5), 0);
    assert_int_equal(json_utf8_cut("\xac\xac\xac", 3), 0);
}

static void test_page_of_a_healthy_board(void **state)
{
    (void)state;
    typical();
    render(render_status);
    assert_fits(RENDER_COLUMNS, RENDER_LINES);
    assert_memory_equal(page, "OK: v2 runs from slot B.\n", 25);
    assert_says("slot B *  active");
    assert_says("watchdog: 60 s");
    assert_says("last poll 12 s ago, next in 288 s");
    assert_says("RAM peak  agentd ");
    assert_says("MiB resident\n");
    assert_says("sha256:91bc00000000, in slot B");
}

/* From the factory: nobody knows a version, and a board without a watchdog says so. */
static void test_page_of_a_board_as_flashed(void **state)
{
    (void)state;
    typical();
    s.booted = SLOT_A;
    s.watchdog_s = 0;
    s.image[0] = '\0';
    for (int i = 0; i < SLOT_CNT; i++)
        s.slots[i] = (struct status_slot){0};
    snprintf(s.slots[0].state, sizeof s.slots[0].state, "active");
    snprintf(s.slots[1].state, sizeof s.slots[1].state, "empty");
    render(render_status);
    assert_fits(RENDER_COLUMNS, RENDER_LINES);
    assert_memory_equal(page, "OK: the system as flashed runs from slot A.\n", 44);
    assert_says("watchdog: none");
    assert_says("follows   nothing: ");
    assert_says("slot A *  active   as flashed");
    assert_says("slot B    as flashed");
}

static void test_fall_back_is_said_first(void **state)
{
    cJSON *o;

    (void)state;
    trial_failed();
    render(render_status);
    assert_memory_equal(page, "FELL BACK: v2 (sha256:91bc00000000) failed its trial.\n", 54);
    assert_says("runs v1 from slot A again");
    assert_says("exited with code 3");
    assert_fits(RENDER_COLUMNS, RENDER_LINES);
    o = parsed();
    assert_true(render_is_failing(o));
    cJSON_Delete(o);
}

static void test_failing(void **state)
{
    /* of: the version that failed; tag: the one followed; 1 is in slot A, 2 in slot B and runs, 3 in none */
    const struct {
        const char *event, *app, *slot_a;
        int of, tag;
        bool failing;
    } cases[] = {
        {"", "ready", "good", 0, 2, false},        {"", "failed", "good", 0, 2, true},
        {"", "down", "good", 0, 2, true},          {"", "backoff", "good", 0, 2, true},
        {"", "starting", "good", 0, 2, false},     {"", "stopping", "good", 0, 2, false},
        {"", "none", "good", 0, 2, false},         {"poll", "ready", "good", 0, 2, false},
        {"install", "ready", "good", 3, 3, true},  {"install", "ready", "good", 2, 2, false},
        {"install", "ready", "good", 3, 2, false}, {"trial", "ready", "bad", 1, 1, true},
        {"poll", "ready", "bad", 0, 1, true},      {"trial", "ready", "good", 3, 2, false},
        {"rollback", "ready", "bad", 1, 1, false}, {"confirm", "ready", "good", 2, 2, false},
        {"app", "ready", "good", 2, 2, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct digest digests[] = {{{0}}, {{0x3f, 0x2a}}, {{0x91, 0xbc}}, {{0x77}}};
        cJSON *o;

        typical();
        snprintf(s.last_failure.event, sizeof s.last_failure.event, "%s", cases[i].event);
        snprintf(s.last_failure.text, sizeof s.last_failure.text, "%s", cases[i].event);
        snprintf(s.app.state, sizeof s.app.state, "%s", cases[i].app);
        snprintf(s.slots[0].state, sizeof s.slots[0].state, "%s", cases[i].slot_a);
        s.last_failure.digest = digests[cases[i].of];
        s.tag_digest = digests[cases[i].tag];
        o = parsed();
        if (render_is_failing(o) != cases[i].failing)
            fail_msg("case %zu: event '%s' of %d, app '%s'", i, cases[i].event, cases[i].of, cases[i].app);
        cJSON_Delete(o);
    }
}

static void test_worst_lengths_fit_the_page(void **state)
{
    static const char *const events[] = {"install", "trial", "confirm", "app"};
    static const char *const states[] = {"idle", "installing", "trial"};
    static const char *const apps[] = {"ready", "failed"};

    (void)state;
    for (int i = 0; i < 4 * 3 * 2; i++) {
        worst(i % 5 == 0 ? '\x01' : 'W');
        snprintf(s.last_failure.event, sizeof s.last_failure.event, "%s", events[i % 4]);
        snprintf(s.state, sizeof s.state, "%s", states[i / 4 % 3]);
        snprintf(s.app.state, sizeof s.app.state, "%s", apps[i / 12]);
        if (i % 4 == 1)
            snprintf(s.slots[1].state, sizeof s.slots[1].state, "bad");
        render(render_status);
        assert_fits(RENDER_COLUMNS, RENDER_LINES);
        assert_says("INSECURE: plain HTTP, SIGNATURES OFF");
        render(render_why);
        assert_fits(RENDER_COLUMNS, 200);
    }
}

static void test_why_is_a_stair(void **state)
{
    (void)state;
    trial_failed();
    render(render_why);
    assert_fits(RENDER_COLUMNS, RENDER_LINES);
    assert_says(
        "\nchain     trial\n            app\n              exited with code 3 after 1.0 s (3 times)\n");
    assert_says("taken back");
}

static void test_page_of_nonsense(void **state)
{
    const char *const texts[] = {"{}", "{\"slots\":7,\"app\":[],\"last_failure\":\"x\"}",
                                 "{\"slots\":[null,1,{\"name\":{}}],\"roles\":[[]],\"update\":{\"state\":1},"
                                 "\"app\":{\"last_exit\":{\"code\":-1e300}},\"last_failure\":{}}"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        cJSON *o = cJSON_Parse(texts[i]);
        FILE *out = fmemopen(page, sizeof page, "w");

        assert_non_null(o);
        render_status(o, out);
        render_why(o, out);
        fclose(out);
        cJSON_Delete(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_wear),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_hold_is_said),
        cmocka_unit_test(test_event),
        cmocka_unit_test(test_unknowns_are_null),
        cmocka_unit_test(test_worst_lengths_fit_an_answer),
        cmocka_unit_test(test_safe_strings),
        cmocka_unit_test(test_page_of_a_board_as_flashed),
        cmocka_unit_test(test_page_of_a_healthy_board),
        cmocka_unit_test(test_fall_back_is_said_first),
        cmocka_unit_test(test_failing),
        cmocka_unit_test(test_worst_lengths_fit_the_page),
        cmocka_unit_test(test_why_is_a_stair),
        cmocka_unit_test(test_page_of_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
