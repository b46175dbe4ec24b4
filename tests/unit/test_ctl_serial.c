/* Control frames on a noisy line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/serial.h"

#define JSON "{\"v\":1,\"cmd\":\"status\"}"

static char rx_buf[SERIAL_FRAME_MAX(256)];

static struct serial_rx rx_new(enum serial_kind kind)
{
    struct serial_rx rx;

    serial_rx_init(&rx, kind, rx_buf, sizeof rx_buf);
    return rx;
}

/* Feed all; returns the number of frames, the last one in *out. */
static int feed(struct serial_rx *rx, const char *bytes, size_t len, struct serial_frame *out)
{
    int found = 0;

    for (size_t i = 0; i < len; i++)
        found += serial_rx_byte(rx, bytes[i], out);
    return found;
}

static size_t frame_make(uint32_t seq, char *out, size_t cap)
{
    int n = serial_frame_write(SERIAL_QUESTION, seq, JSON, strlen(JSON), out, cap);

    assert_true(n > 0);
    return (size_t)n;
}

static void test_round_trip(void **state)
{
    char frame[128];
    size_t len = frame_make(0xdeadbeef, frame, sizeof frame);
    struct serial_rx rx = rx_new(SERIAL_QUESTION);
    struct serial_frame f;

    (void)state;
    assert_int_equal(len, SERIAL_HEAD_LEN + strlen(JSON) + 1);
    assert_int_equal(feed(&rx, frame, len, &f), 1);
    assert_int_equal(f.seq, 0xdeadbeef);
    assert_int_equal(f.len, strlen(JSON));
    assert_memory_equal(f.json, JSON, f.len);
}

/* The bytes of FORMAT.md's example, so that a change of the format is noticed. */
static void test_known_bytes(void **state)
{
    char frame[128];
    size_t len = frame_make(0x2a, frame, sizeof frame);

    (void)state;
    frame[len] = '\0';
    assert_string_equal(frame, "~SW1? 0000002a 0016 a093dbbc " JSON "\n");
}

static void test_noise_around(void **state)
{
    char all[512] = "\r\nBoard login: ~SW~~S[    1.2] usb 1-1: new device ~";
    size_t at = strlen(all);
    struct serial_rx rx = rx_new(SERIAL_QUESTION);
    struct serial_frame f;

    (void)state;
    at += frame_make(7, all + at, sizeof all - at);
    memcpy(all + at - 1, "\r\npassword: ", 12);
    assert_int_equal(feed(&rx, all, at + 11, &f), 1);
    assert_int_equal(f.seq, 7);
}

static void test_cut_frame_before_a_whole_one(void **state)
{
    char all[512];
    size_t cut, len;

    (void)state;
    for (cut = 1; cut < SERIAL_HEAD_LEN + strlen(JSON); cut++) {
        struct serial_rx rx = rx_new(SERIAL_QUESTION);
        struct serial_frame f;

        frame_make(1, all, sizeof all);
        len = frame_make(2, all + cut, sizeof all - cut);
        assert_int_equal(feed(&rx, all, cut + len, &f), 1);
        assert_int_equal(f.seq, 2);
    }
}

static void test_every_flipped_bit_is_refused(void **state)
{
    char good[128], bad[128];
    size_t len = frame_make(0x1234, good, sizeof good);

    (void)state;
    for (size_t bit = 0; bit < (len - 1) * 8; bit++) {
        struct serial_rx rx = rx_new(SERIAL_QUESTION);
        struct serial_frame f;

        memcpy(bad, good, len);
        bad[bit / 8] = (char)(bad[bit / 8] ^ (1 << bit % 8));
        if (feed(&rx, bad, len, &f) != 0)
            fail_msg("bit %zu flipped, and the frame was taken", bit);
        assert_int_equal(feed(&rx, good, len, &f), 1);
    }
}

static void test_other_kind_is_an_echo(void **state)
{
    char frame[128];
    size_t len = frame_make(3, frame, sizeof frame);
    struct serial_rx rx = rx_new(SERIAL_ANSWER);
    struct serial_frame f;

    (void)state;
    assert_int_equal(feed(&rx, frame, len, &f), 0);
    assert_int_equal(rx.damaged, 0);
}

static void test_endless_line(void **state)
{
    struct serial_rx rx = rx_new(SERIAL_QUESTION);
    struct serial_frame f;
    char frame[128];
    size_t len = frame_make(9, frame, sizeof frame);

    (void)state;
    assert_int_equal(feed(&rx, "~SW1", 4, &f), 0);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(feed(&rx, "x", 1, &f), 0);
    assert_int_equal(feed(&rx, frame, len, &f), 1);
    assert_int_equal(feed(&rx, frame, len, &f), 1);
}

static void test_random_bytes(void **state)
{
    struct serial_rx rx = rx_new(SERIAL_QUESTION);
    struct serial_frame f;

    (void)state;
    srand(1);
    for (int i = 0; i < 300000; i++) {
        const char c = "~SW1?! 0a{}\n\r\xff"[rand() % 14];

        assert_int_equal(feed(&rx, &c, 1, &f), 0);
    }
}

static void test_what_can_not_be_sent(void **state)
{
    char out[64];

    (void)state;
    assert_int_equal(serial_frame_write(SERIAL_ANSWER, 1, "{}\n", 3, out, sizeof out), -1);
    assert_int_equal(serial_frame_write(SERIAL_ANSWER, 1, "\xc3\xa4", 2, out, sizeof out), -1);
    assert_int_equal(
        serial_frame_write(SERIAL_ANSWER, 1, JSON, strlen(JSON), out, SERIAL_HEAD_LEN + strlen(JSON)), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_known_bytes),
        cmocka_unit_test(test_noise_around),
        cmocka_unit_test(test_cut_frame_before_a_whole_one),
        cmocka_unit_test(test_every_flipped_bit_is_refused),
        cmocka_unit_test(test_other_kind_is_an_echo),
        cmocka_unit_test(test_endless_line),
        cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_what_can_not_be_sent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
