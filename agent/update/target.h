/* A target follows a tag: the system, which has two slots and a boot loader, or an app, which has two trees below the state
 * directory and agentd in the boot loader's place. Both have the same update machine and the same stage; what they stand
 * on is told apart here, by the view of the configuration (conf_view()) and nothing else.
 */
#ifndef SLIPWAY_UPDATE_TARGET_H
#define SLIPWAY_UPDATE_TARGET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/conf.h"
#include "base/err.h"
#include "hal/bootrec.h"
#include "hal/tree.h"

struct target_boot {
    const struct bootrec_ops *ops;
    const void *arg;
};

static inline bool target_is_app(const struct conf *c)
{
    return c->target[0] != '\0';
}

/* Which of the two is next, and how often it is tried. */
struct target_boot target_boot(const struct conf *c);
/* The one that runs from now on. Of an app it is chosen here, as a boot loader would: the first that has tries left; the one
 * on trial (1 + its slot_id; 0: none is) has one less then, and that is on the medium before it is started. */
int target_booted(const struct conf *c, uint32_t trial, enum slot_id *out, struct err *e);

/* Where a slot lies, and the driver for it. */
const char *target_place(const struct conf *c, enum slot_id slot);
const struct tree_ops *target_tree(const struct conf *c);
/* Where the root of the version in `slot` is, when that is the one that runs. */
int target_root(const struct conf *c, enum slot_id slot, char *out, size_t cap, struct err *e);
/* As struct board has it: NULL ends the list before BOARD_NEEDS_MAX. */
const char *const *target_needs(const struct conf *c);

/* Make the folders that a target keeps its things in. */
int target_folders_make(const struct conf *c, struct err *e);

#endif
