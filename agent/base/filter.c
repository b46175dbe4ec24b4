#include "base/filter.h"

#include <sys/prctl.h>

#include "base/log.h"

void filter_op(struct filter *f, uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    ASSERT(f->cnt < FILTER_OP_MAX);
    f->ops[f->cnt++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void load(struct filter *f, size_t offset)
{
    filter_op(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

void filter_load_argument(struct filter *f, int n)
{
    load(f, offsetof(struct seccomp_data, args) + (size_t)n * sizeof(uint64_t));
}

void filter_answer(struct filter *f, uint32_t verdict)
{
    filter_op(f, BPF_RET | BPF_K, verdict, 0, 0);
}

void filter_answer_if(struct filter *f, uint16_t compare, uint32_t value, uint32_t verdict)
{
    filter_op(f, (uint16_t)(BPF_JMP | compare | BPF_K), value, 0, 1);
    filter_answer(f, verdict);
}

void filter_begin(struct filter *f, uint32_t foreign)
{
    f->cnt = 0;
    load(f, offsetof(struct seccomp_data, arch));
    filter_op(f, BPF_JMP | BPF_JEQ | BPF_K, FILTER_ARCH, 1, 0);
    filter_answer(f, foreign);
    load(f, offsetof(struct seccomp_data, nr));
}

int filter_enter(struct filter *f)
{
    struct sock_fprog program = {.len = f->cnt, .filter = f->ops};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
