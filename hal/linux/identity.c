/* The board's name, from what stays the same when a slot is overwritten: the processor's or board's serial number,
 * else the first network card's burnt-in address, else /etc/machine-id, which an image must not bring along. */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "hal/linux/linux.h"

#define ID_MIN 8
#define ID_MAX 64

/* Printable, long enough, and not the zeros of a number that was never burnt. */
static bool id_usable(const char *id)
{
    size_t len = strlen(id);

    if (len < ID_MIN || len > ID_MAX || strspn(id, "0:") == len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)id[i]))
            return false;
    return true;
}

static bool id_from_file(const char *path, char id[ID_MAX + 1])
{
    char text[ID_MAX + 8];

    if (io_read_file(path, text, sizeof(text)) < 0)
        return false;
    text[strcspn(text, " \n")] = 0;
    if (!id_usable(text))
        return false;
    memcpy(id, text, strlen(text) + 1);
    return true;
}

/* addr_assign_type 0: the card's own address, not one made up at start. The lowest name, so that the answer does not
 * depend on the order of the folder. */
static bool id_from_network(char id[ID_MAX + 1])
{
    DIR *dir = opendir("/sys/class/net");
    struct dirent *d;
    char best[NAME_MAX + 1] = "";

    if (dir == NULL)
        return false;
    while ((d = readdir(dir)) != NULL) {
        char path[NAME_MAX + 64];
        char kind[8], mac[ID_MAX + 1];

        if (best[0] != 0 && strcmp(d->d_name, best) >= 0)
            continue;
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/addr_assign_type", d->d_name);
        if (io_read_file(path, kind, sizeof(kind)) < 0 || kind[0] != '0')
            continue;
        (void)snprintf(path, sizeof(path), "/sys/class/net/%s/address", d->d_name);
        if (!id_from_file(path, mac))
            continue;
        memcpy(id, mac, strlen(mac) + 1);
        memcpy(best, d->d_name, strlen(d->d_name) + 1);
    }
    closedir(dir);
    return best[0] != 0;
}

static int identity_device_id(char *out, size_t cap, struct err *e)
{
    char id[ID_MAX + 1];

    if (!id_from_file("/proc/device-tree/serial-number", id) && !id_from_network(id) &&
        !id_from_file("/etc/machine-id", id))
        return err_set(e, ERR_ABSENT, "this board has no serial number, network address or machine-id");
    if (strlen(id) >= cap)
        return err_set(e, ERR_LIMIT, "device id %s: %zu bytes are too few", id, cap);
    memcpy(out, id, strlen(id) + 1);
    return 0;
}

const struct identity_ops identity_linux = {.device_id = identity_device_id};
