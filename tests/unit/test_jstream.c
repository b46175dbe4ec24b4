/* stream/jstream.c: the same tokens whatever pieces the text comes in, and what is no JSON is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "stream/jstream.h"

static struct jstream j;
static struct err e;
static char log_text[4096];

struct text {
    const char *at;
    size_t left, piece;
};

static ssize_t more(void *ctx, const uint8_t **block, struct err *err)
{
    struct text *t = ctx;
    size_t n = t->left < t->piece ? t->left : t->piece;

    (void)err;
    *block = (const uint8_t *)t->at;
    t->at += n;
    t->left -= n;
    return (ssize_t)n;
}

/* All tokens as one line of text, or the error's code. */
static int tokens(const char *text, size_t piece)
{
    static const char marks[] = "$<>[]ksnw";
    struct text t = {text, strlen(text), piece};
    size_t at = 0;
    int token;

    jstream_begin(&j, more, &t);
    while ((token = jstream_next(&j, &e)) > 0) {
        bool has_text = token >= JSTREAM_KEY;

        at += (size_t)snprintf(log_text + at, sizeof log_text - at, "%c%s%s", marks[token],
                               has_text ? j.text : "", has_text ? " " : "");
    }
    return token;
}

static void reads(const char *text, const char *want)
{
    for (size_t piece = 1; piece <= strlen(text); piece++) {
        log_text[0] = '\0';
        if (tokens(text, piece) != 0)
            fail_msg("%s: %s", text, e.text);
        assert_string_equal(log_text, want);
    }
}

static void refused(const char *text, int code)
{
    for (size_t piece = 1; piece <= strlen(text) + 1; piece += strlen(text) + 1)
        if (tokens(text, piece) != code)
            fail_msg("%s: %s", text, e.text);
}

static void test_tokens(void **state)
{
    (void)state;
    reads("{}", "<>");
    reads(" [ ] ", "[]");
    reads("7", "n7 ");
    reads("{\"a\":1,\"b\":[true,null,\"x\"],\"c\":{\"d\":-1.5e3}}",
          "<ka n1 kb [wtrue wnull sx ]kc <kd n-1.5e3 >>");
    reads("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s\"\\/\b\f\n\r\t ");
    reads("[\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\"]", "[sA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80 ]");
    reads("\"\xc3\xa9\"", "s\xc3\xa9 ");
}

static void test_refused(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{",
        "[1",
        "\"a",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "[1,]",
        "[1 2]",
        "{a:1}",
        "}",
        "]",
        "[}",
        "{]",
        "{} {}",
        "[] x",
        "tru",
        "nul",
        "'a'",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ude00\"",
        "\"a\nb\"",
        "\xef\xbb\xbf{}",
        "[,1]",
        "{,}",
        "{\"a\" 1}",
        "[1]]",
        "[[[[[[[[[]]]]]]]]]",
        "-",
        "1234567890123456789012345678901234567890",
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (strcmp(bad[i], "-") != 0) /* a number by its looks: its reader refuses it */
            refused(bad[i], ERR_FORMAT);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t value;
    } cases[] = {{"0", 0, 0},
                 {"41", 0, 41},
                 {"100", 0, 100},
                 {"101", ERR_LIMIT, 0},
                 {"01", ERR_FORMAT, 0},
                 {"-1", ERR_FORMAT, 0},
                 {"1.0", ERR_FORMAT, 0},
                 {"1e1", ERR_FORMAT, 0},
                 {"-", ERR_FORMAT, 0},
                 {"\"1\"", ERR_FORMAT, 0},
                 {"18446744073709551617", ERR_FORMAT, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct text t = {cases[i].text, strlen(cases[i].text), 3};
        uint64_t got;

        jstream_begin(&j, more, &t);
        assert_int_equal(jstream_uint(&j, 100, &got, &e), cases[i].rc);
        if (cases[i].rc == 0)
            assert_int_equal(got, cases[i].value);
    }
}

static void test_skip(void **state)
{
    struct text t = {"{\"a\":{\"b\":[1,{\"c\":2}]},\"d\":\"x\",\"e\":3}", 0, 2};
    uint64_t got;

    (void)state;
    t.left = strlen(t.at);
    jstream_begin(&j, more, &t);
    assert_int_equal(jstream_expect(&j, JSTREAM_OBJECT, "an object", &e), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(jstream_next(&j, &e), JSTREAM_KEY);
        assert_int_equal(jstream_skip(&j, jstream_next(&j, &e), &e), 0);
    }
    assert_int_equal(jstream_next(&j, &e), JSTREAM_KEY);
    assert_string_equal(j.text, "e");
    assert_int_equal(jstream_uint(&j, 9, &got, &e), 0);
    assert_int_equal(got, 3);
}

static void test_long_string(void **state)
{
    char *text = malloc(JSTREAM_TEXT_MAX + 4);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', JSTREAM_TEXT_MAX + 3);
    text[0] = text[JSTREAM_TEXT_MAX + 1] = '"';
    text[JSTREAM_TEXT_MAX + 2] = '\0';
    struct text t = {text, strlen(text), 1000};
    jstream_begin(&j, more, &t);
    assert_int_equal(jstream_next(&j, &e), JSTREAM_STRING);
    assert_int_equal(j.len, JSTREAM_TEXT_MAX);
    text[JSTREAM_TEXT_MAX + 1] = 'x';
    text[JSTREAM_TEXT_MAX + 2] = '"';
    t = (struct text){text, JSTREAM_TEXT_MAX + 3, 1000};
    jstream_begin(&j, more, &t);
    assert_int_equal(jstream_next(&j, &e), ERR_LIMIT);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tokens), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_numbers), cmocka_unit_test(test_skip),
                                       cmocka_unit_test(test_long_string)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
