#include "ctl/metrics.h"

#include <string.h>

#define PREFIX "slipway_"
#define KIB 1024.0

/* Numbers of the status, and whether something is true: 1 or 0. */
static const struct {
    const char *name, *type, *path, *help;
    double factor;
} metrics[] = {
    {"uptime_seconds", "gauge", "uptime_s", "Since the board started.", 1},
    {"held", "gauge", "update.held", "1: nothing new is installed until a person releases it.", 1},
    {"last_poll_timestamp_seconds", "gauge", "update.last_poll_s", "When the registry last answered.", 1},
    {"waits_until_timestamp_seconds", "gauge", "update.waits_until_s", "When a version that waits goes on.",
     1},
    {"downloaded_today_bytes", "gauge", "update.today_bytes", "Since midnight, local time.", 1},
    {"slot_written_bytes_total", "counter", "flash.slot_bytes_written", "Content written to slots.", 1},
    {"slot_kept_bytes_total", "counter", "flash.slot_bytes_kept", "Content that was there already.", 1},
    {"slot_read_bytes_total", "counter", "flash.slot_bytes_read", "Read to compare and to read back.", 1},
    {"state_writes_total", "counter", "flash.state_writes", "Records of the agent's state written.", 1},
    {"app_up_seconds", "gauge", "app.up_s", "Since the app was started.", 1},
    {"app_restarts_total", "counter", "app.restarts", "Since agentd started.", 1},
    {"app_memory_bytes", "gauge", "app.memory.now_kib", "What the app has.", KIB},
    {"app_memory_limit_bytes", "gauge", "app.memory.limit_kib", "What it may have.", KIB},
    {"app_memory_peak_bytes", "gauge", "app.memory.peak_kib", "The most that it had.", KIB},
    {"app_oom_kills_total", "counter", "app.memory.oom_kills", "Ended for want of memory.", 1},
    {"app_pids", "gauge", "app.pids.now", "Processes and threads that the app has.", 1},
    {"app_pids_refused_total", "counter", "app.pids.refused", "Refused to it.", 1},
};

static const cJSON *member(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

/* "app.memory.now_kib"; NULL when a part of it is not there. */
static const cJSON *at_path(const cJSON *o, const char *path)
{
    char key[32];

    while (o && *path) {
        size_t n = strcspn(path, ".");

        snprintf(key, sizeof key, "%.*s", (int)n, path);
        o = member(o, key);
        path += path[n] ? n + 1 : n;
    }
    return o;
}

static void head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* In quotes, as the format wants it. */
static void label(FILE *out, const char *before, const char *name, const cJSON *value)
{
    const char *at = cJSON_IsString(value) ? value->valuestring : "";

    fprintf(out, "%s%s=\"", before, name);
    for (; *at; at++)
        if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else
            fputc(*at == '\n' ? ' ' : *at, out);
    fputc('"', out);
}

static void info(const cJSON *status, FILE *out)
{
    const cJSON *slot;
    const char *booted = cJSON_GetStringValue(member(status, "booted"));

    head(out, "info", "gauge", "What the board is and runs.");
    label(out, PREFIX "info{", "board", member(status, "board"));
    label(out, ",", "device", member(status, "device_id"));
    label(out, ",", "agent", member(status, "agent_version"));
    label(out, ",", "image", at_path(status, "follow.image"));
    label(out, ",", "slot", member(status, "booted"));
    cJSON_ArrayForEach(slot, member(status, "slots"))
    {
        const char *name = cJSON_GetStringValue(member(slot, "name"));

        if (!booted || !name || strcmp(name, booted) != 0)
            continue;
        label(out, ",", "version", member(slot, "version"));
        label(out, ",", "digest", member(slot, "digest"));
    }
    fputs("} 1\n", out);
}

static void states(const cJSON *status, FILE *out)
{
    const cJSON *failure = member(status, "last_failure");

    head(out, "update_state", "gauge", "What the agent is doing.");
    label(out, PREFIX "update_state{", "state", at_path(status, "update.state"));
    fputs("} 1\n", out);
    head(out, "app_state", "gauge", "How the app is.");
    label(out, PREFIX "app_state{", "state", at_path(status, "app.state"));
    fputs("} 1\n", out);
    if (!cJSON_IsNumber(member(failure, "when_s")))
        return;
    head(out, "last_failure_timestamp_seconds", "gauge", "When something last failed, and why.");
    label(out, PREFIX "last_failure_timestamp_seconds{", "event", member(failure, "event"));
    label(out, ",", "cause", member(failure, "cause"));
    fprintf(out, "} %.0f\n", member(failure, "when_s")->valuedouble);
}

/* A number of each item of a list, told apart by its name. */
static void each(const cJSON *list, const char *name, const char *help, const char *key, double factor,
                 FILE *out)
{
    const cJSON *item;

    head(out, name, "gauge", help);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsNumber(member(item, key)))
            continue;
        fprintf(out, PREFIX "%s", name);
        label(out, "{", "name", member(item, "name"));
        fprintf(out, "} %.0f\n", member(item, key)->valuedouble * factor);
    }
}

void metrics_render(const cJSON *status, FILE *out)
{
    info(status, out);
    states(status, out);
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        const cJSON *value = at_path(status, metrics[i].path);

        if (!cJSON_IsNumber(value) && !cJSON_IsBool(value))
            continue;
        head(out, metrics[i].name, metrics[i].type, metrics[i].help);
        fprintf(out, PREFIX "%s %.0f\n", metrics[i].name,
                cJSON_IsBool(value) ? (double)cJSON_IsTrue(value) : value->valuedouble * metrics[i].factor);
    }
    each(member(status, "slots"), "slot_damaged_files", "Not as written, at the last scrub.", "damaged", 1,
         out);
    each(member(status, "roles"), "role_memory_peak_bytes", "Of the agent's processes.", "peak_kib", KIB,
         out);
    each(member(status, "roles"), "role_memory_limit_bytes", "What they may have.", "limit_kib", KIB, out);
}
