/* The rules of naming for what is in a layer, whoever lists it: the tar itself or its table of contents.
 *
 * Leading "/" and "./" are cut, ".." stays inside the root or is refused, ".wh." names become whiteouts (OCI image
 * specification, layer.md), and what overlayfs, the kernel or common sense can't take is refused by name.
 */
#ifndef SLIPWAY_STREAM_RULES_H
#define SLIPWAY_STREAM_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "stream/entry.h"

/* Begin entry `en`: its path and type; of its node nothing is set yet. Returns 0, 1 when the name is a mark of another
 * tool that means nothing, or an error. */
int rules_begin(struct entry *en, const char *name, bool is_dir, struct err *e);
int rules_target(struct entry *en, const char *target, struct err *e);
int rules_hardlink(struct entry *en, const char *target, struct err *e);
/* en->node.type is set. */
int rules_device(struct entry *en, uint64_t major, uint64_t minor, struct err *e);
int rules_xattr(struct entry *en, const char *name, const void *value, size_t len, struct err *e);

#endif
