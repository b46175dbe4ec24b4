#include "base/role.h"

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"

static void role_exec(uint32_t limit_kib, const int *fds, int cnt, char *const argv[])
{
    /* the sanitizers' own memory is no part of what is limited */
    static const bool limited = !IS_ENABLED(__SANITIZE_ADDRESS__);
    struct rlimit data = {limit_kib * 1024ul, limit_kib * 1024ul};
    int high[ROLE_FD_MAX];

    for (int i = 0; i < cnt; i++)
        if ((high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 64)) < 0)
            _exit(126);
    for (int i = 0; i < cnt; i++)
        if (dup2(high[i], 3 + i) < 0)
            _exit(126);
    if (limited && setrlimit(RLIMIT_DATA, &data) < 0)
        _exit(126);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execv("/proc/self/exe", argv);
    _exit(127);
}

pid_t role_start(uint32_t limit_kib, const int *fds, int cnt, char *const argv[])
{
    pid_t pid;

    ASSERT(cnt <= ROLE_FD_MAX);
    pid = fork();
    if (pid == 0)
        role_exec(limit_kib, fds, cnt, argv);
    return pid;
}
