/* Which system calls a role may make. Each has a list; a call that is not on it, or has another architecture's numbering,
 * ends the process with SIGSYS, which agentd then tells. */
#include <errno.h>
#include <linux/fs.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/filter.h"
#include "base/sandbox.h"

/* Numbers that one of the architectures, or an older kernel's headers, has not; none of them is a call's. */
#define ABSENT 0xffffffff
#ifndef __NR_mmap
#define __NR_mmap ABSENT
#endif
#ifndef __NR_mmap2
#define __NR_mmap2 ABSENT
#endif
#ifndef __NR_poll
#define __NR_poll ABSENT
#endif
#ifndef __NR_send
#define __NR_send ABSENT
#define __NR_recv ABSENT
#endif
#ifndef __NR_open
#define __NR_open ABSENT
#define __NR_stat ABSENT
#define __NR_access ABSENT
#define __NR_mkdir ABSENT
#define __NR_unlink ABSENT
#define __NR_rename ABSENT
#endif
#ifndef __NR_renameat
#define __NR_renameat ABSENT
#endif
#ifndef __NR_epoll_wait
#define __NR_epoll_wait ABSENT
#endif
#ifndef __NR_newfstatat
#define __NR_newfstatat ABSENT
#endif
#ifndef __NR_fstatat64
#define __NR_fstatat64 ABSENT
#define __NR_fcntl64 ABSENT
#define __NR_fstat64 ABSENT
#define __NR_stat64 ABSENT
#define __NR__llseek ABSENT
#define __NR_fchown32 ABSENT
#define __NR_ftruncate64 ABSENT
#define __NR_statfs64 ABSENT
#define __NR_fstatfs64 ABSENT
#endif
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 ABSENT
#endif
#ifndef __NR_fadvise64
#define __NR_fadvise64 ABSENT
#endif
#ifndef __NR_arm_fadvise64_64
#define __NR_arm_fadvise64_64 ABSENT
#endif
#ifndef __NR_sync_file_range
#define __NR_sync_file_range ABSENT
#endif
#ifndef __NR_sync_file_range2
#define __NR_sync_file_range2 ABSENT
#endif
/* musl has its own names for what takes times of 32 bit */
#ifndef __NR_clock_gettime
#define __NR_clock_gettime __NR_clock_gettime32
#define __NR_clock_nanosleep __NR_clock_nanosleep_time32
#define __NR_gettimeofday __NR_gettimeofday_time32
#endif
#ifndef __NR_clock_gettime64
#define __NR_clock_gettime64 ABSENT
#define __NR_clock_nanosleep_time64 ABSENT
#define __NR_ppoll_time64 ABSENT
#define __NR_pselect6_time64 ABSENT
#define __NR_utimensat_time64 ABSENT
#endif

/* Pipes that are open, memory, the hash engine's socket that is open, the end. */
static const uint32_t plain[] = {
    __NR_read,
    __NR_write,
    __NR_readv,
    __NR_writev,
    __NR_close,
    __NR_brk,
    __NR_mmap,
    __NR_mmap2,
    __NR_munmap,
    __NR_mremap,
    __NR_mprotect,
    __NR_madvise,
    __NR_poll,
    __NR_ppoll,
    __NR_ppoll_time64,
    __NR_accept4,
    __NR_send,
    __NR_sendto,
    __NR_splice,
    __NR_vmsplice,
    __NR_tee,
    __NR_fcntl,
    __NR_fcntl64,
    __NR_futex,
    __NR_getrandom,
    __NR_clock_gettime,
    __NR_clock_gettime64,
    __NR_getpid,
    __NR_gettid,
    __NR_tkill,
    __NR_rt_sigreturn,
    __NR_rt_sigprocmask,
    __NR_rt_sigaction,
    __NR_restart_syscall,
    __NR_exit,
    __NR_exit_group,
};

/* Files, as fetch and stage look at them. */
static const uint32_t reading[] = {
    __NR_open,      __NR_openat,     __NR_stat,      __NR_stat64,  __NR_fstat,
    __NR_fstat64,   __NR_newfstatat, __NR_fstatat64, __NR_statx,   __NR_access,
    __NR_faccessat, __NR_lseek,      __NR__llseek,   __NR_pread64, __NR_readlinkat,
};

/* Names are looked up in files and by UDP. */
static const uint32_t network[] = {
    __NR_socket,
    __NR_connect,
    __NR_bind,
    __NR_getsockname,
    __NR_getpeername,
    __NR_getsockopt,
    __NR_setsockopt,
    __NR_recv,
    __NR_recvfrom,
    __NR_recvmsg,
    __NR_sendmsg,
    __NR_sendmmsg,
    __NR_shutdown,
    __NR_ioctl,
    __NR_pselect6,
    __NR_pselect6_time64,
    __NR_uname,
    __NR_getuid,
    __NR_geteuid,
    __NR_eventfd2,
    __NR_pipe2,
    __NR_socketpair,
    __NR_sysinfo,
    __NR_gettimeofday,
    __NR_clock_nanosleep,
    __NR_clock_nanosleep_time64,
    __NR_nanosleep,
};

/* Connections and datagrams of ports that are open; of sockets that it makes only the kinds of the network. */
static const uint32_t forwarding[] = {
    __NR_connect,    __NR_recv,       __NR_recvfrom,  __NR_recvmsg,    __NR_sendmsg,     __NR_shutdown,
    __NR_getsockopt, __NR_setsockopt, __NR_epoll_ctl, __NR_epoll_wait, __NR_epoll_pwait, __NR_getppid,
};

/* What it takes to make nodes of every kind, to compare and to remove them. */
static const uint32_t writing[] = {
    __NR_pwrite64,     __NR_getdents64,       __NR_mkdir,           __NR_mkdirat,
    __NR_mknodat,      __NR_symlinkat,        __NR_linkat,          __NR_unlink,
    __NR_unlinkat,     __NR_rename,           __NR_renameat,        __NR_renameat2,
    __NR_fchown,       __NR_fchown32,         __NR_fchownat,        __NR_fchmod,
    __NR_fchmodat,     __NR_fchmodat2,        __NR_utimensat,       __NR_utimensat_time64,
    __NR_ftruncate,    __NR_ftruncate64,      __NR_fallocate,       __NR_fsync,
    __NR_fdatasync,    __NR_syncfs,           __NR_sync_file_range, __NR_sync_file_range2,
    __NR_fadvise64,    __NR_arm_fadvise64_64, __NR_statfs,          __NR_statfs64,
    __NR_fstatfs,      __NR_fstatfs64,        __NR_llistxattr,      __NR_flistxattr,
    __NR_lgetxattr,    __NR_fgetxattr,        __NR_lsetxattr,       __NR_fsetxattr,
    __NR_lremovexattr, __NR_fremovexattr,
};

/* Of devices that are open (hal/linux/disk.c). */
static const uint32_t verbs[] = {BLKGETSIZE64, BLKFLSBUF};

static void list_allow(struct filter *f, const uint32_t *calls, size_t cnt)
{
    for (size_t i = 0; i < cnt; i++)
        if (calls[i] != ABSENT)
            filter_answer_if(f, BPF_JEQ, calls[i], SECCOMP_RET_ALLOW);
}

#define LIST_ALLOW(f, list) list_allow(f, list, sizeof(list) / sizeof(list)[0])

static void stage_allow(struct filter *f)
{
    LIST_ALLOW(f, reading);
    LIST_ALLOW(f, writing);
    if (IS_ENABLED(CONFIG_HAL_SIM)) /* the simulated power cut, which ends the whole process group */
        filter_answer_if(f, BPF_JEQ, __NR_kill, SECCOMP_RET_ALLOW);
    filter_op(f, BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 1, 0);
    filter_answer(f, SECCOMP_RET_KILL_PROCESS);
    filter_load_argument(f, 1);
    LIST_ALLOW(f, verbs);
}

static void forward_allow(struct filter *f)
{
    static const uint32_t families[] = {AF_INET, AF_INET6};

    LIST_ALLOW(f, forwarding);
    filter_op(f, BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 1, 0);
    filter_answer(f, SECCOMP_RET_KILL_PROCESS);
    filter_load_argument(f, 0);
    LIST_ALLOW(f, families);
}

int sandbox_calls(enum sandbox kind, struct err *e)
{
    static struct filter f;

    filter_begin(&f, SECCOMP_RET_KILL_PROCESS);
    LIST_ALLOW(&f, plain);
    if (kind == SANDBOX_FETCH) {
        LIST_ALLOW(&f, reading);
        LIST_ALLOW(&f, network);
    } else if (kind == SANDBOX_STAGE) {
        stage_allow(&f);
    } else if (kind == SANDBOX_FORWARD) {
        forward_allow(&f);
    }
    filter_answer(&f, SECCOMP_RET_KILL_PROCESS);
    /* EINVAL: a kernel without it, which sandbox_describe() says */
    return filter_enter(&f) < 0 && errno != EINVAL ? err_errno(e, "sandbox: seccomp") : 0;
}
