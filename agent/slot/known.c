/* Layers that were streamed before. While one streams, its entries are noted in a table of its own, named by the caller;
 * when an image has the layer again, and each file of it that shows is in one of the slots as that layer left it, the
 * table stands for the stream and nothing is fetched.
 *
 * The table says nothing of content. Whose content a file has says the slot's TOC: a record TOC_LAYER names the layer,
 * by its diff_id, of the records behind it. So nothing is hashed for this, and no short checksum decides what is the
 * same: the same layer has the same file at the same path. Layers of which that can't be said in a few words (a path
 * through a link of the layer, a path that comes twice) leave no table.
 *
 * A stream that is cut leaves its table as far as it came. Up to a mark of which everything is found in the slot again, the
 * table stands for what had come. */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "slot/priv.h"

/* --- noting -------------------------------------------------------------------------------------------------------- */

/* The records from here on are of this layer. Not in the slot, so it is hidden from all who look for nodes. */
static int mark_in(struct toc *t, const struct digest *id, struct err *e)
{
    static const struct node nothing;
    uint32_t at;
    return toc_add(t, "", &nothing, TOC_LAYER, TOC_HIDDEN, 0, id, &at, e);
}

int slot_known_mark(struct slot_tree *s, const struct digest *id, struct err *e)
{
    return mark_in(&s->toc, id, e);
}

void slot_known_drop(struct slot_tree *s)
{
    s->known.noting = false;
    toc_close(&s->known.toc);
}

void slot_tree_layer_note(struct slot_tree *s, const char *table, const struct digest *id)
{
    struct err e;
    ASSERT(s->layer_open && !s->dry);
    if (s->second)
        return;
    slot_known_drop(s);
    s->known.noting = toc_create(&s->known.toc, table, CONFIG_SLOT_ENTRY_MAX, &e) == 0 &&
                      mark_in(&s->known.toc, id, &e) == 0 && slot_known_mark(s, id, &e) == 0;
    if (!s->known.noting)
        log_warning("table of the layer: %s", e.text);
}

static uint8_t type_of(const struct entry *en)
{
    switch (en->type) {
    case ENTRY_HARDLINK:
        return TOC_HARDLINK;
    case ENTRY_WHITEOUT:
        return TOC_WHITEOUT;
    case ENTRY_OPAQUE:
        return TOC_OPAQUE;
    default:
        return (uint8_t)en->node.type;
    }
}

void slot_known_note(struct slot_tree *s, const struct entry *en)
{
    struct err e;
    uint32_t at;
    if (!s->known.noting)
        return;
    s->known.noting = strcmp(en->path, en->type == ENTRY_OPAQUE ? s->parent : s->path) == 0;
    if (s->known.noting &&
        toc_add(&s->known.toc, en->path, &en->node, type_of(en), 0, 0, NULL, &at, &e) != 0) {
        s->known.noting = false;
        log_warning("table of the layer: %s", e.text);
    }
}

bool slot_tree_layer_noted(struct slot_tree *s)
{
    struct toc_item it;
    struct err e;
    uint64_t pos = 0;
    bool noted = s->known.noting;
    int rc = 0;
    while (noted && (rc = toc_next(&s->known.toc, &pos, &it, &e)) > 0)
        continue;
    if (noted && (rc != 0 || toc_seal(&s->known.toc, &e) != 0)) {
        noted = false;
        log_warning("table of the layer: %s", e.text);
    }
    slot_known_drop(s);
    return noted;
}

/* --- using ---------------------------------------------------------------------------------------------------------- */

/* Nothing of this record would have to be fetched. */
static bool is_at_hand(struct slot_tree *s, const struct toc_item *it, const struct digest *id)
{
    if (slot_path_is_hidden(s, it->path))
        return true;
    if (it->r.type == TOC_HARDLINK) /* the content it would wait for is in no slot */
        return !slot_path_is_hidden(s, it->target);
    return it->r.type != NODE_FILE || it->r.size == 0 || slot_reuse_has(s, it->path, it->r.size, id);
}

/* All of it, and the table is this layer's and as it was sealed. */
static bool all_at_hand(struct slot_tree *s, const struct digest *id)
{
    struct toc_item it;
    struct err e;
    uint64_t pos = 0;
    int rc = toc_next(&s->known.toc, &pos, &it, &e);
    if (rc > 0 && (it.r.type != TOC_LAYER || digest_compare(&it.digest, id) != VERDICT_MATCH))
        rc = err_set(&e, ERR_FORMAT, "it is another layer's");
    while (rc > 0 && (rc = toc_next(&s->known.toc, &pos, &it, &e)) > 0)
        if (!is_at_hand(s, &it, id))
            return false;
    if (rc != 0)
        log_warning("table of the layer: %s", e.text);
    return rc == 0;
}

static void take_entry(const struct toc_item *it, struct entry *en)
{
    en->type = it->r.type == TOC_HARDLINK   ? ENTRY_HARDLINK
               : it->r.type == TOC_WHITEOUT ? ENTRY_WHITEOUT
               : it->r.type == TOC_OPAQUE   ? ENTRY_OPAQUE
                                            : ENTRY_NODE;
    memcpy(en->path, it->path, it->r.path_len + 1u);
    en->node = toc_node(it);
}

/* Up to `end` in the table. */
static int replay(struct slot_tree *s, const struct digest *id, uint64_t end, struct entry *en, struct err *e)
{
    const struct entry_place place = {0};
    struct toc_item it;
    uint64_t pos = 0;
    int rc = toc_next(&s->known.toc, &pos, &it, e); /* the layer itself */
    if (rc > 0)
        rc = slot_known_mark(s, id, e);
    s->known.of = id;
    while (rc == 0 && pos < end && (rc = toc_next(&s->known.toc, &pos, &it, e)) > 0) {
        struct content c = {.left = it.r.size, .place = &place};
        take_entry(&it, en);
        rc = slot_tree_entry(s, en, it.r.type == NODE_FILE ? &c : NULL, e);
    }
    s->known.of = NULL;
    return rc;
}

int slot_tree_layer_known(struct slot_tree *s, const char *table, const struct digest *id, struct entry *en,
                          struct err *e)
{
    ASSERT(s->layer_open);
    slot_known_drop(s);
    int rc = !s->second && toc_open(&s->known.toc, table, e) == 0 && all_at_hand(s, id) ? 1 : 0;
    if (rc > 0 && replay(s, id, UINT64_MAX, en, e) != 0) {
        rc = e->code;
        if (!s->dry) /* the next try is by another way */
            (void)unlink(table);
    }
    slot_known_drop(s);
    return rc;
}

/* --- going on -------------------------------------------------------------------------------------------------------- */

bool slot_tree_mark(struct slot_tree *s, uint64_t at, uint64_t xxh64, struct slot_mark *out)
{
    struct toc *t = &s->known.toc;
    struct err e;
    if (!s->known.noting || s->second)
        return false;
    *out = (struct slot_mark){.table_len = t->end, .table_xxh64 = sum_end(&t->put)};
    if (s->filling != NULL) {
        out->at = at;
        out->xxh64 = xxh64;
        memcpy(out->path, s->filling, strlen(s->filling) + 1);
    }
    return toc_flush(t, &e) == 0 && toc_flush(&s->toc, &e) == 0;
}

/* Of a stream that is going on, content for a hard link may still come, in the second pass. */
static bool is_there_still(struct slot_tree *s, const struct toc_item *it, const struct digest *id)
{
    return it->r.type == TOC_HARDLINK || is_at_hand(s, it, id);
}

/* The number of the first mark that holds, or `cnt`. */
static int choose(struct slot_tree *s, const struct digest *id, const struct slot_mark *marks, int cnt)
{
    struct toc *t = &s->known.toc;
    bool holds[SLOT_MARKS_MAX] = {false};
    struct toc_item it;
    struct err e;
    uint64_t pos = 0;
    int rc = toc_next(t, &pos, &it, &e);
    if (rc > 0 && (it.r.type != TOC_LAYER || digest_compare(&it.digest, id) != VERDICT_MATCH))
        rc = 0;
    while (rc > 0) {
        for (int i = 0; i < cnt; i++)
            holds[i] = holds[i] || (pos == marks[i].table_len && sum_end(&t->sum) == marks[i].table_xxh64);
        rc = toc_next(t, &pos, &it, &e);
        if (rc > 0 && !is_there_still(s, &it, id))
            break;
    }
    for (int i = 0; i < cnt; i++)
        if (holds[i] &&
            (marks[i].path[0] == '\0' || slot_reuse_begins(s, marks[i].path, marks[i].at, marks[i].xxh64)))
            return i;
    return cnt;
}

int slot_tree_layer_resume(struct slot_tree *s, const char *table, const struct digest *id,
                           const struct slot_mark *marks, int cnt, struct entry *en, struct err *e)
{
    ASSERT(s->layer_open && !s->dry && cnt <= (int)SLOT_MARKS_MAX);
    slot_known_drop(s);
    if (s->second || toc_open(&s->known.toc, table, e) != 0)
        return cnt;
    s->known.resuming = true;
    int rc = 0, n = choose(s, id, marks, cnt);
    if (n < cnt)
        rc = replay(s, id, marks[n].table_len, en, e);
    if (rc >= 0 && n < cnt)
        rc = toc_go_on(&s->known.toc, table, marks[n].table_len, CONFIG_SLOT_ENTRY_MAX, e);
    s->known.resuming = false;
    if (rc < 0 || n == cnt)
        slot_known_drop(s);
    s->known.noting = rc >= 0 && n < cnt;
    return rc < 0 ? rc : n;
}
