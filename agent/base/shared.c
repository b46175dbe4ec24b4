#include "base/shared.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int shared_make(const char *name, size_t len, struct err *e)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return err_errno(e, "shared memory");
    if (ftruncate(fd, (off_t)len) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return fd;
    err_errno(e, "shared memory of %zu bytes", len);
    close(fd);
    return e->code;
}

void *shared_map(int fd, size_t len, bool writable, struct err *e)
{
    void *base = mmap(NULL, len, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);

    if (base == MAP_FAILED)
        err_errno(e, "shared memory");
    return base != MAP_FAILED ? base : NULL;
}
