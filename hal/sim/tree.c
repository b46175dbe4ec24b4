/* A tree slot that is a directory of the host. Every call passes the fault counter. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/linux/tree_posix.h"
#include "hal/sim/fault.h"
#include "hal/sim/sim.h"

#define FAULT(op)                                                                                            \
    do {                                                                                                     \
        if (fault_point(op) != 0)                                                                            \
            return err_errno(e, "%s", op);                                                                   \
    } while (0)

static int sim_confine(const char *place, struct err *e)
{
    fault_reset();
    return reach_let(place, REACH_WRITE, e);
}

static int sim_open(const char *place, bool writable, int *root_fd, struct err *e)
{
    (void)writable;
    FAULT("tree.open");
    int fd = IO_RETRY(open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return err_errno(e, "%s", place);
    *root_fd = fd;
    return 0;
}

static int sim_close(int root_fd, struct err *e)
{
    return close(root_fd) != 0 ? err_errno(e, "close") : 0;
}

static int sim_space(int root_fd, struct tree_space *out, struct err *e)
{
    FAULT("tree.space");
    return tree_posix_space(root_fd, out, e);
}

static int sim_make(int dir_fd, const char *name, const struct node *n, int *file_fd, struct err *e)
{
    FAULT("tree.make");
    return tree_posix_make(dir_fd, name, n, file_fd, e);
}

static int sim_reopen(int dir_fd, const char *name, int *file_fd, struct err *e)
{
    FAULT("tree.reopen");
    return tree_posix_reopen(dir_fd, name, file_fd, e);
}

static int sim_settle(int dir_fd, const char *name, int file_fd, const struct node *n, struct err *e)
{
    FAULT("tree.settle");
    if (file_fd >= 0 && fault_flip(file_fd) != 0)
        return err_errno(e, "flip");
    return tree_posix_settle(dir_fd, name, file_fd, n, e);
}

static int sim_link(int from_dir_fd, const char *from, int to_dir_fd, const char *to, struct err *e)
{
    FAULT("tree.link");
    return tree_posix_link(from_dir_fd, from, to_dir_fd, to, e);
}

static int sim_remove(int dir_fd, const char *name, bool is_dir, struct err *e)
{
    FAULT("tree.remove");
    return tree_posix_remove(dir_fd, name, is_dir, e);
}

static int sim_sync(int root_fd, struct err *e)
{
    FAULT("tree.sync");
    return tree_posix_sync(root_fd, e);
}

const struct tree_ops tree_sim = {
    .caps = {.close_drops_cache = false},
    .confine = sim_confine,
    .open = sim_open,
    .close = sim_close,
    .space = sim_space,
    .make = sim_make,
    .reopen = sim_reopen,
    .settle = sim_settle,
    .link = sim_link,
    .remove = sim_remove,
    .sync = sim_sync,
};
