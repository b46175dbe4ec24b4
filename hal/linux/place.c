/* udev's links where there are any, else the kernel's own words in /sys. */
#include "hal/linux/place.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/io.h"

struct kind {
    const char *prefix, *by, *key; /* key: in uevent */
};
static const struct kind kinds[] = {
    {"PARTLABEL=", "/dev/disk/by-partlabel/", "PARTNAME="},
    {"PARTUUID=", "/dev/disk/by-partuuid/", "PARTUUID="},
    {"LABEL=", "/dev/disk/by-label/", NULL},
};

static bool has_line(const char *text, const char *key, const char *value)
{
    size_t key_len = strlen(key), len = strlen(value);
    for (const char *p = text; p != NULL && *p != '\0'; p = strchr(p, '\n')) {
        p += *p == '\n';
        if (strncmp(p, key, key_len) == 0 && strncmp(p + key_len, value, len) == 0 &&
            (p[key_len + len] == '\n' || p[key_len + len] == '\0'))
            return true;
    }
    return false;
}

static int search_sys(const struct kind *k, const char *value, char *out, struct err *e)
{
    char path[PLACE_DEV_MAX + 32], text[1024];
    bool found = false;
    DIR *d = opendir("/sys/class/block");
    if (d == NULL)
        return err_errno(e, "/sys/class/block");
    for (struct dirent *de = readdir(d); de != NULL && !found; de = readdir(d)) {
        snprintf(path, sizeof path, "/sys/class/block/%s/uevent", de->d_name);
        if (de->d_name[0] == '.' || io_read_file(path, text, sizeof text) <= 0)
            continue;
        found = has_line(text, k->key, value);
        if (found)
            snprintf(out, PLACE_DEV_MAX, "/dev/%s", de->d_name);
    }
    closedir(d);
    return found ? 0 : err_set(e, ERR_ABSENT, "no partition with %s%s", k->prefix, value);
}

int place_device(const char *place, char out[PLACE_DEV_MAX], struct err *e)
{
    if (strncmp(place, "/dev/", 5) == 0) {
        if (snprintf(out, PLACE_DEV_MAX, "%s", place) >= PLACE_DEV_MAX)
            return err_set(e, ERR_CONFIG, "%s: too long", place);
        return 0;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        const struct kind *k = &kinds[i];
        size_t n = strlen(k->prefix);
        if (strncmp(place, k->prefix, n) != 0)
            continue;
        if (place[n] == '\0' || strchr(place + n, '/') != NULL)
            break;
        if (snprintf(out, PLACE_DEV_MAX, "%s%s", k->by, place + n) >= PLACE_DEV_MAX)
            break;
        if (access(out, F_OK) == 0)
            return 0;
        if (k->key == NULL)
            return err_set(e, ERR_ABSENT, "%s: no such device", place);
        return search_sys(k, place + n, out, e);
    }
    return err_set(e, ERR_CONFIG, "%s: want PARTLABEL=, PARTUUID=, LABEL= or /dev/", place);
}

/* mountinfo's third field is the device's number; btrfs and ubifs show others there, so the source counts too. */
bool place_is_mounted(const char *dev)
{
    char line[1024], source[PLACE_DEV_MAX];
    struct stat st, src;
    bool found = false;
    bool is_block = stat(dev, &st) == 0 && S_ISBLK(st.st_mode);
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f == NULL)
        return false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        unsigned a = 0, b = 0;
        const char *tail = strstr(line, " - ");
        if (is_block && sscanf(line, "%*d %*d %u:%u", &a, &b) == 2)
            found = makedev(a, b) == st.st_rdev;
        if (!found && tail != NULL && sscanf(tail, " - %*s %287s", source) == 1)
            found = strcmp(source, dev) == 0 || (is_block && stat(source, &src) == 0 &&
                                                 S_ISBLK(src.st_mode) && src.st_rdev == st.st_rdev);
    }
    fclose(f);
    return found;
}
