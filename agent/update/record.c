#include "update/record.h"

#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#include "base/log.h"

/*  0      4        6     8    12        16    20
 *  +------+--------+-----+-----+---------+-----+---------
 *  | magic| version| 0   | len | sequence| crc | payload
 *  +------+--------+-----+-----+---------+-----+---------
 *  crc: CRC-32 (zlib) of the 16 bytes before it and of the payload */
struct record_head {
    uint32_t magic;
    uint16_t version;
    uint16_t zero;
    uint32_t len;
    uint32_t sequence;
    uint32_t crc;
};
_Static_assert(sizeof(struct record_head) == 20, "the head is what FORMAT.md says");

/* One more byte than a record can have, to see that a copy is too long. */
static uint8_t image[sizeof(struct record_head) + RECORD_PAYLOAD_MAX + 1];

static uint32_t image_crc(size_t payload_len)
{
    uLong crc = crc32(0, image, offsetof(struct record_head, crc));

    return (uint32_t)crc32(crc, image + sizeof(struct record_head), (uInt)payload_len);
}

enum copy_state { COPY_NONE, COPY_BAD, COPY_GOOD };

/* Read one copy into image. *sequence and *len when it is good, the reason in *e when it is bad. */
static enum copy_state copy_read(const struct record *r, int copy, uint32_t *sequence, uint32_t *len,
                                 struct err *e)
{
    struct record_head h;
    ssize_t n = r->store->read(r->dir, r->name, copy, image, sizeof(image), e);

    if (n == 0)
        return COPY_NONE;
    if (n < 0)
        return COPY_BAD;
    memcpy(&h, image, sizeof(h));
    if ((size_t)n < sizeof(h) || h.magic != r->magic || h.zero != 0)
        err_set(e, ERR_FORMAT, "not a %s record", r->name);
    else if (h.version != r->version)
        err_set(e, ERR_FORMAT, "version %u, this agent knows %u", h.version, r->version);
    else if (h.len > RECORD_PAYLOAD_MAX || (size_t)n != sizeof(h) + h.len)
        err_set(e, ERR_FORMAT, "%zd bytes, want %zu", n, sizeof(h) + h.len);
    else if (h.crc != image_crc(h.len))
        err_set(e, ERR_FORMAT, "wrong CRC");
    else {
        *sequence = h.sequence;
        *len = h.len;
        return COPY_GOOD;
    }
    return COPY_BAD;
}

static int copy_write(struct record *r, int copy, uint32_t sequence, const void *payload, struct err *e)
{
    struct record_head h = {r->magic, r->version, 0, r->len, sequence, 0};

    memcpy(image, &h, sizeof(h));
    memcpy(image + sizeof(h), payload, r->len);
    h.crc = image_crc(r->len);
    memcpy(image, &h, sizeof(h));
    return r->store->write(r->dir, r->name, copy, image, sizeof(h) + r->len, e);
}

/* Make the other copy the same as the newest one, byte for byte: the payload may be longer than this agent knows. */
static void other_mend(const struct record *r)
{
    struct err e;
    ssize_t n = r->store->read(r->dir, r->name, r->newest, image, sizeof(image), &e);

    if (n < 0 || r->store->write(r->dir, r->name, 1 - r->newest, image, (size_t)n, &e) < 0)
        log_warning("record %s: %s", r->name, e.text);
}

int record_load(struct record *r, void *payload, struct err *e)
{
    struct err why[STORE_COPIES] = {{0}};
    enum copy_state state[STORE_COPIES];
    uint32_t sequence[STORE_COPIES] = {0};

    ASSERT(r->len <= RECORD_PAYLOAD_MAX);
    memset(payload, 0, r->len);
    r->newest = -1;
    r->sequence = 0;
    r->copies_good = 0;
    for (int i = 0; i < STORE_COPIES; i++) {
        uint32_t len = 0;

        state[i] = copy_read(r, i, &sequence[i], &len, &why[i]);
        if (state[i] == COPY_NONE)
            err_set(&why[i], ERR_ABSENT, "absent");
        if (state[i] != COPY_GOOD)
            continue;
        r->copies_good++;
        if (r->newest >= 0 && (int32_t)(sequence[i] - r->sequence) <= 0)
            continue;
        r->newest = i;
        r->sequence = sequence[i];
        memset(payload, 0, r->len);
        memcpy(payload, image + sizeof(struct record_head), len < r->len ? len : r->len);
    }
    if (r->newest < 0 && state[1] == COPY_NONE) {
        /* copy 1 comes second: without it there never was a save that returned */
        if (state[0] != COPY_NONE)
            log_warning("record %s: copy 0: %s; its first save was cut", r->name, why[0].text);
        return 0;
    }
    if (r->newest < 0)
        return err_set(e, ERR_FORMAT, "record %s: copy 0: %s; copy 1: %s", r->name, why[0].text, why[1].text);
    if (r->copies_good < STORE_COPIES)
        log_warning("record %s: copy %d: %s; writing it anew", r->name, 1 - r->newest,
                    why[1 - r->newest].text);
    if (r->copies_good < STORE_COPIES || sequence[0] != sequence[1])
        other_mend(r);
    return 1;
}

int record_save(struct record *r, const void *payload, struct err *e)
{
    int to = r->newest < 0 ? 0 : 1 - r->newest;
    struct err late;
    int rc;

    ASSERT(r->len <= RECORD_PAYLOAD_MAX);
    rc = copy_write(r, to, r->sequence + 1, payload, e);
    if (rc < 0)
        return err_prefix(e, "record %s", r->name);
    r->newest = to;
    r->sequence++;
    /* it is saved; the next start, or the next save, tries the other one again */
    if (copy_write(r, 1 - to, r->sequence, payload, &late) < 0)
        log_warning("record %s: %s", r->name, late.text);
    return 0;
}
