/* Challenges, credentials files, pauses and header fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "oci/auth.h"
#include "oci/retry.h"

static void challenges(void **state)
{
    struct auth_challenge c;

    (void)state;
    assert_true(auth_challenge_parse("Basic realm=\"x\"", &c));
    assert_int_equal(c.scheme, AUTH_BASIC);
    assert_true(auth_challenge_parse(
        "bearer Realm=\"https://a/b,c\" , service=s, scope=\"a \\\"b\\\"\",error=\"e\"", &c));
    assert_int_equal(c.scheme, AUTH_BEARER);
    assert_string_equal(c.realm, "https://a/b,c");
    assert_string_equal(c.service, "s");
    assert_string_equal(c.scope, "a \"b\"");
    assert_string_equal(c.error, "e");
    assert_true(auth_challenge_parse("Negotiate, Basic realm=\"x\", Bearer realm=\"https://a\"", &c));
    assert_int_equal(c.scheme, AUTH_BEARER);
    assert_string_equal(c.realm, "https://a");
    assert_true(auth_challenge_parse("Bearer realm=\"https://a\", Basic realm=\"x\"", &c));
    assert_string_equal(c.realm, "https://a");
    assert_false(auth_challenge_parse("", &c));
    assert_false(auth_challenge_parse("Digest realm=\"x\"", &c));
    assert_false(auth_challenge_parse("\"", &c));
    assert_false(auth_challenge_parse("=,=,\x01", &c));
    assert_true(auth_challenge_parse("Bearer realm=\"never ends", &c));
    assert_string_equal(c.realm, "");
    assert_true(auth_challenge_parse("Bearer realm=\"\\", &c));
}

static int find(const char *text, const char *host, char *basic)
{
    struct err e;

    return auth_config_find(text, strlen(text), host, basic, &e);
}

static void credentials(void **state)
{
    const char *text =
        "{\"auths\":{\"https://a.example.com/v1/\":{\"auth\":\"dTpw\"},"
        "\"b.example.com:5000\":{\"username\":\"u\",\"password\":\"p\"},"
        "\"bad1\":{\"auth\":\"%%\"},\"bad2\":{\"auth\":\"dXA=\"},\"bad3\":{\"identitytoken\":\"x\"},"
        "\"bad4\":{\"username\":\"u:v\",\"password\":\"p\"},\"bad5\":7}}";
    char basic[AUTH_BASIC_MAX];

    (void)state;
    assert_int_equal(find(text, "a.example.com", basic), 0);
    assert_string_equal(basic, "dTpw");
    assert_int_equal(find(text, "b.example.com:5000", basic), 0);
    assert_string_equal(basic, "dTpw");
    assert_int_equal(find(text, "b.example.com", basic), 0);
    assert_string_equal(basic, "");
    assert_int_equal(find(text, "xa.example.com", basic), 0);
    assert_string_equal(basic, "");
    for (char bad[] = "bad1"; bad[3] <= '5'; bad[3]++)
        assert_int_not_equal(find(text, bad, basic), 0);
    assert_int_equal(find("{}", "a", basic), 0);
    assert_int_not_equal(find("{\"auths\":[]}", "a", basic), 0);
}

static void pauses(void **state)
{
    (void)state;
    assert_int_equal(retry_pause_ms(1, 0, 0), 0);
    for (unsigned tries = 1; tries < 70; tries++)
        for (uint32_t random = 0xffffff00; random != 0; random++)
            assert_in_range(retry_pause_ms(tries, 0, random), 0, RETRY_MAX_MS);
    assert_in_range(retry_pause_ms(1, 0, 499), 499, 499);
    assert_in_range(retry_pause_ms(1, 0, 501), 0, 0);
    assert_int_equal(retry_pause_ms(1, 7, 0), 7000);
    assert_int_equal(retry_pause_ms(1, UINT32_MAX, 0), RETRY_AFTER_MAX_S * 1000);
    assert_true(retry_status(429) && retry_status(503) && !retry_status(404) && !retry_status(501));
}

static void fields(void **state)
{
    struct http_reply r;

    (void)state;
    assert_int_equal(http_retry_after("120", 0), 120);
    assert_int_equal(http_retry_after("0", 0), 0);
    assert_int_equal(http_retry_after("-1", 0), 0);
    assert_int_equal(http_retry_after("99999999999999999999", 0), 0);
    assert_int_equal(http_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111770), 7);
    assert_int_equal(http_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", 784111778), 0);
    assert_int_equal(http_retry_after("soon", 0), 0);
    assert_int_equal(http_retry_after("", 0), 0);
    assert_true(http_content_range("bytes 1-2/4", &r));
    assert_true(r.range_first == 1 && r.range_last == 2 && r.range_total == 4);
    assert_true(http_content_range("bytes 0-0/*", &r));
    assert_true(r.range_total == UINT64_MAX);
    assert_false(http_content_range("bytes 2-1/4", &r));
    assert_false(http_content_range("bytes 1-4/4", &r));
    assert_false(http_content_range("bytes 1-2/4 ", &r));
    assert_false(http_content_range("bytes */4", &r));
    assert_false(http_content_range("bytes 1-99999999999999999999/*", &r));
    assert_false(http_content_range("", &r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges),
        cmocka_unit_test(credentials),
        cmocka_unit_test(pauses),
        cmocka_unit_test(fields),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
