/* stage's side of a file's content, when it is lent instead of sent. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "stream/blocks.h"
#include "stream/entry.h"

static struct said {
    struct entry_pipe pipe;
    uint8_t bytes[256];
    uint32_t at, len;
} said;
static int back[2];

static int said_read(struct entry_pipe *p, void *buf, uint32_t len, struct err *e)
{
    (void)p;
    if (len > said.len - said.at)
        return err_set(e, ERR_PEER, "the end");
    memcpy(buf, said.bytes + said.at, len);
    said.at += len;
    return 0;
}

static void say(enum frame_type type, const void *payload, uint32_t len)
{
    const struct frame head = {.type = (uint16_t)type, .len = len};

    memcpy(said.bytes + said.len, &head, sizeof head);
    if (len > 0)
        memcpy(said.bytes + said.len + sizeof head, payload, len);
    said.len += (uint32_t)sizeof head + len;
}

static void lend(uint32_t at, uint32_t len)
{
    say(FRAME_LENT, &(struct lent){at, len}, sizeof(struct lent));
}

static int setup(void **state)
{
    static uint8_t blocks[BLOCKS_LEN];

    (void)state;
    for (size_t i = 0; i < BLOCKS_LEN; i++)
        blocks[i] = (uint8_t)(i * 7 >> 3);
    said = (struct said){.pipe = {.read = said_read, .blocks = blocks}};
    assert_int_equal(pipe2(back, O_NONBLOCK), 0);
    said.pipe.back_fd = back[1];
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close(back[0]);
    close(back[1]);
    return 0;
}

static uint32_t given_back(void)
{
    uint8_t bytes[16];
    ssize_t n = read(back[0], bytes, sizeof bytes);

    return n < 0 ? 0 : (uint32_t)n;
}

static void test_read(void **state)
{
    struct content c = {.pipe = &said.pipe, .left = 300};
    uint8_t got[300];
    struct entry_end end;
    struct err e;

    (void)state;
    lend(BLOCKS_LEN - 100, 100);
    say(FRAME_BLOCK_END, NULL, 0);
    lend(5, 200);
    say(FRAME_ENTRY_END, &end, sizeof end);
    assert_int_equal(content_read(&c, got, 40, &e), 0);
    assert_int_equal(content_read(&c, got + 40, 60, &e), 0);
    assert_int_equal(given_back(), 0); /* stage did not get to what follows */
    assert_int_equal(content_read(&c, got + 100, 200, &e), 0);
    assert_int_equal(given_back(), 1);
    assert_int_equal(content_end(&c, &end, &e), 0);
    assert_memory_equal(got, said.pipe.blocks + BLOCKS_LEN - 100, 100);
    assert_memory_equal(got + 100, said.pipe.blocks + 5, 200);
}

static void test_move(void **state)
{
    struct content c = {.pipe = &said.pipe, .left = 200};
    char name[] = "/tmp/slipway-entry-XXXXXX";
    int fd = mkstemp(name);
    uint8_t got[201];
    struct err e;

    (void)state;
    unlink(name);
    lend(1000, 200);
    assert_int_equal(content_move(&c, fd, 150, &e), 0);
    assert_int_equal(content_move(&c, fd, 50, &e), 0);
    assert_int_equal(pread(fd, got, sizeof got, 0), 200);
    assert_memory_equal(got, said.pipe.blocks + 1000, 200);
    close(fd);
}

static void refused(uint64_t left)
{
    struct content c = {.pipe = &said.pipe, .left = left};
    uint8_t got[64];
    struct err e;

    assert_int_equal(content_read(&c, got, sizeof got, &e), ERR_PEER);
}

static void test_beyond_the_blocks(void **state)
{
    (void)state;
    lend(BLOCKS_LEN - 100, 101);
    refused(1 << 20);
}

static void test_far_beyond(void **state)
{
    (void)state;
    lend(UINT32_MAX, 100);
    refused(1 << 20);
}

static void test_more_than_the_file(void **state)
{
    (void)state;
    lend(0, 101);
    refused(100);
}

static void test_nothing(void **state)
{
    (void)state;
    lend(0, 0);
    refused(100);
}

static void test_a_role_that_may_not_lend(void **state)
{
    (void)state;
    said.pipe.blocks = NULL;
    lend(0, 100);
    refused(100);
}

static void test_a_block_of_a_role_that_may_not_lend(void **state)
{
    (void)state;
    said.pipe.blocks = NULL;
    say(FRAME_BLOCK_END, NULL, 0);
    say(FRAME_DATA, "0123456789", 10);
    refused(10);
    assert_int_equal(given_back(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_move, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beyond_the_blocks, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_beyond, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_than_the_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_role_that_may_not_lend, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_block_of_a_role_that_may_not_lend, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
