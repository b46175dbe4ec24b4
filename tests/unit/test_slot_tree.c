/* slot/tree.c: what layers mean, and that read-back catches what flash may do. Runs as root. */
#include "slot_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "hal/sim/fault.h"
#include "slot/tree.h"

extern const struct tree_ops tree_sim;

#define MTIME 1700000000

static struct slot_tree *slot;
static char place[64], toc[80];
static struct entry en;
static struct err e;

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "/tmp/slipway-slot-XXXXXX");
    assert_non_null(mkdtemp(place));
    snprintf(toc, sizeof toc, "%s.toc", place);
    if (slot == NULL)
        slot = slot_tree_new();
    assert_non_null(slot);
    if (slot_tree_begin(slot, &tree_sim, place, toc, &e) != 0)
        fail_msg("%s", e.text);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unsetenv("SLIPWAY_SIM_EIO");
    unsetenv("SLIPWAY_SIM_ENOSPC");
    fault_reset();
    slot_tree_begin(slot, &tree_sim, place, toc, &e);
    slot_tree_seal(slot, NULL, 0, &e);
    assert_int_equal(rmdir(place), 0);
    unlink(toc);
    return 0;
}

/* --- building --------------------------------------------------------------------------------------------------- */

static void layer(void)
{
    assert_int_equal(slot_tree_layer(slot, &e), 0);
}

static void prepare(enum entry_type type, const char *path, enum node_type node, uint32_t mode)
{
    memset(&en, 0, offsetof(struct entry, target));
    en.type = type;
    snprintf(en.path, sizeof en.path, "%s", path);
    en.node = (struct node){.type = node, .mode = mode, .mtime_s = MTIME, .mtime_ns = 123456789};
}

static int try_file(const char *path, const char *text)
{
    struct fake f;
    prepare(ENTRY_NODE, path, NODE_FILE, 0644);
    en.node.size = strlen(text);
    return slot_tree_entry(slot, &en, fake_content(&f, text, strlen(text)), &e);
}

static int try_dir(const char *path, uint32_t mode)
{
    prepare(ENTRY_NODE, path, NODE_DIR, mode);
    return slot_tree_entry(slot, &en, NULL, &e);
}

static int try_target(enum entry_type type, const char *path, const char *target)
{
    prepare(type, path, NODE_SYMLINK, 0777);
    snprintf(en.target, sizeof en.target, "%s", target);
    en.node.target = en.target;
    return slot_tree_entry(slot, &en, NULL, &e);
}

static int try_mark(enum entry_type type, const char *path)
{
    prepare(type, path, NODE_FILE, 0);
    return slot_tree_entry(slot, &en, NULL, &e);
}

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != 0)                                                                                     \
            fail_msg("%s: %s", #call, e.text);                                                               \
    } while (0)
#define REFUSED(call, want)                                                                                  \
    do {                                                                                                     \
        assert_int_equal(call, want);                                                                        \
        assert_true(strlen(e.text) > 0);                                                                     \
    } while (0)
#define file(path, text) OK(try_file(path, text))
#define dir(path, mode) OK(try_dir(path, mode))
#define symlink_to(path, target) OK(try_target(ENTRY_NODE, path, target))
#define hardlink(path, target) OK(try_target(ENTRY_HARDLINK, path, target))
#define whiteout(path) OK(try_mark(ENTRY_WHITEOUT, path))
#define opaque(path) OK(try_mark(ENTRY_OPAQUE, path))

static bool layer_end(void)
{
    bool again = false;
    OK(slot_tree_layer_end(slot, &again, &e));
    return again;
}

static void end_once(void)
{
    assert_false(layer_end());
}

static void seal(void)
{
    OK(slot_tree_seal(slot, NULL, 0, &e));
}

static int verify(void)
{
    return slot_tree_verify(slot, &tree_sim, place, toc, &e);
}

static void seal_and_verify(void)
{
    seal();
    OK(verify());
}

/* --- looking ---------------------------------------------------------------------------------------------------- */

static const char *at(const char *path)
{
    static char buf[5000];
    snprintf(buf, sizeof buf, "%s/%s", place, path);
    return buf;
}

static void holds(const char *path, const char *text)
{
    char buf[256];
    ssize_t n = io_read_file(at(path), buf, sizeof buf);
    if (n < 0)
        fail_msg("%s: %s", path, strerror(errno));
    assert_string_equal(buf, text);
}

static void absent(const char *path)
{
    struct stat st;
    if (lstat(at(path), &st) == 0)
        fail_msg("%s is there", path);
}

static struct stat look(const char *path)
{
    struct stat st = {0};
    if (lstat(at(path), &st) != 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st;
}

static void is_dir(const char *path, uint32_t mode)
{
    assert_int_equal(look(path).st_mode, S_IFDIR | mode);
}

/* --- stacking --------------------------------------------------------------------------------------------------- */

static void test_plain(void **state)
{
    (void)state;
    layer();
    dir("", 0711);
    dir("d", 0750);
    file("d/f", "hello");
    file("d/empty", "");
    symlink_to("d/l", "f");
    prepare(ENTRY_NODE, "d/fifo", NODE_FIFO, 0600);
    OK(slot_tree_entry(slot, &en, NULL, &e));
    prepare(ENTRY_NODE, "d/null", NODE_CHAR, 0666);
    en.node.dev_major = 1;
    en.node.dev_minor = 3;
    en.node.uid = 7;
    OK(slot_tree_entry(slot, &en, NULL, &e));
    end_once();
    seal_and_verify();
    is_dir("", 0711);
    is_dir("d", 0750);
    holds("d/l", "hello");
    assert_int_equal(look("d/f").st_mtim.tv_sec, MTIME);
    assert_int_equal(look("d/f").st_mtim.tv_nsec, 123456789);
    assert_int_equal(look("d").st_mtim.tv_sec, MTIME);
    assert_int_equal(look("d/null").st_uid, 7);
    assert_int_equal(look("d/null").st_rdev, makedev(1, 3));
    struct slot_tree_stats st;
    slot_tree_stats(slot, &st);
    assert_int_equal(st.bytes.written, 5);
    assert_int_equal(st.nodes, 7);
}

static void test_whiteout(void **state)
{
    (void)state;
    layer();
    whiteout("d/gone");
    whiteout("dir");
    whiteout("missing");
    whiteout("new");
    file("new", "mine");
    end_once();
    layer();
    dir("d", 0700);
    file("d/gone", "x");
    file("d/kept", "y");
    dir("dir", 0755);
    file("dir/sub", "x");
    file("new", "old");
    end_once();
    seal_and_verify();
    absent("d/gone");
    absent("dir");
    absent("missing");
    holds("d/kept", "y");
    holds("new", "mine");
    is_dir("d", 0700);
}

static void opaque_order(bool first)
{
    layer();
    if (first)
        opaque("d");
    file("d/upper", "u");
    dir("d/sub", 0700);
    if (!first)
        opaque("d");
    end_once();
    layer();
    dir("d", 0711);
    file("d/lower", "l");
    file("d/sub/x", "l");
    end_once();
    seal_and_verify();
    holds("d/upper", "u");
    absent("d/lower");
    absent("d/sub/x");
}

static void test_opaque_before(void **state)
{
    (void)state;
    opaque_order(true);
}

static void test_opaque_after(void **state)
{
    (void)state;
    opaque_order(false);
}

static void test_opaque_root(void **state)
{
    (void)state;
    layer();
    opaque("");
    file("a", "1");
    end_once();
    layer();
    file("b", "2");
    end_once();
    seal_and_verify();
    holds("a", "1");
    absent("b");
}

/* dir over file over dir: what is under the file's back stays hidden. */
static void test_replace_three(void **state)
{
    (void)state;
    layer();
    dir("p", 0700);
    file("p/top", "t");
    file("q", "file");
    symlink_to("r", "p");
    end_once();
    layer();
    file("p", "middle");
    dir("q", 0755);
    file("q/x", "m");
    file("r/y", "m");
    end_once();
    layer();
    file("p/bottom", "b");
    file("q", "b");
    end_once();
    seal_and_verify();
    is_dir("p", 0700);
    holds("p/top", "t");
    absent("p/bottom");
    holds("q", "file");
    assert_true(S_ISLNK(look("r").st_mode));
    absent("p/y");
}

static void test_links_same_layer(void **state)
{
    (void)state;
    layer();
    dir("usr/lib", 0755);
    symlink_to("lib", "usr/lib");
    symlink_to("abs", "/usr/lib");
    symlink_to("up", "../../../usr");
    file("lib/a", "a");
    file("abs/b", "b");
    file("up/lib/c", "c");
    symlink_to("loop1", "loop2");
    symlink_to("loop2", "loop1");
    REFUSED(try_file("loop1/x", "x"), ERR_POLICY);
    file("plain", "p");
    REFUSED(try_file("plain/x", "x"), ERR_POLICY);
    end_once();
    seal_and_verify();
    holds("usr/lib/a", "a");
    holds("usr/lib/b", "b");
    holds("usr/lib/c", "c");
}

/* A symlink of a lower layer is not followed: bin becomes a directory. */
static void test_links_lower_layer(void **state)
{
    (void)state;
    layer();
    file("bin/new", "n");
    whiteout("sbin/x");
    end_once();
    layer();
    file("usr/bin/sh", "sh");
    symlink_to("bin", "usr/bin");
    symlink_to("sbin", "usr/bin");
    file("bin/via", "v");
    end_once();
    seal_and_verify();
    is_dir("bin", 0755);
    is_dir("sbin", 0755);
    holds("bin/new", "n");
    holds("usr/bin/via", "v");
    absent("usr/bin/new");
}

static void test_implicit(void **state)
{
    (void)state;
    layer();
    file("a/b/c", "1");
    end_once();
    layer();
    dir("a", 0700);
    dir("a/b", 0711);
    end_once();
    layer();
    dir("a", 0777);
    file("a/x", "x");
    end_once();
    seal_and_verify();
    is_dir("a", 0700);
    is_dir("a/b", 0711);
    holds("a/x", "x");
    assert_int_equal(look("a").st_mtim.tv_sec, MTIME);
}

static void test_duplicates(void **state)
{
    (void)state;
    layer();
    file("f", "one");
    file("f", "two");
    dir("d", 0700);
    dir("d", 0711);
    file("t", "x");
    symlink_to("t", "f");
    dir("e", 0755);
    file("e", "was a directory");
    file("g", "x");
    dir("g", 0701);
    file("full/x", "x");
    REFUSED(try_file("full", "y"), ERR_POLICY);
    end_once();
    seal();
    holds("f", "two");
    is_dir("d", 0711);
    is_dir("g", 0701);
    holds("t", "two");
    holds("e", "was a directory");
}

/* --- hard links ------------------------------------------------------------------------------------------------- */

static void test_hardlink(void **state)
{
    (void)state;
    layer();
    file("d/f", "text");
    hardlink("g", "d/f");
    hardlink("h", "g");
    symlink_to("s", "g");
    hardlink("s2", "s");
    REFUSED(try_target(ENTRY_HARDLINK, "x", "missing"), ERR_POLICY);
    REFUSED(try_target(ENTRY_HARDLINK, "x", "d"), ERR_POLICY);
    REFUSED(try_target(ENTRY_HARDLINK, "g", "g"), ERR_POLICY);
    whiteout("d/f");
    REFUSED(try_target(ENTRY_HARDLINK, "x", "d/f"), ERR_POLICY);
    REFUSED(try_file("g", "again"), ERR_POLICY);
    end_once();
    layer();
    REFUSED(try_target(ENTRY_HARDLINK, "y", "d/f"), ERR_POLICY);
    end_once();
    seal();
    assert_int_equal(look("g").st_ino, look("d/f").st_ino);
    assert_int_equal(look("h").st_nlink, 3);
}

static void hidden_layer(void)
{
    file("f", "hidden content");
    file("other", "o");
    hardlink("a", "f");
    hardlink("b", "f");
    hardlink("h", "f");
    hardlink("c", "h");
    hardlink("d", "a");
    symlink_to("s", "a");
    hardlink("s2", "s");
}

static void test_hardlink_hidden(void **state)
{
    (void)state;
    layer();
    file("f", "upper");
    whiteout("h");
    whiteout("s");
    end_once();
    layer();
    hidden_layer();
    assert_true(layer_end());
    absent("a");
    OK(slot_tree_layer_again(slot, &e));
    hidden_layer();
    end_once();
    layer();
    file("a", "lower");
    end_once();
    seal_and_verify();
    holds("f", "upper");
    holds("a", "hidden content");
    assert_int_equal(look("a").st_nlink, 4);
    assert_int_equal(look("a").st_ino, look("d").st_ino);
    absent("h");
    holds("s2", "hidden content");
}

static void test_hardlink_limit(void **state)
{
    (void)state;
    layer();
    whiteout("f");
    end_once();
    layer();
    file("f", "x");
    for (int i = 0; i < CONFIG_SLOT_HARDLINK_PENDING_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "l%d", i);
        hardlink(name, "f");
    }
    REFUSED(try_target(ENTRY_HARDLINK, "one-more", "f"), ERR_LIMIT);
}

/* --- seal, faults, read-back ------------------------------------------------------------------------------------- */

static void test_needs(void **state)
{
    (void)state;
    static const char *const good[] = {"/sbin/init", "etc/conf", "", "ignored"};
    static const char *const bad[] = {"boot/zImage"};
    for (int i = 0; i < 2; i++) {
        layer();
        file("usr/lib/init", "i");
        symlink_to("sbin", "/usr/sbin");
        symlink_to("usr/sbin/init", "/../usr/lib/init");
        file("etc/conf", "c");
        end_once();
        if (i == 0) {
            OK(slot_tree_seal(slot, good, 4, &e));
            OK(slot_tree_begin(slot, &tree_sim, place, toc, &e));
        }
    }
    REFUSED(slot_tree_seal(slot, bad, 1, &e), ERR_POLICY);
    assert_non_null(strstr(e.text, "boot/zImage"));
    assert_int_not_equal(verify(), 0);
}

static void small_image(void)
{
    layer();
    dir("d", 0755);
    file("d/f", "content");
    file("d/g", "more");
    symlink_to("l", "d");
    end_once();
}

static void caught(const char *path)
{
    assert_int_equal(verify(), ERR_FLASH);
    if (strstr(e.text, path) == NULL)
        fail_msg("want a word about %s, got: %s", path, e.text);
}

static void keep_mtime(const char *path, const struct stat *st)
{
    const struct timespec t[2] = {st->st_atim, st->st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, at(path), t, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_verify_catches(void **state)
{
    (void)state;
    small_image();
    seal_and_verify();

    struct stat st = look("d/f"), dir_st = look("d");
    int fd = open(at("d/f"), O_WRONLY);
    assert_int_equal(pwrite(fd, "C", 1, 0), 1);
    close(fd);
    keep_mtime("d/f", &st);
    caught("d/f: content");
    fd = open(at("d/f"), O_WRONLY);
    assert_int_equal(pwrite(fd, "c", 1, 0), 1);
    close(fd);
    caught("d/f: mtime");
    keep_mtime("d/f", &st);
    OK(verify());

    assert_int_equal(chmod(at("d/g"), 0640), 0);
    caught("d/g: mode");
    assert_int_equal(chmod(at("d/g"), 0644), 0);
    assert_int_equal(chown(at("d/g"), 1, 0), 0);
    caught("d/g: owner");
    assert_int_equal(chown(at("d/g"), 0, 0), 0);
    assert_int_equal(setxattr(at("d/g"), "user.x", "1", 1, 0), 0);
    caught("d/g: attributes");
    assert_int_equal(removexattr(at("d/g"), "user.x"), 0);
    OK(verify());

    close(open(at("d/extra"), O_CREAT | O_WRONLY, 0600));
    keep_mtime("d", &dir_st);
    caught("d/extra");
    unlink(at("d/extra"));
    keep_mtime("d", &dir_st);
    OK(verify());
    unlink(at("d/g"));
    keep_mtime("d", &dir_st);
    caught("d/g: node");
}

static void test_toc_damage(void **state)
{
    (void)state;
    small_image();
    seal_and_verify();
    struct stat st;
    assert_int_equal(stat(toc, &st), 0);
    for (off_t i = 0; i < st.st_size; i++) {
        uint8_t b, flipped;
        int fd = open(toc, O_RDWR);
        assert_int_equal(pread(fd, &b, 1, i), 1);
        flipped = b ^ 0x10;
        assert_int_equal(pwrite(fd, &flipped, 1, i), 1);
        if (verify() == 0)
            fail_msg("byte %ld changed unseen", (long)i);
        assert_int_equal(pwrite(fd, &b, 1, i), 1);
        close(fd);
    }
    OK(verify());
    assert_int_equal(truncate(toc, st.st_size - 16), 0);
    assert_int_not_equal(verify(), 0);
}

static int image_rc(void)
{
    bool again;
    int rc = slot_tree_begin(slot, &tree_sim, place, toc, &e);
    if (rc == 0)
        rc = slot_tree_layer(slot, &e);
    if (rc == 0)
        rc = try_dir("d", 0755);
    if (rc == 0)
        rc = try_file("d/f", "content");
    if (rc == 0)
        rc = try_target(ENTRY_HARDLINK, "d/h", "d/f");
    if (rc == 0)
        rc = slot_tree_layer_end(slot, &again, &e);
    if (rc == 0)
        rc = slot_tree_seal(slot, NULL, 0, &e);
    if (rc == 0)
        rc = verify();
    slot_tree_abort(slot);
    return rc;
}

/* What the next image meets: nothing, or an older version with other content, other types and more. */
static void make_old(bool any)
{
    OK(slot_tree_begin(slot, &tree_sim, place, toc, &e));
    layer();
    if (any) {
        dir("d", 0700);
        file("d/f", "CONTENT of old, and longer");
        dir("d/h", 0755);
        file("d/h/x", "in the way");
        file("gone", "x");
    }
    end_once();
    seal();
}

static void fault_at_each(const char *variable, int want, bool old)
{
    make_old(old);
    fault_reset();
    assert_int_equal(image_rc(), 0);
    unsigned long ops = fault_count();
    assert_true(ops > 8);
    for (unsigned long i = 1; i <= ops; i++) {
        char number[16];
        snprintf(number, sizeof number, "%lu", i);
        make_old(old);
        setenv(variable, number, 1);
        fault_reset();
        int rc = image_rc();
        if (rc != want && rc != -ENOSPC)
            fail_msg("%s=%lu, old %d: got %d %s", variable, i, old, rc, e.text);
        unsetenv(variable);
        fault_reset();
        assert_int_equal(image_rc(), 0);
    }
}

static void test_faults(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        fault_at_each("SLIPWAY_SIM_EIO", -EIO, old);
        fault_at_each("SLIPWAY_SIM_ENOSPC", ERR_SPACE, old);
    }
}

static void test_space(void **state)
{
    (void)state;
    struct fake f;
    layer();
    prepare(ENTRY_NODE, "huge", NODE_FILE, 0644);
    en.node.size = 1ull << 60;
    fake_content(&f, "", 0)->left = en.node.size;
    REFUSED(slot_tree_entry(slot, &en, &f.content, &e), ERR_SPACE);
    assert_non_null(strstr(e.text, "need 1152921504606846976"));
    absent("huge");
}

static void test_limit(void **state)
{
    (void)state;
    layer();
    for (uint32_t i = 0; i < CONFIG_SLOT_ENTRY_MAX - 1; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        whiteout(name);
    }
    REFUSED(try_mark(ENTRY_WHITEOUT, "x"), ERR_LIMIT);
    whiteout("7");
}

static void test_big_file(void **state)
{
    (void)state;
    size_t len = 5 * 1024 * 1024 + 7;
    uint8_t *data = malloc(len);
    struct fake f;
    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    layer();
    prepare(ENTRY_NODE, "big", NODE_FILE, 04755);
    en.node.size = len;
    OK(slot_tree_entry(slot, &en, fake_content(&f, data, len), &e));
    for (int i = 0; i < 200; i++) {
        char name[16];
        snprintf(name, sizeof name, "s%d", i);
        file(name, name);
    }
    end_once();
    seal_and_verify();
    assert_int_equal(look("big").st_mode, S_IFREG | 04755);
    free(data);
}

static void test_xattr(void **state)
{
    (void)state;
    static const char *const paths[] = {"f", "d"};
    layer();
    for (int i = 0; i < 2; i++) {
        uint16_t key = 8;
        uint32_t value = 3;
        struct fake f;
        prepare(ENTRY_NODE, paths[i], i == 0 ? NODE_FILE : NODE_DIR, 0755);
        memcpy(en.xattrs, &key, 2);
        memcpy(en.xattrs + 2, &value, 4);
        memcpy(en.xattrs + 6, "user.key\0\1\2", 11);
        en.node.xattrs = en.xattrs;
        en.node.xattr_len = 17;
        en.node.xattr_cnt = 1;
        OK(slot_tree_entry(slot, &en, i == 0 ? fake_content(&f, "", 0) : NULL, &e));
    }
    end_once();
    seal_and_verify();
    assert_int_equal(setxattr(at("d"), "user.key", "\0\1\3", 3, 0), 0);
    caught("d: attribute user.key differs");
}

static void test_sweep(void **state)
{
    (void)state;
    mkdir(at("lost+found"), 0700);
    mkdir(at("a"), 0700);
    char deep[2000] = "a";
    for (int i = 0; i < 60; i++) {
        strncat(deep, "/deeper", sizeof deep - strlen(deep) - 1);
        mkdir(at(deep), 0700);
    }
    for (int i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/file-%d", i);
        close(open(at(name), O_CREAT | O_WRONLY, 0600));
        snprintf(name, sizeof name, "a/dir-%d", i % 50);
        mkdir(at(name), 0700);
        snprintf(name, sizeof name, "a/dir-%d/x", i % 50);
        close(open(at(name), O_CREAT | O_WRONLY, 0600));
    }
    OK(slot_tree_begin(slot, &tree_sim, place, toc, &e));
    small_image();
    seal_and_verify();
    absent("a");
    is_dir("lost+found", 0700);
    rmdir(at("lost+found"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_plain),
        T(test_whiteout),
        T(test_opaque_before),
        T(test_opaque_after),
        T(test_opaque_root),
        T(test_replace_three),
        T(test_links_same_layer),
        T(test_links_lower_layer),
        T(test_implicit),
        T(test_duplicates),
        T(test_hardlink),
        T(test_hardlink_hidden),
        T(test_hardlink_limit),
        T(test_needs),
        T(test_verify_catches),
        T(test_toc_damage),
        T(test_faults),
        T(test_space),
        T(test_limit),
        T(test_big_file),
        T(test_xattr),
        T(test_sweep),
    };
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
