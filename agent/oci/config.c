/* The image config: oci_config_parse() of oci/image.h. */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/path.h"
#include "oci/image.h"
#include "oci/json.h"
#include "oci/platform.h"

#define STOP_SIGNAL_MAX 64
#define DAY_NS 86400000000000u
#define RTMIN_BASE 34 /* what SIGRTMIN means to the C libraries that images are built with */

static const struct {
    const char *name;
    int number;
} signals[] = {
    {"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"ILL", SIGILL},     {"TRAP", SIGTRAP},
    {"ABRT", SIGABRT}, {"BUS", SIGBUS},   {"FPE", SIGFPE},   {"KILL", SIGKILL},   {"USR1", SIGUSR1},
    {"SEGV", SIGSEGV}, {"USR2", SIGUSR2}, {"PIPE", SIGPIPE}, {"ALRM", SIGALRM},   {"TERM", SIGTERM},
    {"CHLD", SIGCHLD}, {"CONT", SIGCONT}, {"STOP", SIGSTOP}, {"TSTP", SIGTSTP},   {"TTIN", SIGTTIN},
    {"TTOU", SIGTTOU}, {"URG", SIGURG},   {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},   {"VTALRM", SIGVTALRM},
    {"PROF", SIGPROF}, {"IO", SIGIO},     {"PWR", SIGPWR},   {"WINCH", SIGWINCH}, {"SYS", SIGSYS},
};

/* One or two digits; -1 for anything else. */
static int small_number(const char *text)
{
    int n = 0;
    size_t len = strlen(text);

    if (len < 1 || len > 2)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        n = 10 * n + (*text - '0');
    }
    return n;
}

static int signal_number(const char *text)
{
    int n = small_number(text);

    if (n >= 0)
        return n;
    if (!strncmp(text, "SIG", 3))
        text += 3;
    if (!strcmp(text, "RTMIN"))
        return RTMIN_BASE;
    if (!strcmp(text, "RTMAX"))
        return STOP_SIGNAL_MAX;
    if (!strncmp(text, "RTMIN+", 6) && (n = small_number(text + 6)) >= 0)
        return RTMIN_BASE + n;
    if (!strncmp(text, "RTMAX-", 6) && (n = small_number(text + 6)) >= 0 && n <= STOP_SIGNAL_MAX - RTMIN_BASE)
        return STOP_SIGNAL_MAX - n;
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (!strcmp(signals[i].name, text))
            return signals[i].number;
    return -1;
}

/* --- what to run ---------------------------------------------------------------------------------------------- */

static int text_add(struct app_spec *app, const char *text, struct err *e)
{
    size_t len = strlen(text) + 1;

    if (len > sizeof app->text - app->text_len)
        return err_set(e, ERR_LIMIT, "arguments and environment take more than %d bytes", APP_TEXT_MAX);
    memcpy(app->text + app->text_len, text, len);
    app->text_len = (uint16_t)(app->text_len + len);
    return 0;
}

/* Appends the strings from `item` on to app->text. */
static int strings_add(const cJSON *item, const char *key, struct app_spec *app, uint16_t *cnt, uint16_t max,
                       struct err *e)
{
    for (; item; item = item->next) {
        if (!cJSON_IsString(item))
            return err_set(e, ERR_FORMAT, "%s: want strings, got %s", key, json_kind(item));
        if (*cnt == max)
            return err_set(e, ERR_LIMIT, "%s: more than %u strings", key, max);
        if (text_add(app, item->valuestring, e))
            return e->code;
        (*cnt)++;
    }
    return 0;
}

/* The same for the array `key`, if there is one. */
static int list_add(const cJSON *config, const char *key, struct app_spec *app, uint16_t *cnt, uint16_t max,
                    struct err *e)
{
    const cJSON *list;
    int rc = json_array(config, key, JSON_OPTIONAL, &list, e);

    return rc || !list ? rc : strings_add(list->child, key, app, cnt, max, e);
}

static int env_check(const struct app_spec *app, const char *env, struct err *e)
{
    for (uint16_t i = 0; i < app->env_cnt; i++, env += strlen(env) + 1)
        if (!strchr(env, '=') || env[0] == '=')
            return err_set(e, ERR_FORMAT, "Env: want NAME=value, got \"%.60s\"", env);
    return 0;
}

static int string_take(const cJSON *config, const char *key, char *out, size_t cap, struct err *e)
{
    const char *text;
    int rc = json_string(config, key, JSON_OPTIONAL, &text, e);

    if (rc || !text)
        return rc;
    if (strlen(text) >= cap)
        return err_set(e, ERR_LIMIT, "%s: longer than %zu bytes", key, cap - 1);
    memcpy(out, text, strlen(text) + 1);
    return 0;
}

static int stop_signal_take(const cJSON *config, struct app_spec *app, struct err *e)
{
    const char *text;
    int n, rc = json_string(config, "StopSignal", JSON_OPTIONAL, &text, e);

    app->stop_signal = SIGTERM;
    if (rc || !text || !*text)
        return rc;
    n = signal_number(text);
    if (n < 1 || n > STOP_SIGNAL_MAX)
        return err_set(e, ERR_FORMAT, "StopSignal: no signal \"%.40s\"", text);
    app->stop_signal = (uint16_t)n;
    return 0;
}

static int cwd_take(const cJSON *config, struct app_spec *app, struct err *e)
{
    int rc = string_take(config, "WorkingDir", app->cwd, sizeof app->cwd, e);

    if (rc)
        return rc;
    if (app->cwd[0] == '\0')
        app->cwd[0] = '/';
    if (app->cwd[0] != '/')
        return err_set(e, ERR_FORMAT, "WorkingDir: want an absolute path, got \"%.60s\"", app->cwd);
    return 0;
}

/* Nanoseconds; a day at most. */
static int duration_take(const cJSON *health, const char *key, uint32_t *out_ms, struct err *e)
{
    uint64_t ns = 0;
    int rc = json_uint(health, key, JSON_OPTIONAL, &ns, e);

    if (!rc && ns > DAY_NS)
        return err_set(e, ERR_LIMIT, "%s: more than a day", key);
    *out_ms = (uint32_t)((ns + 999999) / 1000000);
    return rc;
}

/* Test: [] and ["NONE"] are none, ["CMD", program, ...], ["CMD-SHELL", line]. */
static int health_test_take(const cJSON *health, struct app_spec *app, struct err *e)
{
    const cJSON *list, *first;
    int rc = json_array(health, "Test", JSON_OPTIONAL, &list, e);

    if (rc || !list || !list->child)
        return rc;
    first = list->child;
    if (cJSON_IsString(first) && !strcmp(first->valuestring, "NONE"))
        return 0;
    if (!cJSON_IsString(first) || !first->next ||
        (strcmp(first->valuestring, "CMD") != 0 && strcmp(first->valuestring, "CMD-SHELL") != 0))
        return err_set(e, ERR_FORMAT, "Test: want NONE, CMD or CMD-SHELL and what to run");
    if (!strcmp(first->valuestring, "CMD-SHELL")) {
        rc = text_add(app, "/bin/sh", e) || text_add(app, "-c", e) ? e->code : 0;
        app->health_cnt = 2;
    }
    return rc ? rc : strings_add(first->next, "Test", app, &app->health_cnt, APP_HEALTH_MAX, e);
}

/* Healthcheck of Docker's image specification. */
static int health_take(const cJSON *config, struct app_spec *app, struct err *e)
{
    const cJSON *health;
    uint64_t retries = 0;
    int rc = json_object(config, "Healthcheck", JSON_OPTIONAL, &health, e);

    if (rc || !health)
        return rc;
    rc = health_test_take(health, app, e);
    if (!rc)
        rc = duration_take(health, "Interval", &app->health_interval_ms, e);
    if (!rc)
        rc = duration_take(health, "Timeout", &app->health_timeout_ms, e);
    if (!rc)
        rc = duration_take(health, "StartPeriod", &app->health_start_ms, e);
    if (!rc)
        rc = json_uint(health, "Retries", JSON_OPTIONAL, &retries, e);
    app->health_retries = retries < 1000 ? (uint32_t)retries : 1000;
    return rc ? err_prefix(e, "Healthcheck") : 0;
}

/* Volumes: a set, that is an object whose keys count. */
static int volumes_take(const cJSON *config, struct app_spec *app, struct err *e)
{
    const cJSON *set;
    int rc = json_object(config, "Volumes", JSON_OPTIONAL, &set, e);

    for (const cJSON *item = set ? set->child : NULL; item && !rc; item = item->next) {
        if (item->string[0] != '/' || !item->string[1] || !path_is_plain(item->string + 1))
            return err_set(e, ERR_FORMAT, "Volumes: want absolute paths, got \"%.60s\"", item->string);
        if (app->volume_cnt == APP_VOLUME_MAX)
            return err_set(e, ERR_LIMIT, "Volumes: more than %d", APP_VOLUME_MAX);
        rc = text_add(app, item->string, e);
        app->volume_cnt++;
    }
    return rc;
}

static int app_take(const cJSON *config, struct app_spec *app, struct err *e)
{
    uint16_t env_at;
    int rc = list_add(config, "Entrypoint", app, &app->arg_cnt, APP_ARG_MAX, e);

    app->entry_cnt = app->arg_cnt;
    if (!rc)
        rc = list_add(config, "Cmd", app, &app->arg_cnt, APP_ARG_MAX, e);
    if (!rc && app->arg_cnt > 0 && app->text[0] == '\0')
        rc = err_set(e, ERR_FORMAT, "the program's name is empty");
    env_at = app->text_len;
    if (!rc)
        rc = list_add(config, "Env", app, &app->env_cnt, APP_ENV_MAX, e);
    if (!rc)
        rc = env_check(app, app->text + env_at, e);
    if (!rc)
        rc = health_take(config, app, e);
    if (!rc)
        rc = volumes_take(config, app, e);
    if (!rc)
        rc = string_take(config, "User", app->user, sizeof app->user, e);
    if (!rc)
        rc = cwd_take(config, app, e);
    if (!rc)
        rc = stop_signal_take(config, app, e);
    return rc;
}

/* --- labels --------------------------------------------------------------------------------------------------- */

static int disk_take(const cJSON *labels, char *out, size_t cap, struct err *e)
{
    const char *text, *path;
    int rc = json_string(labels, "dev.slipway.disk", JSON_OPTIONAL, &text, e);

    if (rc || !text)
        return rc;
    path = text + strspn(text, "/");
    if (*path == '\0' || !path_is_plain(path))
        return err_set(e, ERR_FORMAT, "dev.slipway.disk: want the path of a file, got \"%.80s\"", text);
    if (strlen(path) >= cap)
        return err_set(e, ERR_LIMIT, "dev.slipway.disk: longer than %zu bytes", cap - 1);
    memcpy(out, path, strlen(path) + 1);
    return 0;
}

/* For people only, so what does not fit is cut and what does not print replaced. */
static int version_take(const cJSON *labels, char *out, size_t cap, struct err *e)
{
    const char *text;
    int rc = json_string(labels, "org.opencontainers.image.version", JSON_OPTIONAL, &text, e);

    if (rc || !text)
        return rc;
    snprintf(out, cap, "%s", text);
    for (; *out; out++)
        if (*out < 0x20 || *out > 0x7e)
            *out = '?';
    return 0;
}

/* --- the document --------------------------------------------------------------------------------------------- */

static int diff_ids_take(const cJSON *root, struct oci_config *out, struct err *e)
{
    const cJSON *rootfs, *list;
    const char *type;
    int cnt, rc = json_object(root, "rootfs", JSON_REQUIRED, &rootfs, e);

    if (!rc)
        rc = json_string(rootfs, "type", JSON_REQUIRED, &type, e);
    if (!rc && strcmp(type, "layers"))
        rc = err_set(e, ERR_FORMAT, "type: want \"layers\", got \"%.40s\"", type);
    if (!rc)
        rc = json_array(rootfs, "diff_ids", JSON_REQUIRED, &list, e);
    if (rc)
        return err_prefix(e, "rootfs");
    cnt = cJSON_GetArraySize(list);
    if (cnt > CONFIG_OCI_LAYER_MAX)
        return err_set(e, ERR_LIMIT, "%d diff_ids, limit is %d", cnt, CONFIG_OCI_LAYER_MAX);
    for (const cJSON *item = list->child; item; item = item->next) {
        const char *text = cJSON_IsString(item) ? item->valuestring : "";

        if (!digest_parse(text, strlen(text), &out->diff_ids[out->diff_cnt]))
            return err_set(e, ERR_FORMAT,
                           "diff_ids[%u]: want sha256: and 64 lower-case hex digits, got \"%.80s\"",
                           out->diff_cnt, text);
        out->diff_cnt++;
    }
    if (out->diff_cnt == 0)
        return err_set(e, ERR_FORMAT, "diff_ids: none");
    return 0;
}

static int platform_check(const cJSON *root, const struct platform *board, struct err *e)
{
    const char *os, *arch, *variant;
    int rc = json_string(root, "os", JSON_REQUIRED, &os, e);

    if (!rc)
        rc = json_string(root, "architecture", JSON_REQUIRED, &arch, e);
    if (!rc)
        rc = json_string(root, "variant", JSON_OPTIONAL, &variant, e);
    if (rc)
        return rc;
    variant = variant ? variant : "";
    if (platform_rank(board, os, arch, variant) == 0)
        return err_set(e, ERR_PLATFORM, "want %s/%s%s%s, the image is for %.16s/%.16s%s%.8s", board->os,
                       board->arch, board->variant[0] ? "/" : "", board->variant, os, arch,
                       variant[0] ? "/" : "", variant);
    return 0;
}

static int config_read(const cJSON *root, const struct platform *board, struct oci_config *out, struct err *e)
{
    const cJSON *config, *labels;
    int rc = platform_check(root, board, e);

    if (!rc)
        rc = diff_ids_take(root, out, e);
    if (!rc)
        rc = json_object(root, "config", JSON_OPTIONAL, &config, e);
    if (!rc)
        rc = app_take(config, &out->app, e);
    if (!rc)
        rc = json_object(config, "Labels", JSON_OPTIONAL, &labels, e);
    if (!rc)
        rc = disk_take(labels, out->disk, sizeof out->disk, e);
    if (!rc)
        rc = version_take(labels, out->version, sizeof out->version, e);
    return rc;
}

int oci_config_parse(const char *text, size_t len, const struct platform *board, struct oci_config *out,
                     struct err *e)
{
    cJSON *root;
    int rc;

    memset(out, 0, sizeof *out);
    if (len > (size_t)CONFIG_OCI_JSON_MAX_KB * 1024)
        rc = err_set(e, ERR_LIMIT, "%zu bytes, limit is %d KB", len, CONFIG_OCI_JSON_MAX_KB);
    else
        rc = json_parse(text, len, &root, e);
    if (!rc) {
        rc = config_read(root, board, out, e);
        json_free(root);
    }
    return rc;
}
