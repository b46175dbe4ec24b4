/* The app's root: the slot's tree, read-only, with /proc, /sys, /dev, small tmpfs where programs expect to write, and
 * the volumes. All of it is mounts of a namespace of their own: they go with the app, and the tree is not written.
 */
#ifndef SLIPWAY_SUP_ROOT_H
#define SLIPWAY_SUP_ROOT_H

#include "sup/jail.h"

/* In the child, in its own mount namespace. What lies outside of `root` is out of reach afterwards. */
int root_build(const struct jail *j, const struct app_spec *spec, const char *root, struct err *e);

#endif
