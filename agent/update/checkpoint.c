#include "update/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/version.h"
#include "hal/board.h"
#include "slot/sum.h"

/*  0     8         12    16         20     24      32
 *  +-----+---------+-----+----------+------+-------+-------------------
 *  |magic| version | len | sequence | zero | xxh64 | build, checkpoint
 *  +-----+---------+-----+----------+------+-------+-------------------
 *  xxh64: of the 24 bytes before it, as its seed that of the `len` bytes behind it */
struct head {
    char magic[8];
    uint32_t version;
    uint32_t len;
    uint32_t sequence;
    uint32_t zero;
    uint64_t xxh64;
    char build[32]; /* the states of decode and of the hash are of one build: its version, and their size */
};
_Static_assert(sizeof(struct head) == 64, "FORMAT.md says 64");
#define HEAD_SUMMED offsetof(struct head, xxh64)

#define VERSION 1
#define ROOM (64u * 1024) /* of one checkpoint in the file */
#define FIXED offsetof(struct checkpoint, place)
_Static_assert(sizeof(struct head) + sizeof(struct checkpoint) <= ROOM, "it fits");

void checkpoints_init(struct checkpoints *c, const char *stage_dir)
{
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s/checkpoint", stage_dir);
    c->fd = c->durable = -1;
}

static struct head head_of(const struct checkpoint *it, uint32_t sequence)
{
    struct head h = {
        .magic = "SLIPCHK", .version = VERSION, .len = (uint32_t)FIXED + it->len, .sequence = sequence};

    snprintf(h.build, sizeof h.build, "%s-%zu", SLIPWAY_VERSION, FIXED);
    h.xxh64 = sum_bytes(&h, HEAD_SUMMED, sum_bytes(it, h.len, 0));
    return h;
}

/* Place n of the file, if it is sound and of this build, into c->it. Returns its sequence, or 0. */
static uint32_t place_read(struct checkpoints *c, int n)
{
    off_t at = (off_t)n * ROOM;
    struct head h, want;

    memset(&c->it, 0, sizeof c->it);
    if (io_pread_full(c->fd, &h, sizeof h, at) != (ssize_t)sizeof h || h.len < FIXED ||
        h.len > sizeof c->it || io_pread_full(c->fd, &c->it, h.len, at + (off_t)sizeof h) != (ssize_t)h.len ||
        c->it.len != h.len - FIXED)
        return 0;
    want = head_of(&c->it, h.sequence);
    c->it.mark.path[sizeof c->it.mark.path - 1] = '\0';
    return memcmp(&h, &want, sizeof h) == 0 ? h.sequence : 0;
}

int checkpoints_find(struct checkpoints *c, const struct checkpoint_of *of,
                     struct slot_mark marks[CHECKPOINT_CNT])
{
    int cnt = 0;

    if (c->fd < 0)
        c->fd = IO_RETRY(open(c->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    for (int n = 0; c->fd >= 0 && n < (int)CHECKPOINT_CNT; n++) {
        int i = cnt;

        c->sequence[n] = place_read(c, n);
        if (memcmp(&c->it.of, of, sizeof *of) != 0)
            c->sequence[n] = 0;
        if (c->sequence[n] == 0)
            continue;
        for (; i > 0 && c->sequence[c->found[i - 1]] < c->sequence[n]; i--) {
            c->found[i] = c->found[i - 1];
            marks[i] = marks[i - 1];
        }
        c->found[i] = n;
        marks[i] = c->it.mark;
        cnt++;
        if (c->sequence[n] > c->newest)
            c->newest = c->sequence[n];
    }
    if (cnt == 0)
        checkpoints_drop(c);
    return cnt;
}

int checkpoints_load(struct checkpoints *c, int n, struct err *e)
{
    c->durable = c->found[n];
    c->durable_at_ms = 0;
    if (place_read(c, c->durable) != c->sequence[c->durable])
        return err_set(e, ERR_FLASH, "%s: it changed", c->path);
    return 0;
}

int checkpoint_read(struct checkpoint *it, struct entry_pipe *pipe, uint32_t len, struct err *e)
{
    int rc;

    if (len < sizeof it->job || len - sizeof it->job > sizeof it->place)
        return err_set(e, ERR_PEER, "decode sent a checkpoint of %u bytes", len);
    it->len = len - (uint32_t)sizeof it->job;
    rc = pipe->read(pipe, &it->job, sizeof it->job, e);
    return rc == 0 && it->len > 0 ? pipe->read(pipe, it->place, it->len, e) : rc;
}

bool checkpoints_sync_due(const struct checkpoints *c)
{
    return c->durable_at_ms == 0 || board.clock->boot_ms() - c->durable_at_ms >= CHECKPOINT_SYNC_MS;
}

/* Where the oldest is, but for the durable one: the one before this stays, too. */
static int place_to_write(const struct checkpoints *c)
{
    int oldest = -1;

    for (int n = 0; n < (int)CHECKPOINT_CNT; n++)
        if (n != c->durable && (oldest < 0 || c->sequence[n] < c->sequence[oldest]))
            oldest = n;
    return oldest;
}

void checkpoints_save(struct checkpoints *c, bool durable)
{
    struct head h = head_of(&c->it, c->newest + 1);
    int n = place_to_write(c);
    off_t at = (off_t)n * ROOM;

    if (c->fd < 0)
        c->fd = IO_RETRY(open(c->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (c->fd < 0 || io_pwrite_full(c->fd, &c->it, h.len, at + (off_t)sizeof h) < 0 ||
        io_pwrite_full(c->fd, &h, sizeof h, at) < 0 || (durable && IO_RETRY(fsync(c->fd)) < 0)) {
        log_warning("%s: %s", c->path, strerror(errno));
        return;
    }
    c->sequence[n] = ++c->newest;
    c->bytes += sizeof h + h.len;
    if (durable) {
        c->durable = n;
        c->durable_at_ms = board.clock->boot_ms();
    }
}

void checkpoints_drop(struct checkpoints *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (unlink(c->path) < 0 && errno != ENOENT)
        log_warning("%s: %s", c->path, strerror(errno));
    c->fd = c->durable = -1;
    memset(c->sequence, 0, sizeof c->sequence);
    c->newest = 0;
    c->bytes = c->durable_at_ms = 0;
}
