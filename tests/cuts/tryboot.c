/* A second opinion on AUTOBOOT.TXT: what the documentation of Raspberry Pi's firmware says ("autoboot.txt", "tryboot"), read
 * from a FAT by its specification, without a look at the agent's driver. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "versions.h"

/* One table of a sector, a directory of a sector, clusters of a sector: the smallest FAT there is. */
#define DIR_SECTOR 2u
#define CLUSTER_2 3u
#define FILE_LEN 256u

static struct {
    char text[MEDIUM_SECTOR + 1];
    bool a_b;
    int by_default, trial; /* partitions; 0: not said */
} boot;

static const uint8_t *sector(uint32_t at)
{
    return medium_bytes(medium.now.nodes[DEV_ENV].sectors[at]);
}

static void file_read(void)
{
    const uint8_t *dir = sector(DIR_SECTOR);

    for (unsigned at = 0; at < MEDIUM_SECTOR && dir[at] != 0; at += 32) {
        unsigned cluster = dir[at + 26] | (unsigned)dir[at + 27] << 8,
                 len = dir[at + 28] | (unsigned)dir[at + 29] << 8;

        if (memcmp(dir + at, "AUTOBOOTTXT", 11) != 0)
            continue;
        if (cluster < 2 || cluster > 3 || len > MEDIUM_SECTOR)
            world_fail("AUTOBOOT.TXT has %u bytes at cluster %u", len, cluster);
        memset(boot.text, 0, sizeof boot.text);
        memcpy(boot.text, sector(CLUSTER_2 + cluster - 2), len);
        return;
    }
    world_fail("there is no AUTOBOOT.TXT");
}

static void file_load(void)
{
    static char copy[sizeof boot.text];
    char *save = NULL, section[16] = "all";

    file_read();
    boot.a_b = false;
    boot.by_default = boot.trial = 0;
    memcpy(copy, boot.text, sizeof copy);
    for (char *line = strtok_r(copy, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
        bool all = strcmp(section, "all") == 0, trial = strcmp(section, "tryboot") == 0;
        int number;

        if (line[0] == '[')
            (void)sscanf(line, "[%15[^]]", section);
        else if (sscanf(line, "boot_partition=%d", &number) == 1 && all)
            boot.by_default = boot.trial = number;
        else if (sscanf(line, "boot_partition=%d", &number) == 1 && trial)
            boot.trial = number;
        else if (strcmp(line, "tryboot_a_b=1") == 0 && all)
            boot.a_b = true;
    }
    if (boot.by_default == 0 || !boot.a_b)
        world_fail("AUTOBOOT.TXT says nothing of a partition: %.60s", boot.text);
}

static int slot_of(int partition)
{
    return partition == atoi(CUTS_PART_A) ? SLOT_A : partition == atoi(CUTS_PART_B) ? SLOT_B : -1;
}

enum slot_id tryboot_start(bool asked)
{
    for (;; asked = false) {
        int slot;

        if (++world.boots > BOOTS_MAX)
            world_fail("more than %d starts", BOOTS_MAX);
        file_load();
        slot = slot_of(asked ? boot.trial : boot.by_default);
        if (slot >= 0 && version_slot_has_kernel((enum slot_id)slot)) {
            kernel.partition = (uint8_t)(asked ? boot.trial : boot.by_default);
            return (enum slot_id)slot;
        }
        /* not bootable: it hangs until somebody switches it off and on again, which ends a trial */
        if (!asked)
            world_fail("the firmware has nothing to start in partition %d", boot.by_default);
    }
}

void tryboot_factory(void)
{
    static const char text[] =
        "[all]\ntryboot_a_b=1\nboot_partition=" CUTS_PART_A "\n[tryboot]\nboot_partition=" CUTS_PART_A;
    uint8_t image[5][MEDIUM_SECTOR] = {{0}};
    uint8_t *head = image[0], *dir = image[DIR_SECTOR];

    head[12] = MEDIUM_SECTOR >> 8;
    head[13] = head[14] = head[16] = 1; /* sectors a cluster, reserved ones, tables */
    head[17] = 16;                      /* entries of the directory */
    head[19] = 16;                      /* sectors */
    head[22] = 1;                       /* sectors of the table */
    head[510] = 0x55;
    head[511] = 0xaa;
    memcpy(dir, "SLIPWAY    \x08", 12); /* the volume's name */
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t *entry = dir + 32 * (i + 1);

        memcpy(entry, i == 0 ? "AUTOBOOTTXT" : "AUTOBOOTOLD", 11);
        entry[26] = 2 + i;
        entry[29] = FILE_LEN >> 8;
        memset(image[CLUSTER_2 + i], '\n', FILE_LEN);
        memcpy(image[CLUSTER_2 + i], text, sizeof text - 1);
    }
    device_write(0, image[0], 5);
}

void tryboot_expect(enum slot_id first, unsigned tries, bool other_may_start)
{
    char want[32];

    file_load();
    if (slot_of(boot.by_default) != (int)first)
        world_fail("at the end partition %d is the default, but slot %c runs", boot.by_default,
                   'A' + (int)first);
    if (!other_may_start && boot.trial != boot.by_default)
        world_fail("at the end the other slot may be tried, and holds no whole version");
    snprintf(want, sizeof want, "first=%c left=", 'A' + (int)first);
    if (strstr(boot.text, want) == NULL ||
        (unsigned)(strstr(boot.text, want)[13 + 2 * (int)first] - '0') != tries)
        world_fail("at the end slot %c has not all its tries: %s", 'A' + (int)first, boot.text);
}
