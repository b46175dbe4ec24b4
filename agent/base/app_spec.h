/* What to run, taken from an image's config: Entrypoint, Cmd, Env, WorkingDir, User, StopSignal (OCI image
 * specification, config.md). A flat, fixed-size value: it goes over pipes and into the slot record as it is.
 */
#ifndef SLIPWAY_BASE_APP_SPEC_H
#define SLIPWAY_BASE_APP_SPEC_H

#include <stdint.h>

#define APP_TEXT_MAX 8192
#define APP_ARG_MAX 64
#define APP_ENV_MAX 96

struct app_spec {
    uint16_t arg_cnt;        /* Entrypoint followed by Cmd; 0: the image starts nothing */
    uint16_t env_cnt;        /* "NAME=value" each */
    uint16_t text_len;       /* bytes used of text */
    uint16_t stop_signal;    /* a signal number; 15 when the image names none */
    char user[64];           /* as the image gives it: "", "name", "id", "name:group", "id:gid" */
    char cwd[256];           /* absolute; "/" when the image names none */
    char text[APP_TEXT_MAX]; /* arg_cnt strings, then env_cnt strings, each ended by NUL */
};

#endif
