/* A plan as JSON, and the page made of it: at its longest it still fits an answer, a terminal and a serial line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/json.h"
#include "ctl/line.h"
#include "ctl/plan.h"
#include "ctl/render.h"

#define FILL(array, c) (memset((array), (c), sizeof(array) - 1), (array)[sizeof(array) - 1] = '\0')

static char answer[CTL_RESPONSE_MAX], page[8192];

static void look_at(const struct plan *p)
{
    struct json j;
    cJSON *o;
    FILE *out;

    plan_add(&j, json_start(&j), p);
    assert_true(json_finish(&j, answer, sizeof answer) > 0);
    o = cJSON_Parse(answer);
    assert_non_null(o);
    memset(page, 0, sizeof page);
    out = fmemopen(page, sizeof page - 1, "w");
    render_plan(o, out);
    fclose(out);
    cJSON_Delete(o);
    for (const char *at = page; *at; at += strcspn(at, "\n") + 1) {
        assert_in_range(strcspn(at, "\n"), 0, RENDER_COLUMNS);
        assert_in_range(strspn(at, " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`"
                                   "abcdefghijklmnopqrstuvwxyz{|}~"),
                        strcspn(at, "\n"), RENDER_COLUMNS);
    }
}

static int lines(void)
{
    int cnt = 0;

    for (const char *at = page; *at; at++)
        cnt += *at == '\n';
    return cnt;
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
    assert_non_null(strstr(page, "NEXT UPDATE: v2, ? into slot A, then a reboot.\n"));
    assert_non_null(strstr(page, "download  32.1 KB in 3 requests\n"));
    assert_non_null(strstr(page, "write     at most 1304.5 KB\n"));
    assert_non_null(strstr(page, "keep      900 files, 280.0 MB: already in their place\n"));
    p.fetch_bytes_s = 1000;
    look_at(&p);
    assert_non_null(strstr(page, "32.1 KB in 3 requests; at the last one's pace 33 s\n"));
    p.cost.layers_whole = 1;
    look_at(&p);
    assert_non_null(strstr(page, "download  at most 32.1 KB"));
    assert_null(strstr(page, "1304.5"));
    assert_non_null(strstr(answer, "\"write_bytes\":null"));
}

static void test_longest(void **state)
{
    const char bytes[] = {'x', '"', '\n', (char)0xff};

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) {
        struct plan p;

        memset(&p, 0xff, sizeof p);
        p.current = false;
        p.counted = true;
        p.slot = SLOT_B;
        p.fetch_bytes_s = 1;
        p.cost.download = p.cost.write = p.cost.kept = p.cost.copied = p.cost.chunks = p.cost.fetched =
            999999999999999;
        FILL(p.state, bytes[i]), FILL(p.error, bytes[i]), FILL(p.image, bytes[i]), FILL(p.waiting, bytes[i]);
        FILL(p.version, bytes[i]);
        look_at(&p);
        assert_in_range(lines(), 1, RENDER_LINES);
        snprintf(p.state, sizeof p.state, "failed");
        look_at(&p);
        assert_in_range(lines(), 1, RENDER_LINES);
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
