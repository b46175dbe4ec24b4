/* Errors as a causal chain.
 *
 * A fallible public function returns 0 (or a count) on success and a negative code on failure, and fills the
 * caller's struct err. Codes from -1 to -4095 are errno's, those of enum err_code are ours. Each layer that
 * hands an error on puts its own words in front, so the text reads from the outside in:
 *
 *     update: layer 3 of 5: sha256 mismatch: want 3f2a.., got 91bc..
 *
 * The text is one line of printable ASCII whatever it was made from: bytes from the network are escaped.
 */
#ifndef SLIPWAY_BASE_ERR_H
#define SLIPWAY_BASE_ERR_H

#include <stdint.h>

#define ERR_TEXT_MAX 320

enum err_code {
    ERR_DIGEST = -5000,      /* content does not have the digest it was asked for by */
    ERR_SIZE = -5001,        /* content is shorter or longer than declared */
    ERR_FORMAT = -5002,      /* bytes do not parse: JSON, tar, gzip, frame, record */
    ERR_LIMIT = -5003,       /* well formed, but over a limit of this build */
    ERR_POLICY = -5004,      /* well formed, but something Slipway refuses on purpose */
    ERR_PLATFORM = -5005,    /* no image for this board's platform */
    ERR_SPACE = -5006,       /* the slot is too small */
    ERR_NET = -5007,         /* connection: refused, cut, timed out, name not found */
    ERR_TLS = -5008,         /* certificate or handshake */
    ERR_AUTH = -5009,        /* 401/403: credentials missing or refused */
    ERR_ABSENT = -5010,      /* 404: no such tag, manifest or blob */
    ERR_REGISTRY = -5011,    /* any other answer of the registry that is not a success */
    ERR_FLASH = -5012,       /* what was read back is not what was written */
    ERR_BOOT = -5013,        /* boot record missing, damaged, or it refuses */
    ERR_CONFIG = -5014,      /* agent.conf or a file that it names */
    ERR_PEER = -5015,        /* another Slipway process went away or broke the protocol */
    ERR_APP = -5016,         /* the app did not start, crashed or was never healthy */
    ERR_STATE = -5017,       /* the request does not fit the present state */
    ERR_UNSUPPORTED = -5018, /* a capability this board or build does not have */
    ERR_UNSIGNED = -5019,    /* no signature where one is required */
    ERR_SIGNATURE =
        -5020,         /* signatures, but none that counts: wrong key, other bytes, other image, too few */
    ERR_OLDER = -5021, /* properly signed, but a version below the one this device must not go under */
    ERR_HELD = -5022,  /* properly signed, but not now: the fleet's brake is on */
};

struct err {
    int code;
    char text[ERR_TEXT_MAX];
    uint32_t after_s; /* a registry asks to be left alone this long; 0: it does not */
};

/* Set the error; returns `code`, so `return err_set(...)` reads well. `e` may not be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: appends ": strerror(errno)" and returns -errno. */
int err_errno(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Put "words: " in front; the end is cut when it does not fit. Returns e->code. */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Put words at the end, as far as they fit. Returns e->code. */
int err_append(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The stable name of a code for scripts and `agentctl why`: "digest", "space", ... ; "system" for an errno. */
const char *err_name(int code);

#endif
