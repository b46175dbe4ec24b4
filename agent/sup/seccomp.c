#include "sup/seccomp.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>

#include "base/filter.h"

/* mseal: up to here the list below was checked. From 424 on the numbers are the same everywhere. */
#define NEWEST 462
/* cacheflush, set_tls and others of ARM: harmless, and every program there needs them. */
#define ARM_PRIVATE 0x0f0000

#define NAMESPACES                                                                                           \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |            \
     CLONE_NEWNET)
#define NOBODY 63 /* no capability opens it */

/* Later ones by number, since the C library's headers are older. */
#define NR_IO_URING_SETUP 425
#define NR_IO_URING_ENTER 426
#define NR_IO_URING_REGISTER 427
#define NR_OPEN_TREE 428
#define NR_MOVE_MOUNT 429
#define NR_FSOPEN 430
#define NR_FSCONFIG 431
#define NR_FSMOUNT 432
#define NR_FSPICK 433
#define NR_CLONE3 435
#define NR_MOUNT_SETATTR 442
#define NR_QUOTACTL_FD 443
#define NR_MEMFD_SECRET 447
#define NR_SET_MEMPOLICY_HOME_NODE 450
#define NR_STATMOUNT 457
#define NR_LISTMOUNT 458
#define NR_LSM_SET_SELF_ATTR 460

static const struct {
    uint16_t number;
    uint8_t opens; /* the capability with which it is allowed */
} denied[] = {
    {SYS_mount, CAP_SYS_ADMIN},
    {SYS_umount2, CAP_SYS_ADMIN},
    {NR_OPEN_TREE, CAP_SYS_ADMIN},
    {NR_MOVE_MOUNT, CAP_SYS_ADMIN},
    {NR_FSOPEN, CAP_SYS_ADMIN},
    {NR_FSCONFIG, CAP_SYS_ADMIN},
    {NR_FSMOUNT, CAP_SYS_ADMIN},
    {NR_FSPICK, CAP_SYS_ADMIN},
    {NR_MOUNT_SETATTR, CAP_SYS_ADMIN},
    {NR_STATMOUNT, CAP_SYS_ADMIN},
    {NR_LISTMOUNT, CAP_SYS_ADMIN},
    {NR_LSM_SET_SELF_ATTR, CAP_SYS_ADMIN},
    {SYS_quotactl, CAP_SYS_ADMIN},
    {NR_QUOTACTL_FD, CAP_SYS_ADMIN},
    {SYS_setns, CAP_SYS_ADMIN},
    {SYS_unshare, CAP_SYS_ADMIN},
    {SYS_bpf, CAP_SYS_ADMIN},
    {SYS_perf_event_open, CAP_SYS_ADMIN},
    {SYS_lookup_dcookie, CAP_SYS_ADMIN},
    {SYS_fanotify_init, CAP_SYS_ADMIN},
    {SYS_pivot_root, NOBODY},
    {SYS_swapon, NOBODY},
    {SYS_swapoff, NOBODY},
    {SYS_add_key, NOBODY},
    {SYS_keyctl, NOBODY},
    {SYS_request_key, NOBODY},
    {SYS_userfaultfd, NOBODY},
    {SYS_nfsservctl, NOBODY},
    {SYS_vhangup, CAP_SYS_TTY_CONFIG},
    {SYS_open_by_handle_at, CAP_DAC_READ_SEARCH},
    {SYS_init_module, CAP_SYS_MODULE},
    {SYS_finit_module, CAP_SYS_MODULE},
    {SYS_delete_module, CAP_SYS_MODULE},
    {SYS_reboot, CAP_SYS_BOOT},
    {SYS_kexec_load, CAP_SYS_BOOT},
    {SYS_acct, CAP_SYS_PACCT},
    {SYS_kcmp, CAP_SYS_PTRACE},
    {SYS_syslog, CAP_SYSLOG},
    {SYS_mbind, CAP_SYS_NICE},
    {SYS_set_mempolicy, CAP_SYS_NICE},
    {SYS_get_mempolicy, CAP_SYS_NICE},
    {SYS_move_pages, CAP_SYS_NICE},
    {NR_SET_MEMPOLICY_HOME_NODE, CAP_SYS_NICE},
    {NR_IO_URING_SETUP, NOBODY},
    {NR_IO_URING_ENTER, NOBODY},
    {NR_IO_URING_REGISTER, NOBODY},
    {NR_MEMFD_SECRET, NOBODY},
/* Two names for one: with 32 bits musl tells them apart by the width of their times. */
#ifdef SYS_clock_settime64
    {SYS_clock_settime64, CAP_SYS_TIME},
#endif
#ifdef SYS_clock_settime32
    {SYS_clock_settime32, CAP_SYS_TIME},
    {SYS_settimeofday_time32, CAP_SYS_TIME},
#else
    {SYS_clock_settime, CAP_SYS_TIME},
    {SYS_settimeofday, CAP_SYS_TIME},
#endif
/* What only some architectures have. */
#ifdef SYS_iopl
    {SYS_iopl, CAP_SYS_RAWIO},
    {SYS_ioperm, CAP_SYS_RAWIO},
    {SYS_create_module, NOBODY},
    {SYS_get_kernel_syms, NOBODY},
    {SYS_query_module, NOBODY},
#endif
#ifdef SYS_kexec_file_load
    {SYS_kexec_file_load, CAP_SYS_BOOT},
#endif
#ifdef SYS_uselib
    {SYS_uselib, NOBODY},
    {SYS_ustat, NOBODY},
    {SYS_sysfs, NOBODY},
    {SYS__sysctl, NOBODY},
#endif
#ifdef SYS_pciconfig_iobase
    {SYS_pciconfig_iobase, NOBODY},
    {SYS_pciconfig_read, NOBODY},
    {SYS_pciconfig_write, NOBODY},
#endif
};

/* The personalities of Docker's profile: Linux, with or without 32 bit and "do not change", and the question. */
static const uint32_t personalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};

#define DENIED_CNT (sizeof denied / sizeof denied[0])
#define PERSONALITY_CNT (sizeof personalities / sizeof personalities[0])

static const uint32_t refuse = SECCOMP_RET_ERRNO | EPERM;
static const uint32_t unknown = SECCOMP_RET_ERRNO | ENOSYS;

static void number_judge(struct filter *f, uint64_t caps)
{
    filter_begin(f, unknown);
    if (FILTER_ARCH == AUDIT_ARCH_ARM)
        filter_answer_if(f, BPF_JGE, ARM_PRIVATE, SECCOMP_RET_ALLOW);
    filter_answer_if(f, BPF_JGT, NEWEST, unknown);
    for (size_t i = 0; i < DENIED_CNT; i++)
        if (!(caps >> denied[i].opens & 1))
            filter_answer_if(f, BPF_JEQ, denied[i].number, refuse);
}

/* New namespaces; clone3 keeps its flags where no filter can look, so the C libraries fall back to clone. */
static void clone_judge(struct filter *f, uint64_t caps)
{
    if (caps >> CAP_SYS_ADMIN & 1)
        return;
    filter_answer_if(f, BPF_JEQ, NR_CLONE3, unknown);
    filter_op(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
    filter_load_argument(f, 0);
    filter_op(f, BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 0, 1);
    filter_answer(f, refuse);
    filter_answer(f, SECCOMP_RET_ALLOW);
}

static void personality_judge(struct filter *f)
{
    filter_op(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_personality, 1, 0);
    filter_answer(f, SECCOMP_RET_ALLOW);
    filter_load_argument(f, 0);
    for (size_t i = 0; i < PERSONALITY_CNT; i++)
        filter_answer_if(f, BPF_JEQ, personalities[i], SECCOMP_RET_ALLOW);
    filter_answer(f, refuse);
}

int seccomp_enter(uint64_t caps, struct err *e)
{
    struct filter f;

    number_judge(&f, caps);
    clone_judge(&f, caps);
    personality_judge(&f);
    return filter_enter(&f) < 0 ? err_errno(e, "system call filter") : 0;
}
