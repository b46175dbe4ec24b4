/* The board's configuration, included ahead of every source file, and the one way to ask it a yes or no question:
 *
 *     if (!IS_ENABLED(CONFIG_CODEC_ZSTD))
 *         return err_set(...);
 *
 * The branch not taken is compiled, checked, and then dropped, so no #ifdef is needed. */
#ifndef SLIPWAY_TOOLCHAIN_KCONFIG_H
#define SLIPWAY_TOOLCHAIN_KCONFIG_H

#include "autoconf.h"

/* autoconf.h defines what is set as 1 and leaves out what is not: KCONFIG_ARG_1 turns a 1 into two arguments, so that
 * the second argument is 1 when the symbol is set and 0 when it isn't. */
#define KCONFIG_ARG_1 0,
#define KCONFIG_SECOND(first, second, ...) second
#define KCONFIG_PICK(arg) KCONFIG_SECOND(arg 1, 0, 0)
#define KCONFIG_EXPAND(value) KCONFIG_PICK(KCONFIG_ARG_##value)
#define IS_ENABLED(symbol) KCONFIG_EXPAND(symbol)

#endif
