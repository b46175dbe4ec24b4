#include "hal/linux/linux.h"

int linux_app_root(enum slot_id slot, char *out, size_t cap, struct err *e)
{
    (void)slot;
    if (cap < 2)
        return err_set(e, ERR_LIMIT, "app root: %zu bytes are too few", cap);
    out[0] = '/';
    out[1] = 0;
    return 0;
}
