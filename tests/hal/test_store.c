/* The store port: store_linux and store_sim keep its promises, and broken drivers are caught. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/conform.h"
#include "hal/linux/linux.h"
#include "hal/sim/sim.h"

static char dir[64];

static int holds(const struct store_ops *ops, int copy, const char *want)
{
    char buf[64];
    struct err e;
    ssize_t n = ops->read(dir, "conform", copy, buf, sizeof(buf), &e);

    return n == (ssize_t)strlen(want) && memcmp(buf, want, (size_t)n) == 0;
}

static int put(const struct store_ops *ops, int copy, const char *text)
{
    struct err e;

    return ops->write(dir, "conform", copy, text, strlen(text), &e);
}

const char *conform_store(const struct store_ops *ops, const char *where)
{
    char buf[4];
    struct err e = {0};

    (void)where;
    if (!holds(ops, 0, "") || !holds(ops, 1, ""))
        return "a record that was never written is not empty";
    if (put(ops, 0, "first") != 0 || !holds(ops, 0, "first"))
        return "copy 0 is not what was written";
    if (!holds(ops, 1, ""))
        return "writing copy 0 changed copy 1";
    if (put(ops, 1, "other") != 0 || !holds(ops, 1, "other"))
        return "copy 1 is not what was written";
    if (!holds(ops, 0, "first"))
        return "writing copy 1 changed copy 0";
    if (put(ops, 0, "new") != 0 || !holds(ops, 0, "new"))
        return "a shorter record keeps the end of the longer one";
    if (ops->read(dir, "conform", 1, buf, sizeof(buf), &e) != ERR_SIZE)
        return "a record longer than the buffer is not ERR_SIZE";
    if (ops->write("/nowhere/at/all", "conform", 0, "x", 1, &e) >= 0 || e.text[0] == 0)
        return "a folder that is not there is no error";
    return NULL;
}

static void fresh_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/test_store.XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static void remove_dir(void)
{
    for (int copy = 0; copy < STORE_COPIES; copy++) {
        char path[128];

        snprintf(path, sizeof(path), "%s/conform.%d", dir, copy);
        unlink(path);
    }
    rmdir(dir);
}

static const char *verdict(const struct store_ops *ops)
{
    const char *wrong;

    fresh_dir();
    assert_int_equal(rmdir(dir), 0); /* the first write makes it */
    wrong = conform_store(ops, dir);
    remove_dir();
    return wrong;
}

static void test_linux(void **state)
{
    const char *wrong = verdict(&store_linux);

    (void)state;
    if (wrong != NULL)
        fail_msg("store_linux: %s", wrong);
}

static void test_sim(void **state)
{
    const char *wrong = verdict(&store_sim);

    (void)state;
    if (wrong != NULL)
        fail_msg("store_sim: %s", wrong);
}

static int bad_both(const char *d, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    int rc = store_linux.write(d, name, copy, buf, len, e);

    return rc < 0 ? rc : store_linux.write(d, name, 1 - copy, buf, len, e);
}

static int bad_one_copy(const char *d, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    (void)copy;
    return store_linux.write(d, name, 0, buf, len, e);
}

static int bad_no_truncate(const char *d, const char *name, int copy, const void *buf, size_t len,
                           struct err *e)
{
    char path[128];
    int fd;

    mkdir(d, 0700);
    snprintf(path, sizeof(path), "%s/%s.%d", d, name, copy);
    fd = open(path, O_WRONLY | O_CREAT, 0600);
    if (fd < 0)
        return err_errno(e, "%s", path);
    assert_int_equal(pwrite(fd, buf, len, 0), (ssize_t)len);
    close(fd);
    return 0;
}

static int bad_silent(const char *d, const char *name, int copy, const void *buf, size_t len, struct err *e)
{
    (void)store_linux.write(d, name, copy, buf, len, e);
    return 0;
}

static void test_broken(void **state)
{
    static int (*const writes[])(const char *, const char *, int, const void *, size_t,
                                 struct err *) = {bad_both, bad_one_copy, bad_no_truncate, bad_silent};

    (void)state;
    for (size_t i = 0; i < sizeof(writes) / sizeof(writes[0]); i++) {
        struct store_ops bad = {store_linux.read, writes[i]};

        if (verdict(&bad) == NULL)
            fail_msg("broken driver %zu passes", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linux),
        cmocka_unit_test(test_sim),
        cmocka_unit_test(test_broken),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
