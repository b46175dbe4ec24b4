#include "oci/platform.h"

#include <stdbool.h>
#include <string.h>

/* "v7" -> 7; 0 for what is no ARM variant. */
static unsigned arm_version(const char *variant)
{
    if (variant[0] == '\0')
        return 7;
    if (variant[0] != 'v' || variant[1] < '5' || variant[1] > '8' || variant[2] != '\0')
        return 0;
    return (unsigned)(variant[1] - '0');
}

static bool is_base_variant(const char *arch, const char *variant)
{
    if (variant[0] == '\0')
        return true;
    return (!strcmp(arch, "arm64") && !strcmp(variant, "v8")) ||
           (!strcmp(arch, "amd64") && !strcmp(variant, "v1"));
}

unsigned platform_rank(const struct platform *board, const char *os, const char *arch, const char *variant)
{
    if (strcmp(board->os, os) || strcmp(board->arch, arch))
        return 0;
    if (!strcmp(arch, "arm")) {
        unsigned version = arm_version(variant);

        if (version == 0 || version > arm_version(board->variant))
            return 0;
        return 2 * version + (variant[0] != '\0');
    }
    if (variant[0] != '\0' && !strcmp(board->variant, variant))
        return 2;
    return is_base_variant(arch, variant) ? 1 : 0;
}
