/* slot/converge.c, slot/compare.c: an image over what an older one left. What is equal is not written, and nothing of
 * the old one shows. Runs as root. */
#include "slot_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "slot/tree.h"

extern const struct tree_ops tree_sim;

#define BIG_LEN (3u << 20)

static struct slot_tree *slot;
static char place[64], toc[80];
static struct entry en;
static struct err e;
static struct slot_tree_stats st;
static uint8_t big[BIG_LEN + 1];

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != 0)                                                                                     \
            fail_msg("%s: %s", #call, e.text);                                                               \
    } while (0)

static void begin(void)
{
    OK(slot_tree_begin(slot, &tree_sim, place, toc, &e));
    OK(slot_tree_layer(slot, &e));
}

/* Ends the image; `st` is what it cost. */
static void end(void)
{
    bool again = true;
    OK(slot_tree_layer_end(slot, &again, &e));
    assert_false(again);
    OK(slot_tree_seal(slot, NULL, 0, &e));
    slot_tree_stats(slot, &st);
    OK(slot_tree_verify(slot, &tree_sim, place, toc, &e));
}

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/slipway-converge-XXXXXX");
    assert_non_null(mkdtemp(place));
    snprintf(toc, sizeof toc, "%s.toc", place);
    if (slot == NULL)
        slot = slot_tree_new();
    assert_non_null(slot);
    for (uint32_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 2654435761u >> 13);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    begin();
    end();
    umount(place);
    rmdir(place);
    unlink(toc);
    return 0;
}

static void node(const char *path, enum node_type type, uint32_t mode)
{
    memset(&en, 0, offsetof(struct entry, target));
    en.type = ENTRY_NODE;
    snprintf(en.path, sizeof en.path, "%s", path);
    en.node = (struct node){.type = type, .mode = mode, .mtime_s = 1700000000, .mtime_ns = 5};
}

static void add_file(const char *path, const void *data, size_t len, uint32_t mode)
{
    struct fake f;
    node(path, NODE_FILE, mode);
    en.node.size = len;
    OK(slot_tree_entry(slot, &en, fake_content(&f, data, len), &e));
}

static void add_text(const char *path, const char *text)
{
    add_file(path, text, strlen(text), 0644);
}

static void add_dir(const char *path)
{
    node(path, NODE_DIR, 0755);
    OK(slot_tree_entry(slot, &en, NULL, &e));
}

static void add_link(enum entry_type type, const char *path, const char *target)
{
    node(path, NODE_SYMLINK, 0777);
    en.type = type;
    snprintf(en.target, sizeof en.target, "%s", target);
    en.node.target = en.target;
    OK(slot_tree_entry(slot, &en, NULL, &e));
}

static struct stat look(const char *path)
{
    char full[200];
    struct stat s = {0};
    snprintf(full, sizeof full, "%s/%s", place, path);
    if (lstat(full, &s) != 0)
        fail_msg("%s: %s", path, strerror(errno));
    return s;
}

static void some_image(const char *text, uint32_t mode)
{
    begin();
    add_dir("");
    add_dir("d");
    add_file("d/f", text, strlen(text), mode);
    add_text("d/empty", "");
    add_link(ENTRY_NODE, "d/sym", "f");
    add_link(ENTRY_HARDLINK, "d/hard", "d/f");
    add_file("big", big, BIG_LEN, 0755);
    end();
}

static void test_same_again(void **state)
{
    (void)state;
    some_image("text", 0644);
    assert_int_equal(st.bytes.written, BIG_LEN + 4);
    some_image("text", 0644);
    assert_int_equal(st.bytes.written, 0);
    assert_int_equal(st.bytes.kept, BIG_LEN + 4);
    assert_int_equal(st.bytes.read, BIG_LEN + 4);
    assert_int_equal(st.nodes_changed, 0);
    slot_tree_stats(slot, &st);
    assert_int_equal(st.bytes.read, 2 * (BIG_LEN + 4)); /* compared, read back */
}

static void test_metadata_only(void **state)
{
    (void)state;
    some_image("text", 0644);
    struct stat was = look("d/f");
    some_image("text", 04755);
    assert_int_equal(st.bytes.written, 0);
    assert_int_equal(st.nodes_changed, 1);
    assert_int_equal(look("d/f").st_ino, was.st_ino);
    assert_int_equal(look("d/f").st_mode, S_IFREG | 04755);
}

static void test_some_bytes(void **state)
{
    (void)state;
    some_image("text", 0644);
    big[1000000] ^= 1;
    big[1000099] ^= 1;
    big[BIG_LEN - 1] ^= 1;
    some_image("texT", 0644);
    assert_int_equal(st.bytes.written, 2 * 4096 + 4);
}

static void test_insert_and_cut(void **state)
{
    (void)state;
    begin();
    add_file("f", big, BIG_LEN, 0644);
    end();
    begin();
    add_file("f", big + 1, BIG_LEN, 0644);
    end();
    assert_int_equal(st.bytes.written, BIG_LEN);
    assert_true(st.bytes.read < BIG_LEN / 2 + (1 << 20)); /* it gave up comparing soon */
    begin();
    add_file("f", big + 1, 100, 0644);
    end();
    assert_int_equal(st.bytes.written, 0);
    begin();
    add_file("f", big + 1, 10000, 0644);
    end();
    assert_int_equal(st.bytes.written, 10000 - 100);
    assert_int_equal(look("f").st_size, 10000);
}

/* After a long run that differs, equal content is found again. */
static void test_found_again(void **state)
{
    (void)state;
    begin();
    add_file("f", big, BIG_LEN, 0644);
    end();
    for (uint32_t i = 0; i < 1200000; i++)
        big[i] ^= 0xff;
    begin();
    add_file("f", big, BIG_LEN, 0644);
    end();
    assert_true(st.bytes.written >= 1200000 && st.bytes.written < 1200000 + COMPARE_PIECE);
}

static void test_types_change(void **state)
{
    (void)state;
    begin();
    add_dir("a");
    add_dir("a/b");
    add_text("a/b/c", "deep");
    add_text("f", "file");
    add_link(ENTRY_NODE, "l", "a");
    add_text("gone", "x");
    add_dir("left");
    add_text("left/over", "x");
    end();
    begin();
    add_text("a", "now a file");
    add_dir("f");
    add_text("f/g", "now in a directory");
    add_text("l", "no link any more");
    add_dir("left");
    end();
    assert_int_equal(st.nodes, 6);
    assert_true(S_ISREG(look("a").st_mode) && S_ISREG(look("l").st_mode) && S_ISDIR(look("f").st_mode));
}

static void test_links_part(void **state)
{
    (void)state;
    begin();
    add_text("a", "shared");
    add_link(ENTRY_HARDLINK, "b", "a");
    add_link(ENTRY_HARDLINK, "c", "a");
    end();
    begin();
    add_file("a", "shared", 6, 0600);
    add_file("b", "shareD", 6, 0644);
    add_link(ENTRY_HARDLINK, "c", "b");
    end();
    assert_int_not_equal(look("a").st_ino, look("b").st_ino);
    assert_int_equal(look("c").st_ino, look("b").st_ino);
    assert_int_equal(look("a").st_nlink, 1);
    begin();
    add_text("c", "joined");
    add_link(ENTRY_HARDLINK, "a", "c");
    add_link(ENTRY_HARDLINK, "b", "c");
    end();
    assert_int_equal(look("a").st_nlink, 3);
}

/* An old name of an inode is no reason to refuse what a layer says twice. */
static void test_twice_over_links(void **state)
{
    (void)state;
    begin();
    add_text("a", "one");
    add_link(ENTRY_HARDLINK, "b", "a");
    add_dir("d");
    add_text("d/old", "x");
    end();
    begin();
    add_text("a", "one");
    add_text("a", "two");
    add_text("b", "three");
    add_dir("d");
    add_link(ENTRY_NODE, "d", "a");
    end();
    assert_int_equal(look("a").st_size, 3);
    assert_int_equal(look("b").st_size, 5);
}

static void test_attributes(void **state)
{
    (void)state;
    static const uint8_t attr[] = "\x06\x00\x01\x00\x00\x00user.x1";
    char path[100], value[4];
    begin();
    node("d", NODE_DIR, 0755);
    en.node.xattrs = attr;
    en.node.xattr_len = sizeof attr - 1;
    en.node.xattr_cnt = 1;
    int rc = slot_tree_entry(slot, &en, NULL, &e);
    bool again;
    OK(slot_tree_layer_end(slot, &again, &e));
    rc = rc == 0 ? slot_tree_seal(slot, NULL, 0, &e) : rc;
    if (rc == -ENOTSUP) {
        slot_tree_abort(slot);
        skip();
    }
    snprintf(path, sizeof path, "%s/d", place);
    assert_int_equal(getxattr(path, "user.x", value, sizeof value), 1);
    begin();
    add_dir("d");
    end();
    assert_int_equal(st.nodes_changed, 1);
    assert_int_equal(getxattr(path, "user.x", value, sizeof value), -1);
}

/* Old and new do not fit side by side: what no layer has said so far makes room. */
static void test_room(void **state)
{
    (void)state;
    if (mount("tmpfs", place, "tmpfs", 0, "size=4m") != 0)
        skip();
    begin();
    add_file("old", big, BIG_LEN, 0644);
    add_text("kept", "k");
    end();
    begin();
    add_text("kept", "k");
    add_file("new", big, BIG_LEN, 0644);
    end();
    assert_int_equal(st.bytes.written, BIG_LEN);
    begin();
    add_file("new", big + 1, BIG_LEN, 0644); /* fits, over itself */
    end();
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_same_again),  T(test_metadata_only), T(test_some_bytes), T(test_insert_and_cut),
        T(test_found_again), T(test_types_change),  T(test_links_part), T(test_twice_over_links),
        T(test_attributes),  T(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
