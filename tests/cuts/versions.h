/* The images of the tests: how a slot gets one, and how to tell which one it holds. A slot is a tree of a dozen nodes in two
 * layers, or a raw partition with a few sectors, as world.step says. */
#ifndef SLIPWAY_TESTS_CUTS_VERSIONS_H
#define SLIPWAY_TESTS_CUTS_VERSIONS_H

#include "world.h"

#define FACTORY_CNT 4
/* Learn what a slot looks like that holds each version, and make a new device of each kind. */
void versions_init(struct medium_image factories[FACTORY_CNT]);
/* Which of them `step` begins with. */
unsigned version_factory(const struct step *step);
/* Forget files that were open; of a new device everything. */
void version_begin(bool new_device);
/* What update/stage_slot.c does with a slot, without the pipes. */
int version_install(enum slot_id slot, enum version v, struct err *e);
/* What update/scrub.c does with it; `ready` is agentd's. */
int version_scrub(enum slot_id slot, int (*ready)(void *ctx, struct err *e), void *ctx, uint32_t *files,
                  struct err *e);
/* A bit of what is in slot B flips. */
void version_rot(struct medium_image *img);
/* Has nobody seen that yet? */
bool version_is_rotten(const struct medium_image *img);
/* What the slot holds: V_NONE for anything that is not exactly one of the versions. */
enum version version_of_slot(enum slot_id slot);
bool version_slot_has_kernel(enum slot_id slot);
uint16_t version_slot_root(enum slot_id slot);

#endif
