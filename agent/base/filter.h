/* System call filters (seccomp): a program is put together call by call, and then holds for this process and all that it
 * starts. What is refused, and how, is the caller's: base/sandbox_calls.c for the roles, sup/seccomp.c for the app.
 */
#ifndef SLIPWAY_BASE_FILTER_H
#define SLIPWAY_BASE_FILTER_H

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#elif defined(__arm__)
#define FILTER_ARCH AUDIT_ARCH_ARM
#else
#error "which AUDIT_ARCH_ is this?"
#endif

#define FILTER_OP_MAX 320

struct filter {
    uint16_t cnt;
    struct sock_filter ops[FILTER_OP_MAX];
};

/* A call by another architecture's numbers gets the verdict `foreign` (SECCOMP_RET_*). Then the call's number is loaded. */
void filter_begin(struct filter *f, uint32_t foreign);
void filter_op(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no);
/* Load the low half of the call's argument `n`: all of the architectures above are little-endian. */
void filter_load_argument(struct filter *f, int n);
void filter_answer(struct filter *f, uint32_t verdict);
/* When the comparison (BPF_JEQ, ...) of what was loaded with `value` holds, the verdict; otherwise on. */
void filter_answer_if(struct filter *f, uint16_t compare, uint32_t value, uint32_t verdict);
/* Returns 0, or -1 with errno: EINVAL from a kernel without filters. */
int filter_enter(struct filter *f);

#endif
