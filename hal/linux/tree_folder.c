/* Trees that are folders of a mounted filesystem. Nothing drops their pages when they are closed. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/io.h"
#include "base/reach.h"
#include "hal/linux/linux.h"
#include "hal/linux/tree_posix.h"

static int folder_confine(const char *place, struct err *e)
{
    return reach_let(place, REACH_WRITE, e);
}

static int folder_open(const char *place, bool writable, int *root_fd, struct err *e)
{
    (void)writable;
    *root_fd = IO_RETRY(open(place, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    return *root_fd < 0 ? err_errno(e, "%s", place) : 0;
}

static int folder_close(int root_fd, struct err *e)
{
    return close(root_fd) != 0 ? err_errno(e, "close") : 0;
}

const struct tree_ops tree_folder = {
    .caps = {.close_drops_cache = false},
    .confine = folder_confine,
    .open = folder_open,
    .close = folder_close,
    .space = tree_posix_space,
    .make = tree_posix_make,
    .reopen = tree_posix_reopen,
    .settle = tree_posix_settle,
    .link = tree_posix_link,
    .remove = tree_posix_remove,
    .sync = tree_posix_sync,
};
