/* Which system calls a role may make. decode and fetch have lists of what they may; a call that is not on it, or has
 * another architecture's numbering, ends the process with SIGSYS, which agentd then tells. stage has a slot to make, mount
 * and compare with whatever the kernel offers for it, so its list is of what it may not. */
#include <errno.h>
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
#endif
/* musl has its own names for what takes times of 32 bit */
#ifndef __NR_clock_gettime
#define __NR_clock_gettime __NR_clock_gettime32
#define __NR_clock_settime __NR_clock_settime32
#define __NR_clock_nanosleep __NR_clock_nanosleep_time32
#define __NR_gettimeofday __NR_gettimeofday_time32
#define __NR_settimeofday __NR_settimeofday_time32
#endif
#ifndef __NR_clock_gettime64
#define __NR_clock_gettime64 ABSENT
#define __NR_clock_settime64 ABSENT
#define __NR_clock_nanosleep_time64 ABSENT
#define __NR_ppoll_time64 ABSENT
#define __NR_pselect6_time64 ABSENT
#endif
#ifndef __NR_fork
#define __NR_fork ABSENT
#define __NR_vfork ABSENT
#endif
#ifndef __NR_kexec_file_load
#define __NR_kexec_file_load ABSENT
#endif
#ifndef __NR_clone3
#define __NR_clone3 ABSENT
#endif
#ifndef __NR_io_uring_setup
#define __NR_io_uring_setup ABSENT
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

/* What fetch does besides: names are looked up in files and by UDP. */
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
    __NR_open,
    __NR_openat,
    __NR_stat,
    __NR_stat64,
    __NR_fstat,
    __NR_fstat64,
    __NR_newfstatat,
    __NR_fstatat64,
    __NR_statx,
    __NR_access,
    __NR_faccessat,
    __NR_lseek,
    __NR__llseek,
    __NR_pread64,
    __NR_readlinkat,
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

/* No network, no other program or process, nothing that outlives a reboot but files. */
static const uint32_t denied[] = {
    __NR_socket,
    __NR_socketpair,
    __NR_connect,
    __NR_bind,
    __NR_listen,
    __NR_execve,
    __NR_execveat,
    __NR_fork,
    __NR_vfork,
    __NR_clone,
    __NR_clone3,
    __NR_ptrace,
    __NR_process_vm_readv,
    __NR_process_vm_writev,
    __NR_kexec_load,
    __NR_kexec_file_load,
    __NR_init_module,
    __NR_finit_module,
    __NR_delete_module,
    __NR_bpf,
    __NR_perf_event_open,
    __NR_keyctl,
    __NR_add_key,
    __NR_request_key,
    __NR_reboot,
    __NR_swapon,
    __NR_swapoff,
    __NR_setns,
    __NR_unshare,
    __NR_pivot_root,
    __NR_clock_settime,
    __NR_clock_settime64,
    __NR_settimeofday,
    __NR_adjtimex,
    __NR_acct,
    __NR_userfaultfd,
    __NR_io_uring_setup,
    __NR_open_by_handle_at,
};

static void list_add(struct filter *f, const uint32_t *calls, size_t cnt, uint32_t verdict)
{
    for (size_t i = 0; i < cnt; i++)
        if (calls[i] != ABSENT)
            filter_answer_if(f, BPF_JEQ, calls[i], verdict);
}

#define LIST_ADD(f, list, verdict) list_add(f, list, sizeof(list) / sizeof(list)[0], verdict)

int sandbox_calls(enum sandbox kind, struct err *e)
{
    static struct filter f;

    filter_begin(&f, SECCOMP_RET_KILL_PROCESS);
    if (kind == SANDBOX_STAGE) {
        LIST_ADD(&f, denied, SECCOMP_RET_KILL_PROCESS);
    } else {
        LIST_ADD(&f, plain, SECCOMP_RET_ALLOW);
        if (kind == SANDBOX_FETCH)
            LIST_ADD(&f, network, SECCOMP_RET_ALLOW);
    }
    filter_answer(&f, kind == SANDBOX_STAGE ? SECCOMP_RET_ALLOW : SECCOMP_RET_KILL_PROCESS);
    /* EINVAL: a kernel without it, which sandbox_describe() says */
    return filter_enter(&f) < 0 && errno != EINVAL ? err_errno(e, "sandbox: seccomp") : 0;
}
