/* AUTOBOOT.TXT on a FAT that mkfs.vfat and mtools made, and that fsck.vfat and mtools read afterwards. Without them (Debian:
 * dosfstools, mtools) all is skipped, aloud. What the firmware makes of it is modelled in tests/cuts/tryboot.c. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/conform.h"
#include "hal/linux/tryboot.h"

static char dir[] = "/dev/shm/test_tryboot.XXXXXX";
static char card[64], firmware[64], text_file[64], old_file[64];
static struct tryboot_place place = {.card = card, .firmware = firmware, .partition = {2, 3}};
static struct err e;

static void tool(char *const argv[])
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        int null = open("/dev/null", O_WRONLY);

        dup2(null, STDOUT_FILENO);
        execvp(argv[0], argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        print_message("SKIPPED: no %s; install dosfstools and mtools\n", argv[0]);
        skip();
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("%s fails", argv[0]);
}

static void file_put(const char *path, const void *data, size_t len, off_t at)
{
    int fd = open(path, O_WRONLY | O_CREAT, 0600);

    assert_int_equal(io_pwrite_full(fd, data, len, at), 0);
    close(fd);
}

static void firmware_put(const char *name, uint8_t number)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/%s", firmware, name);
    file_put(path, (uint8_t[]){0, 0, 0, number}, 4, 0);
}

static void firmware_drop(const char *name)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/%s", firmware, name);
    (void)unlink(path);
}

/* As boards/raspberrypi makes it. */
static int setup(void **state)
{
    char text[TRYBOOT_LEN + 1];
    int len =
        snprintf(text, sizeof(text), "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=2\n");

    (void)state;
    memset(text + len, '\n', TRYBOOT_LEN - (size_t)len);
    file_put(text_file, text, TRYBOOT_LEN, 0);
    file_put(old_file, text, TRYBOOT_LEN, 0);
    unlink(card);
    tool((char *[]){"truncate", "-s", "16M", card, NULL});
    tool((char *[]){"mkfs.vfat", "-F", "16", card, NULL});
    tool((char *[]){"mcopy", "-i", card, text_file, old_file, "::", NULL});
    firmware_put("partition", 2);
    firmware_put("tryboot", 0);
    firmware_put("capabilities", 4);
    return 0;
}

static void expect(enum slot_id first, uint8_t a, uint8_t b, int good)
{
    struct bootrec_health health = {0};
    struct bootrec r;

    if (bootrec_tryboot.load(&place, &r, &health, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(r.first, first);
    assert_int_equal(r.left[SLOT_A], a);
    assert_int_equal(r.left[SLOT_B], b);
    assert_int_equal(health.copies_good, good);
}

static void store(enum slot_id first, uint8_t a, uint8_t b)
{
    if (bootrec_tryboot.store(&place, &(struct bootrec){first, {a, b}}, &e) != 0)
        fail_msg("%s", e.text);
}

/* In the eyes of others: the filesystem is in order, and the file says this. */
static void expect_file(int by_default, int trial)
{
    char text[TRYBOOT_LEN + 1] = "", want[96];

    tool((char *[]){"fsck.vfat", "-n", card, NULL});
    tool((char *[]){"mcopy", "-n", "-o", "-i", card, "::AUTOBOOT.TXT", text_file, NULL});
    assert_int_equal(io_read_file(text_file, text, sizeof(text)), TRYBOOT_LEN);
    snprintf(want, sizeof(want),
             "[all]\ntryboot_a_b=1\nboot_partition=%d\n[tryboot]\nboot_partition=%d\n[none]\n", by_default,
             trial);
    if (strncmp(text, want, strlen(want)) != 0)
        fail_msg("AUTOBOOT.TXT: %s", text);
}

static void test_conforms(void **state)
{
    const char *wrong = conform_bootrec(&bootrec_tryboot, &place);

    (void)state;
    if (wrong != NULL)
        fail_msg("%s", wrong);
}

static void test_factory(void **state)
{
    enum slot_id slot;

    (void)state;
    expect(SLOT_A, 3, 0, 2);
    assert_int_equal(bootrec_tryboot.booted(&place, &slot, &e), 0);
    assert_int_equal(slot, SLOT_A);
}

static void test_trial(void **state)
{
    (void)state;
    store(SLOT_B, 3, 3);
    expect_file(2, 3);
    expect(SLOT_B, 3, 3, 2);
    firmware_put("partition", 3);
    firmware_put("tryboot", 1);
    expect(SLOT_B, 3, 2, 2);
    store(SLOT_B, 3, 3);
    expect_file(3, 2);
    expect(SLOT_B, 3, 3, 2);
    store(SLOT_B, 0, 3); /* A is written to */
    expect_file(3, 3);
    store(SLOT_A, 3, 0); /* B is given up while it runs */
    expect_file(2, 2);
}

/* What is written while slot B is on trial leaves A the default. */
static void test_given_up(void **state)
{
    (void)state;
    store(SLOT_B, 3, 1);
    firmware_put("partition", 3);
    expect(SLOT_B, 3, 0, 2);
    store(SLOT_A, 3, 0);
    expect_file(2, 2);
}

static void sector_do(bool write, off_t at, uint8_t sector[512])
{
    int fd = open(card, O_RDWR);

    if (write)
        assert_int_equal(io_pwrite_full(fd, sector, 512, at), 0);
    else
        assert_int_equal(io_pread_full(fd, sector, 512, at), 512);
    close(fd);
}

static off_t dir_find(uint8_t sector[512])
{
    for (off_t at = 0; at < 1 << 20; at += 512) {
        sector_do(false, at, sector);
        if (memcmp(sector, "AUTOBOOTTXT", 11) == 0)
            return at;
    }
    fail_msg("no directory that begins with AUTOBOOT.TXT");
    return 0;
}

/* A cut that tears the directory's sector between the two bytes: both names have one file. */
static void test_torn(void **state)
{
    uint8_t sector[512];
    off_t at;

    (void)state;
    for (int byte = 26; byte <= 32 + 26; byte += 32) {
        setup(state);
        store(SLOT_B, 3, 3);
        at = dir_find(sector);
        sector[byte] ^= 1;
        sector_do(true, at, sector);
        /* of the two files, the one before it is as whole */
        expect(byte == 26 ? SLOT_A : SLOT_B, 3, byte == 26 ? 0 : 3, 2);
        store(SLOT_B, 3, 3);
        expect_file(2, 3);
        expect(SLOT_B, 3, 3, 2);
    }
}

/* Of the file that has this word. */
static void damage(const char *word)
{
    uint8_t sector[512];

    for (off_t at = 0; at < 1 << 20; at += 512) {
        sector_do(false, at, sector);
        if (memcmp(sector, "[all]", 5) == 0 && memmem(sector, sizeof(sector), word, strlen(word)) != NULL) {
            sector[60] ^= 4;
            sector_do(true, at, sector);
            return;
        }
    }
    fail_msg("no file with %s", word);
}

static void test_damage(void **state)
{
    struct bootrec_health health;
    struct bootrec r;

    (void)state;
    store(SLOT_A, 3, 1);
    store(SLOT_B, 3, 3);
    damage("first=B");
    expect(SLOT_A, 3, 1, 1);
    store(SLOT_A, 2, 2);
    expect_file(2, 3);
    store(SLOT_B, 2, 2);
    expect(SLOT_B, 2, 2, 2);
    damage("first=A");
    expect(SLOT_B, 2, 2, 1);
    damage("first=B");
    assert_int_equal(bootrec_tryboot.load(&place, &r, &health, &e), ERR_BOOT);
    store(SLOT_A, 3, 0);
    store(SLOT_A, 3, 0);
    expect(SLOT_A, 3, 0, 2);
}

static void test_refused(void **state)
{
    struct bootrec_health health;
    struct bootrec r;
    enum slot_id slot;

    (void)state;
    firmware_put("partition", 1);
    assert_int_equal(bootrec_tryboot.booted(&place, &slot, &e), ERR_BOOT);
    firmware_put("capabilities", 0x08);
    assert_int_equal(bootrec_tryboot.booted(&place, &slot, &e), ERR_UNSUPPORTED);
    firmware_drop("capabilities");
    firmware_put("partition", 3);
    assert_int_equal(bootrec_tryboot.booted(&place, &slot, &e), 0);
    assert_int_equal(slot, SLOT_B);
    firmware_drop("tryboot");
    assert_int_equal(bootrec_tryboot.booted(&place, &slot, &e), ERR_UNSUPPORTED);
    assert_int_equal(bootrec_tryboot.store(&place, &(struct bootrec){SLOT_A, {3, 3}}, &e), ERR_UNSUPPORTED);
    tool((char *[]){"mdel", "-i", card, "::AUTOBOOT.OLD", NULL});
    assert_int_equal(bootrec_tryboot.load(&place, &r, &health, &e), ERR_UNSUPPORTED);
    tool((char *[]){"mkfs.vfat", "-F", "32", "-s", "1", card, NULL});
    assert_int_equal(bootrec_tryboot.load(&place, &r, &health, &e), ERR_UNSUPPORTED);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_conforms), T(test_factory), T(test_trial),   T(test_given_up),
        T(test_torn),     T(test_damage),  T(test_refused),
    };
    int failed;

    if (mkdtemp(dir) == NULL || setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1) < 0)
        return 1;
    snprintf(card, sizeof(card), "%s/card", dir);
    snprintf(firmware, sizeof(firmware), "%s/firmware", dir);
    snprintf(text_file, sizeof(text_file), "%s/AUTOBOOT.TXT", dir);
    snprintf(old_file, sizeof(old_file), "%s/AUTOBOOT.OLD", dir);
    if (io_make_dir(firmware) < 0)
        return 1;
    failed = cmocka_run_group_tests_name("tryboot", tests, NULL, NULL);
    tool((char *[]){"rm", "-r", dir, NULL});
    return failed;
}
