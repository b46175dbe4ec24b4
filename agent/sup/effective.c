#include "sup/effective.h"

#include <stdio.h>
#include <string.h>

static int text_add(struct app_spec *out, uint16_t *cnt, uint16_t max, const char *text, struct err *e)
{
    size_t len;

    if (!text)
        return err_set(e, ERR_FORMAT, "arguments and environment are cut off");
    len = strlen(text) + 1;
    if (*cnt == max || len > sizeof out->text - out->text_len)
        return err_set(e, ERR_LIMIT, "arguments and environment do not fit");
    memcpy(out->text + out->text_len, text, len);
    out->text_len = (uint16_t)(out->text_len + len);
    (*cnt)++;
    return 0;
}

static int texts_add(struct app_spec *out, uint16_t *cnt, uint16_t max, const struct app_spec *image,
                     enum app_text kind, size_t end, struct err *e)
{
    for (size_t i = 0; i < end; i++)
        if (text_add(out, cnt, max, app_spec_text(image, kind, i), e))
            return e->code;
    return 0;
}

static int words_add(struct app_spec *out, uint16_t *cnt, uint16_t max, const struct conf_words *w,
                     struct err *e)
{
    const char *at = w->text;

    for (uint32_t i = 0; i < w->cnt; i++, at += strlen(at) + 1)
        if (text_add(out, cnt, max, at, e))
            return e->code;
    return 0;
}

static bool words_set(const struct conf_words *w, const char *pair)
{
    size_t len = strcspn(pair, "=");
    const char *at = w->text;

    for (uint32_t i = 0; i < w->cnt; i++, at += strlen(at) + 1)
        if (!strncmp(at, pair, len) && at[len] == '=')
            return true;
    return false;
}

static int env_add(struct app_spec *out, const struct app_spec *image, const struct conf_words *w,
                   struct err *e)
{
    for (size_t i = 0; i < app_spec_cnt(image, APP_TEXT_ENV); i++) {
        const char *pair = app_spec_text(image, APP_TEXT_ENV, i);

        if ((!pair || !words_set(w, pair)) && text_add(out, &out->env_cnt, APP_ENV_MAX, pair, e))
            return e->code;
    }
    return words_add(out, &out->env_cnt, APP_ENV_MAX, w, e);
}

int effective_spec(const struct app_spec *image, const struct conf_app *conf, struct app_spec *out,
                   struct err *e)
{
    size_t args = app_spec_cnt(image, APP_TEXT_ARG);

    *out = *image;
    out->arg_cnt = out->env_cnt = out->health_cnt = out->volume_cnt = out->text_len = 0;
    memset(out->text, 0, sizeof out->text);
    if (conf->args.cnt && image->entry_cnt < args)
        args = image->entry_cnt;
    if (texts_add(out, &out->arg_cnt, APP_ARG_MAX, image, APP_TEXT_ARG, args, e) ||
        words_add(out, &out->arg_cnt, APP_ARG_MAX, &conf->args, e) || env_add(out, image, &conf->env, e) ||
        texts_add(out, &out->health_cnt, APP_HEALTH_MAX, image, APP_TEXT_HEALTH,
                  app_spec_cnt(image, APP_TEXT_HEALTH), e) ||
        texts_add(out, &out->volume_cnt, APP_VOLUME_MAX, image, APP_TEXT_VOLUME,
                  app_spec_cnt(image, APP_TEXT_VOLUME), e))
        return e->code;
    if (conf->user[0])
        snprintf(out->user, sizeof out->user, "%s", conf->user);
    return 0;
}
