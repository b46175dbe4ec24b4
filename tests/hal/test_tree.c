/* Conformance of the tree port, on a directory, or on the filesystem of the device that SLIPWAY_TEST_TREE names (an
 * empty one). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/sim/fault.h"
#include "hal/tree.h"

extern const struct tree_ops tree_sim, tree_linux;

static const struct tree_ops *ops = &tree_sim;
static const char *place;
static int root = -1;
static struct err e;

#define OK(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != 0)                                                                                     \
            fail_msg("%s: %s", #call, e.text);                                                               \
    } while (0)

static int setup(void **state)
{
    (void)state;
    OK(ops->open(place, true, &root, &e));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    OK(ops->close(root, &e));
    return 0;
}

static struct node a_node(enum node_type type, uint32_t mode)
{
    return (struct node){
        .type = type, .mode = mode, .uid = 12, .gid = 34, .mtime_s = 1234567890, .mtime_ns = 987};
}

static void is_settled(const char *name, mode_t mode)
{
    struct stat st;
    assert_int_equal(fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    assert_int_equal(st.st_mode, mode);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 34);
    assert_int_equal(st.st_mtim.tv_sec, 1234567890);
    assert_int_equal(st.st_mtim.tv_nsec, 987);
}

/* Setuid, a file capability and the time all survive settle(), whatever the order inside. */
static void test_file(void **state)
{
    (void)state;
    static const uint8_t cap[20] = {1, 0, 0,
                                    2, 0, 4}; /* VFS_CAP_REVISION_2, effective: cap_net_bind_service */
    uint8_t xattrs[64];
    uint16_t key = 19;
    uint32_t value = sizeof cap;
    struct node n = a_node(NODE_FILE, 04755);
    int fd = -1;

    memcpy(xattrs, &key, 2);
    memcpy(xattrs + 2, &value, 4);
    memcpy(xattrs + 6, "security.capability", 19);
    memcpy(xattrs + 25, cap, sizeof cap);
    n.xattrs = xattrs;
    n.xattr_len = 25 + sizeof cap;
    n.xattr_cnt = 1;
    OK(ops->make(root, "f", &n, &fd, &e));
    assert_int_equal(io_write_full(fd, "content", 7), 0);
    OK(ops->settle(root, "f", fd, &n, &e));
    uint8_t got[64];
    assert_int_equal(fgetxattr(fd, "security.capability", got, sizeof got), sizeof cap);
    assert_memory_equal(got, cap, sizeof cap);
    close(fd);
    is_settled("f", S_IFREG | 04755);
    fd = -1;
    assert_int_equal(ops->make(root, "f", &n, &fd, &e), -EEXIST);
    assert_int_equal(fd, -1);
    OK(ops->remove(root, "f", false, &e));
}

/* Content changes in place, and settle() leaves no attribute of before. */
static void test_change(void **state)
{
    (void)state;
    struct node n = a_node(NODE_FILE, 0644), d = a_node(NODE_DIR, 0755);
    char got[8] = "";
    int fd = -1, again = -1;
    OK(ops->make(root, "f", &n, &fd, &e));
    assert_int_equal(io_write_full(fd, "content", 7), 0);
    bool attrs = fsetxattr(fd, "user.old", "x", 1, 0) == 0; /* not every filesystem has them */
    OK(ops->settle(root, "f", fd, &n, &e));
    assert_int_equal(fgetxattr(fd, "user.old", got, 1), -1);
    assert_true(!attrs || errno == ENODATA);
    OK(ops->reopen(root, "f", &again, &e));
    assert_int_equal(io_pwrite_full(again, "C", 1, 0), 0);
    OK(ops->settle(root, "f", again, &n, &e));
    assert_int_equal(io_pread_full(fd, got, 7, 0), 7);
    assert_string_equal(got, "Content");
    is_settled("f", S_IFREG | 0644);
    close(fd);
    close(again);
    OK(ops->remove(root, "f", false, &e));
    again = -1;
    assert_int_equal(ops->reopen(root, "f", &again, &e), -ENOENT);
    OK(ops->make(root, "d", &d, NULL, &e));
    assert_true(ops->reopen(root, "d", &again, &e) < 0);
    assert_int_equal(again, -1);
    OK(ops->remove(root, "d", true, &e));
}

static void test_attrs_end_early(void **state)
{
    (void)state;
    uint8_t xattrs[] = {8, 0, 3, 0, 0, 0, 'u', 's', 'e', 'r'};
    struct node n = a_node(NODE_DIR, 0755);
    OK(ops->make(root, "x", &n, NULL, &e));
    n.xattrs = xattrs;
    n.xattr_cnt = 1;
    for (n.xattr_len = 0; n.xattr_len <= sizeof xattrs; n.xattr_len++)
        assert_int_equal(ops->settle(root, "x", -1, &n, &e), ERR_FORMAT);
    OK(ops->remove(root, "x", true, &e));
}

static void test_dir_and_link(void **state)
{
    (void)state;
    struct node d = a_node(NODE_DIR, 01711), f = a_node(NODE_FILE, 0600);
    struct stat a, b;
    int fd = -1;
    OK(ops->make(root, "d", &d, NULL, &e));
    int dir = openat(root, "d", O_RDONLY | O_DIRECTORY);
    OK(ops->make(dir, "f", &f, &fd, &e));
    close(fd);
    OK(ops->link(dir, "f", root, "g", &e));
    OK(ops->settle(root, "d", -1, &d, &e));
    is_settled("d", S_IFDIR | 01711);
    assert_int_equal(fstatat(dir, "f", &a, 0), 0);
    assert_int_equal(fstatat(root, "g", &b, 0), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    int rc = ops->remove(root, "d", true, &e);
    assert_true(rc == -ENOTEMPTY || rc == -EEXIST);
    OK(ops->remove(dir, "f", false, &e));
    close(dir);
    OK(ops->remove(root, "d", true, &e));
    OK(ops->remove(root, "g", false, &e));
    assert_int_equal(ops->remove(root, "g", false, &e), -ENOENT);
}

/* The link itself gets owner and time, not what it points to. */
static void test_symlink(void **state)
{
    (void)state;
    struct node n = a_node(NODE_SYMLINK, 0777);
    char buf[32];
    n.target = "/etc/passwd";
    OK(ops->make(root, "s", &n, NULL, &e));
    OK(ops->settle(root, "s", -1, &n, &e));
    is_settled("s", S_IFLNK | 0777);
    assert_int_equal(readlinkat(root, "s", buf, sizeof buf), 11);
    OK(ops->remove(root, "s", false, &e));
}

static void test_special(void **state)
{
    (void)state;
    static const enum node_type types[] = {NODE_CHAR, NODE_BLOCK, NODE_FIFO};
    static const mode_t bits[] = {S_IFCHR, S_IFBLK, S_IFIFO};
    for (int i = 0; i < 3; i++) {
        struct node n = a_node(types[i], 0640);
        struct stat st;
        n.dev_major = i < 2 ? 300 : 0;
        n.dev_minor = i < 2 ? 70000 : 0;
        OK(ops->make(root, "n", &n, NULL, &e));
        OK(ops->settle(root, "n", -1, &n, &e));
        is_settled("n", bits[i] | 0640);
        assert_int_equal(fstatat(root, "n", &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(st.st_rdev, makedev(n.dev_major, n.dev_minor));
        OK(ops->remove(root, "n", false, &e));
    }
}

static void test_root_and_space(void **state)
{
    (void)state;
    struct tree_space sp = {0};
    struct node n = a_node(NODE_DIR, 0751);
    OK(ops->space(root, &sp, &e));
    assert_true(sp.bytes_free > 0 && sp.bytes_free <= sp.bytes_total);
    OK(ops->settle(root, ".", -1, &n, &e));
    is_settled(".", S_IFDIR | 0751);
    OK(ops->sync(root, &e));
}

/* What was synced is there after close and open; a tree opened for reading can't be written if it is a mount. */
static void test_reopen(void **state)
{
    (void)state;
    struct node n = a_node(NODE_FILE, 0644);
    int fd = -1;
    char buf[8];
    OK(ops->make(root, "kept", &n, &fd, &e));
    assert_int_equal(io_write_full(fd, "kept", 4), 0);
    OK(ops->settle(root, "kept", fd, &n, &e));
    close(fd);
    OK(ops->sync(root, &e));
    OK(ops->close(root, &e));
    OK(ops->open(place, false, &root, &e));
    fd = openat(root, "kept", O_RDONLY);
    assert_int_equal(io_read_full(fd, buf, sizeof buf), 4);
    close(fd);
    if (ops == &tree_linux)
        assert_int_equal(ops->remove(root, "kept", false, &e), -EROFS);
    OK(ops->close(root, &e));
    OK(ops->open(place, true, &root, &e));
    OK(ops->remove(root, "kept", false, &e));
}

/* What a killed process left mounted is no obstacle, a living one's work is. */
static void test_left_mounted(void **state)
{
    (void)state;
    int first = -1, second = -1;
    OK(ops->open(place, true, &first, &e));
    if (ops == &tree_linux) {
        assert_int_equal(ops->open(place, true, &second, &e), ERR_STATE);
        close(first);
        OK(ops->open(place, true, &first, &e));
    }
    OK(ops->close(first, &e));
}

static int work_confined(void)
{
    int fd = -1;

    if (reach_begin(&e) != 0 || ops->confine(place, &e) != 0 || reach_enter(&e) != 0)
        return 1;
    if (access("/proc", F_OK) == 0 || access("/etc", F_OK) == 0)
        return err_set(&e, ERR_STATE, "the machine's files are in reach"), 2;
    if (ops->open(place, true, &root, &e) != 0)
        return 3;
    if (mkdirat(root, "confined", 0755) != 0 || ops->close(root, &e) != 0)
        return 4;
    if (ops->open(place, false, &root, &e) != 0 || faccessat(root, "confined", F_OK, 0) != 0)
        return 5;
    fd = openat(root, "../../../../etc", O_RDONLY);
    return fd >= 0 || ops->close(root, &e) != 0 ? 6 : 0;
}

/* In a process that sees nothing but its slot. What it wrote is there. */
static void test_confined(void **state)
{
    pid_t pid = fork();
    int status = -1;
    (void)state;
    if (pid == 0) {
        int rc = work_confined();
        if (rc != 0)
            fprintf(stderr, "%d: %s\n", rc, e.text);
        _exit(rc);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    OK(ops->open(place, true, &root, &e));
    OK(ops->remove(root, "confined", true, &e));
    OK(ops->close(root, &e));
}

static void test_absent(void **state)
{
    (void)state;
    int fd = -1;
    assert_true(ops->open("/dev/no-such-slot", true, &fd, &e) < 0);
    assert_int_equal(fd, -1);
    assert_non_null(strstr(e.text, "no-such-slot"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_file),
        T(test_change),
        T(test_attrs_end_early),
        T(test_dir_and_link),
        T(test_symlink),
        T(test_special),
        T(test_root_and_space),
        T(test_reopen),
        cmocka_unit_test(test_left_mounted),
        cmocka_unit_test(test_confined),
        cmocka_unit_test(test_absent),
    };
    char name[] = "/tmp/slipway-tree-XXXXXX";
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 0;
    }
    if (mkdtemp(name) == NULL)
        return 1;
    place = getenv("SLIPWAY_TEST_TREE");
    ops = place != NULL ? &tree_linux : &tree_sim;
    place = place != NULL ? place : name;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(name);
    return rc;
}
