#include "hal/linux/uboot_env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/io.h"
#include "base/log.h"

#define FLAGS_AT 4
#define TEXT_AT 5
#define SIZE_MIN 64
#define LOCK_WAIT_MS 5000
#define LOCK_STEP_MS 20

/* The environment, and room to read the other copy and to read back what was written. */
static uint8_t image[CONFIG_UBOOT_ENV_MAX];
static uint8_t scratch[CONFIG_UBOOT_ENV_MAX];

int uboot_env_lock(const struct uboot_env_place *p, int *fd, struct err *e)
{
    const struct timespec step = {0, LOCK_STEP_MS * 1000000L};

    *fd = IO_RETRY(open(p->lock, O_WRONLY | O_CREAT | O_CLOEXEC, 0666));
    if (*fd < 0 && (errno == ENOENT || errno == EROFS))
        return 0;
    if (*fd < 0)
        return err_errno(e, "%s", p->lock);
    for (int waited = 0; flock(*fd, LOCK_EX | LOCK_NB) < 0; waited += LOCK_STEP_MS) {
        int rc = 0;

        if (errno != EWOULDBLOCK && errno != EINTR)
            rc = err_errno(e, "%s", p->lock);
        else if (waited >= LOCK_WAIT_MS)
            rc = err_set(e, ERR_BOOT, "%s: held by another program for %d s", p->lock, LOCK_WAIT_MS / 1000);
        if (rc < 0) {
            close(*fd);
            *fd = -1;
            return rc;
        }
        nanosleep(&step, NULL);
    }
    return 0;
}

void uboot_env_unlock(int fd)
{
    if (fd >= 0)
        close(fd);
}

static int size_check(const struct uboot_env_place *p, struct err *e)
{
    if (p->size >= SIZE_MIN && p->size <= CONFIG_UBOOT_ENV_MAX)
        return 0;
    return err_set(e, ERR_LIMIT, "%s: environment of %" PRIu32 " bytes, this build takes %d to %d",
                   p->device[0], p->size, SIZE_MIN, CONFIG_UBOOT_ENV_MAX);
}

static int copy_open(const char *device, int flags, struct err *e)
{
    struct stat st;
    int fd = IO_RETRY(open(device, flags | O_CLOEXEC));

    if (fd < 0)
        return err_errno(e, "%s", device);
    if (fstat(fd, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISREG(st.st_mode)))
        return fd;
    close(fd);
    return err_set(e, ERR_UNSUPPORTED, "%s: neither a block device nor a file", device);
}

/* So that the next read comes from the medium. A file system or device that can't do this serves its cache. */
static void cache_drop(int fd)
{
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)ioctl(fd, BLKFLSBUF, 0);
}

static int copy_read(const struct uboot_env_place *p, int i, uint8_t *to, struct err *e)
{
    int fd = copy_open(p->device[i], O_RDONLY, e);
    ssize_t n;
    int rc = 0;

    if (fd < 0)
        return fd;
    n = io_pread_full(fd, to, p->size, (off_t)p->offset[i]);
    if (n < 0)
        rc = err_errno(e, "%s: read", p->device[i]);
    else if ((size_t)n != p->size)
        rc = err_set(e, ERR_BOOT, "%s: ends within the environment", p->device[i]);
    close(fd);
    return rc;
}

static uint32_t image_crc(const uint8_t *img, uint32_t size)
{
    return (uint32_t)crc32(0, img + TEXT_AT, size - TEXT_AT);
}

/* End of the variables: the offset of the empty string behind the last; 0 when there is none within size. */
static size_t text_end(const uint8_t *img, uint32_t size)
{
    size_t at = TEXT_AT;

    while (at < size && img[at] != 0) {
        const uint8_t *nul = memchr(img + at, 0, size - at);

        if (nul == NULL)
            return 0;
        at = (size_t)(nul - img) + 1;
    }
    return at < size ? at : 0;
}

static bool copy_good(const uint8_t *img, uint32_t size)
{
    uint32_t crc;

    memcpy(&crc, img, sizeof(crc));
    return crc == image_crc(img, size) && text_end(img, size) != 0;
}

/* U-Boot's rule, env_check_redund(): equal flags mean copy 0. */
static int newer_copy(uint8_t flags0, uint8_t flags1)
{
    if (flags0 == 255 && flags1 == 0)
        return 1;
    if (flags1 == 255 && flags0 == 0)
        return 0;
    return flags1 > flags0;
}

int uboot_env_read(const struct uboot_env_place *p, struct uboot_env *env, struct err *e)
{
    struct err why[2] = {{0}, {0}};
    bool good[2];
    int rc = size_check(p, e);

    if (rc < 0)
        return rc;
    good[0] = copy_read(p, 0, image, &why[0]) == 0 && copy_good(image, p->size);
    good[1] = copy_read(p, 1, scratch, &why[1]) == 0 && copy_good(scratch, p->size);
    if (!good[0] && !good[1])
        return err_set(e, ERR_BOOT, "no good copy of U-Boot's environment: copy 0: %s; copy 1: %s",
                       why[0].code != 0 ? why[0].text : "wrong CRC",
                       why[1].code != 0 ? why[1].text : "wrong CRC");
    env->size = p->size;
    env->good_cnt = (uint8_t)(good[0] + good[1]);
    env->newest = good[0] && good[1] ? newer_copy(image[FLAGS_AT], scratch[FLAGS_AT]) : good[1];
    if (env->newest == 1)
        memcpy(image, scratch, p->size);
    env->flags = image[FLAGS_AT];
    return 0;
}

int uboot_env_empty(const struct uboot_env_place *p, struct uboot_env *env, struct err *e)
{
    int rc = size_check(p, e);

    if (rc < 0)
        return rc;
    memset(image, 0, p->size);
    *env = (struct uboot_env){.newest = 1, .size = p->size};
    return 0;
}

/* Offset of the variable's entry, 0 when there is none. */
static size_t entry_find(const struct uboot_env *env, const char *name)
{
    size_t len = strlen(name);

    for (size_t at = TEXT_AT; image[at] != 0; at += strlen((char *)image + at) + 1)
        if (strncmp((char *)image + at, name, len) == 0 && image[at + len] == '=')
            return at;
    (void)env;
    return 0;
}

const char *uboot_env_get(const struct uboot_env *env, const char *name)
{
    size_t at = entry_find(env, name);

    return at == 0 ? NULL : (const char *)image + at + strlen(name) + 1;
}

int uboot_env_set(struct uboot_env *env, const char *name, const char *value, struct err *e)
{
    size_t at = entry_find(env, name);
    size_t end = text_end(image, env->size);
    size_t name_len = strlen(name);
    size_t value_len = strlen(value);

    ASSERT(end != 0);
    if (at != 0) {
        size_t len = strlen((char *)image + at) + 1;

        memmove(image + at, image + at + len, end - at - len);
        end -= len;
    }
    if (name_len + value_len + 3 > env->size - end)
        return err_set(e, ERR_BOOT, "U-Boot's environment is full: no room for %s", name);
    memcpy(image + end, name, name_len);
    image[end + name_len] = '=';
    memcpy(image + end + name_len + 1, value, value_len);
    end += name_len + 1 + value_len + 1;
    image[end - 1] = 0;
    memset(image + end, 0, env->size - end);
    return 0;
}

static int copy_write(const struct uboot_env_place *p, int i, struct err *e)
{
    int fd = copy_open(p->device[i], O_RDWR | O_SYNC, e);
    ssize_t n;
    int rc = 0;

    if (fd < 0)
        return fd;
    if (io_pwrite_full(fd, image, p->size, (off_t)p->offset[i]) < 0 || IO_RETRY(fsync(fd)) < 0) {
        rc = err_errno(e, "%s: write", p->device[i]);
        goto out;
    }
    cache_drop(fd);
    n = io_pread_full(fd, scratch, p->size, (off_t)p->offset[i]);
    if (n < 0)
        rc = err_errno(e, "%s: read back", p->device[i]);
    else if ((size_t)n != p->size || memcmp(image, scratch, p->size) != 0)
        rc = err_set(e, ERR_FLASH, "%s: copy %d of the environment is not what was written", p->device[i], i);
out:
    close(fd);
    return rc;
}

int uboot_env_write(const struct uboot_env_place *p, struct uboot_env *env, struct err *e)
{
    uint8_t flags = (uint8_t)(env->flags + 1);
    uint32_t crc = image_crc(image, env->size);
    int to = 1 - env->newest;
    int rc;

    ASSERT(env->size == p->size);
    memcpy(image, &crc, sizeof(crc));
    image[FLAGS_AT] = flags;
    rc = copy_write(p, to, e);
    if (rc < 0)
        return rc;
    env->newest = to;
    env->flags = flags;
    return 0;
}
