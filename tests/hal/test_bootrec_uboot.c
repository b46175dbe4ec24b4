/* U-Boot's environment, byte for byte as fw_printenv and fw_setenv of libubootenv see it. Without these tools (Debian:
 * libubootenv-tool) the tests that need them are skipped, aloud. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/linux/linux.h"
#include "hal/linux/uboot_vars.h"

#define SIZE 0x4000
#define GAP 0x10000
#define START 0x1000

static char dir[] = "/dev/shm/test_uboot.XXXXXX"; /* a thousand syncs are not for a disk */
static char card[64], config[64];
static struct uboot_env_place place = {
    .offset = {START, START + GAP}, .size = SIZE, .lock = UBOOT_ENV_LOCK, .vars = &uboot_vars_rauc};
static uint8_t image[SIZE];
static struct err e;

static void copy_put(int copy, uint8_t flags, const char *text, size_t len)
{
    int fd = open(card, O_RDWR | O_CREAT, 0600);
    uint32_t crc;

    memset(image, 0, SIZE);
    memcpy(image + 5, text, len);
    image[4] = flags;
    crc = (uint32_t)crc32(0, image + 5, SIZE - 5);
    memcpy(image, &crc, 4);
    assert_int_equal(io_pwrite_full(fd, image, SIZE, (off_t)place.offset[copy]), 0);
    close(fd);
}

static void copy_get(int copy)
{
    int fd = open(card, O_RDONLY);

    assert_int_equal(io_pread_full(fd, image, SIZE, (off_t)place.offset[copy]), SIZE);
    close(fd);
}

#define PUT(copy, flags, text) copy_put(copy, flags, text, sizeof(text))

/* Run a tool, give its standard output without the last newline. */
static void tool(char *const argv[], char *out, size_t cap)
{
    int pipes[2];
    int status;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    if (pid == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        close(pipes[0]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(pipes[1]);
    n = io_read_full(pipes[0], out, cap - 1);
    close(pipes[0]);
    assert_true(n >= 0);
    out[n] = 0;
    if (n > 0 && out[n - 1] == '\n')
        out[n - 1] = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        print_message("SKIPPED: no %s; install libubootenv-tool\n", argv[0]);
        skip();
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s fails", argv[0]);
}

static void fw_setenv(char *name, char *value)
{
    char out[64];

    tool((char *[]){"fw_setenv", "-c", config, name, value, NULL}, out, sizeof(out));
}

static void fw_expect(char *name, const char *want)
{
    char out[256];

    tool((char *[]){"fw_printenv", "-c", config, "-n", name, NULL}, out, sizeof(out));
    assert_string_equal(out, want);
}

static void expect(enum slot_id first, uint8_t a, uint8_t b, int good)
{
    struct bootrec_health health = {0};
    struct bootrec r;

    if (bootrec_uboot.load(&place, &r, &health, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(r.first, first);
    assert_int_equal(r.left[SLOT_A], a);
    assert_int_equal(r.left[SLOT_B], b);
    assert_int_equal(health.copies_good, good);
}

static void store(enum slot_id first, uint8_t a, uint8_t b)
{
    if (bootrec_uboot.store(&place, &(struct bootrec){first, {a, b}}, &e) != 0)
        fail_msg("%s", e.text);
}

static void test_defaults(void **state)
{
    (void)state;
    PUT(0, 1, "bootdelay=2\0");
    PUT(1, 2, "\0");
    expect(SLOT_A, 3, 3, 2);
}

static void test_words(void **state)
{
    (void)state;
    PUT(0, 1, "\0");
    PUT(1, 2, "BOOT_ORDER=B A\0BOOT_A_LEFT=0\0BOOT_B_LEFT=9\0");
    expect(SLOT_B, 0, 9, 2);
    PUT(1, 2, "BOOT_ORDER=B\0BOOT_A_LEFT=2\0BOOT_B_LEFT=99\0");
    expect(SLOT_B, 0, 9, 2);
    PUT(1, 2, "BOOT_ORDER=  A  B \0BOOT_A_LEFT=x\0BOOT_B_LEFT=\0");
    expect(SLOT_A, 0, 3, 2);
    PUT(1, 2, "XBOOT_ORDER=B A\0BOOT_ORDERX=B A\0");
    expect(SLOT_A, 3, 3, 2);
}

/* Which copy is newer, and that the other one is written with the next number. */
static void test_flags(void **state)
{
    static const struct {
        uint8_t flags[2];
        int newest;
    } cases[] = {{{1, 2}, 1},     {{2, 1}, 0}, {{255, 0}, 1}, {{0, 255}, 0},
                 {{254, 255}, 1}, {{7, 7}, 0}, {{1, 0}, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int newest = cases[i].newest;

        for (int copy = 0; copy < 2; copy++) {
            if (copy == newest)
                PUT(copy, cases[i].flags[copy], "BOOT_A_LEFT=1\0");
            else
                PUT(copy, cases[i].flags[copy], "BOOT_A_LEFT=2\0");
        }
        expect(SLOT_A, 1, 3, 2);
        store(SLOT_B, 5, 6);
        copy_get(1 - newest);
        assert_int_equal(image[4], (uint8_t)(cases[i].flags[newest] + 1));
        copy_get(newest);
        assert_int_equal(image[4], cases[i].flags[newest]);
        expect(SLOT_B, 5, 6, 2);
    }
}

static void test_bad_copy_is_written(void **state)
{
    (void)state;
    PUT(0, 9, "BOOT_A_LEFT=1\0x=y\0");
    PUT(1, 8, "BOOT_A_LEFT=2\0");
    copy_get(0);
    image[100] ^= 1;
    int fd = open(card, O_WRONLY);
    assert_int_equal(io_pwrite_full(fd, image, SIZE, START), 0);
    close(fd);
    expect(SLOT_A, 2, 3, 1);
    store(SLOT_A, 4, 4);
    expect(SLOT_A, 4, 4, 2);
    copy_get(1);
    assert_int_equal(image[4], 8);
}

/* Variables that are not ours keep their bytes, whatever these are. */
static void test_others_kept(void **state)
{
    static const char text[] =
        "a=1\0BOOT_B_LEFT=1\0bin=\x01\xff=\"\\\0empty=\0BOOT_ORDER=A B\0z=BOOT_A_LEFT=7\0";
    static const char want[] =
        "a=1\0bin=\x01\xff=\"\\\0empty=\0z=BOOT_A_LEFT=7\0BOOT_ORDER=B A\0BOOT_A_LEFT=3\0"
        "BOOT_B_LEFT=2\0";

    (void)state;
    PUT(0, 1, text);
    PUT(1, 0, "\0");
    store(SLOT_B, 3, 2);
    copy_get(1);
    assert_memory_equal(image + 5, want, sizeof(want));
    for (size_t i = 5 + sizeof(want); i < SIZE; i++)
        assert_int_equal(image[i], 0);
}

static void test_full(void **state)
{
    static char text[SIZE - 5];

    (void)state;
    memset(text, 'x', sizeof(text) - 2);
    memcpy(text, "x=", 2);
    copy_put(0, 1, text, sizeof(text));
    copy_put(1, 0, text, sizeof(text));
    assert_int_equal(bootrec_uboot.store(&place, &(struct bootrec){SLOT_A, {3, 3}}, &e), ERR_BOOT);
    assert_non_null(strstr(e.text, "full"));
    expect(SLOT_A, 3, 3, 2);
    /* No end at all: a right CRC does not make it an environment. */
    memset(text, 'x', sizeof(text));
    copy_put(0, 1, text, sizeof(text));
    copy_put(1, 0, text, sizeof(text));
    assert_int_equal(bootrec_uboot.store(&place, &(struct bootrec){SLOT_A, {3, 3}}, &e), ERR_BOOT);
}

static void test_refused(void **state)
{
    struct uboot_env_place bad = place;
    struct bootrec_health health;
    struct bootrec r;

    (void)state;
    PUT(0, 1, "\0");
    assert_int_equal(truncate(card, START + SIZE / 2), 0);
    assert_int_equal(bootrec_uboot.load(&place, &r, &health, &e), ERR_BOOT);
    bad.device[0] = bad.device[1] = "/dev/null";
    assert_int_equal(bootrec_uboot.load(&bad, &r, &health, &e), ERR_BOOT);
    assert_non_null(strstr(e.text, "neither a block device nor a file"));
    bad.size = CONFIG_UBOOT_ENV_MAX + 1;
    assert_int_equal(bootrec_uboot.load(&bad, &r, &health, &e), ERR_LIMIT);
    assert_int_equal(bootrec_uboot.store(&place, &(struct bootrec){SLOT_A, {10, 0}}, &e), ERR_BOOT);
}

/* --- cuts --------------------------------------------------------------------------------------------------------- */

#define FLIPS 1000
#define SECTOR 512

static uint32_t dice(uint32_t sides)
{
    static uint32_t state = 20261123;

    state = state * 1664525 + 1013904223;
    return (state >> 8) % sides;
}

static void card_do(bool write, uint8_t both[2][SIZE])
{
    int fd = open(card, O_RDWR);

    for (int i = 0; i < 2; i++)
        assert_int_equal(write ? io_pwrite_full(fd, both[i], SIZE, (off_t)place.offset[i])
                               : io_pread_full(fd, both[i], SIZE, (off_t)place.offset[i]) - SIZE,
                         0);
    close(fd);
}

/* A cut in the middle of what led from `was` to `is`: each sector old, new, or new by half. */
static void cut(uint8_t was[2][SIZE], uint8_t is[2][SIZE])
{
    for (int i = 0; i < 2; i++)
        for (size_t at = 0; at < SIZE; at += SECTOR) {
            size_t kept = (size_t)dice(3) * SECTOR / 2;

            memcpy(is[i] + at + kept, was[i] + at + kept, SECTOR - kept);
        }
    card_do(true, is);
}

/* What the script would find, in fw_printenv's words. */
static void expect_agreement(const struct bootrec *was, const struct bootrec *is)
{
    char out[256], want[2][256];
    struct bootrec_health health;
    struct bootrec r;

    tool((char *[]){"fw_printenv", "-c", config, "BOOT_ORDER", "BOOT_A_LEFT", "BOOT_B_LEFT", "board", NULL},
         out, sizeof(out));
    for (int i = 0; i < 2; i++) {
        const struct bootrec *b = i == 0 ? was : is;
        const char *both = b->first == SLOT_A ? "A B" : "B A";

        snprintf(want[i], sizeof(want[i]), "BOOT_ORDER=%.*s\nBOOT_A_LEFT=%d\nBOOT_B_LEFT=%d\nboard=x",
                 b->left[b->first == SLOT_A] > 0 ? 3 : 1, both, b->left[SLOT_A], b->left[SLOT_B]);
    }
    if (strcmp(out, want[0]) != 0 && strcmp(out, want[1]) != 0)
        fail_msg("fw_printenv has neither the old record nor the new one: %s", out);
    if (bootrec_uboot.load(&place, &r, &health, &e) != 0)
        fail_msg("%s", e.text);
    is = strcmp(out, want[1]) == 0 ? is : was;
    if (r.first != is->first || r.left[SLOT_A] != is->left[SLOT_A] || r.left[SLOT_B] != is->left[SLOT_B])
        fail_msg("the driver reads another record than fw_printenv: %s", out);
}

static void test_flips_with_cuts(void **state)
{
    static uint8_t before[2][SIZE], after[2][SIZE];
    struct bootrec was = {SLOT_A, {3, 3}};
    int cuts = 0, lost = 0;

    (void)state;
    PUT(0, 1, "BOOT_ORDER=A B\0BOOT_A_LEFT=3\0BOOT_B_LEFT=3\0board=x\0");
    PUT(1, 0, "\0");
    for (int i = 0; i < FLIPS; i++) {
        struct bootrec is = {(enum slot_id)dice(2), {(uint8_t)dice(4), (uint8_t)dice(4)}};
        struct bootrec_health health;

        card_do(false, before);
        store(is.first, is.left[SLOT_A], is.left[SLOT_B]);
        card_do(false, after);
        if (dice(2) == 0) {
            cuts++;
            cut(before, after);
        }
        expect_agreement(&was, &is);
        assert_int_equal(bootrec_uboot.load(&place, &was, &health, &e), 0);
        lost += was.first != is.first || memcmp(was.left, is.left, sizeof(was.left)) != 0;
    }
    /* a proof in which no cut did harm would be none */
    assert_in_range(lost, FLIPS / 10, cuts);
}

/* The tools' lock holds us off, and ours them: see uboot_env_lock. */
static void test_lock(void **state)
{
    int other, mine;

    (void)state;
    assert_int_equal(uboot_env_lock(&place, &mine, &e), 0);
    if (mine < 0)
        skip();
    other = open(UBOOT_ENV_LOCK, O_WRONLY);
    assert_true(other >= 0);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), -1);
    uboot_env_unlock(mine);
    assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(uboot_env_lock(&place, &mine, &e), ERR_BOOT);
    close(other);
}

static void test_fw_reads_ours(void **state)
{
    (void)state;
    PUT(0, 254, "bootdelay=2\0");
    PUT(1, 253, "\0");
    for (int i = 0; i < 6; i++) { /* over the wrap of flags */
        char a[2] = {(char)('0' + i), 0};

        store(i % 2 ? SLOT_B : SLOT_A, (uint8_t)i, 9);
        fw_expect("BOOT_ORDER", i % 2 ? "B A" : "A B");
        fw_expect("BOOT_A_LEFT", a);
        fw_expect("BOOT_B_LEFT", "9");
        fw_expect("bootdelay", "2");
    }
}

static void test_we_read_fw(void **state)
{
    (void)state;
    PUT(0, 253, "bootdelay=2\0");
    PUT(1, 252, "\0");
    for (int i = 0; i < 8; i++) {
        char b[2] = {(char)('0' + i), 0};

        fw_setenv("BOOT_ORDER", i % 2 ? "B A" : "A B");
        fw_setenv("BOOT_B_LEFT", b);
        expect(i % 2 ? SLOT_B : SLOT_A, 3, (uint8_t)i, 2);
    }
}

/* Turn about: each finds what the other one wrote last. */
static void test_alternate(void **state)
{
    (void)state;
    PUT(0, 250, "bootdelay=2\0");
    PUT(1, 249, "\0");
    for (int i = 0; i < 9; i++) {
        char n[2] = {(char)('0' + i), 0};

        store(SLOT_B, 1, (uint8_t)i);
        fw_expect("BOOT_B_LEFT", n);
        fw_setenv("BOOT_A_LEFT", n);
        expect(SLOT_B, (uint8_t)i, (uint8_t)i, 2);
    }
    fw_expect("bootdelay", "2");
}

static void config_put(const char *text)
{
    int fd = open(config, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
    close(fd);
}

static void test_fw_env_config(void **state)
{
    struct bootrec_health health;
    struct bootrec r;
    char text[512], one[128];

    (void)state;
    PUT(0, 1, "BOOT_ORDER=B A\0");
    PUT(1, 0, "\0");
    assert_int_equal(bootrec_fw_env.load(config, &r, &health, &e), 0);
    assert_int_equal(r.first, SLOT_B);
    r.first = SLOT_A;
    assert_int_equal(bootrec_fw_env.store(config, &r, &e), 0);
    expect(SLOT_A, 3, 3, 2);

    snprintf(one, sizeof(one), "%s 0x%x 0x%x\n", card, START, SIZE);
    config_put(one);
    assert_int_equal(bootrec_fw_env.load(config, &r, &health, &e), ERR_CONFIG);
    assert_non_null(strstr(e.text, "two copies"));
    snprintf(text, sizeof(text), "%s%s 0x%x 0x2000\n", one, card, START + GAP);
    config_put(text);
    assert_int_equal(bootrec_fw_env.load(config, &r, &health, &e), ERR_CONFIG);
    config_put("nonsense\n");
    assert_int_equal(bootrec_fw_env.load(config, &r, &health, &e), ERR_CONFIG);
    assert_int_equal(bootrec_fw_env.load("/nowhere", &r, &health, &e), -ENOENT);
}

static int setup(void **state)
{
    char text[512];

    (void)state;
    unlink(card);
    snprintf(text, sizeof(text), "# two copies\n%s 0x%x 0x%x\n\n%s 0x%x 0x%x\n", card, START, SIZE, card,
             START + GAP, SIZE);
    config_put(text);
    return 0;
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_defaults),
        T(test_words),
        T(test_flags),
        T(test_bad_copy_is_written),
        T(test_full),
        T(test_others_kept),
        T(test_refused),
        T(test_lock),
        T(test_fw_reads_ours),
        T(test_we_read_fw),
        T(test_alternate),
        T(test_fw_env_config),
        T(test_flips_with_cuts),
    };
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    snprintf(card, sizeof(card), "%s/card", dir);
    snprintf(config, sizeof(config), "%s/fw_env.config", dir);
    place.device[0] = place.device[1] = card;
    failed = cmocka_run_group_tests_name("bootrec_uboot", tests, NULL, NULL);
    unlink(card);
    unlink(config);
    rmdir(dir);
    return failed;
}
