/* Boot record of a Raspberry Pi that its own firmware starts: the file AUTOBOOT.TXT on the card's first partition, FAT.
 *
 *     [all]
 *     tryboot_a_b=1
 *     boot_partition=2          started after power-on, and after any reset
 *     [tryboot]
 *     boot_partition=3          started once, when the reboot asked for "0 tryboot"
 *     [none]
 *     # slipway default=A first=B left=3,3 crc=...
 *
 * The last line is the record, in words that the firmware passes over; what stands above it is made from it. From the factory
 * the file may be without that line.
 *
 * No file is written in place, and none is renamed: FAT has no way to do that in one step. There are two files of one
 * cluster each, 2 and 3. A store writes the one that AUTOBOOT.TXT is not, reads it back, and then swaps the two in their
 * directory entries, which are in one sector; of AUTOBOOT.TXT's entry one byte changes. So a cut leaves the old file or the
 * new one, also when it tears the sector. The partition must not be mounted. boards/raspberrypi makes one.
 *
 * What the firmware can't do: it has no count. A slot on trial gets one start each time it is asked for, and the agent
 * asks again while there are tries (caps.one_start). A slot that was confirmed is started for ever.
 */
#ifndef SLIPWAY_HAL_TRYBOOT_H
#define SLIPWAY_HAL_TRYBOOT_H

#include <stdint.h>

#include "hal/bootrec.h"
#include "hal/reset.h"

struct tryboot_place {
    const char *card;            /* the partition: "PARTUUID=...-01", "/dev/mmcblk0p1" */
    const char *firmware;        /* what the firmware says of itself, TRYBOOT_FIRMWARE on real boards */
    uint8_t partition[SLOT_CNT]; /* numbers of the slots' partitions */
};

#define TRYBOOT_FIRMWARE "/proc/device-tree/chosen/bootloader"
#define TRYBOOT_LEN 256 /* of both files; the firmware takes 512 */

extern const struct bootrec_ops bootrec_tryboot; /* arg: const struct tryboot_place * */
/* reset_linux, which asks for tryboot when a slot on trial is next. Goes by the place that booted() was given. */
extern const struct reset_ops reset_tryboot;

#endif
