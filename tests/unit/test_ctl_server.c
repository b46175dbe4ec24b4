/* The control server over a real socket and a pseudo-terminal: slow, greedy, mad and vanishing clients. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ctl/json.h"
#include "ctl/line.h"
#include "ctl/serial.h"
#include "ctl/server.h"

#define STATUS "{\"v\":1,\"cmd\":\"status\"}\n"

static struct {
    char folder[64];
    struct conf_control conf;
    struct loop loop;
    struct loop_timer stop;
    struct app_log log;
    uint64_t skipped_ms;
    int rollbacks, downgrades;
    bool held;
    int opens;
    bool closed; /* the serial port can't be opened */
} t;

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return t.skipped_ms + (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void *owner_target(void *ctx, const char *app, struct err *e)
{
    (void)ctx;
    if (!strcmp(app, "") || !strcmp(app, "web"))
        return &t;
    err_set(e, ERR_ABSENT, "there is no app %s", app);
    return NULL;
}

static const struct app_log *owner_log(void *target)
{
    (void)target;
    return &t.log;
}

static void owner_status(void *ctx, struct status *out)
{
    (void)ctx;
    snprintf(out->state, sizeof out->state, "idle");
    snprintf(out->image, sizeof out->image, "registry.example.com/fleet/web:stable");
    memset(out->last_failure.text, 'x', sizeof out->last_failure.text - 1);
}

static int owner_order(void *ctx, enum ctl_order order, const char *source, struct err *e)
{
    (void)source;
    (void)ctx;
    if (order == CTL_CONFIRM)
        return err_set(e, ERR_STATE, "no trial is on");
    if (order == CTL_RELEASE && !t.held)
        return err_set(e, ERR_STATE, "nothing is held");
    if (order == CTL_HOLD || order == CTL_RELEASE)
        t.held = order == CTL_HOLD;
    t.rollbacks += order == CTL_ROLLBACK;
    t.downgrades += order == CTL_DOWNGRADE;
    return 0;
}

#define EVENTS 20

static size_t owner_history(void *ctx, uint32_t *from, struct event *out, size_t max)
{
    size_t n = 0;

    (void)ctx;
    for (uint32_t i = *from; i < EVENTS && n < max; i++, n++) {
        out[n] = (struct event){.when_s = 1 + i, .slot = 'B', .code = ERR_APP};
        memset(out[n].what, '"', sizeof out[n].what - 1); /* doubled in JSON: as long as they get */
        memset(out[n].version, '"', sizeof out[n].version - 1);
        memset(out[n].text, '"', sizeof out[n].text - 1);
        memset(&out[n].digest, 0xff, sizeof out[n].digest);
    }
    return n;
}

static int port_open(const char *path, uint32_t baud, int *fd, struct err *e)
{
    (void)baud;
    t.opens++;
    if (t.closed)
        return err_set(e, -ENOENT, "gone");
    *fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    return *fd < 0 ? err_errno(e, "%s", path) : 0;
}

static const struct serial_ops port = {.open = port_open};
static struct ctl_owner owner = {.target = owner_target,
                                 .status = owner_status,
                                 .order = owner_order,
                                 .history = owner_history,
                                 .log = owner_log};

static void stop(void *ctx)
{
    loop_stop(ctx);
}

/* Let the server work for a while. */
static void run(uint64_t ms)
{
    t.stop = (struct loop_timer){.due = stop, .ctx = &t.loop};
    loop_timer_set(&t.loop, &t.stop, ms);
    t.loop.stop = false;
    assert_int_equal(loop_run(&t.loop), 0);
}

static int start(const char *serial)
{
    struct err e = {0};

    memset(&t, 0, sizeof t);
    snprintf(t.folder, sizeof t.folder, "/tmp/test_ctl_XXXXXX");
    assert_non_null(mkdtemp(t.folder));
    snprintf(t.conf.socket, sizeof t.conf.socket, "%s/new/s", t.folder);
    snprintf(t.conf.serial, sizeof t.conf.serial, "%s", serial);
    loop_init(&t.loop, now_ms);
    return ctl_server_start(&t.loop, &t.conf, &port, &owner, &e) ? 0 : e.code;
}

static int setup(void **state)
{
    (void)state;
    return start("");
}

static int teardown(void **state)
{
    char below[128];

    (void)state;
    for (int i = 0; i < LOOP_FD_MAX; i++)
        if (t.loop.fds[i].fd >= 0)
            close(t.loop.fds[i].fd);
    unlink(t.conf.socket);
    snprintf(below, sizeof below, "%s/new", t.folder);
    rmdir(below);
    return rmdir(t.folder);
}

static int client(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", t.conf.socket);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    run(5);
    return fd;
}

static char answer_text[SERIAL_FRAME_MAX(CTL_RESPONSE_MAX) * 2];

/* What has come for `fd`, one answer, parsed; NULL at its end. */
static cJSON *answer(int fd)
{
    ssize_t n;
    cJSON *o;

    run(10);
    n = read(fd, answer_text, sizeof answer_text - 1);
    if (n <= 0)
        return NULL;
    answer_text[n] = '\0';
    assert_int_equal(answer_text[n - 1], '\n');
    assert_ptr_equal(strchr(answer_text, '\n'), answer_text + n - 1);
    o = cJSON_Parse(answer_text);
    assert_non_null(o);
    return o;
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void assert_code(cJSON *o, const char *code)
{
    assert_non_null(o);
    if (code[0] == '\0')
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(o, "ok")));
    else
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "code")), code);
    cJSON_Delete(o);
}

static void test_verbs(void **state)
{
    const struct {
        const char *line, *code;
    } cases[] = {
        {STATUS, ""},
        {"{\"v\":1,\"cmd\":\"why\"} \r\n", ""},
        {"{\"v\":1,\"cmd\":\"update\",\"later\":[1]}\n", ""},
        {"{\"v\":1,\"cmd\":\"confirm\"}\n", "state"},
        {"{\"v\":1,\"cmd\":\"release\"}\n", "state"},
        {"{\"v\":1,\"cmd\":\"hold\"}\n", ""},
        {"{\"v\":1,\"cmd\":\"release\"}\n", ""},
        {"{\"v\":1,\"cmd\":\"history\",\"from\":1e99}\n", "format"},
        {"{\"v\":1,\"cmd\":\"explode\"}\n", "unsupported"},
        {"{\"v\":2,\"cmd\":\"rollback\"}\n", "unsupported"},
        {"{\"v\":\"1\",\"cmd\":\"rollback\"}\n", "format"},
        {"{\"cmd\":\"rollback\"}\n", "format"},
        {"{\"v\":1,\"cmd\":[\"rollback\"]}\n", "format"},
        {"{\"v\":1,\"cmd\":\"rollback\"}x\n", "format"},
        {"[{\"v\":1,\"cmd\":\"rollback\"}]\n", "format"},
        {"\n", "format"},
        {"\xff\xfe{{{\n", "format"},
        {"{\"v\":1,\"cmd\":\"logs\",\"from\":-1}\n", "format"},
        {"{\"v\":1,\"cmd\":\"logs\",\"from\":\"0\"}\n", "format"},
        {"{\"v\":1,\"cmd\":\"logs\",\"since\":-1}\n", "format"},
        {"{\"v\":1,\"cmd\":\"logs\",\"since\":\"1m\"}\n", "format"},
    };
    int fd = client();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        say(fd, cases[i].line);
        assert_code(answer(fd), cases[i].code);
    }
    assert_int_equal(t.rollbacks, 0);
    say(fd, "{\"v\":1,\"cmd\":\"rollback\"}\n");
    assert_code(answer(fd), "");
    assert_int_equal(t.rollbacks, 1);
    assert_int_equal(t.downgrades, 0);
    say(fd, "{\"v\":1,\"cmd\":\"downgrade\"}\n");
    assert_code(answer(fd), "");
    assert_int_equal(t.downgrades, 1);
    close(fd);
}

static void test_socket_mode(void **state)
{
    struct stat st;

    (void)state;
    assert_int_equal(stat(t.conf.socket, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0660);
}

static void test_line_in_pieces(void **state)
{
    int fd = client();

    (void)state;
    for (const char *c = STATUS; *c; c++) {
        assert_int_equal(write(fd, c, 1), 1);
        run(1);
    }
    assert_code(answer(fd), "");
    close(fd);
}

static void test_line_too_long(void **state)
{
    char line[CTL_REQUEST_MAX + 2];
    int fd = client();

    (void)state;
    memset(line, ' ', sizeof line);
    memcpy(line, STATUS, strlen(STATUS) - 1);
    line[CTL_REQUEST_MAX] = '\n';
    assert_int_equal(write(fd, line, CTL_REQUEST_MAX + 1), CTL_REQUEST_MAX + 1);
    assert_code(answer(fd), "");
    line[CTL_REQUEST_MAX] = ' ';
    line[CTL_REQUEST_MAX + 1] = '\n';
    assert_int_equal(write(fd, line, sizeof line), sizeof line);
    assert_code(answer(fd), "limit");
    assert_null(answer(fd));
    close(fd);
}

/* It asks and asks and reads nothing: its own requests pile up, no others wait. */
static void test_slow_client(void **state)
{
    int slow = client();
    int quick = client();
    size_t asked = 0, answered = 0;
    char c[4096];

    (void)state;
    for (int i = 0; i < 2000; i++)
        if (write(slow, STATUS, strlen(STATUS)) == (ssize_t)strlen(STATUS)) {
            asked++;
            run(0);
        }
    say(quick, STATUS);
    assert_code(answer(quick), "");
    for (ssize_t n = 1; n > 0; run(5)) {
        n = read(slow, c, sizeof c);
        for (ssize_t i = 0; i < n; i++)
            answered += c[i] == '\n';
    }
    assert_true(asked > 50);
    assert_int_equal(answered, asked);
    close(slow);
    close(quick);
}

static void test_many_clients_and_idle_ones(void **state)
{
    int fds[5];

    (void)state;
    for (int i = 0; i < 5; i++)
        fds[i] = client();
    assert_code(answer(fds[4]), "limit");
    assert_null(answer(fds[4]));
    close(fds[4]);
    t.skipped_ms += 20000;
    run(10);
    say(fds[0], STATUS);
    assert_code(answer(fds[0]), "");
    t.skipped_ms += 20000;
    run(10);
    assert_null(answer(fds[1]));
    assert_int_equal(read(fds[1], answer_text, 1), 0);
    say(fds[0], STATUS);
    assert_code(answer(fds[0]), "");
    close(fds[1]);
    fds[1] = client();
    say(fds[1], STATUS);
    assert_code(answer(fds[1]), "");
    for (int i = 0; i < 4; i++)
        close(fds[i]);
}

static void test_client_that_vanishes(void **state)
{
    int fd;

    (void)state;
    for (int i = 0; i < 20; i++) {
        fd = client();
        for (int k = 0; k < 100; k++)
            if (write(fd, STATUS, strlen(STATUS)) < 0)
                break;
        run(1);
        close(fd);
        run(2);
    }
    fd = client();
    say(fd, STATUS);
    assert_code(answer(fd), "");
    close(fd);
}

static void test_second_agent(void **state)
{
    struct err e;

    (void)state;
    assert_null(ctl_server_start(&t.loop, &t.conf, &port, &owner, &e));
    assert_int_equal(e.code, ERR_STATE);
}

static void test_logs(void **state)
{
    char part[] = "line \"quoted\"\twith \xc3\xa4 and \x1b[31mcolour\x1b[0m and \xff\n";
    char read_back[100 * sizeof part + 1] = "";
    size_t at = 0, total = 100 * (sizeof part - 1);
    int fd = client();

    (void)state;
    for (int i = 0; i < 100; i++)
        app_log_append(&t.log, part, sizeof part - 1);
    for (;;) {
        char request[80];
        cJSON *o;
        const char *data;

        snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"logs\",\"from\":%zu}\n", at);
        say(fd, request);
        o = answer(fd);
        assert_non_null(o);
        data = cJSON_GetStringValue(cJSON_GetObjectItem(o, "data"));
        assert_in_range(strlen(data), 0, CTL_LOG_CHUNK_MAX);
        assert_int_equal(cJSON_GetObjectItem(o, "at")->valueint, at);
        assert_int_equal(cJSON_GetObjectItem(o, "next")->valueint, at + strlen(data));
        memcpy(read_back + at, data, strlen(data) + 1);
        at += strlen(data);
        cJSON_Delete(o);
        if (at == total)
            break;
    }
    json_make_safe(part, sizeof part - 1, false);
    for (int i = 0; i < 100; i++)
        assert_memory_equal(read_back + i * (int)(sizeof part - 1), part, sizeof part - 1);
    close(fd);
}

static void test_logs_since(void **state)
{
    static const char *const asked[] = {"100", "30", "0"};
    static const char *const want[] = {"Z old\n", "Z new\n", ""};
    int64_t now_ms = time(NULL) * 1000ll;
    int fd = client();

    (void)state;
    app_log_stamp(&t.log, now_ms - 60000, "old\n", 4);
    app_log_stamp(&t.log, now_ms - 5000, "new\n", 4);
    for (int i = 0; i < 3; i++) {
        char request[80];
        const char *data;
        cJSON *o;

        snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"logs\",\"since\":%s}\n", asked[i]);
        say(fd, request);
        o = answer(fd);
        data = cJSON_GetStringValue(cJSON_GetObjectItem(o, "data"));
        assert_int_equal(strlen(data), i == 0 ? 2 * 29 : i == 1 ? 29 : 0);
        assert_memory_equal(data + (i < 2 ? 23 : 0), want[i], strlen(want[i]));
        cJSON_Delete(o);
    }
    close(fd);
}

/* Chunk by chunk, each of events as long as they can get. */
static void test_history(void **state)
{
    double from = 0;
    int fd = client();
    int seen = 0;

    (void)state;
    for (int more = 1; more;) {
        const cJSON *event;
        char line[80];
        cJSON *o;

        snprintf(line, sizeof line, "{\"v\":1,\"cmd\":\"history\",\"from\":%.0f}\n", from);
        say(fd, line);
        o = answer(fd);
        assert_true(cJSON_IsTrue(cJSON_GetObjectItem(o, "ok")));
        assert_true(strlen(answer_text) <= CTL_RESPONSE_MAX);
        more = cJSON_GetArraySize(cJSON_GetObjectItem(o, "history"));
        cJSON_ArrayForEach(event, cJSON_GetObjectItem(o, "history"))
        {
            assert_int_equal(cJSON_GetObjectItem(event, "when_s")->valueint, ++seen);
            assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(event, "cause")), "app");
            assert_int_equal(strlen(cJSON_GetStringValue(cJSON_GetObjectItem(event, "text"))), 159);
        }
        from = cJSON_GetObjectItem(o, "next")->valuedouble;
        cJSON_Delete(o);
    }
    assert_int_equal(seen, EVENTS);
    close(fd);
}

static void test_worst_log_fits(void **state)
{
    char bytes[CTL_LOG_CHUNK_MAX * 2];
    const char fills[] = {'"', '\n', '\x01', '\xff', '\0', '\xc3'};
    int fd = client();

    (void)state;
    for (size_t i = 0; i < sizeof fills; i++) {
        char request[80];

        snprintf(request, sizeof request, "{\"v\":1,\"cmd\":\"logs\",\"from\":%llu}\n",
                 (unsigned long long)t.log.end);
        memset(bytes, fills[i], sizeof bytes);
        app_log_append(&t.log, bytes, sizeof bytes);
        say(fd, request);
        assert_code(answer(fd), "");
    }
    close(fd);
}

/* --- the serial line: a pseudo-terminal, of which the test holds the other end --- */

static int line_setup(int *master)
{
    struct termios raw;
    int slave;

    *master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    assert_true(*master >= 0);
    assert_int_equal(grantpt(*master), 0);
    assert_int_equal(unlockpt(*master), 0);
    slave = open(ptsname(*master), O_RDWR | O_NOCTTY);
    assert_int_equal(tcgetattr(slave, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    assert_int_equal(start(ptsname(*master)), 0);
    close(slave);
    return 0;
}

/* Ask, with noise; returns the answer's frame count. */
static int line_ask(int master, uint32_t seq, const char *json, struct serial_frame *f)
{
    static char buf[SERIAL_FRAME_MAX(CTL_RESPONSE_MAX)];
    char frame[2048] = "[   12.3] noise ";
    size_t at = strlen(frame);
    struct serial_rx rx;
    int found = 0;
    ssize_t n;

    at += (size_t)serial_frame_write(SERIAL_QUESTION, seq, json, strlen(json), frame + at, sizeof frame - at);
    assert_int_equal(write(master, frame, at), (ssize_t)at);
    serial_rx_init(&rx, SERIAL_ANSWER, buf, sizeof buf);
    for (int i = 0; i < 20; i++) {
        run(2);
        n = read(master, answer_text, sizeof answer_text);
        for (ssize_t k = 0; k < n; k++)
            found += serial_rx_byte(&rx, answer_text[k], f);
    }
    return found;
}

static void test_line(void **state)
{
    struct serial_frame f;
    int master;
    cJSON *o;

    (void)state;
    line_setup(&master);
    app_log_append(&t.log, "na\xc3\xafve\n", 7);
    assert_int_equal(line_ask(master, 5, "{\"v\":1,\"cmd\":\"status\"}", &f), 1);
    assert_int_equal(f.seq, 5);
    assert_int_equal(line_ask(master, 6, "{\"v\":1,\"cmd\":\"logs\"}", &f), 1);
    o = cJSON_ParseWithLength(f.json, f.len);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(o, "data")), "na??ve\n");
    cJSON_Delete(o);
    close(master);
}

static void test_repeated_question_is_done_once(void **state)
{
    struct serial_frame f;
    int master;

    (void)state;
    line_setup(&master);
    for (int i = 0; i < 3; i++)
        assert_int_equal(line_ask(master, 77, "{\"v\":1,\"cmd\":\"rollback\"}", &f), 1);
    assert_int_equal(t.rollbacks, 1);
    assert_int_equal(line_ask(master, 78, "{\"v\":1,\"cmd\":\"rollback\"}", &f), 1);
    assert_int_equal(t.rollbacks, 2);
    close(master);
}

/* A server that took its own answer's echo for a question would never fall silent. */
static void test_echo_is_no_question(void **state)
{
    struct serial_frame f;
    int master;
    ssize_t n;

    (void)state;
    line_setup(&master);
    assert_int_equal(line_ask(master, 5, "{\"v\":1,\"cmd\":\"update\"}", &f), 1);
    n = serial_frame_write(SERIAL_ANSWER, 6, "{\"v\":1,\"cmd\":\"rollback\"}", 24, answer_text,
                           sizeof answer_text);
    assert_int_equal(write(master, answer_text, (size_t)n), n);
    run(20);
    assert_int_equal(read(master, answer_text, sizeof answer_text), -1);
    assert_int_equal(t.rollbacks, 0);
    close(master);
}

static void test_line_that_hangs_up(void **state)
{
    int master;

    (void)state;
    line_setup(&master);
    assert_int_equal(t.opens, 1);
    close(master);
    t.closed = true;
    for (int i = 0; i < 40; i++) {
        run(3);
        t.skipped_ms += 1000;
    }
    assert_in_range(t.opens, 4, 8);
}

int main(void)
{
#define SOCKET_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define LINE_TEST(f) cmocka_unit_test_teardown(f, teardown)
    const struct CMUnitTest tests[] = {
        SOCKET_TEST(test_verbs),
        SOCKET_TEST(test_socket_mode),
        SOCKET_TEST(test_line_in_pieces),
        SOCKET_TEST(test_line_too_long),
        SOCKET_TEST(test_slow_client),
        SOCKET_TEST(test_many_clients_and_idle_ones),
        SOCKET_TEST(test_client_that_vanishes),
        SOCKET_TEST(test_second_agent),
        SOCKET_TEST(test_logs),
        SOCKET_TEST(test_logs_since),
        SOCKET_TEST(test_history),
        SOCKET_TEST(test_worst_log_fits),
        LINE_TEST(test_line),
        LINE_TEST(test_repeated_question_is_done_once),
        LINE_TEST(test_echo_is_no_question),
        LINE_TEST(test_line_that_hangs_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
