#include "ctl/agentctl.h"

#include <cJSON.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/io.h"
#include "base/version.h"
#include "ctl/json.h"
#include "ctl/line.h"
#include "ctl/render.h"
#include "ctl/serial.h"
#include "hal/board.h"

#define SOCKET_DEFAULT "/run/slipway/agentd.sock"
#define SOCKET_WAIT_MS 10000
#define SERIAL_WAIT_MS 2000 /* without a byte */
#define SERIAL_TRY_MS 15000 /* in all, on a line that never falls silent */
#define SERIAL_TRIES 3
#define FOLLOW_MS 1000

struct session {
    const char *socket;
    const char *serial; /* NULL: the socket */
    uint32_t baud;
    bool json;
    bool follow;
    int fd; /* -1: not open */
    uint32_t seq;
    char answer[SERIAL_FRAME_MAX(CTL_RESPONSE_MAX) + 1];
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool wait_readable(int fd, uint64_t wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return IO_RETRY(poll(&p, 1, (int)wait_ms)) > 0;
}

static int unreachable(const struct session *s, const char *why)
{
    if (s->serial)
        fprintf(stderr,
                "agentctl: no answer over %s at %u baud: %s\n"
                "Is the board on, and is `serial` set in [control] of its agent.conf, at this speed?\n",
                s->serial, (unsigned)s->baud, why);
    else
        fprintf(stderr,
                "agentctl: cannot reach the agent at %s: %s\n"
                "Is agentd running? Is this its socket ([control] in agent.conf)? May this user open it?\n",
                s->socket, why);
    return AGENTCTL_UNREACHABLE;
}

static int broken(const char *why)
{
    fprintf(stderr, "agentctl: the agent's answer makes no sense: %s\n", why);
    return AGENTCTL_BROKEN;
}

/* --- carriers: leave the JSON of the answer in s->answer, ended by a NUL --- */

static int socket_connect(struct session *s)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(s->socket) >= sizeof addr.sun_path)
        return unreachable(s, "the path is too long for a socket");
    memcpy(addr.sun_path, s->socket, strlen(s->socket));
    s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return unreachable(s, strerror(errno));
    return AGENTCTL_OK;
}

static int socket_ask(struct session *s, const char *request)
{
    size_t len = 0;
    char *end = NULL;

    if (s->fd < 0 && socket_connect(s) != AGENTCTL_OK)
        return AGENTCTL_UNREACHABLE;
    if (send(s->fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request) ||
        send(s->fd, "\n", 1, MSG_NOSIGNAL) != 1) {
        if (errno != EPIPE) /* a server that has no room says so and hangs up */
            return unreachable(s, strerror(errno));
    }
    while (!end) {
        ssize_t n;

        if (len == sizeof s->answer - 1)
            return broken("it is too long");
        if (!wait_readable(s->fd, SOCKET_WAIT_MS))
            return unreachable(s, "it does not answer");
        n = IO_RETRY(read(s->fd, s->answer + len, sizeof s->answer - 1 - len));
        if (n <= 0)
            return unreachable(s, n < 0 ? strerror(errno) : "it hung up");
        len += (size_t)n;
        end = memchr(s->answer, '\n', len);
    }
    *end = '\0';
    return AGENTCTL_OK;
}

static int serial_open(struct session *s)
{
    struct err e;

    if (board.serial->open(s->serial, s->baud, &s->fd, &e) < 0) {
        s->fd = -1;
        return unreachable(s, e.text);
    }
    if (getrandom(&s->seq, sizeof s->seq, 0) != sizeof s->seq)
        s->seq = (uint32_t)now_ms();
    return AGENTCTL_OK;
}

static int serial_send(const struct session *s, const char *frame, size_t len)
{
    while (len > 0) {
        struct pollfd p = {.fd = s->fd, .events = POLLOUT};
        ssize_t n = IO_RETRY(write(s->fd, frame, len));

        if (n < 0 && errno != EAGAIN)
            return -1;
        if (n <= 0 && IO_RETRY(poll(&p, 1, SERIAL_WAIT_MS)) <= 0)
            return -1;
        if (n > 0) {
            frame += n;
            len -= (size_t)n;
        }
    }
    return 0;
}

/* True when the answer to s->seq has come; false when it came damaged, the line fell silent, or the time is up. */
static bool serial_receive(struct session *s, struct serial_rx *rx)
{
    uint64_t end = now_ms() + SERIAL_TRY_MS;
    uint32_t damaged = rx->damaged;
    struct serial_frame f;
    char bytes[256];

    while (now_ms() < end && wait_readable(s->fd, SERIAL_WAIT_MS)) {
        ssize_t n = IO_RETRY(read(s->fd, bytes, sizeof bytes));

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        for (ssize_t i = 0; i < n; i++) {
            if (!serial_rx_byte(rx, bytes[i], &f) || f.seq != s->seq)
                continue;
            memmove(s->answer, f.json, f.len);
            s->answer[f.len] = '\0';
            return true;
        }
        if (rx->damaged != damaged)
            return false;
    }
    return false;
}

/* The same seq at every try: a question that was heard and whose answer was lost is not carried out twice. */
static int serial_ask(struct session *s, const char *request)
{
    char frame[SERIAL_FRAME_MAX(CTL_REQUEST_MAX)];
    struct serial_rx rx;
    int len;

    if (s->fd < 0 && serial_open(s) != AGENTCTL_OK)
        return AGENTCTL_UNREACHABLE;
    s->seq++;
    frame[0] = '\n'; /* ends what may stand half-finished on the line */
    len = serial_frame_write(SERIAL_QUESTION, s->seq, request, strlen(request), frame + 1, sizeof frame - 1);
    serial_rx_init(&rx, SERIAL_ANSWER, s->answer, sizeof s->answer - 1);
    for (int i = 0; i < SERIAL_TRIES; i++) {
        if (serial_send(s, frame, (size_t)len + 1) < 0)
            return unreachable(s, strerror(errno));
        if (serial_receive(s, &rx))
            return AGENTCTL_OK;
    }
    return unreachable(s, rx.damaged > 0 ? "only damaged frames came back; a wrong speed, or another reader?"
                                         : "silence");
}

/* --- requests --- */

/* Ask, and check what came. With AGENTCTL_OK, *out is the answer, to be deleted. */
static int ask(struct session *s, const char *request, cJSON **out)
{
    int rc = s->serial ? serial_ask(s, request) : socket_ask(s, request);
    const cJSON *version, *ok;

    if (rc != AGENTCTL_OK)
        return rc;
    *out = cJSON_Parse(s->answer);
    version = cJSON_GetObjectItemCaseSensitive(*out, "v");
    ok = cJSON_GetObjectItemCaseSensitive(*out, "ok");
    if (!cJSON_IsNumber(version) || !cJSON_IsBool(ok)) {
        cJSON_Delete(*out);
        return broken("it is no answer of the control protocol");
    }
    if (version->valueint != CTL_VERSION) {
        cJSON_Delete(*out);
        return broken("it is of another version; use the agentctl that belongs to the agent");
    }
    if (cJSON_IsTrue(ok))
        return AGENTCTL_OK;
    if (s->json)
        puts(s->answer);
    else
        fprintf(stderr, "agentctl: refused: %s\n",
                cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(*out, "error")));
    cJSON_Delete(*out);
    return AGENTCTL_REFUSED;
}

static int show(struct session *s, const char *request, const char *key,
                void (*render)(const cJSON *status, FILE *out))
{
    cJSON *answer;
    cJSON *body;
    int rc = ask(s, request, &answer);

    if (rc != AGENTCTL_OK)
        return rc;
    body = cJSON_GetObjectItemCaseSensitive(answer, key);
    if (!cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(body, "schema"))) {
        rc = broken("no status in it");
    } else if (s->json) {
        char *text = cJSON_PrintUnformatted(body);

        puts(text ? text : "");
        free(text);
        rc = render_is_failing(body) ? AGENTCTL_FAILING : AGENTCTL_OK;
    } else if (cJSON_GetObjectItemCaseSensitive(body, "schema")->valueint != STATUS_SCHEMA) {
        rc = broken("its status is of another schema; use the agentctl that belongs to the agent, or --json");
    } else {
        render(body, stdout);
        rc = render_is_failing(body) ? AGENTCTL_FAILING : AGENTCTL_OK;
    }
    cJSON_Delete(answer);
    return rc;
}

struct command {
    const char *name;
    int (*run)(struct session *s, const struct command *c);
    const char *help;
    const char *done; /* of an order: what to say when it was taken */
};

static int run_status(struct session *s, const struct command *c)
{
    (void)c;
    return show(s, "{\"v\":1,\"cmd\":\"status\"}", "status", render_status);
}

static int run_why(struct session *s, const struct command *c)
{
    (void)c;
    return show(s, "{\"v\":1,\"cmd\":\"why\"}", "why", render_why);
}

static int run_order(struct session *s, const struct command *c)
{
    char request[64];
    cJSON *answer;
    int rc;

    snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"%s\"}", c->name);
    rc = ask(s, request, &answer);
    if (rc != AGENTCTL_OK)
        return rc;
    puts(s->json ? s->answer : c->done);
    cJSON_Delete(answer);
    return AGENTCTL_OK;
}

/* --- what comes in chunks: each answer says where the next one begins --- */

/* Print one chunk, which lies between `at` and `next`. False when it is none. */
typedef bool (*chunk_printer)(const struct session *s, const cJSON *answer);

static bool log_print(const struct session *s, const cJSON *answer)
{
    const char *data = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "data"));

    (void)s;
    if (data)
        fputs(data, stdout);
    return data != NULL;
}

static bool events_print(const struct session *s, const cJSON *answer)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(answer, "history");
    const cJSON *event;

    (void)s;
    cJSON_ArrayForEach(event, list)
    {
        render_event(event, stdout);
    }
    return cJSON_IsArray(list);
}

static int chunks_run(struct session *s, const char *verb, chunk_printer print)
{
    double from = 0;

    for (;;) {
        const cJSON *at, *next;
        char request[96];
        cJSON *answer;
        bool more, sound;
        int rc;

        snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"%s\",\"from\":%.0f}", verb, from);
        rc = ask(s, request, &answer);
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
            sound = print(s, answer);
        from = sound ? next->valuedouble : 0;
        cJSON_Delete(answer);
        if (!sound)
            return broken("nothing to read in it");
        if (fflush(stdout) != 0 || (!more && !s->follow))
            return AGENTCTL_OK;
        if (!more)
            poll(NULL, 0, FOLLOW_MS);
    }
}

static int run_logs(struct session *s, const struct command *c)
{
    return chunks_run(s, c->name, log_print);
}

static int run_history(struct session *s, const struct command *c)
{
    return chunks_run(s, c->name, events_print);
}

/* --- command line --- */

static void help_print(FILE *out);

static int run_help(struct session *s, const struct command *c)
{
    (void)s;
    (void)c;
    help_print(stdout);
    return AGENTCTL_OK;
}

static int run_version(struct session *s, const struct command *c)
{
    (void)c;
    printf(s->json ? "{\"version\":\"%s\"}\n" : "agentctl %s\n", SLIPWAY_VERSION);
    return AGENTCTL_OK;
}

static const struct command commands[] = {
    {"status", run_status, "the board on one page: versions, slots, app, last failure", NULL},
    {"why", run_why, "why the last update failed, and what was done about it", NULL},
    {"history", run_history, "what happened to this board, newest last; -f goes on", NULL},
    {"logs", run_logs, "what the app printed; -f goes on as it prints more", NULL},
    {"update", run_order, "look at the registry now and install what is there",
     "The agent looks for a new version now; see `agentctl status`."},
    {"confirm", run_order, "end the trial now: keep the running version",
     "Confirmed: the running version stays."},
    {"rollback", run_order, "go back to the version in the other slot",
     "Going back to the other slot; the board restarts for it."},
    {"hold", run_order, "install nothing new until `release`, also after a restart",
     "Held: nothing new is installed until `agentctl release`."},
    {"release", run_order, "end a hold", "Released: the agent follows its tag again."},
    {"version", run_version, "of this program", NULL},
    {"help", run_help, "this text", NULL},
};

static void help_print(FILE *out)
{
    fprintf(out, "usage: agentctl [--json] [--socket PATH | --serial DEVICE [--baud N]] VERB\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    fprintf(out,
            "\n"
            "  --json     the answer as JSON, for programs (status: schema %d)\n"
            "  --socket   of the agent on this board; else $SLIPWAY_SOCKET, else\n"
            "             " SOCKET_DEFAULT "\n"
            "  --serial   to an agent at the other end of a serial line, 115200 baud if\n"
            "             --baud does not say otherwise\n\n"
            "exit: 0 done, 1 refused, 2 usage, 3 no agent answers, 4 bad answer,\n"
            "      5 status and why: the last update failed or the app does not run\n",
            STATUS_SCHEMA);
}

/* Number of letters to change, add or leave out; words of up to 31 letters. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[32];
    size_t b_len = strlen(b);

    if (strlen(a) > 31 || b_len > 31)
        return 99;
    for (unsigned k = 0; k <= b_len; k++)
        row[k] = k;
    for (unsigned i = 0; a[i]; i++) {
        unsigned diagonal = row[0];

        row[0] = i + 1;
        for (size_t k = 0; k < b_len; k++) {
            unsigned best = diagonal + (a[i] != b[k]);

            diagonal = row[k + 1];
            best = best < row[k] + 1 ? best : row[k] + 1;
            row[k + 1] = best < diagonal + 1 ? best : diagonal + 1;
        }
    }
    return row[b_len];
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
        if (edit_distance(name, commands[i].name) < edit_distance(name, best->name))
            best = &commands[i];
    fprintf(stderr, "agentctl: there is no verb '%s'", name);
    if (edit_distance(name, best->name) <= 3)
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

static int session_run(struct session *s, const char *verb)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(verb, commands[i].name) != 0)
            continue;
        if (s->follow && commands[i].run != run_logs && commands[i].run != run_history)
            return usage("-f goes with logs and history, not with ", verb);
        return commands[i].run(s, &commands[i]);
    }
    return verb_unknown(verb);
}

int agentctl_main(int argc, char **argv)
{
    static struct session s = {.fd = -1, .baud = 115200};
    const char *env = getenv("SLIPWAY_SOCKET");
    const char *verb = NULL;
    const char *baud = NULL;
    const char *socket_path = NULL;
    int rc;

    for (int i = 1; i < argc; i++) {
        if (option_value(argc, argv, &i, "--socket", &socket_path) ||
            option_value(argc, argv, &i, "--baud", &baud) ||
            option_value(argc, argv, &i, "--serial", &s.serial))
            continue;
        if (strcmp(argv[i], "--json") == 0)
            s.json = true;
        else if (strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--follow") == 0)
            s.follow = true;
        else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
            verb = "help";
        else if (argv[i][0] == '-')
            return usage("unknown option, or one without its value: ", argv[i]);
        else if (verb)
            return usage("one verb at a time; left over: ", argv[i]);
        else
            verb = argv[i];
    }
    if (!verb) {
        help_print(stderr);
        return AGENTCTL_USAGE;
    }
    if (baud && !baud_parse(baud, &s.baud))
        return usage("--baud is no speed: ", baud);
    if (s.serial && socket_path)
        return usage("either --socket or --serial", "");
    if (baud && !s.serial)
        return usage("--baud goes with --serial", "");
    s.socket = socket_path ? socket_path : env && env[0] != '\0' ? env : SOCKET_DEFAULT;
    rc = session_run(&s, verb);
    if (s.fd >= 0)
        close(s.fd);
    if (fflush(stdout) != 0 && rc == AGENTCTL_OK)
        rc = AGENTCTL_BROKEN;
    return rc;
}
