#include "base/moment.h"

#include <string.h>

static bool digits(const char **at, int cnt, int64_t *out)
{
    for (*out = 0; cnt > 0; cnt--, (*at)++) {
        if (**at < '0' || **at > '9')
            return false;
        *out = *out * 10 + (**at - '0');
    }
    return true;
}

/* Days since 1970-01-01 of the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool fraction_take(const char **at, uint32_t *ns)
{
    uint32_t unit = 100000000;

    *ns = 0;
    if (**at != '.')
        return true;
    for ((*at)++; **at >= '0' && **at <= '9' && unit > 0; (*at)++, unit /= 10)
        *ns += (uint32_t)(**at - '0') * unit;
    return (*at)[-1] != '.';
}

bool moment_parse(const char *at, int64_t *s, uint32_t *ns)
{
    int64_t y, mo, d, h, mi, sec, zone_h = 0, zone_m = 0;

    if (!digits(&at, 4, &y) || *at++ != '-' || !digits(&at, 2, &mo) || *at++ != '-' || !digits(&at, 2, &d) ||
        *at++ != 'T' || !digits(&at, 2, &h) || *at++ != ':' || !digits(&at, 2, &mi) || *at++ != ':' ||
        !digits(&at, 2, &sec) || !fraction_take(&at, ns) || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 ||
        mi > 59 || sec > 60)
        return false;
    int sign = *at == '-' ? -1 : 1;
    if (*at == 'Z')
        at++;
    else if ((*at != '+' && *at != '-') || (at++, !digits(&at, 2, &zone_h)) || *at++ != ':' ||
             !digits(&at, 2, &zone_m))
        return false;
    *s = days_of(y, mo, d) * 86400 + h * 3600 + mi * 60 + sec - sign * (zone_h * 3600 + zone_m * 60);
    if (y == 1)
        *s = 0;
    return *at == '\0';
}

bool seconds_parse(const char *text, uint32_t *out)
{
    static const struct {
        const char *unit;
        uint32_t factor;
    } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}};
    uint64_t number = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9' && number <= UINT32_MAX; at++)
        number = number * 10 + (uint64_t)(*at - '0');
    for (size_t i = 0; at > text && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(at, units[i].unit) == 0 && number * units[i].factor <= UINT32_MAX) {
            *out = (uint32_t)(number * units[i].factor);
            return true;
        }
    return false;
}
