#include "base/path.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>

bool path_is_plain(const char *relative)
{
    const char *part = relative;

    if (*part == '\0')
        return true;
    for (;;) {
        size_t len = strcspn(part, "/");

        if (len == 0 || len > NAME_MAX || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.'))
            return false;
        if (part[len] == '\0')
            return true;
        part += len + 1;
    }
}
