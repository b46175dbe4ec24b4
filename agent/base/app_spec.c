#include "base/app_spec.h"

#include <string.h>

size_t app_spec_cnt(const struct app_spec *s, enum app_text kind)
{
    const size_t cnt[APP_TEXT_CNT] = {s->arg_cnt, s->env_cnt, s->health_cnt, s->volume_cnt};
    static const size_t max[APP_TEXT_CNT] = {APP_ARG_MAX, APP_ENV_MAX, APP_HEALTH_MAX, APP_VOLUME_MAX};

    return cnt[kind] < max[kind] ? cnt[kind] : max[kind];
}

const char *app_spec_text(const struct app_spec *s, enum app_text kind, size_t i)
{
    size_t len = s->text_len < sizeof s->text ? s->text_len : sizeof s->text;
    const char *at = s->text, *end = s->text + len;

    if (i >= app_spec_cnt(s, kind))
        return NULL;
    for (int k = 0; k < (int)kind; k++)
        i += app_spec_cnt(s, (enum app_text)k);
    for (;; i--) {
        const char *stop = memchr(at, '\0', (size_t)(end - at));

        if (!stop)
            return NULL;
        if (!i)
            return at;
        at = stop + 1;
    }
}
