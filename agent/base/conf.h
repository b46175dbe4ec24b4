/* agent.conf: one commented file, read whole at start into fixed-size memory. Every key is checked; an unknown one
 * is refused with its line and the nearest known key. Secrets stand in files of their own that it names.
 *
 *     [section]
 *     key = value        # comment
 */
#ifndef SLIPWAY_BASE_CONF_H
#define SLIPWAY_BASE_CONF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/window.h"

#define CONF_DEFAULT "/etc/slipway/agent.conf"
#define CONF_PATH_MAX 192
#define CONF_HOST_MAX 128
#define CONF_MIRROR_MAX 4
#define CONF_KEY_MAX 8
#define CONF_WINDOW_MAX 4
#define CONF_NAME_MAX 32
#define CONF_TARGET_MAX (CONFIG_APPS_MAX > 0 ? CONFIG_APPS_MAX : 1)

/* [registry] */
struct conf_registry {
    char host[CONF_HOST_MAX]; /* "registry.example.com" or "host:port", from `image` */
    char repository[256];     /* "fleet/web" */
    char tag[129];
    char mirrors[CONF_MIRROR_MAX]
                [CONF_HOST_MAX];     /* tried in this order, before the registry; "" ends the list */
    char ca[CONF_PATH_MAX];          /* PEM; "": no certificate is trusted, so HTTPS fails */
    char client_cert[CONF_PATH_MAX]; /* PEM; with client_key, for mutual TLS */
    char client_key[CONF_PATH_MAX];
    char credentials[CONF_PATH_MAX]; /* Docker's config.json, of which `auths` is read */
    char proxy[CONF_PATH_MAX];       /* "http://proxy.example.com:3128" */
    bool plain_http;                 /* insecure, said aloud in status; for a registry on a closed bench */
};

/* [update] */
struct conf_update {
    uint32_t poll_interval_s; /* 0: only when asked */
    uint32_t stable_s;        /* the app must stay up this long before a trial is confirmed */
    uint32_t tries;           /* starts a new version gets, 1..9 */
    uint32_t check_timeout_s; /* of each check that the system on trial brings */
    char channel[32];         /* what the device is of, where an image is not for all of them */
    bool automatic;           /* false: a new version is announced, `agentctl update` installs it */
    bool full_verification;   /* true: every layer is fetched whole and its diff_id checked */
    uint32_t rate_kib_s;      /* of what is downloaded; 0: as fast as it comes */
    uint32_t budget_kib;      /* to be downloaded in a day; 0: no limit */
    uint32_t max_pressure; /* percent of the time that somebody waits for memory; more holds updates back */
    struct window windows[CONF_WINDOW_MAX]; /* when updates are downloaded; none: always */
};

/* [trust]: who may say what this device runs (agent/trust). */
struct conf_trust {
    bool required; /* policy = required; `off` must be written out, and status says so */
    char keys[CONF_KEY_MAX][CONF_PATH_MAX]; /* PEM, one public key each; "" ends the list */
    uint32_t threshold;                     /* so many different keys must have signed */
    char repository[256]; /* that a signature must name; "": the one followed; "any": none in particular */
    uint32_t min_age_s;   /* a digest is installed only so long after this device first saw it */
    uint32_t max_age_s;   /* warn when the tag has not moved for so long; 0: never */
    bool
        expired_is_ok; /* where signatures are required, the registry's expired certificate only raises an alarm */
};

/* [slots] */
struct conf_slots {
    char a[CONF_PATH_MAX]; /* "": the board's own */
    char b[CONF_PATH_MAX];
    bool disk;        /* kind = disk; default is tree */
    uint32_t scrub_s; /* time between two scrubs; 0: only when asked */
};

enum conf_restart { RESTART_NO = 0, RESTART_ON_FAILURE, RESTART_ALWAYS };
enum conf_network { NETWORK_HOST = 0, NETWORK_NONE, NETWORK_PRIVATE };

#define CONF_APP_VOLUME_MAX 8
#define CONF_APP_DEVICE_MAX 8
#define CONF_APP_PATH_MAX 128
#define CONF_APP_PORT_MAX 8

struct conf_words {
    uint32_t cnt;
    char text[1024]; /* cnt strings, each ended by NUL */
};

struct conf_volume {
    char from[CONF_APP_PATH_MAX]; /* a path outside, or the name of a folder that the agent keeps */
    char to[CONF_APP_PATH_MAX];   /* "": end of the list */
    bool read_only;
};

/* A port of the board that leads to one of the app. */
struct conf_port {
    uint16_t host; /* 0: end of the list */
    uint16_t app;
    bool udp;
    uint8_t address[16]; /* of the board, IPv4 mapped into IPv6; all zeros: every one of both */
};

/* [app]: what the device says about the app, over what its image does. */
struct conf_app {
    uint32_t stop_timeout_s;
    enum conf_restart restart;
    uint32_t restart_max;     /* on-failure:N; 0: no number */
    uint32_t start_timeout_s; /* to be ready */
    uint32_t watchdog_s;      /* longest silence between two WATCHDOG=1; 0: none expected */
    bool ready_by_notify;     /* it is not ready until it sends READY=1 */
    enum conf_network network;
    struct conf_port ports[CONF_APP_PORT_MAX]; /* none unless the network is private */
    uint32_t memory_kb;                        /* 0: what the agent and the reserve leave */
    uint32_t cpu_percent;                      /* of one processor; 0: no limit */
    uint32_t pids;
    uint32_t tmpfs_kb;            /* size of each tmpfs */
    uint64_t caps_add, caps_drop; /* bits of capabilities */
    struct conf_words args;       /* instead of Cmd */
    struct conf_words env;        /* over Env */
    char user[64];                /* instead of User */
    struct conf_volume volumes[CONF_APP_VOLUME_MAX];
    char devices[CONF_APP_DEVICE_MAX][64]; /* "": end of the list */
};

/* [app NAME]: an app that follows an image of its own, beside the system. */
struct conf_target {
    char name[CONF_NAME_MAX];      /* "": end of the list */
    struct conf_registry registry; /* the image is its own, all else as in [registry] */
    struct conf_app app;
};

/* [control] */
struct conf_control {
    char socket[CONF_PATH_MAX];
    char serial[CONF_PATH_MAX]; /* "": none */
    uint32_t serial_baud;
};

/* [agent] */
struct conf_agent {
    char state_dir[CONF_PATH_MAX];
    char stage_dir
        [CONF_PATH_MAX]; /* "stage" below it: what the role stage keeps, and all of it that stage sees */
    char root_dir
        [CONF_PATH_MAX]; /* the system's stage_dir, for every target: the keys of the last signed root */
    uint32_t watchdog_s; /* 0: not used */
    uint32_t worker_uid; /* user and group id that fetch and decode run as: never root's */
};

struct conf {
    struct conf_registry registry;
    struct conf_update update;
    struct conf_trust trust;
    struct conf_slots slots;
    struct conf_app app;
    struct conf_control control;
    struct conf_agent agent;
    struct conf_target apps[CONF_TARGET_MAX];
    char
        target[CONF_NAME_MAX]; /* whose view this is: "" the system's, else that of an app, see conf_view() */
    uint32_t others_kb;        /* what the budgets of all other apps of the board add up to */
};

/* Boards that would come in the same second come within so many. */
#define CONF_SPREAD_MAX_S 600
static inline uint32_t conf_spread_s(const struct conf *c)
{
    return c->update.poll_interval_s < CONF_SPREAD_MAX_S ? c->update.poll_interval_s : CONF_SPREAD_MAX_S;
}

/* Read `path` into *out, which is filled with the defaults first. ERR_CONFIG names the file and the line. */
int conf_load(const char *path, struct conf *out, struct err *e);

/* Make *c, as loaded, the view that the app `name` has: registry, app and slots are its own, and so are the folders below
 * "apps/NAME" of the state directory. "" changes nothing. ERR_ABSENT when there is no [app NAME]. */
int conf_view(struct conf *c, const char *name, struct err *e);

#define CONF_TEXT_MAX 2304

struct conf_value {
    char section[CONF_NAME_MAX + 8];
    const char *key;
    unsigned line; /* of the file; 0: the default */
    char text
        [CONF_TEXT_MAX]; /* as written, "" for none. Secrets are left out: values of `env`, a name in `proxy` */
};

/* The same, and then hand each key to `see`, those of a section in a row. */
int conf_show(const char *path, struct conf *out, void (*see)(void *ctx, const struct conf_value *v),
              void *ctx, struct err *e);

#endif
