#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

#include "base/io.h"
#include "hal/linux/linux.h"

static const struct {
    uint32_t baud;
    speed_t speed;
} speeds[] = {
    {9600, B9600},     {19200, B19200},   {38400, B38400},   {57600, B57600},     {115200, B115200},
    {230400, B230400}, {460800, B460800}, {921600, B921600}, {1000000, B1000000}, {1500000, B1500000},
};

static int speed_of(uint32_t baud, speed_t *out, struct err *e)
{
    for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++) {
        if (speeds[i].baud == baud) {
            *out = speeds[i].speed;
            return 0;
        }
    }
    return err_set(e, ERR_UNSUPPORTED, "%u baud", (unsigned)baud);
}

static int line_set_up(int fd, uint32_t baud, struct err *e)
{
    struct termios t;
    speed_t speed = B0;
    int rc = speed_of(baud, &speed, e);

    if (rc < 0)
        return rc;
    if (tcgetattr(fd, &t) < 0)
        return err_errno(e, "not a serial line");
    cfmakeraw(&t);
    t.c_cflag &= ~(tcflag_t)(CSTOPB | CRTSCTS);
    t.c_cflag |= CLOCAL | CREAD;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    if (cfsetispeed(&t, speed) < 0 || cfsetospeed(&t, speed) < 0 || tcsetattr(fd, TCSANOW, &t) < 0)
        return err_errno(e, "8N1, %u baud", (unsigned)baud);
    return 0;
}

static int serial_open(const char *path, uint32_t baud, int *fd, struct err *e)
{
    int rc;

    *fd = IO_RETRY(open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    if (*fd < 0)
        return err_errno(e, "%s", path);
    rc = line_set_up(*fd, baud, e);
    if (rc == 0)
        return 0;
    close(*fd);
    *fd = -1;
    return err_prefix(e, "%s", path);
}

const struct serial_ops serial_linux = {.open = serial_open};
