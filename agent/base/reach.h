/* What a role can reach of the machine's files: a root of its own, with nothing in it but what was let in. It is made of
 * mounts in a namespace of the process's own, so nobody else sees it and it is gone with the process.
 *
 *     reach_begin()  reach_let() ...  reach_enter()
 *
 * Where the kernel lets this process mount nothing (not root, or no namespaces), all three do nothing and
 * reach_possible() is false.
 */
#ifndef SLIPWAY_BASE_REACH_H
#define SLIPWAY_BASE_REACH_H

#include <stdbool.h>

#include "base/err.h"

#define REACH_PATH_MAX 320

enum reach { REACH_READ, REACH_WRITE, REACH_DEVICE }; /* device: read and write, and devices work */

bool reach_possible(void);

int reach_begin(struct err *e);

/* Let in a file or a directory without what is mounted below it, at the same path; through symlinks. What is not there
 * is not let in. */
int reach_let(const char *path, enum reach how, struct err *e);
/* At another one. */
int reach_let_as(const char *path, const char *as, enum reach how, struct err *e);
/* An empty directory. */
int reach_let_new(const char *path, struct err *e);

/* Where `path` of the new root lies until it is entered; `path` itself where there is none. */
const char *reach_at(const char *path, char out[REACH_PATH_MAX]);

/* From now on there is nothing else, for this process and for the children it has. */
int reach_enter(struct err *e);

#endif
