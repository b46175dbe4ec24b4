/* The board and the world around the real core: U-Boot's script, a registry, an app, power. One run goes from power-on
 * until the agent has nothing more to do, over all the restarts that it takes, and then starts once more.
 *
 * Real here: update/machine, booted, keep, activate, state, record; slot/; hal/linux store, tree, disk, bootrec_uboot, uboot_env.
 * Stand-ins: the worker's processes (versions.c does what stage does with slot/), sup/app (a timer), U-Boot (uboot.c).
 */
#ifndef SLIPWAY_TESTS_CUTS_WORLD_H
#define SLIPWAY_TESTS_CUTS_WORLD_H

#include "hal/bootrec.h"
#include "hal/sim/medium.h"

/* Versions of the image. */
enum version {
    V_NONE = 0,
    V_FACTORY, /* in slot A from the start, without a record */
    V_GOOD,
    V_BETTER,
    V_CRASHES, /* its app ends at once */
    V_PANICS,  /* its kernel starts, its system never does */
    V_NO_APP,  /* starts nothing: kept when the time is up */
    V_CNT
};

/* What starts the slots. */
enum loader { LOADER_SCRIPT = 0, LOADER_MENDER, LOADER_SWUPDATE, LOADER_TRYBOOT };

/* One thing that happens to a device, and what must have come of it in the end. */
struct step {
    enum version tag; /* what the registry's tag names */
    enum loader loader;
    bool disk;               /* slots are raw partitions */
    bool roll_back, by_hand; /* `agentctl rollback` once idle; `agentctl confirm` during the trial */
    bool net_fails;          /* the first download after each start breaks off */
    bool rots;               /* a bit of the other slot has flipped; `agentctl scrub` until that is mended */
    enum version ends_with;  /* 0: the tag's */
    const char *event;       /* of the failure that must be recorded; NULL: none asked for */
};

/* Builds of the agent that are wrong in one way. */
enum bad {
    BAD_NONE = 0,
    BAD_NO_SLOT_SYNC, /* the slot is not synced before it is armed */
    BAD_NO_READ_BACK, /* armed without reading back */
    BAD_ONE_COPY,     /* one copy of the state, overwritten in place */
    BAD_TWO_WRITES,   /* the flip is two writes of the boot record */
    BAD_SAME_COPY,    /* the boot record's good copy is overwritten */
    BAD_ARM_FIRST,    /* armed first, remembered after */
    BAD_NO_DATA_SYNC, /* records are not synced */
    BAD_NO_DIR_SYNC,  /* the folder of new records is not synced */
    BAD_MARK_FIRST,   /* a scrub writes to a slot that may be started */
    BAD_NAMES_BOTH,   /* a slot that is written to stays in the boot loader's order */
    BAD_NO_COUNT,     /* armed, and U-Boot is not told to count */
    BAD_TRUNCATED,    /* AUTOBOOT.TXT is emptied and written anew */
    BAD_CNT
};

enum world_end { WORLD_FAILED = 1, WORLD_RESTARTS, WORLD_SETTLED };

struct world {
    const struct step *step;
    enum bad bad;
    bool
        power_cuts; /* this run begins after one, or has a fault: flash and memory need not agree at its end */
    enum slot_id booted;
    unsigned boots;
    char why[256]; /* WORLD_FAILED */
};
extern struct world world;

/* Run *step from *from. medium.trace is the whole run's; medium.now what is durable after it. */
enum world_end world_run(const struct medium_image *from, const struct step *step);

/* Power fails again and again before agentd is up: nothing may start that is not whole. */
enum world_end world_storm(const struct medium_image *from, const struct step *step);

/* board.c: the board as world.bad has it. */
void board_init(void);
bool world_is_installing(void);

/* uboot.c: the boot loader up to the kernel's start. Counts boots. */
enum slot_id uboot_start(void);
/* The environment as the factory writes it, with variables that are not ours. */
void uboot_factory(void);
void uboot_expect(enum slot_id first, unsigned tries, bool other_may_start);
/* tryboot.c: the same for a Raspberry Pi's firmware. `asked`: the reboot was one for "0 tryboot". */
enum slot_id tryboot_start(bool asked);
void tryboot_factory(void);
void tryboot_expect(enum slot_id first, unsigned tries, bool other_may_start);

/* What the model of a boot loader writes, in one go. */
void device_write(uint32_t sector, const uint8_t *data, uint32_t sectors);
#define BOOTS_MAX 32

#define WORLD_STATE_DIR "/data/slipway"
#define CUTS_PART_A "2" /* the slots' partitions, in the words of others */
#define CUTS_PART_B "3"
#define ENV_SIZE 0x800u
#define ENV_GAP 0x1000u

#endif
