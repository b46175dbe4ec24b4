/* Random layers through slot/tree.c, and the same layers stacked by the kernel's own overlayfs: the trees must be
 * equal. The model knows nothing of claims: each layer is a directory of its own, filled by plain calls with
 * openat2(RESOLVE_IN_ROOT), and the kernel does the rest. What the model can't say (a directory that turns into a file
 * within a layer, or a file that turns into one) is left out.
 *
 *     SLIPWAY_SEED=7 test_slot_overlay      replays one
 */
#include "slot_fake.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

#include "slot/tree.h"

extern const struct tree_ops tree_sim;

#define LAYERS 4
#define ENTRIES 24
#ifndef ROUNDS
#define ROUNDS 150
#endif
#define IMPLICIT_UID 60000 /* marks what the layer did not name; its metadata is not compared */

struct item {
    enum entry_type type;
    enum node_type node;
    uint32_t mode, uid;
    char path[64], target[64], text[32];
};

static struct item items[ENTRIES];
static int item_cnt;
static uint64_t rng;
static struct slot_tree *slot;
static struct entry en;
static struct err e;
static char base[64];

static unsigned pick(unsigned n)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % n;
}

static void random_path(char *out, unsigned depth_max)
{
    unsigned depth = 1 + pick(depth_max);
    out[0] = '\0';
    for (unsigned i = 0; i < depth; i++) {
        size_t n = strlen(out);
        snprintf(out + n, 60 - n, "%s%c", i > 0 ? "/" : "", (int)('a' + pick(4)));
    }
}

static struct item random_item(int serial)
{
    static const enum node_type nodes[] = {NODE_FILE, NODE_FILE, NODE_DIR, NODE_DIR, NODE_SYMLINK, NODE_FIFO};
    static const char *const fronts[] = {"", "/", "../", "../../"};
    struct item it = {
        .type = ENTRY_NODE, .node = nodes[pick(6)], .mode = 0700 + pick(64), .uid = 1 + pick(5)};
    unsigned kind = pick(10);
    random_path(it.path, 4);
    random_path(it.target, 3);
    snprintf(it.text, sizeof it.text, "content %d", serial);
    if (kind < 2) {
        it.type = ENTRY_HARDLINK;
    } else if (kind == 2) {
        it.type = ENTRY_WHITEOUT;
    } else if (kind == 3) {
        it.type = ENTRY_OPAQUE;
    } else if (it.node == NODE_SYMLINK) {
        char t[60];
        snprintf(t, sizeof t, "%s%.40s", fronts[pick(4)], it.target);
        memcpy(it.target, t, sizeof t);
    }
    return it;
}

/* --- the model -------------------------------------------------------------------------------------------------- */

struct open_how_v0 {
    uint64_t flags, mode, resolve;
};

static int open_in(int root, const char *path)
{
    struct open_how_v0 how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC, .resolve = 0x10};
    return (int)syscall(SYS_openat2, root, path[0] != '\0' ? path : ".", &how, sizeof how);
}

static char reached[64]; /* by make_parents */

/* Open directory `path`, made where it is missing. -1: not something the model takes. */
static int make_parents(int root, const char *path, bool make)
{
    char part[64];
    int dir = open_in(root, "");
    reached[0] = '\0';
    for (size_t len = 0; path[len] != '\0';) {
        struct stat st;
        size_t from = len + (path[len] == '/');
        len = from + strcspn(path + from, "/");
        snprintf(part, sizeof part, "%.*s", (int)(len - from), path + from);
        bool there = fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0;
        bool gone = there && S_ISCHR(st.st_mode);
        if ((!there || gone) && make) {
            if (gone)
                unlinkat(dir, part, 0);
            if (mkdirat(dir, part, 0755) != 0 || fchownat(dir, part, IMPLICIT_UID, 0, 0) != 0)
                abort();
            int fd = openat(dir, part, O_RDONLY | O_DIRECTORY);
            if (gone && fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) != 0)
                abort();
            close(fd);
        }
        close(dir);
        snprintf(part, sizeof part, "%.*s", (int)len, path);
        dir = open_in(root, part);
        if (dir < 0)
            return -1;
        snprintf(reached, sizeof reached, "%s", part);
    }
    return dir;
}

static void split(const char *path, char *parent, const char **name)
{
    const char *slash = strrchr(path, '/');
    snprintf(parent, 64, "%.*s", slash != NULL ? (int)(slash - path) : 0, path);
    *name = slash != NULL ? slash + 1 : path;
}

static bool model_link(int root, int dir, const char *name, const struct item *it)
{
    char parent[64];
    const char *target;
    struct stat st;
    split(it->target, parent, &target);
    int from = make_parents(root, parent, false);
    bool ok = from >= 0 && fstatat(from, target, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
              !S_ISCHR(st.st_mode) && faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
    if (ok && linkat(from, target, dir, name, 0) != 0)
        abort();
    if (from >= 0)
        close(from);
    return ok;
}

static void model_node(int dir, const char *name, const struct item *it, bool was_gone)
{
    int fd;
    switch (it->node) {
    case NODE_DIR:
        if (mkdirat(dir, name, 0755) != 0 && errno != EEXIST)
            abort();
        fd = openat(dir, name, O_RDONLY | O_DIRECTORY);
        if (was_gone && fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) != 0)
            abort();
        close(fd);
        break;
    case NODE_SYMLINK:
        if (symlinkat(it->target, dir, name) != 0)
            abort();
        break;
    case NODE_FILE:
        fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0600);
        if (io_write_full(fd, it->text, strlen(it->text)) != 0)
            abort();
        close(fd);
        break;
    default:
        if (mkfifoat(dir, name, 0600) != 0)
            abort();
    }
    if (fchownat(dir, name, it->uid, 0, AT_SYMLINK_NOFOLLOW) != 0)
        abort();
    if (it->node != NODE_SYMLINK && fchmodat(dir, name, it->mode, 0) != 0)
        abort();
}

static bool model_at(int root, int dir, const char *name, const struct item *it)
{
    struct stat st;
    bool there = fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    bool gone = there && S_ISCHR(st.st_mode);
    if (it->type == ENTRY_WHITEOUT) {
        if (!there && mknodat(dir, name, S_IFCHR, 0) != 0)
            abort();
        if (!there || gone)
            return true;
        if (!S_ISDIR(st.st_mode))
            return false;
        int fd = openat(dir, name, O_RDONLY | O_DIRECTORY);
        if (fsetxattr(fd, "trusted.overlay.opaque", "y", 1, 0) != 0)
            abort();
        close(fd);
        return true;
    }
    if (it->type == ENTRY_HARDLINK) {
        if (there && !gone)
            return false;
        if (gone)
            unlinkat(dir, name, 0);
        bool ok = model_link(root, dir, name, it);
        if (!ok && gone && mknodat(dir, name, S_IFCHR, 0) != 0)
            abort();
        return ok;
    }
    if (there && !gone &&
        (S_ISDIR(st.st_mode) != (it->node == NODE_DIR) || (!S_ISDIR(st.st_mode) && st.st_nlink > 1)))
        return false;
    if (there && !S_ISDIR(st.st_mode))
        unlinkat(dir, name, 0);
    model_node(dir, name, it, gone);
    return true;
}

/* Returns whether slot_tree shall get it too. */
static bool model_takes(int root, const struct item *it)
{
    char parent[64];
    const char *name;
    split(it->path, parent, &name);
    int dir = make_parents(root, it->type == ENTRY_OPAQUE ? it->path : parent, true);
    if (dir < 0)
        return false;
    bool ok = true;
    if (it->type == ENTRY_OPAQUE)
        ok = fsetxattr(dir, "trusted.overlay.opaque", "y", 1, 0) == 0;
    else
        ok = model_at(root, dir, name, it);
    close(dir);
    return ok;
}

/* An item that the model doesn't take may have made parents: a whiteout of nothing makes the same ones. */
static void model_apply(int root, struct item *it)
{
    char parents[64], parent[64];
    const char *name;
    split(it->path, parent, &name);
    if (model_takes(root, it))
        return;
    int dir = make_parents(root, it->type == ENTRY_OPAQUE ? it->path : parent, true);
    if (dir >= 0)
        close(dir);
    memcpy(parents, reached, sizeof parents);
    it->type = ENTRY_WHITEOUT;
    snprintf(it->path, sizeof it->path, "%.50s%sz", parents, parents[0] != '\0' ? "/" : "");
    if (!model_takes(root, it))
        abort();
}

/* --- comparing -------------------------------------------------------------------------------------------------- */

static int compare(const char *want, const char *got, const char *path)
{
    char a[600], b[600], ta[64] = "", tb[64] = "";
    struct stat sa, sb;
    int bad = 0, cnt[2] = {0, 0};
    DIR *d;
    snprintf(a, sizeof a, "%s%s", want, path);
    snprintf(b, sizeof b, "%s%s", got, path);
    if (lstat(a, &sa) != 0 || lstat(b, &sb) != 0 || (sa.st_mode & S_IFMT) != (sb.st_mode & S_IFMT))
        return printf("%s: missing or of another type\n", path);
    if (sa.st_uid != IMPLICIT_UID && path[0] != '\0' && (sa.st_mode != sb.st_mode || sa.st_uid != sb.st_uid))
        bad += printf("%s: want %o %u, got %o %u\n", path, sa.st_mode, sa.st_uid, sb.st_mode, sb.st_uid);
    if (S_ISREG(sa.st_mode) && (io_read_file(a, ta, sizeof ta) < 0 || io_read_file(b, tb, sizeof tb) < 0))
        bad++;
    if (S_ISLNK(sa.st_mode) && (readlink(a, ta, sizeof ta - 1) < 0 || readlink(b, tb, sizeof tb - 1) < 0))
        bad++;
    if (strcmp(ta, tb) != 0)
        bad += printf("%s: want '%s', got '%s'\n", path, ta, tb);
    for (int i = 0; S_ISDIR(sb.st_mode) && i < 2; i++) {
        d = opendir(i == 0 ? a : b);
        for (struct dirent *de = readdir(d); de != NULL; de = readdir(d)) {
            char sub[300];
            if (de->d_name[0] == '.')
                continue;
            /* In a directory that merges nothing, overlayfs lists whiteouts that can't be looked up. */
            if (fstatat(dirfd(d), de->d_name, &sa, AT_SYMLINK_NOFOLLOW) != 0)
                continue;
            cnt[i]++;
            snprintf(sub, sizeof sub, "%s/%s", path, de->d_name);
            bad += i == 0 ? compare(want, got, sub) : 0;
        }
        closedir(d);
    }
    return cnt[0] == cnt[1] ? bad : bad + printf("%s: want %d names, got %d\n", path, cnt[0], cnt[1]);
}

/* --- a round ---------------------------------------------------------------------------------------------------- */

static void feed(const struct item *it)
{
    struct fake f;
    size_t len = it->type == ENTRY_NODE && it->node == NODE_FILE ? strlen(it->text) : 0;
    en.type = it->type;
    snprintf(en.path, sizeof en.path, "%s", it->path);
    en.node =
        (struct node){.type = it->node, .mode = it->mode, .uid = it->uid, .size = len, .target = it->target};
    if (it->type == ENTRY_NODE && it->node != NODE_SYMLINK)
        en.node.target = NULL;
    struct content *c =
        it->type == ENTRY_NODE && it->node == NODE_FILE ? fake_content(&f, it->text, len) : NULL;
    if (slot_tree_entry(slot, &en, c, &e) != 0)
        fail_msg("refused: %s", e.text);
}

static void one_layer(int n, int root, bool talk)
{
    bool again = false;
    item_cnt = 0;
    assert_int_equal(slot_tree_layer(slot, &e), 0);
    for (int i = 0; i < ENTRIES; i++) {
        struct item it = random_item(n * ENTRIES + i);
        model_apply(root, &it);
        if (talk)
            printf("layer %d: type %d/%d %s -> %s (%s)\n", n, it.type, it.node, it.path, it.target, it.text);
        items[item_cnt++] = it;
        feed(&it);
    }
    if (slot_tree_layer_end(slot, &again, &e) != 0)
        fail_msg("%s", e.text);
    if (!again)
        return;
    assert_int_equal(slot_tree_layer_again(slot, &e), 0);
    for (int i = 0; i < item_cnt; i++)
        feed(&items[i]);
    if (slot_tree_layer_end(slot, &again, &e) != 0 || again)
        fail_msg("%s", e.text);
}

static void clear(const char *dir)
{
    char toc[80];
    snprintf(toc, sizeof toc, "%s/toc", base);
    if (slot_tree_begin(slot, &tree_sim, dir, toc, &e) != 0 || slot_tree_seal(slot, NULL, 0, &e) != 0)
        fail_msg("%s", e.text);
    assert_int_equal(rmdir(dir), 0);
}

static bool round_ok(unsigned seed, bool talk)
{
    char place[80], toc[80], merged[80], layers[LAYERS][80], opts[600] = "lowerdir=";
    rng = seed * 77777u + 1;
    snprintf(place, sizeof place, "%s/slot", base);
    snprintf(toc, sizeof toc, "%s/toc", base);
    snprintf(merged, sizeof merged, "%s/merged", base);
    mkdir(place, 0755);
    mkdir(merged, 0755);
    assert_int_equal(slot_tree_begin(slot, &tree_sim, place, toc, &e), 0);
    for (int i = 0; i < LAYERS; i++) {
        snprintf(layers[i], sizeof layers[i], "%s/%d", base, i);
        snprintf(opts + strlen(opts), sizeof opts - strlen(opts), "%s%s", i > 0 ? ":" : "", layers[i]);
        mkdir(layers[i], 0755);
        int root = open(layers[i], O_RDONLY | O_DIRECTORY);
        one_layer(i, root, talk);
        close(root);
    }
    if (slot_tree_seal(slot, NULL, 0, &e) != 0 || slot_tree_verify(slot, &tree_sim, place, toc, &e) != 0)
        fail_msg("SLIPWAY_SEED=%u: %s", seed, e.text);
    if (mount("overlay", merged, "overlay", 0, opts) != 0) {
        printf("skipped: no overlayfs here: %s\n", strerror(errno));
        return false;
    }
    int bad = compare(merged, place, "");
    umount(merged);
    if (bad != 0)
        fail_msg("replay: SLIPWAY_SEED=%u test_slot_overlay", seed);
    for (int i = 0; i < LAYERS; i++)
        clear(layers[i]);
    return true;
}

static void test_same_as_overlayfs(void **state)
{
    (void)state;
    char place[80];
    const char *seed = getenv("SLIPWAY_SEED");
    unsigned last = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : ROUNDS;
    /* The slot holds what the round before left there, and has to become equal to the new layers all the same. */
    for (unsigned i = seed != NULL && last > 1 ? last - 1 : 1; i <= last; i++)
        if (!round_ok(i, seed != NULL && i == last))
            break;
    snprintf(place, sizeof place, "%s/slot", base);
    clear(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_as_overlayfs)};
    snprintf(base, sizeof base, "/tmp/slipway-overlay-XXXXXX");
    if (geteuid() != 0 || mkdtemp(base) == NULL) {
        puts("skipped: needs root");
        return 0;
    }
    slot = slot_tree_new();
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    char path[80];
    snprintf(path, sizeof path, "%s/toc", base);
    unlink(path);
    snprintf(path, sizeof path, "%s/merged", base);
    rmdir(path);
    rmdir(base); /* stays after a failure, to be looked at */
    return rc;
}
