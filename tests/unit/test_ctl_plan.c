/* A plan as JSON, and the page made of it: at its longest it still fits an answer, a terminal and a serial line. */
#include "ctl/plan.h"
#include "ctl/render.h"
#include "ctl_page.h"

static void look_at(const struct plan *p)
{
    struct json j;
    cJSON *o;

    plan_add(&j, json_start(&j), p);
    assert_true(json_finish(&j, json, sizeof json) > 0);
    o = cJSON_Parse(json);
    assert_non_null(o);
    page_draw(render_plan, o);
    cJSON_Delete(o);
    assert_non_null(strchr(page, '\n'));
    assert_fits(RENDER_COLUMNS, RENDER_LINES);
}

static const struct plan_cost some = {.layers = 4,
                                      .requests = 3,
                                      .files_kept = 900,
                                      .files_copied = 12,
                                      .files_fetched = 2,
                                      .kept = 280000000,
                                      .copied = 1234567,
                                      .chunks = 24000000,
                                      .fetched = 70000,
                                      .download = 32100,
                                      .write = 1304567};

static void test_words(void **state)
{
    struct plan p = {.state = "ready", .image = "r/a:b", .version = "v2", .counted = true, .cost = some};

    (void)state;
    look_at(&p);
    assert_says("NEXT UPDATE: v2, ? into slot A, then a restart of the app.\n");
    p.reboots = true;
    look_at(&p);
    assert_says("NEXT UPDATE: v2, ? into slot A, then a reboot.\n");
    assert_says("download  32.1 KB in 3 requests\n");
    assert_says("write     at most 1304.5 KB\n");
    assert_says("keep      900 files, 280.0 MB: already in their place\n");
    p.fetch_bytes_s = 1000;
    look_at(&p);
    assert_says("32.1 KB in 3 requests; at the last one's pace 33 s\n");
    p.cost.layers_whole = 1;
    look_at(&p);
    assert_says("download  at most 32.1 KB");
    assert_null(strstr(page, "1304.5"));
    assert_non_null(strstr(json, "\"write_bytes\":null"));
}

static void test_longest(void **state)
{
    const char bytes[] = {'x', '"', '\n', (char)0xff};

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        struct plan p;

        memset(&p, 0xff, sizeof p);
        p.current = p.reboots = false;
        p.counted = true;
        p.slot = SLOT_B;
        p.fetch_bytes_s = 1;
        p.cost.download = p.cost.write = p.cost.kept = p.cost.copied = p.cost.chunks = p.cost.fetched =
            999999999999999;
        FILL(p.state, bytes[i]), FILL(p.error, bytes[i]), FILL(p.image, bytes[i]), FILL(p.waiting, bytes[i]);
        FILL(p.version, bytes[i]);
        look_at(&p);
        snprintf(p.state, sizeof p.state, "failed");
        look_at(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
