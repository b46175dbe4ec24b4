#include "ctl/json.h"

#include <string.h>

cJSON *json_start(struct json *j)
{
    j->root = cJSON_CreateObject();
    j->failed = j->root == NULL;
    return j->root;
}

static cJSON *item_add(struct json *j, cJSON *to, const char *key, cJSON *item)
{
    bool added = to && item && (key ? cJSON_AddItemToObject(to, key, item) : cJSON_AddItemToArray(to, item));

    if (added)
        return item;
    cJSON_Delete(item);
    j->failed = true;
    return NULL;
}

cJSON *json_put_object(struct json *j, cJSON *to, const char *key)
{
    return item_add(j, to, key, cJSON_CreateObject());
}

cJSON *json_put_array(struct json *j, cJSON *to, const char *key)
{
    return item_add(j, to, key, cJSON_CreateArray());
}

void json_put_text(struct json *j, cJSON *to, const char *key, const char *text)
{
    cJSON *item = cJSON_CreateString(text);

    if (item)
        json_make_safe(item->valuestring, strlen(item->valuestring), true);
    item_add(j, to, key, item);
}

void json_put_integer(struct json *j, cJSON *to, const char *key, int64_t value)
{
    item_add(j, to, key, cJSON_CreateNumber((double)value));
}

void json_put_bool(struct json *j, cJSON *to, const char *key, bool value)
{
    item_add(j, to, key, cJSON_CreateBool(value));
}

void json_put_null(struct json *j, cJSON *to, const char *key)
{
    item_add(j, to, key, cJSON_CreateNull());
}

int json_finish(struct json *j, char *out, size_t cap)
{
    bool printed = !j->failed && cJSON_PrintPreallocated(j->root, out, (int)cap, false);

    cJSON_Delete(j->root);
    j->root = NULL;
    return printed ? (int)strlen(out) : -1;
}

/* Length of the well-formed UTF-8 sequence at `s`, 0 when there is none. */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    static const struct {
        unsigned char from, to, second_min, second_max, len;
    } forms[] = {
        {0xc2, 0xc2, 0xa0, 0xbf, 2}, /* U+0080..9F are controls */
        {0xc3, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (s[0] < forms[i].from || s[0] > forms[i].to)
            continue;
        if (left < forms[i].len || s[1] < forms[i].second_min || s[1] > forms[i].second_max)
            return 0;
        for (size_t k = 2; k < forms[i].len; k++)
            if ((s[k] & 0xc0) != 0x80)
                return 0;
        return forms[i].len;
    }
    return 0;
}

void json_make_safe(char *text, size_t len, bool ascii)
{
    unsigned char *s = (unsigned char *)text;

    for (size_t i = 0; i < len;) {
        size_t step = ascii ? 0 : utf8_len(s + i, len - i);

        if (step == 0) {
            if ((s[i] < 0x20 && s[i] != '\t' && s[i] != '\n') || s[i] > 0x7e)
                s[i] = '?';
            step = 1;
        }
        i += step;
    }
}

size_t json_utf8_cut(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;

    for (size_t back = 1; back <= 3 && back <= len; back++) {
        unsigned char b = s[len - back];
        size_t want = b >= 0xf0 ? 4 : b >= 0xe0 ? 3 : b >= 0xc0 ? 2 : 1;

        if ((b & 0xc0) == 0x80)
            continue;
        return want > back ? back : 0;
    }
    return 0;
}
