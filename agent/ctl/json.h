/* Building an answer with cJSON: every string made safe, every failed allocation remembered, so that an object with
 * a member missing is never sent. The tree lives on the heap from json_start() to json_finish(), which always frees
 * it; json_start() comes first, and nothing may be added afterwards. */
#ifndef SLIPWAY_CTL_JSON_H
#define SLIPWAY_CTL_JSON_H

#include <cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    cJSON *root;
    bool failed;
};

cJSON *json_start(struct json *j); /* the root object; NULL is accepted by all functions below */
cJSON *json_put_object(struct json *j, cJSON *to, const char *key); /* key NULL: append to an array */
cJSON *json_put_array(struct json *j, cJSON *to, const char *key);
void json_put_text(struct json *j, cJSON *to, const char *key, const char *text);
void json_put_integer(struct json *j, cJSON *to, const char *key, int64_t value); /* exact below 10^15 */
void json_put_bool(struct json *j, cJSON *to, const char *key, bool value);
void json_put_null(struct json *j, cJSON *to, const char *key);

/* One line into `out`, with a NUL. Returns its length, or -1: it does not fit, or memory ran out. */
int json_finish(struct json *j, char *out, size_t cap);

/* Replace by '?', in place, each byte that is neither printable ASCII, tab, line feed nor, unless `ascii`, part of
 * well-formed UTF-8 (RFC 3629) above the C1 controls. Bounds what cJSON makes of it to twice the length. */
void json_make_safe(char *text, size_t len, bool ascii);

/* How many of the last bytes begin an UTF-8 sequence whose rest is still to come: 0..3. */
size_t json_utf8_cut(const char *text, size_t len);

#endif
