/* The calls of hal/tree.h that are the same on every POSIX filesystem; the drivers add open and close. */
#ifndef SLIPWAY_HAL_LINUX_TREE_POSIX_H
#define SLIPWAY_HAL_LINUX_TREE_POSIX_H

#include "hal/tree.h"

int tree_posix_space(int root_fd, struct tree_space *out, struct err *e);
int tree_posix_make(int dir_fd, const char *name, const struct node *n, int *file_fd, struct err *e);
int tree_posix_reopen(int dir_fd, const char *name, int *file_fd, struct err *e);
int tree_posix_settle(int dir_fd, const char *name, int file_fd, const struct node *n, struct err *e);
int tree_posix_link(int from_dir_fd, const char *from, int to_dir_fd, const char *to, struct err *e);
int tree_posix_remove(int dir_fd, const char *name, bool is_dir, struct err *e);
int tree_posix_sync(int root_fd, struct err *e);

#endif
