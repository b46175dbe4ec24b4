/* Between conf.c, which knows the keys, and conf_file.c, which reads the file. For these two only. */
#ifndef SLIPWAY_BASE_CONF_KEY_H
#define SLIPWAY_BASE_CONF_KEY_H

#include <stddef.h>

#include "base/conf.h"

/* How a value is written, and what it becomes. */
enum conf_kind {
    KIND_TEXT,       /* char[max + 1], as it stands */
    KIND_PATH,       /* the same, absolute */
    KIND_PROXY,      /* the same, http://host[:port] */
    KIND_SECONDS,    /* uint32_t, min..max; "90", "90s", "5m", "2h" */
    KIND_NUMBER,     /* uint32_t, min..max */
    KIND_SIZE,       /* uint32_t of KiB, min..max; "64K", "20M", "1G", or "" for 0 */
    KIND_WINDOWS,    /* struct window[CONF_WINDOW_MAX] */
    KIND_YES_NO,     /* bool */
    KIND_SLOTS,      /* bool disk */
    KIND_SCRUB,      /* uint32_t of seconds: off, daily, weekly, monthly */
    KIND_APP,        /* a part of struct conf_app (base/conf_app.h) */
    KIND_IMAGE,      /* host, repository and tag of struct conf_registry */
    KIND_MIRRORS,    /* char[CONF_MIRROR_MAX][CONF_HOST_MAX] */
    KIND_POLICY,     /* bool required */
    KIND_EXPIRED,    /* bool expired_is_ok */
    KIND_KEYS,       /* char[CONF_KEY_MAX][CONF_PATH_MAX] */
    KIND_REPOSITORY, /* char[max + 1], the name of a repository, or "any" */
};

struct conf_key {
    const char *section;
    const char *name;
    const char *preset; /* the default, written as in the file; NULL: empty, 0, no */
    enum conf_kind kind;
    size_t offset; /* in struct conf; of CONF_NAMED in struct conf_target */
    uint32_t min;
    uint32_t max;
};

/* The section of keys that only [app NAME] has; it has all of [app] besides. */
#define CONF_NAMED "app NAME"

extern const struct conf_key conf_keys[]; /* those of a section in a row */
extern const size_t conf_key_cnt;
#define CONF_KEY_CNT_MAX 64

/* Put a value, which is cut up, into its place; `t`: that of an [app NAME], or NULL. An error says what was wanted. */
int conf_value_put(const struct conf_key *k, struct conf *c, struct conf_target *t, char *value,
                   struct err *e);
int conf_text_put(char *out, size_t cap, const char *value, const char *what, struct err *e);

/* As Docker writes sizes: 64m, 512K, 1G. */
int conf_size_put(const char *name, uint32_t min_kib, uint32_t max_kib, uint32_t *out_kib, const char *value,
                  struct err *e);

bool conf_is_space(char c);
/* Cut white space off both ends, in place. */
char *conf_trim(char *s);

#endif
