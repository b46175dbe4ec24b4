/* Giving up what a role does not need. Roles that meet bytes from outside call this once, after they opened what they
 * use and before they read the first byte. What the kernel does not have is left out, and sandbox_describe() says so.
 *
 *            user         root                              system calls (seccomp)
 *   decode   worker_uid   empty                             pipes and memory; the same for envelope
 *   fetch    worker_uid   what it takes to look up names;   these, network, read files
 *                         a layout that a person named
 *   stage    root, eight  the slot; its own folder; to      pipes and memory, read and write files
 *            capabilities read, keys and the active slot
 *   forward  worker_uid   empty                             pipes and memory, sockets; in the app's network namespace
 *
 * The roots are those of base/reach.h, filled by the roles. All but stage are held by Landlock besides, also where there are
 * no private roots: decode and forward reach no file, fetch reads /etc and /run.
 */
#ifndef SLIPWAY_BASE_SANDBOX_H
#define SLIPWAY_BASE_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum sandbox { SANDBOX_DECODE = 1, SANDBOX_FETCH, SANDBOX_STAGE, SANDBOX_FORWARD };

/* Never gain privileges again, leave no core dump. All but stage: write no file, and when root, become user and
 * group `uid` without supplementary groups. */
int sandbox_enter(enum sandbox kind, uint32_t uid, struct err *e);

/* One directory more that fetch may read, open as `fd`. Before sandbox_enter(). */
void sandbox_allow(int fd);

/* What is in force here, for people: "seccomp, Landlock", "seccomp, no Landlock". */
void sandbox_describe(char *out, size_t cap);

/* sandbox_calls.c: allow or deny system calls from now on. A call that is not allowed ends the process. */
int sandbox_calls(enum sandbox kind, struct err *e);

#endif
