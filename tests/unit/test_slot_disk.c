/* slot/disk.c on the simulated disk. */
#include "slot_fake.h"

#include <errno.h>
#include <fcntl.h>

#include "hal/sim/fault.h"
#include "slot/disk.h"

extern const struct disk_ops disk_sim;

#define DISK_LEN (3u << 20)

static char place[64];
static uint8_t data[DISK_LEN + 1];
static struct slot_disk disk;
static struct fake fake;
static struct err e;
static char toc[80], active[80], active_toc[80];

static void begin(bool dry)
{
    if (slot_disk_begin(&disk, &disk_sim, place, toc, dry, &e) != 0)
        fail_msg("%s", e.text);
}

static int write_file(uint64_t len)
{
    static struct entry en = {.type = ENTRY_NODE, .path = "image"};
    en.node = (struct node){.type = NODE_FILE, .size = len};
    return slot_disk_entry(&disk, &en, fake_content(&fake, data, len), &e);
}

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/slipway-disk-XXXXXX");
    int fd = mkstemp(place);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_LEN), 0);
    close(fd);
    snprintf(toc, sizeof toc, "%s-toc", place);
    snprintf(active, sizeof active, "%s-active", place);
    snprintf(active_toc, sizeof active_toc, "%s-active-toc", place);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i ^ i >> 9);
    begin(false);
    assert_int_equal(disk.size, DISK_LEN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    slot_disk_abort(&disk);
    unlink(place);
    unlink(toc);
    unlink(active);
    unlink(active_toc);
    unsetenv("SLIPWAY_SIM_EIO");
    fault_reset();
    return 0;
}

static void write_and_seal(uint64_t len)
{
    if (write_file(len) != 0 || slot_disk_seal(&disk, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(disk.fd, -1);
}

static void test_lengths(void **state)
{
    (void)state;
    static const uint64_t lens[] = {0, 1, 65536, (1u << 20) + 1, DISK_LEN};
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        begin(false);
        write_and_seal(lens[i]);
        assert_int_equal(slot_disk_verify(&disk, &e), 0);
        assert_int_equal(disk.fd, -1);
    }
}

static void test_only_what_differs(void **state)
{
    (void)state;
    write_and_seal(DISK_LEN);
    data[5] ^= 1;
    data[2000000] ^= 1;
    begin(false);
    write_and_seal(DISK_LEN);
    assert_int_equal(disk.bytes.written, 2 * 4096);
    assert_int_equal(disk.bytes.kept, DISK_LEN - 2 * 4096);
    assert_int_equal(slot_disk_verify(&disk, &e), 0);
}

static void test_too_big(void **state)
{
    (void)state;
    assert_int_equal(write_file(DISK_LEN + 1), ERR_SPACE);
    assert_non_null(strstr(e.text, "need 3145729 bytes, have 3145728"));
    assert_int_equal(fake.at, 0);
}

static void test_flip_is_seen(void **state)
{
    (void)state;
    write_and_seal(100000);
    int fd = open(place, O_RDWR);
    uint8_t b = data[99999] ^ 1;
    assert_int_equal(pwrite(fd, &b, 1, 99999), 1);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
    assert_int_equal(pwrite(fd, &data[99999], 1, 99999), 1);
    assert_int_equal(pwrite(fd, &b, 1, 100000), 1); /* behind the image: nobody's business */
    assert_int_equal(slot_disk_verify(&disk, &e), 0);
    assert_int_equal(ftruncate(fd, 99999), 0);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
    close(fd);
}

static void test_faults(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        char n[16];
        snprintf(n, sizeof n, "%d", i);
        slot_disk_abort(&disk);
        setenv("SLIPWAY_SIM_EIO", n, 1);
        fault_reset();
        int rc = slot_disk_begin(&disk, &disk_sim, place, toc, false, &e);
        if (rc == 0)
            rc = write_file(10);
        if (rc == 0)
            rc = slot_disk_seal(&disk, &e);
        if (rc == 0)
            rc = slot_disk_verify(&disk, &e);
        assert_int_equal(rc, -EIO);
        assert_non_null(strstr(e.text, place));
    }
}

/* --- by a table of contents ------------------------------------------------------------------------------------------- */

#define CHUNK 100000u /* no multiple of a block */
#define IMAGE_LEN 2000000u
#define ALL (IMAGE_LEN / CHUNK)

static struct digest digest_of(const uint8_t *at, size_t len)
{
    struct digest d;
    struct hash h;
    hash_begin(&h);
    hash_update(&h, at, len);
    hash_end(&h, &d);
    return d;
}

/* Give the image in `data` by its table: chunk n is at n * 1000 of the blob. Returns how many pieces are wanted. */
static uint32_t give_table(void)
{
    static struct entry en = {.type = ENTRY_NODE, .path = "image"};
    struct entry_place where = {.digest = digest_of(data, IMAGE_LEN), .offset = 500, .end = ALL * 1000 + 500};
    struct content c = {.left = IMAGE_LEN, .place = &where};
    struct pieces *list;
    en.node = (struct node){.type = NODE_FILE, .size = IMAGE_LEN};
    assert_int_equal(slot_disk_entry(&disk, &en, &c, &e), 0);
    for (uint32_t i = 0; i < ALL; i++) {
        const uint8_t *at = data + i * CHUNK;
        struct entry_chunk chunk = {.digest = digest_of(at, CHUNK),
                                    .at = i * CHUNK,
                                    .len = CHUNK,
                                    .offset = i * 1000 + 500,
                                    .zeros = at[0] == 0 && memcmp(at, at + 1, CHUNK - 1) == 0};
        if (slot_disk_chunk(&disk, &chunk, &e) != 0)
            fail_msg("%s", e.text);
    }
    assert_int_equal(slot_disk_want_end(&disk, &list, &e), 0);
    return list->cnt;
}

static void fill_all(void)
{
    struct slot_piece piece;
    uint64_t pos = 0;
    while (pieces_next(&disk.list, &pos, &piece, &e) > 0) {
        assert_int_equal(piece.offset, piece.at / CHUNK * 1000 + 500);
        assert_int_equal(piece.end, piece.offset + 1000);
        if (slot_disk_fill(&disk, &piece, fake_content(&fake, data + piece.at, piece.len), &e) != 0)
            fail_msg("%s", e.text);
    }
}

static void seal_and_verify(void)
{
    if (slot_disk_seal(&disk, &e) != 0 || slot_disk_verify(&disk, &e) != 0)
        fail_msg("%s", e.text);
}

/* An image of chunks that differ, one of them zeros. */
static void make_image(void)
{
    for (size_t i = 0; i < IMAGE_LEN; i++)
        data[i] = (uint8_t)((i * 2654435761u) >> 24);
    memset(data + 4 * CHUNK, 0, CHUNK);
}

/* The slot holds the image, and a record of it; then it is the active one, and the other is all 0xff. */
static void make_active(void)
{
    assert_int_equal(give_table(), ALL - 1);
    fill_all();
    seal_and_verify();
    assert_int_equal(rename(place, active), 0);
    assert_int_equal(rename(toc, active_toc), 0);
    int fd = open(place, O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < (int)DISK_LEN; i += 4)
        assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, i), 4);
    close(fd);
}

static void again(bool dry)
{
    begin(dry);
    int fd = open(active, O_RDONLY);
    slot_disk_reuse(&disk, fd, DISK_LEN, active_toc);
}

static void test_chunks_fetched_once(void **state)
{
    (void)state;
    make_image();
    assert_int_equal(give_table(), ALL - 1);
    fill_all();
    seal_and_verify();
    begin(false);
    disk.bytes.read = 0;
    assert_int_equal(give_table(), 0);
    assert_int_equal(disk.bytes.written, 0);
    assert_int_equal(disk.bytes.read, CHUNK); /* the hole; the rest is believed until it is read back */
    seal_and_verify();
}

static void test_chunks_without_record(void **state)
{
    (void)state;
    make_image();
    assert_int_equal(give_table(), ALL - 1);
    fill_all();
    seal_and_verify();
    assert_int_equal(unlink(toc), 0);
    begin(false);
    assert_int_equal(give_table(), 0);
    assert_int_equal(disk.bytes.written, 0);
    seal_and_verify();
}

static void test_chunks_of_the_active_slot(void **state)
{
    (void)state;
    make_image();
    make_active();
    /* chunk 7 is new, and 9 and 12 change places */
    data[7 * CHUNK + 5] ^= 1;
    for (size_t i = 0; i < CHUNK; i++) {
        uint8_t b = data[9 * CHUNK + i];
        data[9 * CHUNK + i] = data[12 * CHUNK + i];
        data[12 * CHUNK + i] = b;
    }
    for (int dry = 1; dry >= 0; dry--) {
        again(dry);
        assert_int_equal(give_table(), 1);
        assert_int_equal(disk.patch.found, (ALL - 1) * CHUNK);
        assert_true(disk.bytes.written <= (ALL - 1) * CHUNK && disk.bytes.written > (ALL - 2) * CHUNK);
        assert_int_equal(access(toc, F_OK), dry ? -1 : 0);
    }
    fill_all();
    seal_and_verify();
}

static void test_active_slot_worn(void **state)
{
    (void)state;
    make_image();
    make_active();
    int fd = open(active, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, 3 * CHUNK + 77), 1);
    close(fd);
    again(false);
    assert_int_equal(give_table(), 1); /* its digest told */
    fill_all();
    seal_and_verify();
}

static void test_record_lies(void **state)
{
    (void)state;
    make_image();
    make_active();
    again(false);
    give_table();
    seal_and_verify();
    int fd = open(place, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, 5 * CHUNK), 1);
    again(false);
    assert_int_equal(give_table(), 0);
    assert_int_equal(slot_disk_seal(&disk, &e), 0);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
    assert_int_equal(unlink(toc), 0); /* as stage does */
    again(false);
    give_table();
    fill_all();
    seal_and_verify();
    close(fd);
}

static void test_record_damaged(void **state)
{
    (void)state;
    make_image();
    make_active();
    int fd = open(active_toc, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, 100), 1);
    close(fd);
    again(false);
    assert_int_equal(give_table(), 0); /* found where it was */
    seal_and_verify();
}

static void test_wrong_chunk(void **state)
{
    (void)state;
    struct slot_piece piece;
    uint64_t pos = 0;
    make_image();
    give_table();
    assert_int_equal(pieces_next(&disk.list, &pos, &piece, &e), 1);
    data[piece.at] ^= 1;
    assert_int_equal(slot_disk_fill(&disk, &piece, fake_content(&fake, data + piece.at, piece.len), &e),
                     ERR_DIGEST);
}

/* Each chunk is as its own digest says, and the whole is not as the file's says. */
static void test_wrong_sum(void **state)
{
    (void)state;
    make_image();
    give_table();
    fill_all();
    disk.digest = digest_of(data, 10);
    assert_int_equal(slot_disk_seal(&disk, &e), 0);
    assert_int_equal(slot_disk_verify(&disk, &e), ERR_FLASH);
}

int main(void)
{
    if (!slot_disk_init(&disk))
        return 1;
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_lengths),
                                       T(test_too_big),
                                       T(test_only_what_differs),
                                       T(test_flip_is_seen),
                                       T(test_faults),
                                       T(test_chunks_fetched_once),
                                       T(test_chunks_without_record),
                                       T(test_chunks_of_the_active_slot),
                                       T(test_active_slot_worn),
                                       T(test_record_lies),
                                       T(test_record_damaged),
                                       T(test_wrong_chunk),
                                       T(test_wrong_sum)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
