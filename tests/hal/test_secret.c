/* The secret port: secret_linux keeps its promises, and broken drivers are caught. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/io.h"
#include "hal/conform.h"
#include "hal/linux/linux.h"

static const char text[] = "correct horse battery staple";

const char *conform_secret(const struct secret_ops *ops, const char *place, const char *want,
                           const char *open)
{
    size_t len = strlen(want);
    char buf[256];
    struct err e = {0};

    memset(buf, '#', sizeof buf);
    if (ops->check(place, &e) != 0)
        return "does not find what is there";
    if (ops->read(place, buf, sizeof buf, &e) != (ssize_t)len || memcmp(buf, want, len + 1) != 0)
        return "is not read, or has no NUL behind it";
    memset(buf, '#', sizeof buf);
    if (ops->read(place, buf, len, &e) != ERR_CONFIG || buf[len] != '#')
        return "one that is too long is not refused";
    if (strstr(e.text, want))
        return "the error tells it";
    if (ops->check("/nowhere/at/all", &e) != ERR_CONFIG ||
        ops->read("/nowhere/at/all", buf, sizeof buf, &e) >= 0)
        return "what is not there is no error";
    if (ops->check(open, &e) != ERR_CONFIG || ops->read(open, buf, sizeof buf, &e) != ERR_CONFIG)
        return "one that others may read is taken";
    return NULL;
}

/* --- drivers that are wrong in one way ------------------------------------------------------------------------------ */

static ssize_t any_read(const char *place, char *buf, size_t cap, struct err *e)
{
    return io_read_file(place, buf, cap) < 0 ? err_set(e, ERR_CONFIG, "%s", place) : (ssize_t)strlen(buf);
}

static int any_check(const char *place, struct err *e)
{
    return access(place, R_OK) ? err_set(e, ERR_CONFIG, "%s", place) : 0;
}

static ssize_t cut_read(const char *place, char *buf, size_t cap, struct err *e)
{
    char whole[256];
    ssize_t n = secret_linux.read(place, whole, sizeof whole, e);

    if (n > 0)
        snprintf(buf, cap, "%s", whole);
    return n > 0 ? (ssize_t)strlen(buf) : n;
}

static ssize_t telling_read(const char *place, char *buf, size_t cap, struct err *e)
{
    char whole[256];
    ssize_t n = secret_linux.read(place, buf, cap, e);

    if (n < 0 && secret_linux.read(place, whole, sizeof whole, e) > 0)
        return err_set(e, ERR_CONFIG, "%s has \"%s\"", place, whole);
    return n;
}

static void file_make(char *path, const char *name, const char *dir, mode_t mode)
{
    int fd;

    snprintf(path, 64, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_return_code(fd, errno);
    assert_int_equal(io_write_full(fd, text, strlen(text)), 0);
    assert_return_code(fchmod(fd, mode), errno);
    close(fd);
}

static void test_secret(void **state)
{
    const struct secret_ops bad[] = {{any_check, secret_linux.read},
                                     {secret_linux.check, any_read},
                                     {secret_linux.check, cut_read},
                                     {secret_linux.check, telling_read}};
    static const mode_t open_to[] = {0640, 0604, 0620, 0610, 0644};
    char dir[] = "/tmp/test_secret.XXXXXX", own[64], other[64];
    const char *wrong;

    (void)state;
    assert_non_null(mkdtemp(dir));
    file_make(own, "own", dir, 0600);
    for (size_t i = 0; i < sizeof open_to / sizeof open_to[0]; i++) {
        file_make(other, "other", dir, open_to[i]);
        wrong = conform_secret(&secret_linux, own, text, other);
        if (wrong)
            fail_msg("secret_linux, mode %04o: %s", (unsigned)open_to[i], wrong);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (!conform_secret(&bad[i], own, text, other))
            fail_msg("broken driver %zu passes", i);
    /* a folder is no secret */
    assert_string_not_equal(conform_secret(&secret_linux, dir, text, other) ?: "", "");
    unlink(own);
    unlink(other);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_secret)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
