#include "ctl/agentctl.h"

#include <cJSON.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/version.h"
#include "base/word.h"
#include "ctl/metrics.h"
#include "ctl/render.h"
#include "ctl/session.h"
#include "ctl/status.h"
#include "hal/board.h"
#include "oci/auth.h"
#include "trust/keys.h"

#define SOCKET_DEFAULT "/run/slipway/agentd.sock"
#define FOLLOW_MS 1000
#define PLAN_LOOK_MS 300
#define WORDS_MAX 3

/* What the command line said. */
struct call {
    struct session session;
    bool follow;
    uint32_t since_s;                /* logs: not before so long ago; 0: all */
    const char *words[WORDS_MAX];    /* the verb and what stands behind it; NULL after the last */
    const char *app;                 /* of these the name of an app; "": the system is meant */
    char section[CONF_NAME_MAX + 8]; /* of the configuration, printed last */
};

struct command {
    const char *name;
    int (*run)(struct call *c, const struct command *command);
    int words_max; /* behind the verb, but for an app's name */
    bool follows;  /* takes -f */
    bool app;      /* takes an app's name */
    const char *help;
    const char *done; /* of an order: what to say when it was taken */
};

static int usage(const char *what, const char *arg);
static void help_print(FILE *out);

/* --- questions and orders --- */

static int verb_ask(struct call *c, const char *verb, cJSON **out)
{
    char request[64 + CONF_NAME_MAX];

    snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"%s\",\"app\":\"%s\"}", verb, c->app);
    return session_ask(&c->session, request, out);
}

/* An image layout is named from where agentctl runs; over a serial line that is another machine. */
static int source_name(struct call *c, char *out, size_t cap)
{
    const char *given = c->words[1], *colon = strchr(given, ':');
    char path[PATH_MAX];
    int len;

    if (!colon || (strncmp(given, "oci:", 4) != 0 && strncmp(given, "oci-archive:", 12) != 0))
        return usage("want oci:DIRECTORY or oci-archive:FILE, not ", given);
    if (c->session.serial && colon[1] != '/')
        return usage("over a serial line the whole path on the board is needed, not ", given);
    if (!c->session.serial && !realpath(colon + 1, path))
        return usage("there is no ", colon + 1);
    len = snprintf(out, cap, "%.*s:%s", (int)(colon - given), given, c->session.serial ? colon + 1 : path);
    return len > 0 && (size_t)len < cap ? AGENTCTL_OK : usage("too long: ", given);
}

/* The verb, with what may stand behind it. */
static int order_ask(struct call *c, const char *verb, cJSON **out)
{
    char source[512];
    cJSON *request;
    char *text;
    int rc;

    if (!c->words[1])
        return verb_ask(c, verb, out);
    rc = source_name(c, source, sizeof source);
    if (rc != AGENTCTL_OK)
        return rc;
    request = cJSON_CreateObject();
    cJSON_AddNumberToObject(request, "v", 1);
    cJSON_AddStringToObject(request, "cmd", verb);
    cJSON_AddStringToObject(request, "app", c->app);
    cJSON_AddStringToObject(request, "source", source);
    text = cJSON_PrintUnformatted(request);
    cJSON_Delete(request);
    rc = text ? session_ask(&c->session, text, out) : AGENTCTL_BROKEN;
    free(text);
    return rc;
}

static void json_print(const cJSON *body)
{
    char *text = cJSON_PrintUnformatted(body);

    puts(text ? text : "");
    free(text);
}

static int show(struct call *c, const char *verb, void (*render)(const cJSON *status, FILE *out))
{
    const struct session *s = &c->session;
    cJSON *answer;
    cJSON *body;
    int rc = verb_ask(c, verb, &answer);

    if (rc != AGENTCTL_OK)
        return rc;
    body = cJSON_GetObjectItemCaseSensitive(answer, verb);
    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(body, "schema"))) {
        rc = session_broken("no status in it");
    } else if (s->json) {
        json_print(body);
        rc = render_is_failing(body) ? AGENTCTL_FAILING : AGENTCTL_OK;
    } else if (cJSON_GetObjectItemCaseSensitive(body, "schema")->valueint != STATUS_SCHEMA) {
        rc = session_broken(
            "its status is of another schema; use the agentctl that belongs to the agent, or --json");
    } else {
        render(body, stdout);
        rc = render_is_failing(body) ? AGENTCTL_FAILING : AGENTCTL_OK;
    }
    cJSON_Delete(answer);
    return rc;
}

/* On a terminal the page is drawn anew in its place; elsewhere each state is a line of JSON. */
static int run_status(struct call *c, const struct command *command)
{
    bool live = c->follow && isatty(STDOUT_FILENO) && !c->session.json;
    int rc;

    c->session.json |= c->follow && !live;
    for (;;) {
        if (live)
            fputs("\033[H\033[J", stdout);
        rc = show(c, command->name, render_status);
        if (fflush(stdout) != 0 || !c->follow || (rc != AGENTCTL_OK && rc != AGENTCTL_FAILING))
            return rc;
        poll(NULL, 0, FOLLOW_MS);
    }
}

static int run_why(struct call *c, const struct command *command)
{
    return show(c, command->name, render_why);
}

/* The line of each app, out of the system's status. */
static int run_apps(struct call *c, const struct command *command)
{
    cJSON *answer;
    const cJSON *apps;
    int rc = verb_ask(c, "status", &answer);

    (void)command;
    if (rc != AGENTCTL_OK)
        return rc;
    apps = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(answer, "status"), "apps");
    if (!cJSON_IsArray(apps))
        rc = session_broken("no apps in it");
    else if (c->session.json)
        json_print(apps);
    else
        render_apps(apps, stdout);
    cJSON_Delete(answer);
    return rc;
}

/* What collects them has no use for the exit code of a failed update. */
static int run_metrics(struct call *c, const struct command *command)
{
    int rc = show(c, "status", metrics_render);

    (void)command;
    return rc == AGENTCTL_FAILING ? AGENTCTL_OK : rc;
}

static int plan_show(const struct session *s, const cJSON *plan)
{
    const char *state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(plan, "state"));

    if (s->json)
        json_print(plan);
    else
        render_plan(plan, stdout);
    return strcmp(state, "ready") == 0 ? AGENTCTL_OK : AGENTCTL_REFUSED;
}

/* Have a plan made, and show it once it is. */
static int run_plan(struct call *c, const struct command *command)
{
    cJSON *answer;
    bool making = true;
    int rc = order_ask(c, command->name, &answer);

    if (rc != AGENTCTL_OK)
        return rc;
    cJSON_Delete(answer);
    while (rc == AGENTCTL_OK && making) {
        const cJSON *plan;
        const char *state;

        poll(NULL, 0, PLAN_LOOK_MS);
        rc = verb_ask(c, "planned", &answer);
        if (rc != AGENTCTL_OK)
            return rc;
        plan = cJSON_GetObjectItemCaseSensitive(answer, "planned");
        state = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(plan, "state"));
        making = state && strcmp(state, "making") == 0;
        if (!state)
            rc = session_broken("no plan in it");
        else if (!making)
            rc = plan_show(&c->session, plan);
        cJSON_Delete(answer);
    }
    return rc;
}

static int run_order(struct call *c, const struct command *command)
{
    cJSON *answer;
    int rc = order_ask(c, command->name, &answer);

    if (rc != AGENTCTL_OK)
        return rc;
    puts(c->session.json ? c->session.answer : command->done);
    cJSON_Delete(answer);
    return AGENTCTL_OK;
}

/* --- what comes in chunks: each answer says where the next one begins --- */

/* Print one chunk, which lies between `at` and `next`. False when it is none. */
typedef bool (*chunk_printer)(struct call *c, const cJSON *answer);

static bool log_print(struct call *c, const cJSON *answer)
{
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "data"));

    (void)c;
    if (data)
        fputs(data, stdout);
    return data != NULL;
}

static bool events_print(struct call *c, const cJSON *answer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "history");
    const cJSON *event;

    (void)c;
    cJSON_ArrayForEach(event, list)
    {
        render_event(event, stdout);
    }
    return cJSON_IsArray(list);
}

static int chunks_show(struct call *c, const char *verb, bool follow, chunk_printer print)
{
    struct session *s = &c->session;
    double from = 0;
    char since[32] = "";

    if (c->since_s)
        snprintf(since, sizeof since, ",\"since\":%u", (unsigned)c->since_s);
    for (;;) {
        const cJSON *at, *next;
        char request[96 + CONF_NAME_MAX + sizeof since];
        cJSON *answer;
        bool more, sound;
        int rc;

        snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"%s\",\"app\":\"%s\",\"from\":%.0f%s}", verb,
                 c->app, from, since);
        since[0] = '\0';
        rc = session_ask(s, request, &answer);
        if (rc != AGENTCTL_OK)
            return rc;
        at = cJSON_GetObjectItemCaseSensitive(answer, "at");
        next = cJSON_GetObjectItemCaseSensitive(answer, "next");
        sound = cJSON_IsNumber(at) && cJSON_IsNumber(next) && next->valuedouble >= at->valuedouble;
        more = sound && next->valuedouble > at->valuedouble;
        if (sound && from > 0 && at->valuedouble > from)
            fprintf(stderr, "agentctl: %.0f were lost, they left the ring before they were read\n",
                    at->valuedouble - from);
        if (s->json && more)
            puts(s->answer);
        else if (sound && !s->json)
            sound = print(c, answer);
        from = sound ? next->valuedouble : 0;
        cJSON_Delete(answer);
        if (!sound)
            return session_broken("nothing to read in it");
        if (fflush(stdout) != 0 || (!more && !follow))
            return AGENTCTL_OK;
        if (!more)
            poll(NULL, 0, FOLLOW_MS);
    }
}

static int run_logs(struct call *c, const struct command *command)
{
    return chunks_show(c, command->name, c->follow, log_print);
}

static int run_history(struct call *c, const struct command *command)
{
    return chunks_show(c, command->name, c->follow, events_print);
}

/* --- the configuration: what is printed is an agent.conf itself --- */

static void value_print(struct call *c, const char *section, const char *key, const char *value, int line)
{
    if (strcmp(c->section, section) != 0)
        printf("%s[%s]\n", c->section[0] != '\0' ? "\n" : "", section);
    snprintf(c->section, sizeof c->section, "%s", section);
    if (line > 0)
        printf("%s = %s  # line %d\n", key, value, line);
    else if (value[0] != '\0')
        printf("%s = %s  # default\n", key, value);
    else
        printf("#%s =\n", key); /* not every key can be set to nothing */
}

static bool config_print(struct call *c, const cJSON *answer)
{
    const char *path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "path"));
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "config");
    const cJSON *item;

    if (!path || !cJSON_IsArray(list))
        return false;
    if (c->section[0] == '\0')
        printf("# %s%s\n", path,
               cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(answer, "changed"))
                   ? ", CHANGED since agentd read it at its start"
                   : "");
    cJSON_ArrayForEach(item, list)
    {
        const char *section = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "section"));
        const char *key = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "key"));
        const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(item, "value"));
        const cJSON *line = cJSON_GetObjectItemCaseSensitive(item, "line");

        if (!section || !key || !value)
            return false;
        value_print(c, section, key, value, cJSON_IsNumber(line) ? line->valueint : 0);
    }
    return true;
}

static void value_see(void *ctx, const struct conf_value *v)
{
    value_print(ctx, v->section, v->key, v->text, (int)v->line);
}

/* Of a file, or as the agent has it. */
static int config_show(struct call *c)
{
    static struct conf conf;
    struct err e;

    if (!c->words[2])
        return chunks_show(c, "config", false, config_print);
    if (c->session.json)
        return usage("--json asks the agent, and takes no file: ", c->words[2]);
    if (conf_show(c->words[2], &conf, value_see, c, &e) < 0) {
        fprintf(stderr, "agentctl: %s\n", e.text);
        return AGENTCTL_REFUSED;
    }
    return AGENTCTL_OK;
}

static int config_check(const char *path)
{
    static struct conf conf;
    static struct trust_keys keys;
    struct err e;

    if (conf_load(path, &conf, &e) < 0 || trust_keys_load(&conf.trust, &keys, &e) < 0 ||
        auth_check(&conf.registry, board.secret, &e) < 0) {
        fprintf(stderr, "agentctl: %s\n", e.text);
        return AGENTCTL_REFUSED;
    }
    if (conf.registry.host[0])
        printf("%s: good; follows %s/%s:%s, ", path, conf.registry.host, conf.registry.repository,
               conf.registry.tag);
    else
        printf("%s: good; follows nothing, ", path);
    if (conf.trust.required)
        printf("signed by %u of %u keys\n", keys.threshold, keys.cnt);
    else
        puts("SIGNATURES OFF");
    return AGENTCTL_OK;
}

static int run_config(struct call *c, const struct command *command)
{
    const char *what = c->words[1] ? c->words[1] : "";
    bool check = strcmp(what, "check") == 0;

    (void)command;
    if (!check && strcmp(what, "show") != 0)
        return usage("config: say `config show`, or `config check`, and a file when it is not ",
                     CONF_DEFAULT);
    if (c->session.serial && (check || c->words[2]))
        return usage("a file is one of this machine, and does not go with ", "--serial");
    return check ? config_check(c->words[2] ? c->words[2] : CONF_DEFAULT) : config_show(c);
}

/* --- what needs no agent --- */

static int run_help(struct call *c, const struct command *command)
{
    (void)c;
    (void)command;
    help_print(stdout);
    return AGENTCTL_OK;
}

static int run_version(struct call *c, const struct command *command)
{
    (void)command;
    printf(c->session.json ? "{\"version\":\"%s\"}\n" : "agentctl %s\n", SLIPWAY_VERSION);
    return AGENTCTL_OK;
}

/* --- command line --- */

static const struct command commands[] = {
    {"status", run_status, 0, true, true, "the board on one page; -f: again every second", NULL},
    {"apps", run_apps, 0, false, false, "the apps beside the system, one a line", NULL},
    {"why", run_why, 0, false, true, "why the last update failed, and what was done about it", NULL},
    {"history", run_history, 0, true, true, "what happened to this board, newest last", NULL},
    {"logs", run_logs, 0, true, true, "what the app printed; -f: goes on as it prints more", NULL},
    {"metrics", run_metrics, 0, false, true, "the status for Prometheus", NULL},
    {"plan", run_plan, 1, false, true, "what the next update would do, and why it waits if it does", NULL},
    {"update", run_order, 1, false, true, "look at the registry now, or in oci:DIR, and install",
     "The agent looks for a new version now; see `agentctl status`."},
    {"downgrade", run_order, 1, false, true, "the same, even to an older version than this board has had",
     "The agent looks for a version now, and takes an older one, too."},
    {"confirm", run_order, 0, false, true, "end the trial now: keep the running version",
     "Confirmed: the running version stays."},
    {"rollback", run_order, 0, false, true, "go back to the version in the other slot",
     "Going back to the other slot; the board restarts for it."},
    {"hold", run_order, 0, false, false, "install nothing new until `release`, also after a restart",
     "Held: nothing new is installed until `agentctl release`."},
    {"release", run_order, 0, false, false, "end a hold", "Released: the agent follows its tag again."},
    {"scrub", run_order, 0, false, false, "read both slots, and see whether they are as they were written",
     "The slots are read; see `agentctl status` and `agentctl history`."},
    {"config", run_config, 2, false, false,
     "`show [FILE]`: values and where from; `check [FILE]`: is it right?", NULL},
    {"version", run_version, 0, false, false, "of this program", NULL},
    {"help", run_help, 0, false, false, "this text", NULL},
};

static void help_print(FILE *out)
{
    fprintf(out, "usage: agentctl [--json] [--socket PATH | --serial DEVICE [--baud N]] VERB\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out,
            "With the name of an app behind it, status, why, history, logs, plan, update,\n"
            "downgrade, confirm and rollback are about that app: `agentctl status web`.\n"
            "  --json     the answer as JSON, for programs (status: schema %d)\n"
            "  --socket   of the agent on this board; else $SLIPWAY_SOCKET, else\n"
            "             " SOCKET_DEFAULT "\n"
            "  --serial   to an agent behind a serial line; --baud N when not at 115200\n"
            "  --since    of logs, the lines of the last 90s, 10m, 2h, 1d\n\n"
            "exit: 0 done, 1 refused, 2 usage, 3 no agent answers, 4 bad answer,\n"
            "      5 status and why: the last update failed or the app does not run\n",
            STATUS_SCHEMA);
}

static int usage(const char *what, const char *arg)
{
    fprintf(stderr, "agentctl: %s%s\nTry `agentctl help`.\n", what, arg);
    return AGENTCTL_USAGE;
}

static int verb_unknown(const char *name)
{
    const struct command *best = &commands[0];

    for (size_t i = 1; i < sizeof commands / sizeof commands[0]; i++)
        if (word_distance(name, commands[i].name) < word_distance(name, best->name))
            best = &commands[i];
    fprintf(stderr, "agentctl: there is no verb '%s'", name);
    if (word_distance(name, best->name) <= 3)
        fprintf(stderr, "; did you mean '%s'?", best->name);
    fprintf(stderr, "\nTry `agentctl help`.\n");
    return AGENTCTL_USAGE;
}

static bool baud_parse(const char *s, uint32_t *out)
{
    char *end;
    unsigned long value = strtoul(s, &end, 10);

    *out = (uint32_t)value;
    return *s >= '0' && *s <= '9' && *end == '\0' && value >= 300 && value <= 4000000;
}

/* An option that takes a value: "--name VALUE" or "--name=VALUE". Moves *i over what it took. */
static bool option_value(int argc, char **argv, int *i, const char *name, const char **out)
{
    size_t len = strlen(name);

    if (strncmp(argv[*i], name, len) != 0)
        return false;
    if (argv[*i][len] == '=') {
        *out = argv[*i] + len + 1;
        return true;
    }
    if (argv[*i][len] != '\0' || *i + 1 >= argc)
        return false;
    *out = argv[++*i];
    return true;
}

/* As in 90, 90s, 10m, 2h, 1d. */
static bool since_parse(const char *s, uint32_t *out_s)
{
    static const char units[] = "smhd";
    static const uint32_t factors[] = {1, 60, 3600, 86400};
    char *end;
    unsigned long number = strtoul(s, &end, 10);
    const char *unit = *end ? strchr(units, *end) : units;

    if (*s < '0' || *s > '9' || number < 1 || number > 9999 || !unit || (*end && end[1]))
        return false;
    *out_s = (uint32_t)number * factors[unit - units];
    return true;
}

/* The word behind the verb, when it is the name of an app: no source of an image looks like one. */
static void app_take(struct call *c)
{
    const char *word = c->words[1];

    c->app = "";
    if (!word || strlen(word) >= CONF_NAME_MAX ||
        strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(word))
        return;
    c->app = word;
    for (int w = 1; w < WORDS_MAX; w++)
        c->words[w] = w + 1 < WORDS_MAX ? c->words[w + 1] : NULL;
}

static int call_run(struct call *c)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        const struct command *command = &commands[i];

        if (strcmp(c->words[0], command->name) != 0)
            continue;
        c->app = "";
        if (command->app)
            app_take(c);
        if (c->follow && !command->follows)
            return usage("-f does not go with ", command->name);
        if (c->since_s && strcmp(command->name, "logs") != 0)
            return usage("--since does not go with ", command->name);
        for (int w = 0; w < WORDS_MAX; w++)
            if (c->words[w] && w > command->words_max)
                return usage("one verb at a time; left over: ", c->words[w]);
        return command->run(c, command);
    }
    return verb_unknown(c->words[0]);
}

static int word_take(struct call *c, const char *word)
{
    for (int w = 0; w < WORDS_MAX; w++)
        if (!c->words[w]) {
            c->words[w] = word;
            return AGENTCTL_OK;
        }
    return usage("one verb at a time; left over: ", word);
}

static int arguments_read(struct call *c, int argc, char **argv)
{
    struct session *s = &c->session;
    const char *env = getenv("SLIPWAY_SOCKET");
    const char *baud = NULL, *since = NULL;

    for (int i = 1; i < argc; i++) {
        if (option_value(argc, argv, &i, "--socket", &s->socket) ||
            option_value(argc, argv, &i, "--baud", &baud) ||
            option_value(argc, argv, &i, "--since", &since) ||
            option_value(argc, argv, &i, "--serial", &s->serial))
            continue;
        if (strcmp(argv[i], "--json") == 0)
            s->json = true;
        else if (strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--follow") == 0)
            c->follow = true;
        else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
            c->words[0] = "help";
        else if (argv[i][0] == '-')
            return usage("unknown option, or one without its value: ", argv[i]);
        else if (word_take(c, argv[i]) != AGENTCTL_OK)
            return AGENTCTL_USAGE;
    }
    if (baud && !baud_parse(baud, &s->baud))
        return usage("--baud is no speed: ", baud);
    if (since && !since_parse(since, &c->since_s))
        return usage("--since wants a time, as in 90s, 10m, 2h, 1d: ", since);
    if (s->serial && s->socket)
        return usage("either --socket or --serial", "");
    if (baud && !s->serial)
        return usage("--baud goes with --serial", "");
    if (!s->socket)
        s->socket = env && env[0] != '\0' ? env : SOCKET_DEFAULT;
    return AGENTCTL_OK;
}

int agentctl_main(int argc, char **argv)
{
    static struct call c = {.session = {.fd = -1, .baud = 115200}};
    int rc = arguments_read(&c, argc, argv);

    if (rc != AGENTCTL_OK)
        return rc;
    if (!c.words[0]) {
        help_print(stderr);
        return AGENTCTL_USAGE;
    }
    rc = call_run(&c);
    session_end(&c.session);
    if (fflush(stdout) != 0 && rc == AGENTCTL_OK)
        rc = AGENTCTL_BROKEN;
    return rc;
}
