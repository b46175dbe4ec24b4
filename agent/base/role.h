/* A role of this program: the same binary executed again as another process, which ends with its parent. */
#ifndef SLIPWAY_BASE_ROLE_H
#define SLIPWAY_BASE_ROLE_H

#include <stdint.h>
#include <sys/types.h>

#define ROLE_FD_MAX 9

/* Start it with `argv` ({"slipway", "fetch", ..., NULL}) and a ceiling on its anonymous memory. fds[0..cnt) become its
 * descriptors 3 and following; of the others it gets those without O_CLOEXEC. Returns its pid, or -1 with errno; what goes
 * wrong after that is its exit code, 126 or 127. */
pid_t role_start(uint32_t limit_kib, const int *fds, int cnt, char *const argv[]);

#endif
