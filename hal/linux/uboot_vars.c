#include "hal/linux/uboot_vars.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_DEFAULT 3
#define TRIES_MAX 9

/* ours, among the words of others: the slot that store() had first */
#define FIRST "slipway_first"

static const char *const left_names[SLOT_CNT] = {"BOOT_A_LEFT", "BOOT_B_LEFT"};
static const char *const slot_names[SLOT_CNT] = {"A", "B"};

const struct uboot_vars uboot_vars_rauc = {.words = UBOOT_RAUC, .part = "", .values = {"", ""}};
const struct uboot_vars uboot_vars_configured = {
    .words = IS_ENABLED(CONFIG_UBOOT_MENDER)     ? UBOOT_MENDER
             : IS_ENABLED(CONFIG_UBOOT_SWUPDATE) ? UBOOT_SWUPDATE
                                                 : UBOOT_RAUC,
    .part = CONFIG_UBOOT_PART_VARIABLE,
    .values = {CONFIG_UBOOT_PART_A, CONFIG_UBOOT_PART_B},
};

static int set_digit(struct uboot_env *env, const char *name, unsigned n, struct err *e)
{
    return uboot_env_set(env, name, (const char[2]){(char)('0' + n), 0}, e);
}

/* As the script reads it: what is no number counts as 0. Above 9 the record has no words for it. */
static uint8_t digit_parse(const char *s, uint8_t absent)
{
    unsigned n = 0;

    if (s == NULL || *s == 0)
        return absent;
    for (; isdigit((unsigned char)*s) && n <= TRIES_MAX; s++)
        n = n * 10 + (unsigned)(*s - '0');
    return (uint8_t)(n > TRIES_MAX ? TRIES_MAX : n);
}

/* --- a count for each slot ---------------------------------------------------------------------------------------- */

/* A slot that BOOT_ORDER does not name is never started, so it has no tries. */
static void rauc_get(const struct uboot_env *env, struct bootrec *out)
{
    const char *order = uboot_env_get(env, "BOOT_ORDER");
    bool named[SLOT_CNT] = {false, false};
    bool any = false;

    if (order == NULL || *order == 0)
        order = "A B";
    out->first = SLOT_A;
    while (*order != 0) {
        size_t len = strcspn(order, " ");

        if (len == 1 && (*order == 'A' || *order == 'B')) {
            enum slot_id id = *order == 'A' ? SLOT_A : SLOT_B;

            if (!any)
                out->first = id;
            any = named[id] = true;
        }
        order += len + strspn(order + len, " ");
    }
    for (int i = 0; i < SLOT_CNT; i++)
        out->left[i] = named[i] ? digit_parse(uboot_env_get(env, left_names[i]), TRIES_DEFAULT) : 0;
}

/* A slot without tries is not named: the script gives all that are named new tries when none has any left, and this one
 * may be half written. */
static int rauc_set(struct uboot_env *env, const struct bootrec *r, struct err *e)
{
    static const char *const orders[SLOT_CNT][2] = {{"A", "A B"}, {"B", "B A"}};
    bool both = r->left[slot_other(r->first)] > 0;
    int rc = uboot_env_set(env, "BOOT_ORDER", orders[r->first][both], e);

    for (int i = 0; i < SLOT_CNT && rc == 0; i++)
        rc = set_digit(env, left_names[i], r->left[i], e);
    return rc;
}

/* --- one count ---------------------------------------------------------------------------------------------------- */

static bool name_slot(const char *const names[SLOT_CNT], const char *name, enum slot_id *out)
{
    for (int i = 0; i < SLOT_CNT; i++)
        if (name != NULL && strcmp(name, names[i]) == 0) {
            *out = (enum slot_id)i;
            return true;
        }
    return false;
}

/* While U-Boot does not count it stays with the slot for ever, which is as good as all tries. Of the other slot it only
 * knows whether there is a way to it. */
static int counted_get(const struct uboot_vars *v, const struct uboot_env *env, struct bootrec *out,
                       struct err *e)
{
    const char *part = uboot_env_get(env, v->part);
    bool counts = digit_parse(uboot_env_get(env, "upgrade_available"), 0) != 0;
    uint8_t limit = digit_parse(uboot_env_get(env, "bootlimit"), 0);
    uint8_t count = digit_parse(uboot_env_get(env, "bootcount"), 0);
    enum slot_id next;

    if (!name_slot(v->values, part, &next))
        return err_set(e, ERR_BOOT, "U-Boot's environment: %s is \"%s\", want \"%s\" or \"%s\"", v->part,
                       part == NULL ? "" : part, v->values[SLOT_A], v->values[SLOT_B]);
    if (limit == 0)
        limit = TRIES_DEFAULT;
    if (!name_slot(slot_names, uboot_env_get(env, FIRST), &out->first))
        out->first = next;
    out->left[next] = limit;
    if (next != out->first) { /* altbootcmd was there */
        out->left[out->first] = 0;
        return 0;
    }
    out->left[slot_other(next)] = counts ? limit : 0;
    if (counts)
        out->left[next] = count < limit ? limit - count : 0;
    return 0;
}

/* Nothing falls back to a slot that may not start: then U-Boot is not to count. */
static int counted_set(const struct uboot_vars *v, struct uboot_env *env, const struct bootrec *r,
                       struct err *e)
{
    enum slot_id next = r->left[r->first] > 0 ? r->first : slot_other(r->first);
    uint8_t second = r->left[slot_other(next)];
    bool counts = second > 0;
    uint8_t limit = r->left[next] > second ? r->left[next] : second;
    char hex[16];
    int rc;

    if (limit == 0)
        return err_set(e, ERR_BOOT, "boot record without tries: U-Boot with %s always starts a slot",
                       v->part);
    rc = uboot_env_set(env, v->part, v->values[next], e);
    if (rc == 0)
        rc = uboot_env_set(env, "upgrade_available", counts ? "1" : "0", e);
    if (rc == 0)
        rc = set_digit(env, "bootlimit", limit, e);
    if (rc == 0)
        rc = set_digit(env, "bootcount", counts ? limit - r->left[next] : 0, e);
    if (rc == 0)
        rc = uboot_env_set(env, FIRST, slot_names[r->first], e);
    snprintf(hex, sizeof(hex), "%lx", strtoul(v->values[next], NULL, 10));
    if (rc == 0 && v->words == UBOOT_MENDER)
        rc = uboot_env_set(env, "mender_boot_part_hex", hex, e);
    if (rc == 0 && v->words == UBOOT_SWUPDATE)
        rc = uboot_env_set(env, "ustate", counts ? "1" : next != r->first ? "3" : "0", e);
    return rc;
}

/* --- both --------------------------------------------------------------------------------------------------------- */

int uboot_vars_get(const struct uboot_vars *v, const struct uboot_env *env, struct bootrec *out,
                   struct err *e)
{
    if (v->words != UBOOT_RAUC)
        return counted_get(v, env, out, e);
    rauc_get(env, out);
    return 0;
}

int uboot_vars_set(const struct uboot_vars *v, struct uboot_env *env, const struct bootrec *r, struct err *e)
{
    if ((r->first != SLOT_A && r->first != SLOT_B) || r->left[SLOT_A] > TRIES_MAX ||
        r->left[SLOT_B] > TRIES_MAX)
        return err_set(e, ERR_BOOT, "boot record out of range: first %d, tries %d and %d", (int)r->first,
                       r->left[SLOT_A], r->left[SLOT_B]);
    return v->words == UBOOT_RAUC ? rauc_set(env, r, e) : counted_set(v, env, r, e);
}

/* --- what was booted ---------------------------------------------------------------------------------------------- */

/* False: a partition of no slot, or of both. */
static bool root_slot(const struct uboot_vars *v, const char *root, enum slot_id *out)
{
    size_t len = strlen(root), digits = 0;
    unsigned long number;
    int found = 0;

    while (digits < len && isdigit((unsigned char)root[len - 1 - digits]))
        digits++;
    number = strtoul(root + len - digits, NULL, 10);
    for (int i = 0; i < SLOT_CNT && digits > 0; i++)
        if (isdigit((unsigned char)v->values[i][0]) && strtoul(v->values[i], NULL, 10) == number) {
            *out = (enum slot_id)i;
            found++;
        }
    return found == 1;
}

int uboot_vars_booted(const struct uboot_vars *v, char *line, enum slot_id *out, struct err *e)
{
    static const char *const keys[] = {"slipway.slot=", "rauc.slot="};
    char *save = NULL;
    bool found = false;

    for (char *word = strtok_r(line, " \n", &save); word != NULL; word = strtok_r(NULL, " \n", &save)) {
        if (strncmp(word, "root=", 5) == 0)
            found = root_slot(v, word + 5, out);
        for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
            if (strncmp(word, keys[i], strlen(keys[i])) == 0)
                return name_slot(slot_names, word + strlen(keys[i]), out)
                           ? 0
                           : err_set(e, ERR_BOOT, "%s: want A or B", word);
    }
    if (found)
        return 0;
    return err_set(e, ERR_BOOT, "no slipway.slot=A or =B%s; does the boot script pass it?",
                   v->words == UBOOT_RAUC ? "" : ", and no root= with a slot's partition");
}
