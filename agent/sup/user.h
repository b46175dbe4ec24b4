/* Users of an image: its own etc/passwd and etc/group, read with a parser of our own, since the libc's would look into
 * the agent's root. Data from an image: every field is bounded, a line that does not parse is passed over.
 */
#ifndef SLIPWAY_SUP_USER_H
#define SLIPWAY_SUP_USER_H

#include <sys/types.h>

#include "base/err.h"

#define APP_GROUP_MAX 32

struct app_user {
    uid_t uid;
    gid_t gid;
    gid_t groups[APP_GROUP_MAX]; /* supplementary */
    size_t group_cnt;
    char home[128]; /* "/" where etc/passwd does not say */
};

/* `spec` as in the image's config: "" (root), "name", "id", "name:group", "id:gid". As Docker has it: an id need not be
 * listed and has group 0 then; a group that is named stands alone, without supplementary groups. `etc` is the folder
 * of passwd and group. ERR_APP when a name is not there. */
int app_user_find(const char *etc, const char *spec, struct app_user *out, struct err *e);

#endif
