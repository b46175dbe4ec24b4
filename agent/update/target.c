#include "update/target.h"

#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "hal/board.h"
#include "update/pointer.h"

struct target_boot target_boot(const struct conf *c)
{
    return target_is_app(c) ? (struct target_boot){&pointer_ops, c}
                            : (struct target_boot){board.bootrec, board.bootrec_arg};
}

int target_booted(const struct conf *c, uint32_t trial, enum slot_id *out, struct err *e)
{
    if (target_is_app(c))
        return pointer_take(c, trial, out, e);
    return board.bootrec->booted(board.bootrec_arg, out, e);
}

const char *target_place(const struct conf *c, enum slot_id slot)
{
    const char *own = slot == SLOT_A ? c->slots.a : c->slots.b;

    return own[0] ? own : board.slots[slot];
}

const struct tree_ops *target_tree(const struct conf *c)
{
    return target_is_app(c) ? board.folder : board.tree;
}

int target_root(const struct conf *c, enum slot_id slot, char *out, size_t cap, struct err *e)
{
    if (!target_is_app(c))
        return board.app_root(slot, out, cap, e);
    if (snprintf(out, cap, "%s", target_place(c, slot)) >= (int)cap)
        return err_set(e, ERR_LIMIT, "app root: %zu bytes are too few", cap);
    return 0;
}

const char *const *target_needs(const struct conf *c)
{
    static const char *const none[BOARD_NEEDS_MAX];

    return target_is_app(c) ? none : board.needs;
}

int target_folders_make(const struct conf *c, struct err *e)
{
    const char *const dirs[] = {c->agent.state_dir, c->agent.stage_dir, c->slots.a, c->slots.b};
    size_t cnt = target_is_app(c) ? sizeof dirs / sizeof dirs[0] : 2;
    char parent[CONF_PATH_MAX];

    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(c->agent.state_dir, '/') - c->agent.state_dir),
             c->agent.state_dir);
    if (target_is_app(c) && io_make_dir(parent) < 0)
        return err_errno(e, "%s", parent);
    for (size_t i = 0; i < cnt; i++)
        if (io_make_dir(dirs[i]) < 0)
            return err_errno(e, "%s", dirs[i]);
    return 0;
}
