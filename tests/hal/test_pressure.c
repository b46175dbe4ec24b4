/* What the kernel says of memory, and what is no answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hal/linux/linux.h"

static char path[] = "/tmp/test_pressure.XXXXXX";

static int read_of(const char *text, uint32_t *percent)
{
    struct err e;
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return pressure_linux_read(path, percent, &e);
}

static void as_the_kernel_writes_it(void **state)
{
    uint32_t percent;

    (void)state;
    assert_int_equal(
        read_of("some avg10=0.00 avg60=70.00 avg300=0.00 total=1\nfull avg10=50.00 avg60=0.00\n", &percent),
        0);
    assert_int_equal(percent, 0);
    assert_int_equal(
        read_of("some avg10=34.97 avg60=1.00 avg300=0.00 total=1\nfull avg10=5.00 avg60=0.00\n", &percent),
        0);
    assert_int_equal(percent, 34);
    assert_int_equal(read_of("some avg10=100.00 avg60=1.00 avg300=0.00 total=1\n", &percent), 0);
    assert_int_equal(percent, 100);
}

static void no_answer(void **state)
{
    uint32_t percent;
    struct err e;

    (void)state;
    assert_int_equal(read_of("", &percent), ERR_UNSUPPORTED);
    assert_int_equal(read_of("full avg10=5.00\n", &percent), ERR_UNSUPPORTED);
    assert_int_equal(pressure_linux_read("/no/such", &percent, &e), ERR_UNSUPPORTED);
    assert_string_equal(e.text, "/no/such does not tell");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_the_kernel_writes_it),
        cmocka_unit_test(no_answer),
    };
    int fd = mkstemp(path), failed;

    close(fd);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
