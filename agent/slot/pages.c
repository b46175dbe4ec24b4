#include "slot/pages.h"

#include <errno.h>
#include <fcntl.h>

#include "base/io.h"

static int write_back(int fd, uint64_t off, uint64_t len, unsigned flags, struct err *e)
{
    if (IO_RETRY(sync_file_range(fd, (off_t)off, (off_t)len, flags)) == 0 ||
        (errno != EIO && errno != ENOSPC))
        return 0;
    return err_errno(e, "write-back");
}

int pages_push(int fd, uint64_t off, uint64_t len, struct err *e)
{
    return write_back(fd, off, len, SYNC_FILE_RANGE_WRITE, e);
}

int pages_forget(int fd, uint64_t off, uint64_t len, struct err *e)
{
    int rc = write_back(fd, off, len,
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER, e);
    posix_fadvise(fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
    return rc;
}
