#include "update/resume.h"

#include <string.h>

#include "base/log.h"

void resume_init(struct resume *r, const char *stage_dir, struct slot_tree *tree, const struct pump *pump)
{
    memset(r, 0, sizeof *r);
    checkpoints_init(&r->file, stage_dir);
    r->tree = tree;
    r->pump = pump;
}

bool resume_is_for(uint64_t blob_size)
{
    return blob_size > CHECKPOINT_EVERY;
}

int resume_begin(struct resume *r, const struct checkpoint_of *of, uint64_t blob_size, const char *table,
                 const struct digest *diff_id, struct entry *en, struct err *e)
{
    int cnt = resume_is_for(blob_size) ? checkpoints_find(&r->file, of, r->marks) : 0;
    int n = cnt > 0 ? slot_tree_layer_resume(r->tree, table, diff_id, r->marks, cnt, en, e) : cnt;
    int rc = n < 0 ? n : n < cnt ? checkpoints_load(&r->file, n, e) : 0;

    r->of = *of;
    r->every = resume_is_for(blob_size) ? CHECKPOINT_EVERY : 0;
    r->owed = rc == 0 && n < cnt && r->file.it.job.open;
    if (rc == 0 && n < cnt)
        return 1;
    if (r->every > 0)
        checkpoints_drop(&r->file);
    if (rc < 0)
        return err_prefix(e, "checkpoint");
    slot_tree_layer_note(r->tree, table, diff_id);
    return 0;
}

int resume_entry(struct resume *r, const struct entry *en, struct content *c, struct err *e)
{
    const struct checkpoint *it = &r->file.it;
    bool is_file = en->type == ENTRY_NODE && en->node.type == NODE_FILE;

    if (r->owed) {
        if (!is_file || it->begun > c->left || (it->mark.path[0] && strcmp(it->mark.path, en->path) != 0))
            return err_set(e, ERR_PEER, "decode went on with %.120s, want %.120s", en->path, it->mark.path);
        c->begun = it->begun;
        c->left -= it->begun;
    }
    r->size = en->node.size;
    r->content = is_file && (r->size > 0 || r->owed) ? c : NULL;
    r->owed = false;
    return 0;
}

void resume_entry_end(struct resume *r)
{
    r->content = NULL;
}

/* What decode offered is in file.it: keep it, with what is to be said of the slot and of the blob. */
static void keep(struct resume *r)
{
    struct checkpoint *it = &r->file.it;
    bool durable = checkpoints_sync_due(&r->file);
    struct err e;

    it->of = r->of;
    it->begun = r->content ? r->size - r->content->left : 0;
    if (it->job.open != (r->content ? 1 : 0) || !pump_place(r->pump, it->job.at, &it->pump) ||
        !slot_tree_mark(r->tree, it->begun, it->job.xxh64, &it->mark))
        return;
    if (durable && slot_tree_sync(r->tree, &e) != 0)
        log_warning("checkpoint: %s", e.text);
    else
        checkpoints_save(&r->file, durable);
}

int resume_take(struct resume *r, struct entry_pipe *pipe, uint32_t len, struct err *e)
{
    int rc = r->every == 0 || r->owed ? err_set(e, ERR_PEER, "decode sent a checkpoint out of place") : 0;

    if (rc == 0)
        rc = checkpoint_read(&r->file.it, pipe, len, e);
    if (rc == 0)
        keep(r);
    return rc;
}

void resume_end(struct resume *r, bool forget)
{
    bool has_some = r->every > 0;

    r->every = 0;
    r->content = NULL;
    if (r->file.bytes > 0)
        log_info("checkpoints of %llu bytes were written", (unsigned long long)r->file.bytes);
    if (forget && has_some)
        checkpoints_drop(&r->file);
}
