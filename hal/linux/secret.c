/* Secrets in files, which must be their owner's alone. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"

static int mode_check(const char *place, int fd, struct err *e)
{
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(e, ERR_CONFIG, "%s: %s", place, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_CONFIG, "%s: want a file", place);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return err_set(e, ERR_CONFIG, "%s: others than its owner may use it (mode %04o); chmod 600", place,
                       (unsigned)st.st_mode & 07777);
    return 0;
}

static int place_open(const char *place)
{
    return IO_RETRY(open(place, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

static int check(const char *place, struct err *e)
{
    int fd = place_open(place);
    int rc = mode_check(place, fd, e);

    if (fd >= 0)
        close(fd);
    return rc;
}

static ssize_t secret_read(const char *place, char *buf, size_t cap, struct err *e)
{
    int fd = place_open(place);
    ssize_t n = mode_check(place, fd, e);

    if (n == 0) {
        n = io_read_full(fd, buf, cap);
        if (n < 0)
            n = err_set(e, ERR_CONFIG, "%s: %s", place, strerror(errno));
        else if ((size_t)n == cap)
            n = err_set(e, ERR_CONFIG, "%s: larger than %zu bytes", place, cap - 1);
        else
            buf[n] = '\0';
    }
    if (fd >= 0)
        close(fd);
    return n;
}

const struct secret_ops secret_linux = {check, secret_read};
