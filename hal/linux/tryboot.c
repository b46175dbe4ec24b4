#include "hal/linux/tryboot.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <zlib.h>

#include "base/io.h"
#include "base/log.h"
#include "hal/linux/linux.h"
#include "hal/linux/place.h"

#define SECTOR 512
#define ENTRY_LEN 32
#define TRIES_MAX 9
#define TRIES_DEFAULT 3
#define CAPABLE_TRYBOOT_A_B (1u << 2)

/* Where things are on the partition, and the sector with the directory. */
struct fat {
    uint32_t dir_at, data_at[2]; /* bytes; of clusters 2 and 3 */
    uint8_t dir[SECTOR];
    unsigned live_entry, spare_entry; /* offsets in dir */
    int live;                         /* the file that AUTOBOOT.TXT is: 0 or 1 */
};

struct record {
    enum slot_id by_default;
    struct bootrec r;
};

static uint32_t le(const uint8_t *b, int bytes)
{
    uint32_t n = 0;

    while (bytes-- > 0)
        n = n << 8 | b[bytes];
    return n;
}

/* --- the text ----------------------------------------------------------------------------------------------------- */

static void text_make(const struct tryboot_place *p, const struct record *rec, char out[TRYBOOT_LEN])
{
    enum slot_id other = slot_other(rec->by_default);
    enum slot_id trial = rec->r.left[other] > 0 ? other : rec->by_default;
    int len = snprintf(out, TRYBOOT_LEN,
                       "[all]\ntryboot_a_b=1\nboot_partition=%u\n[tryboot]\nboot_partition=%u\n[none]\n"
                       "# slipway default=%c first=%c left=%u,%u crc=",
                       p->partition[rec->by_default], p->partition[trial], 'A' + (int)rec->by_default,
                       'A' + (int)rec->r.first, rec->r.left[SLOT_A], rec->r.left[SLOT_B]);

    ASSERT(len > 0 && len + 9 < TRYBOOT_LEN);
    len += snprintf(out + len, TRYBOOT_LEN - (size_t)len, "%08x\n",
                    (unsigned)crc32(0, (const uint8_t *)out, (unsigned)len));
    memset(out + len, '\n', TRYBOOT_LEN - (size_t)len);
}

/* As a factory writes it: without our line, and with nothing behind it. */
static bool plain_parse(const struct tryboot_place *p, const char *text, struct record *out)
{
    unsigned by_default, trial;
    int end = 0;

    if (sscanf(text, "[all]\ntryboot_a_b=1\nboot_partition=%3u\n[tryboot]\nboot_partition=%3u%n", &by_default,
               &trial, &end) != 2 ||
        strspn(text + end, "\n") != TRYBOOT_LEN - (size_t)end)
        return false;
    for (int i = 0; i < SLOT_CNT; i++)
        if (p->partition[i] == by_default) {
            out->by_default = out->r.first = (enum slot_id)i;
            out->r.left[i] = TRIES_DEFAULT;
            out->r.left[1 - i] = trial == p->partition[1 - i] ? TRIES_DEFAULT : 0;
            return true;
        }
    return false;
}

/* What the firmware reads must be what the record says, so the whole text is made again and compared. */
static bool text_parse(const struct tryboot_place *p, const uint8_t text[TRYBOOT_LEN], struct record *out)
{
    char copy[TRYBOOT_LEN + 1], again[TRYBOOT_LEN], by_default, first;
    unsigned a, b;
    const char *line;

    memcpy(copy, text, TRYBOOT_LEN);
    copy[TRYBOOT_LEN] = '\0';
    line = strstr(copy, "# slipway ");
    if (line == NULL)
        return plain_parse(p, copy, out);
    if (sscanf(line, "# slipway default=%c first=%c left=%1u,%1u", &by_default, &first, &a, &b) != 4 ||
        (by_default != 'A' && by_default != 'B') || (first != 'A' && first != 'B'))
        return false;
    *out = (struct record){.by_default = by_default == 'A' ? SLOT_A : SLOT_B,
                           .r = {first == 'A' ? SLOT_A : SLOT_B, {(uint8_t)a, (uint8_t)b}}};
    text_make(p, out, again);
    return memcmp(text, again, TRYBOOT_LEN) == 0;
}

/* --- the partition ------------------------------------------------------------------------------------------------ */

static int card_open(const struct tryboot_place *p, int flags, struct err *e)
{
    char device[PLACE_DEV_MAX];
    int fd;
    int rc = place_device(p->card, device, e);

    if (rc < 0)
        return rc;
    fd = IO_RETRY(open(device, flags | O_CLOEXEC)); /* O_EXCL: nobody has it mounted */
    return fd < 0 ? err_errno(e, "%s", device) : fd;
}

static int sector_read(const struct tryboot_place *p, int fd, uint32_t at, uint8_t out[SECTOR], struct err *e)
{
    ssize_t n = io_pread_full(fd, out, SECTOR, (off_t)at);

    if (n < 0)
        return err_errno(e, "%s: read", p->card);
    return n == SECTOR ? 0 : err_set(e, ERR_BOOT, "%s: ends at %u", p->card, (unsigned)at);
}

/* Durable, and read back from the medium. */
static int sector_write(const struct tryboot_place *p, int fd, uint32_t at, const uint8_t data[SECTOR],
                        struct err *e)
{
    uint8_t back[SECTOR];
    int rc;

    if (io_pwrite_full(fd, data, SECTOR, (off_t)at) < 0 || IO_RETRY(fsync(fd)) < 0)
        return err_errno(e, "%s: write", p->card);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)ioctl(fd, BLKFLSBUF, 0);
    rc = sector_read(p, fd, at, back, e);
    if (rc == 0 && memcmp(data, back, SECTOR) != 0)
        rc = err_set(e, ERR_FLASH, "%s: what is at %u is not what was written", p->card, (unsigned)at);
    return rc;
}

/* Offset of the entry; SECTOR when there is none of that name, or it is not as it must be. */
static unsigned entry_find(const struct fat *f, const char name[11])
{
    for (unsigned at = 0; at < SECTOR; at += ENTRY_LEN) {
        const uint8_t *d = f->dir + at;
        uint32_t cluster = le(d + 26, 2);

        if (memcmp(d, name, 11) == 0 && le(d + 28, 4) == TRYBOOT_LEN && (cluster == 2 || cluster == 3))
            return at;
    }
    return SECTOR;
}

/* FAT12 or FAT16 (Microsoft's specification, 3.1): reserved sectors, tables, the root directory, and then cluster 2. */
static int fat_read(const struct tryboot_place *p, int fd, struct fat *f, struct err *e)
{
    uint8_t boot[SECTOR];
    uint32_t tables, roots;
    int rc = sector_read(p, fd, 0, boot, e);

    if (rc < 0)
        return rc;
    tables = le(boot + 14, 2) + boot[16] * le(boot + 22, 2);
    roots = le(boot + 17, 2);
    if (boot[510] != 0x55 || boot[511] != 0xaa || le(boot + 11, 2) != SECTOR || boot[13] == 0 || roots == 0)
        return err_set(e, ERR_UNSUPPORTED, "%s: no FAT12 or FAT16 with sectors of %d bytes", p->card, SECTOR);
    f->dir_at = tables * SECTOR;
    f->data_at[0] = f->dir_at + (roots * ENTRY_LEN + SECTOR - 1) / SECTOR * SECTOR;
    f->data_at[1] = f->data_at[0] + boot[13] * (uint32_t)SECTOR;
    rc = sector_read(p, fd, f->dir_at, f->dir, e);
    if (rc < 0)
        return rc;
    f->live_entry = entry_find(f, "AUTOBOOTTXT");
    f->spare_entry = entry_find(f, "AUTOBOOTOLD");
    if (f->live_entry == SECTOR || f->spare_entry == SECTOR)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s: its first files must be AUTOBOOT.TXT and AUTOBOOT.OLD, of %d bytes each", p->card,
                       TRYBOOT_LEN);
    f->live = (int)le(f->dir + f->live_entry + 26, 2) - 2;
    return 0;
}

static int copy_read(const struct tryboot_place *p, int fd, const struct fat *f, int copy, struct record *out,
                     bool *good, struct err *e)
{
    uint8_t text[SECTOR];
    int rc = sector_read(p, fd, f->data_at[copy], text, e);

    *good = rc == 0 && text_parse(p, text, out);
    return rc;
}

/* The newer good copy. */
static int record_read(const struct tryboot_place *p, struct record *out, struct bootrec_health *health,
                       struct err *e)
{
    struct record spare;
    struct fat f;
    bool good[2] = {false, false};
    int fd = card_open(p, O_RDONLY, e);
    int rc;

    if (fd < 0)
        return fd;
    rc = fat_read(p, fd, &f, e);
    if (rc == 0)
        rc = copy_read(p, fd, &f, f.live, out, &good[0], e);
    if (rc == 0)
        rc = copy_read(p, fd, &f, 1 - f.live, &spare, &good[1], e);
    close(fd);
    if (rc < 0)
        return rc;
    if (!good[0] && !good[1])
        return err_set(e, ERR_BOOT, "%s: neither AUTOBOOT.TXT nor AUTOBOOT.OLD is one of ours", p->card);
    if (!good[0])
        *out = spare;
    health->copies_good = (uint8_t)(good[0] + good[1]);
    return 0;
}

static int record_write(const struct tryboot_place *p, const struct record *rec, struct err *e)
{
    uint8_t text[SECTOR] = {0};
    struct fat f;
    int fd = card_open(p, O_RDWR | O_EXCL, e);
    int rc;

    if (fd < 0)
        return fd;
    rc = fat_read(p, fd, &f, e);
    text_make(p, rec, (char *)text);
    if (rc == 0)
        rc = sector_write(p, fd, f.data_at[1 - f.live], text, e);
    if (rc == 0) {
        f.dir[f.live_entry + 26] = (uint8_t)(2 + 1 - f.live);
        f.dir[f.spare_entry + 26] = (uint8_t)(2 + f.live);
        rc = sector_write(p, fd, f.dir_at, f.dir, e);
    }
    close(fd);
    return rc;
}

/* --- the firmware ------------------------------------------------------------------------------------------------- */

/* A number of the firmware's, big end first. */
static int firmware_number(const struct tryboot_place *p, const char *name, uint32_t *out, struct err *e)
{
    char path[160];
    uint8_t b[4];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", p->firmware, name);
    fd = IO_RETRY(open(path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return err_errno(e, "%s", path);
    n = io_read_full(fd, b, sizeof(b));
    close(fd);
    if (n != sizeof(b))
        return err_set(e, ERR_UNSUPPORTED, "%s: want a number of 4 bytes", path);
    *out = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return 0;
}

/* Firmware of before November 2022 knows no tryboot_a_b and would start the default for ever. Boards with an EEPROM say
 * what theirs can do; the others have the property since then. */
static int firmware_check(const struct tryboot_place *p, struct err *e)
{
    uint32_t capable = CAPABLE_TRYBOOT_A_B, trial;

    if (firmware_number(p, "tryboot", &trial, e) < 0)
        return err_set(e, ERR_UNSUPPORTED, "%s has no `tryboot`: update the firmware", p->firmware);
    (void)firmware_number(p, "capabilities", &capable, e);
    if ((capable & CAPABLE_TRYBOOT_A_B) == 0)
        return err_set(e, ERR_UNSUPPORTED, "the boot EEPROM can't do tryboot_a_b: update it");
    return 0;
}

static const struct tryboot_place *known; /* for restart() */

static int tryboot_booted(const void *arg, enum slot_id *out, struct err *e)
{
    const struct tryboot_place *p = arg;
    uint32_t number;
    int rc = firmware_check(p, e);

    if (rc == 0)
        rc = firmware_number(p, "partition", &number, e);
    if (rc < 0)
        return rc;
    known = p;
    for (int i = 0; i < SLOT_CNT; i++)
        if (p->partition[i] == number) {
            *out = (enum slot_id)i;
            return 0;
        }
    return err_set(e, ERR_BOOT, "the firmware started partition %u, the slots are %u and %u",
                   (unsigned)number, p->partition[SLOT_A], p->partition[SLOT_B]);
}

/* A slot that runs on trial has used one of its tries, though nobody could count it. */
static int tryboot_load(const void *arg, struct bootrec *out, struct bootrec_health *health, struct err *e)
{
    struct record rec;
    enum slot_id slot;
    int rc = record_read(arg, &rec, health, e);

    if (rc == 0)
        rc = tryboot_booted(arg, &slot, e);
    if (rc < 0)
        return rc;
    *out = rec.r;
    if (slot == out->first && slot != rec.by_default && out->left[slot] > 0)
        out->left[slot]--;
    return 0;
}

/* The slot that runs stays the default until it is given up, so that a slot on trial never is. */
static int tryboot_store(const void *arg, const struct bootrec *r, struct err *e)
{
    struct record rec = {.r = *r};
    int rc;

    if ((r->first != SLOT_A && r->first != SLOT_B) || r->left[SLOT_A] > TRIES_MAX ||
        r->left[SLOT_B] > TRIES_MAX || r->left[SLOT_A] + r->left[SLOT_B] == 0)
        return err_set(e, ERR_BOOT, "boot record out of range: first %d, tries %d and %d", (int)r->first,
                       r->left[SLOT_A], r->left[SLOT_B]);
    rc = tryboot_booted(arg, &rec.by_default, e);
    if (rc < 0)
        return rc;
    if (r->left[rec.by_default] == 0)
        rec.by_default = slot_other(rec.by_default);
    return record_write(arg, &rec, e);
}

static int tryboot_restart(struct err *e)
{
    struct bootrec_health health;
    struct record rec;
    bool trial = known != NULL && record_read(known, &rec, &health, e) == 0 &&
                 rec.r.first != rec.by_default && rec.r.left[rec.r.first] > 0;

    return linux_restart(trial ? "0 tryboot" : "", e);
}

static enum reset_cause tryboot_cause(void)
{
    return reset_linux.cause();
}

const struct bootrec_ops bootrec_tryboot = {
    .caps = {.atomic = true, .copies = 2, .one_start = true},
    .load = tryboot_load,
    .store = tryboot_store,
    .booted = tryboot_booted,
};
const struct reset_ops reset_tryboot = {.cause = tryboot_cause, .restart = tryboot_restart};
