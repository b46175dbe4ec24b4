/* Paths without surprises: symlinks are followed by our own hand inside a root of our choosing, and directories are
 * opened component by component, never through a link. No allocation. */
#ifndef SLIPWAY_SLOT_PATH_H
#define SLIPWAY_SLOT_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "hal/node.h"

#define PATH_LOOP_MAX 40
#define PATH_DIRS_MAX 32

/* What stands at a path (whose parents hold no links). */
enum path_kind { PATH_ABSENT, PATH_DIR, PATH_LINK, PATH_OTHER };

struct path_lookup {
    /* Returns enum path_kind or an error; for PATH_LINK fills target[NODE_PATH_MAX]. */
    int (*kind)(struct path_lookup *l, const char *path, char *target, struct err *e);
    char rest[2 * NODE_PATH_MAX]; /* scratch */
    char target[NODE_PATH_MAX];
};

/* Follow the links in `path` inside the root; the last component's too if `follow_last`. What is absent counts as a
 * directory. out[NODE_PATH_MAX] is relative, without "." or "..". ERR_POLICY for a loop or a parent that is no
 * directory. */
int path_resolve(struct path_lookup *l, const char *path, bool follow_last, char *out, struct err *e);

/* Length of the parent's path: "a/b/c" -> 3, "c" -> 0. */
size_t path_parent_len(const char *path);
const char *path_name(const char *path);
/* out[NODE_PATH_MAX] = dir/name. ERR_LIMIT when it does not fit. */
int path_join(char *out, const char *dir, const char *name, struct err *e);

/* Open directories along the last path asked for. */
struct path_dirs {
    int root; /* not owned */
    int depth;
    int fd[PATH_DIRS_MAX];
    size_t end[PATH_DIRS_MAX]; /* fd[i] is the directory at[0..end[i]) */
    char at[NODE_PATH_MAX];
};

void path_dirs_start(struct path_dirs *d, int root);
/* A descriptor of directory `path` of `len` bytes, good until the next call; or an error. */
int path_dirs_open(struct path_dirs *d, const char *path, size_t len, struct err *e);
/* Forget all: needed before a directory is removed. */
void path_dirs_drop(struct path_dirs *d);

#endif
