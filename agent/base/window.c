#include "base/window.h"

/* "22:00" at *at, which is moved behind it; -1 for what is no time of a day. 24:00 is 0:00. */
static int time_read(const char **at)
{
    const char *s = *at;
    unsigned part[2] = {0, 0};

    for (int i = 0; i < 2; i++) {
        int n = 0;

        for (; n < 2 && *s >= '0' && *s <= '9'; n++)
            part[i] = part[i] * 10 + (unsigned)(*s++ - '0');
        if (n == 0 || (i == 1 && n < 2) || (i == 0 && *s++ != ':'))
            return -1;
    }
    if (part[1] > 59 || part[0] * 60 + part[1] > WINDOW_DAY_MIN)
        return -1;
    *at = s;
    return (int)((part[0] * 60 + part[1]) % WINDOW_DAY_MIN);
}

static const char *blanks_skip(const char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    return s;
}

int window_list_parse(const char *text, struct window *out, size_t max, struct err *e)
{
    const char *at = text;

    for (size_t cnt = 0;; cnt++) {
        int from, to = -1;

        at = blanks_skip(at);
        from = time_read(&at);
        if (from >= 0 && *at++ == '-')
            to = time_read(&at);
        at = to >= 0 ? blanks_skip(at) : at;
        if (to < 0 || from == to || (*at && *at != ','))
            return err_set(e, ERR_CONFIG,
                           "download_window must be hours of the day, as in 22:00-06:00, 12:00-13:30; got "
                           "\"%.80s\"",
                           text);
        if (cnt == max)
            return err_set(e, ERR_CONFIG, "download_window: more than %zu", max);
        out[cnt] = (struct window){.from = (uint16_t)from, .to = (uint16_t)to};
        if (!*at++)
            return 0;
    }
}

bool window_is_open(const struct window *w, size_t max, unsigned minute)
{
    for (size_t i = 0; i < max && w[i].from != w[i].to; i++)
        if (w[i].from < w[i].to ? minute >= w[i].from && minute < w[i].to
                                : minute >= w[i].from || minute < w[i].to)
            return true;
    return false;
}

unsigned window_wait(const struct window *w, size_t max, unsigned minute, bool open)
{
    unsigned n = 0;

    while (n < WINDOW_DAY_MIN && window_is_open(w, max, (minute + n) % WINDOW_DAY_MIN) != open)
        n++;
    return n;
}
