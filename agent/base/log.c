#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"

static const char *role_name = "slipway";

void log_role(const char *role)
{
    role_name = role;
}

static void line_write(const char *level, const char *fmt, va_list ap)
{
    char line[512];
    int len = snprintf(line, sizeof line, "%s: %s", role_name, level);
    int body = vsnprintf(line + len, sizeof line - (size_t)len - 1, fmt, ap);

    if (body < 0)
        return;
    len += body;
    if (len > (int)sizeof line - 2)
        len = (int)sizeof line - 2;
    for (int i = 0; i < len; i++)
        if (line[i] < 0x20 || line[i] > 0x7e)
            line[i] = '?';
    line[len++] = '\n';
    /* a log that can't be written has nobody left to be told */
    (void)io_write_full(STDERR_FILENO, line, (size_t)len);
}

#define LOG_FUNCTION(name, level)                                                                            \
    void name(const char *fmt, ...)                                                                          \
    {                                                                                                        \
        va_list ap;                                                                                          \
                                                                                                             \
        va_start(ap, fmt);                                                                                   \
        line_write(level, fmt, ap);                                                                          \
        va_end(ap);                                                                                          \
    }

LOG_FUNCTION(log_info, "")
LOG_FUNCTION(log_warning, "warning: ")
LOG_FUNCTION(log_error, "error: ")

void assert_failed(const char *cond, const char *file, int line)
{
    log_error("assertion failed: %s (%s:%d)", cond, file, line);
    abort();
}
