/* Strict reading of JSON (RFC 8259) on top of cJSON, which by itself takes duplicate keys, any case of keys and
 * 1e3 for an integer. A document comes from the network: whatever is odd in it is ERR_FORMAT, or ERR_LIMIT when it is
 * only too much. Refused anywhere in a document: a byte order mark, text after the end, more than JSON_DEPTH_MAX
 * levels, control characters and \u0000 in strings, a key given twice in one object.
 *
 * The tree belongs to the caller, who frees it with json_free(); strings returned point into it.
 */
#ifndef SLIPWAY_OCI_JSON_H
#define SLIPWAY_OCI_JSON_H

#include <cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"

#define JSON_DEPTH_MAX 16
#define JSON_VALUE_MAX 16384 /* values in a document: about 1.2 MB of tree */
#define JSON_KEY_MAX 1024    /* keys in one object */

enum json_need { JSON_REQUIRED = 1, JSON_OPTIONAL };

/* Parse `len` bytes; the outermost value must be an object. */
int json_parse(const char *text, size_t len, cJSON **out, struct err *e);
void json_free(cJSON *root);

/* Members of an object. An absent JSON_OPTIONAL one, or one that is null, leaves NULL (or 0) in *out. */
int json_object(const cJSON *parent, const char *key, enum json_need need, const cJSON **out, struct err *e);
int json_array(const cJSON *parent, const char *key, enum json_need need, const cJSON **out, struct err *e);
int json_string(const cJSON *parent, const char *key, enum json_need need, const char **out, struct err *e);
/* A whole number from 0 to 2^53 - 1, written with digits alone. */
int json_uint(const cJSON *parent, const char *key, enum json_need need, uint64_t *out, struct err *e);

/* "sha256:" and 64 digits; never optional. */
int json_digest(const cJSON *parent, const char *key, struct digest *out, struct err *e);

/* A whole number from 1 to 2^53 - 1 as text, digits alone, without a leading zero. */
bool json_digits(const char *text, uint64_t *out);

/* What a value is, for messages: "a string". */
const char *json_kind(const cJSON *value);

#endif
