/* Inside the simulated kernel: kernel.c has files, paths and bytes; names.c names, metadata and the rest. */
#ifndef SLIPWAY_TESTS_CUTS_KERNEL_PRIV_H
#define SLIPWAY_TESTS_CUTS_KERNEL_PRIV_H

#include <stddef.h>
#include <sys/types.h>

#include "kernel.h"

#define FILES_MAX 192

/* ld --wrap: the core's call of NAME comes here. */
#define CALL(type, name, ...)                                                                                \
    type __wrap_##name(__VA_ARGS__);                                                                         \
    type __wrap_##name(__VA_ARGS__)

struct file {
    uint16_t node; /* 0: closed */
    bool is_text;  /* not of the medium */
    uint8_t text_len;
    char text[64];
    int flags;
    uint32_t at;
};
extern struct file kernel_files[FILES_MAX];

struct place {
    uint16_t dir, node, name; /* node 0: `name` is free in dir */
};

extern struct kernel_mount {
    enum medium_fs fs; /* FS_NONE: nothing is mounted */
    bool read_only;
} kernel_mount;

enum call_class { CALL_LOOKS, CALL_WRITES, CALL_GROWS };

/* errno = code; -1. */
int kernel_fail(int code);
/* True, with errno, when this call is to fail. */
bool kernel_trips(enum call_class class, uint16_t node);
void kernel_change(struct medium_op op);
/* The operations since the last one are one system call. 0. */
int kernel_call_end(void);
struct file *kernel_file(int fd);
uint16_t kernel_device(const char *path);
int kernel_find(int dir_fd, const char *path, struct place *p);
int kernel_find_existing(int dir_fd, const char *path, struct place *p);
/* Make a node at p: its number, or -1. */
int kernel_make(const struct place *p, const struct medium_op *what);
/* The cache is dropped: what is read from now on is what the medium has. */
void kernel_cache_drop(uint16_t node);
void kernel_cache_drop_all(void);

#endif
