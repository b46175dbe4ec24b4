#include "base/sandbox.h"

#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* A directory that is always there, holds nothing that can be opened by another user, and is nobody's to write. */
#define EMPTY_DIR "/proc/self/fdinfo"

static int identity_drop(uint32_t uid, bool empty_root, struct err *e)
{
    if (empty_root && (chroot(EMPTY_DIR) < 0 || chdir("/") < 0))
        return err_errno(e, "sandbox: chroot");
    if (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
        return err_errno(e, "sandbox: user %u", uid);
    if (setuid(0) == 0)
        return err_set(e, ERR_STATE, "sandbox: root's rights came back");
    return 0;
}

int sandbox_enter(uint32_t uid, bool empty_root, struct err *e)
{
    const struct rlimit none = {0, 0};
    int rc = geteuid() == 0 ? identity_drop(uid, empty_root, e) : 0;

    if (rc < 0)
        return rc;
    /* pipes are written as before under RLIMIT_FSIZE 0; a log file on stderr is not, which must not kill us */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        setrlimit(RLIMIT_FSIZE, &none) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
        return err_errno(e, "sandbox");
    return 0;
}
