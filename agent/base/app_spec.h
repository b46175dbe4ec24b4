/* What to run, taken from an image's config: Entrypoint, Cmd, Env, WorkingDir, User, StopSignal, Healthcheck, Volumes
 * (OCI image specification, config.md; Docker's image specification 1.2 for Healthcheck). A flat, fixed-size value: it
 * goes over pipes and into the slot record as it is, and grows at its end only (update/record.h).
 */
#ifndef SLIPWAY_BASE_APP_SPEC_H
#define SLIPWAY_BASE_APP_SPEC_H

#include <stddef.h>
#include <stdint.h>

#define APP_TEXT_MAX 8192
#define APP_ARG_MAX 64
#define APP_ENV_MAX 96
#define APP_HEALTH_MAX 32
#define APP_VOLUME_MAX 8

struct app_spec {
    uint16_t arg_cnt;        /* Entrypoint followed by Cmd; 0: the image starts nothing */
    uint16_t env_cnt;        /* "NAME=value" each */
    uint16_t text_len;       /* bytes used of text */
    uint16_t stop_signal;    /* a signal number; 15 when the image names none */
    char user[64];           /* as the image gives it: "", "name", "id", "name:group", "id:gid" */
    char cwd[256];           /* absolute; "/" when the image names none */
    char text[APP_TEXT_MAX]; /* strings, each ended by NUL, in the order of enum app_text */
    /* From here on 0 where the record was written by an agent that did not know them. */
    uint16_t entry_cnt;  /* how many of the arguments are the Entrypoint */
    uint16_t health_cnt; /* the health check's program and arguments; 0: none */
    uint16_t volume_cnt; /* absolute paths */
    uint16_t zero;
    uint32_t health_interval_ms; /* these four: 0 for Docker's default */
    uint32_t health_timeout_ms;
    uint32_t health_start_ms;
    uint32_t health_retries;
};

enum app_text { APP_TEXT_ARG, APP_TEXT_ENV, APP_TEXT_HEALTH, APP_TEXT_VOLUME, APP_TEXT_CNT };

/* The i-th string of its kind, or NULL: there is none, or the text, which may come from a damaged file, is cut off. */
const char *app_spec_text(const struct app_spec *s, enum app_text kind, size_t i);
/* How many strings of a kind there are; no more than the kind's own limit. */
size_t app_spec_cnt(const struct app_spec *s, enum app_text kind);

#endif
