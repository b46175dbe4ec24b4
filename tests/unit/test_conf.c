/* agent.conf: what is read, and that what is refused is refused with its line and a way out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/conf.h"

static char dir[] = "/tmp/test_conf.XXXXXX";
static struct conf conf;
static struct err err;

static int load_bytes(const char *text, size_t len)
{
    FILE *file;

    assert_int_equal(chdir(dir), 0);
    file = fopen("agent.conf", "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    fclose(file);
    memset(&conf, 0xa5, sizeof conf);
    memset(&err, 0, sizeof err);
    return conf_load("agent.conf", &conf, &err);
}

static int load(const char *text)
{
    return load_bytes(text, strlen(text));
}

static void assert_loads(const char *text)
{
    if (load(text))
        fail_msg("refused: %s", err.text);
}

static void assert_refused(const char *text, const char *words)
{
    assert_int_equal(load(text), ERR_CONFIG);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_string_equal(err.text, words);
}

static void assert_refused_about(const char *text, const char *part)
{
    if (load(text) != ERR_CONFIG)
        fail_msg("not refused: %.80s", text);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" is not in: %s", part, err.text);
}

static void empty_file_gives_defaults(void **state)
{
    (void)state;
    assert_loads("");
    assert_string_equal(conf.registry.host, "");
    assert_string_equal(conf.registry.tag, "");
    assert_false(conf.registry.plain_http);
    assert_int_equal(conf.update.poll_interval_s, CONFIG_POLL_INTERVAL_S);
    assert_int_equal(conf.update.stable_s, CONFIG_STABLE_S);
    assert_int_equal(conf.update.tries, CONFIG_TRIAL_TRIES);
    assert_true(conf.update.automatic);
    assert_int_equal(conf.update.rate_kib_s, 0);
    assert_int_equal(conf.update.budget_kib, 0);
    assert_int_equal(conf.update.windows[0].from, conf.update.windows[0].to);
    assert_true(conf.trust.required);
    assert_int_equal(conf.trust.threshold, 1);
    assert_int_equal(conf.trust.min_age_s, 0);
    assert_int_equal(conf.trust.max_age_s, 0);
    assert_false(conf.slots.disk);
    assert_int_equal(conf.app.stop_timeout_s, 10);
    assert_int_equal(conf.app.restart, RESTART_ALWAYS);
    assert_string_equal(conf.control.serial, "");
    assert_int_equal(conf.control.serial_baud, 115200);
    assert_string_equal(conf.agent.state_dir, "/data/slipway");
    assert_int_equal(conf.agent.watchdog_s, 60);
    assert_int_equal(conf.agent.worker_uid, 65534);
}

static void every_key_is_read(void **state)
{
    (void)state;
    assert_loads("# a comment\n"
                 "[registry]\n"
                 "image = registry.example.com:5000/fleet/web:v1.2 # another\n"
                 "mirrors = one.example.com, 10.0.0.2:5000,[fd00::1]:80\r\n"
                 "ca=/etc/ca#1.pem\n"
                 "client_cert = /etc/c.pem\nclient_key = /etc/k.pem\ncredentials = /etc/auth.json\n"
                 "proxy = http://proxy:3128\nplain_http = yes\n"
                 "\t[ update ]\n"
                 "poll_interval = 5m\nstable = 90s\ntries = 9\nautomatic = no\n"
                 "rate_limit = 64K\ndaily_budget = 2g\ndownload_window = 22:00-6:00, 12:00-13:00\n"
                 "[trust]\npolicy = required\nkeys = /etc/a.pem, /etc/b.pem\nthreshold = 2\n"
                 "repository = factory/web\nmin_age = 2h\nmax_age = 720h\n"
                 "[slots]\na = /dev/mmcblk0p2\nb = /dev/mmcblk0p3\nkind = disk\n"
                 "[app]\nstop_timeout = 1h\nrestart = on-failure\n"
                 "[control]\nsocket = /run/c\nserial = /dev/ttyS1\nserial_baud = 9600\n"
                 "[agent]\nstate_dir = /var/s\nwatchdog = 60\nworker_uid = 1000");
    assert_string_equal(conf.registry.host, "registry.example.com:5000");
    assert_string_equal(conf.registry.repository, "fleet/web");
    assert_string_equal(conf.registry.tag, "v1.2");
    assert_string_equal(conf.registry.mirrors[0], "one.example.com");
    assert_string_equal(conf.registry.mirrors[1], "10.0.0.2:5000");
    assert_string_equal(conf.registry.mirrors[2], "[fd00::1]:80");
    assert_string_equal(conf.registry.mirrors[3], "");
    assert_string_equal(conf.registry.ca, "/etc/ca#1.pem");
    assert_string_equal(conf.registry.client_cert, "/etc/c.pem");
    assert_string_equal(conf.registry.client_key, "/etc/k.pem");
    assert_string_equal(conf.registry.credentials, "/etc/auth.json");
    assert_string_equal(conf.registry.proxy, "http://proxy:3128");
    assert_true(conf.registry.plain_http);
    assert_int_equal(conf.update.poll_interval_s, 300);
    assert_int_equal(conf.update.stable_s, 90);
    assert_int_equal(conf.update.tries, 9);
    assert_false(conf.update.automatic);
    assert_int_equal(conf.update.rate_kib_s, 64);
    assert_int_equal(conf.update.budget_kib, 2 << 20);
    assert_int_equal(conf.update.windows[0].from, 1320);
    assert_int_equal(conf.update.windows[1].to, 780);
    assert_int_equal(conf.update.windows[2].to, 0);
    assert_true(conf.trust.required);
    assert_string_equal(conf.trust.keys[0], "/etc/a.pem");
    assert_string_equal(conf.trust.keys[1], "/etc/b.pem");
    assert_string_equal(conf.trust.keys[2], "");
    assert_int_equal(conf.trust.threshold, 2);
    assert_string_equal(conf.trust.repository, "factory/web");
    assert_int_equal(conf.trust.min_age_s, 7200);
    assert_int_equal(conf.trust.max_age_s, 2592000);
    assert_string_equal(conf.slots.a, "/dev/mmcblk0p2");
    assert_string_equal(conf.slots.b, "/dev/mmcblk0p3");
    assert_true(conf.slots.disk);
    assert_int_equal(conf.app.stop_timeout_s, 3600);
    assert_int_equal(conf.app.restart, RESTART_ON_FAILURE);
    assert_string_equal(conf.control.socket, "/run/c");
    assert_string_equal(conf.control.serial, "/dev/ttyS1");
    assert_int_equal(conf.control.serial_baud, 9600);
    assert_string_equal(conf.agent.state_dir, "/var/s");
    assert_int_equal(conf.agent.watchdog_s, 60);
    assert_int_equal(conf.agent.worker_uid, 1000);
}

static void what_the_app_gets(void **state)
{
    const struct conf_app *a = &conf.app;

    (void)state;
    assert_loads(
        "[app]\n"
        "restart = on-failure:4\nnetwork = none\nready = notify\nmemory = 64M\ntmpfs = 2048k\ncpu = 1.5\n"
        "pids = 33\nuser = 1:2\nstart_timeout = 2m\nwatchdog = 30\n"
        "args = -v \"two words\" \"a \\\"b\\\" \\\\\" \"\"\n"
        "env = A=1 B=\n"
        "volumes = data:/var/lib/x, /mnt/usb:/usb:ro\n"
        "devices = /dev/i2c-1, /dev/gpiochip0\n"
        "capabilities = -ALL, +CHOWN, +CAP_SYS_TIME\n");
    assert_int_equal(a->restart, RESTART_ON_FAILURE);
    assert_int_equal(a->restart_max, 4);
    assert_int_equal(a->network, NETWORK_NONE);
    assert_true(a->ready_by_notify);
    assert_int_equal(a->memory_kb, 65536);
    assert_int_equal(a->tmpfs_kb, 2048);
    assert_int_equal(a->cpu_percent, 150);
    assert_int_equal(a->pids, 33);
    assert_string_equal(a->user, "1:2");
    assert_int_equal(a->start_timeout_s, 120);
    assert_int_equal(a->watchdog_s, 30);
    assert_int_equal(a->args.cnt, 4);
    assert_memory_equal(a->args.text, "-v\0two words\0a \"b\" \\\0", sizeof "-v\0two words\0a \"b\" \\\0");
    assert_int_equal(a->env.cnt, 2);
    assert_memory_equal(a->env.text, "A=1\0B=", sizeof "A=1\0B=");
    assert_string_equal(a->volumes[0].from, "data");
    assert_string_equal(a->volumes[0].to, "/var/lib/x");
    assert_false(a->volumes[0].read_only);
    assert_string_equal(a->volumes[1].from, "/mnt/usb");
    assert_true(a->volumes[1].read_only);
    assert_string_equal(a->devices[1], "/dev/gpiochip0");
    assert_true(a->caps_drop == UINT64_MAX && a->caps_add == (1ull << 25 | 1));
    assert_loads("[app]\nrestart = unless-stopped\ncpu = 0.5\n");
    assert_int_equal(a->restart, RESTART_ALWAYS);
    assert_int_equal(a->cpu_percent, 50);
}

static void which_ports_are_published(void **state)
{
    static const uint8_t one[16] = {[15] = 1}, four[16] = {[10] = 0xff, 0xff, 192, 0, 2, 7}, any[16];
    const struct conf_port *p = conf.app.ports;

    (void)state;
    assert_loads("[app]\nnetwork = private\n"
                 "ports = 8080:80, 5353:53/udp, [::1]:65535:1/tcp, 192.0.2.7:1:65535\n");
    assert_int_equal(conf.app.network, NETWORK_PRIVATE);
    assert_true(p[0].host == 8080 && p[0].app == 80 && !p[0].udp);
    assert_memory_equal(p[0].address, any, sizeof any);
    assert_true(p[1].host == 5353 && p[1].app == 53 && p[1].udp);
    assert_true(p[2].host == 65535 && p[2].app == 1 && !p[2].udp);
    assert_memory_equal(p[2].address, one, sizeof one);
    assert_true(p[3].host == 1 && p[3].app == 65535);
    assert_memory_equal(p[3].address, four, sizeof four);
    assert_int_equal(p[4].host, 0);
}

static void image_without_tag_is_latest(void **state)
{
    (void)state;
    assert_loads("[trust]\npolicy = off\n[registry]\nimage = localhost:5000/a/b__c/d--e/f.g\n");
    assert_string_equal(conf.registry.host, "localhost:5000");
    assert_string_equal(conf.registry.repository, "a/b__c/d--e/f.g");
    assert_string_equal(conf.registry.tag, "latest");
    assert_loads("[registry]\nimage =\n");
    assert_string_equal(conf.registry.host, "");
}

static void wrong_images_are_refused(void **state)
{
    static const struct {
        const char *image, *part;
    } cases[] = {
        {"https://r.example.com/a", "leave out what is before the host"},
        {"r.example.com/a@sha256:0123", "a digest names one image for ever"},
        {"web", "names no registry"},
        {"docker.io/debian:12", "write registry-1.docker.io/library/debian:12"},
        {"index.docker.io/fleet/web", "write registry-1.docker.io/fleet/web"},
        {"r.example.com", "names no registry"},
        {"/a", "is not host[:port]"},
        {":80/a", "is not host[:port]"},
        {"-r/a", "is not host[:port]"},
        {"r..x/a", "is not host[:port]"},
        {"r.x-/a", "is not host[:port]"},
        {"r:/a", "is not host[:port]"},
        {"r:0/a", "is not host[:port]"},
        {"r:65536/a", "is not host[:port]"},
        {"r:99999999999/a", "is not host[:port]"},
        {"r:1:2/a", "is not host[:port]"},
        {"[::1/a", "is not host[:port]"},
        {"r/", "name of a repository"},
        {"r/A", "name of a repository"},
        {"r/a//b", "name of a repository"},
        {"r/a/", "name of a repository"},
        {"r/a___b", "name of a repository"},
        {"r/a..b", "name of a repository"},
        {"r/../b", "name of a repository"},
        {"r/a b", "name of a repository"},
        {"r/a:", "is not a tag"},
        {"r/a:.x", "is not a tag"},
        {"r/a:b:c", "is not a tag"},
        {"r/a:b/c", "is not a tag"},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(text, sizeof text, "[registry]\nimage = %s\n", cases[i].image);
        assert_refused_about(text, cases[i].part);
        assert_refused_about(text, "agent.conf:2: image: ");
    }
}

static void long_values_are_refused(void **state)
{
    static char text[1024];
    const struct {
        const char *before;
        size_t fits;
    } cases[] = {
        {"[trust]\npolicy = off\n[registry]\nimage = r/a:", 128},
        {"[trust]\npolicy = off\n[registry]\nimage = r/", 255},
        {"[registry]\nmirrors = ", 127},
        {"[registry]\nca = /", 190},
        {"[trust]\nkeys = /", 190},
        {"[trust]\nrepository = ", 255},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = snprintf(text, sizeof text, "%s", cases[i].before);

        memset(text + n, 'a', cases[i].fits);
        text[(size_t)n + cases[i].fits] = '\0';
        assert_loads(text);
        text[(size_t)n + cases[i].fits] = 'a';
        text[(size_t)n + cases[i].fits + 1] = '\0';
        assert_refused_about(text, "there is room for");
    }
}

static void unknown_names_get_a_hint(void **state)
{
    (void)state;
    assert_refused("\n\n[update]\npol_interval = 3\n",
                   "agent.conf:4: unknown key \"pol_interval\" in [update]; did you mean \"poll_interval\"?");
    assert_refused("[registry]\npoll_interval = 3\n",
                   "agent.conf:2: unknown key \"poll_interval\" in [registry]; it belongs into [update]");
    assert_refused("[update]\ncolour = red\n", "agent.conf:2: unknown key \"colour\" in [update]");
    assert_refused("[updates]\n", "agent.conf:1: unknown section [updates]; did you mean [update]?");
    assert_refused("[weather]\n", "agent.conf:1: unknown section [weather]");
}

static void broken_lines_are_refused(void **state)
{
    (void)state;
    assert_refused("[update\n", "agent.conf:1: \"[update\" has no closing ]");
    assert_refused("[update]\nstable\n", "agent.conf:2: \"stable\" is neither [section] nor key = value");
    assert_refused("stable = 3\n", "agent.conf:1: \"stable\" stands before the first [section]");
    assert_refused("[update]\nstable = 3\n[app]\n[update]\nstable = 4\n",
                   "agent.conf:5: stable is already set in line 2");
    assert_refused("[app]\n\x01\n", "agent.conf:2: control character 0x01");
    assert_int_equal(load_bytes("[app]\n\0\n", 8), ERR_CONFIG);
    assert_string_equal(err.text, "agent.conf: not text: it has a NUL byte");
}

static void wrong_values_are_refused(void **state)
{
    static const char *const texts[] = {
        "[update]\ntries = 0\n",
        "[update]\ntries = 10\n",
        "[update]\ntries = 3s\n",
        "[update]\ntries = -1\n",
        "[update]\ntries =\n",
        "[update]\nstable = 0\n",
        "[update]\nstable = 1d\n",
        "[update]\nstable = 99999999h\n",
        "[update]\nstable = 4294967297\n",
        "[update]\nstable = 5 m\n",
        "[update]\nautomatic = true\n",
        "[slots]\nkind = raw\n",
        "[app]\nrestart = never\n",
        "[app]\nrestart = always:3\n",
        "[app]\nrestart = on-failure:0\n",
        "[app]\nrestart = on-failure:x\n",
        "[app]\nnetwork = bridge\n",
        "[app]\nports = 80\n",
        "[app]\nports = 0:80\n",
        "[app]\nports = 80:65536\n",
        "[app]\nports = 80:80/sctp\n",
        "[app]\nports = 1.2.3:80:80\n",
        "[app]\nports = ::1:80:80\n",
        "[app]\nports = [::1]80:80\n",
        "[app]\nports = [::1:80:80\n",
        "[app]\nports = 1:1, 2:2, 3:3, 4:4, 5:5, 6:6, 7:7, 8:8, 9:9\n",
        "[app]\nmemory = 64\n",
        "[app]\nmemory = 64MB\n",
        "[app]\nmemory = 1K\n",
        "[app]\nmemory = 999999999G\n",
        "[app]\ncpu = 0\n",
        "[app]\ncpu = 0.0\n",
        "[app]\ncpu = .5\n",
        "[app]\ncpu = 1.234\n",
        "[app]\ncpu = 1x\n",
        "[app]\npids = 0\n",
        "[app]\nargs = \"open\n",
        "[app]\nargs = \"a\"b\n",
        "[app]\nenv = A\n",
        "[app]\nenv = =1\n",
        "[app]\nvolumes = /a\n",
        "[app]\nvolumes = a:b\n",
        "[app]\nvolumes = ../x:/b\n",
        "[app]\nvolumes = -a:/b\n",
        "[app]\nvolumes = a:/b/../c\n",
        "[app]\nvolumes = a:/b:rx\n",
        "[app]\nvolumes = a:/\n",
        "[app]\ndevices = /etc/passwd\n",
        "[app]\ndevices = /dev/../x\n",
        "[app]\ncapabilities = CHOWN\n",
        "[app]\ncapabilities = +NONE\n",
        "[app]\ncapabilities = +ALL\n",
        "[control]\nserial_baud = 1\n",
        "[agent]\nstate_dir = here\n",
        "[registry]\nproxy = p:3128\n",
        "[registry]\nproxy = http://\n",
        "[registry]\nmirrors = a,,b\n",
        "[registry]\nmirrors = a, b,\n",
        "[registry]\nmirrors = a b\n",
        "[registry]\nmirrors = a,b,c,d,e\n",
        "[trust]\npolicy = none\n",
        "[trust]\nkeys = release.pem\n",
        "[trust]\nkeys = /a,/b,/c,/d,/e,/f,/g,/h,/i\n",
        "[trust]\nthreshold = 0\n",
        "[trust]\nrepository = Fleet/web\n",
    };

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_refused_about(texts[i], "agent.conf:2: ");
    assert_refused("[app]\nrestart = never\n",
                   "agent.conf:2: restart must be no, on-failure, on-failure:1 to on-failure:1000, always or "
                   "unless-stopped, got \"never\"");
    assert_refused("[app]\nports = 80:80\n",
                   "agent.conf: [app]: ports needs network = private; with host the app's own ports are the "
                   "board's");
    assert_refused("[update]\nstable = 1d\n",
                   "agent.conf:2: stable must be 1 to 86400 seconds, as in 90, 90s, 5m, 2h, got \"1d\"");
}

static void halves_are_refused(void **state)
{
    (void)state;
    assert_refused("[registry]\nclient_cert = /c\n",
                   "agent.conf: [registry] has client_cert without client_key; mutual TLS needs both");
    assert_refused_about("[registry]\nclient_key = /c\n", "client_key without client_cert");
    assert_refused_about("[slots]\na = /a\n", "needs a and b, or neither");
    assert_refused_about("[slots]\na = /a\nb = /a\n", "the same place");
    assert_refused_about("[control]\nsocket =\n", "may not be empty");
}

/* Unsigned images are taken only by those who wrote that they want it. */
static void trust_is_not_left_out(void **state)
{
    (void)state;
    assert_refused_about("[registry]\nimage = r/a\n", "[trust] names no keys");
    assert_refused_about("[registry]\nimage = r/a\n[trust]\npolicy = required\n", "[trust] names no keys");
    assert_refused_about("[registry]\nimage = r/a\n[trust]\nkeys = /a, /b\nthreshold = 3\n",
                         "threshold is 3, but there are only 2 keys");
    assert_loads("[registry]\nimage = r/a\n[trust]\nkeys = /a\n");
    assert_true(conf.trust.required);
    assert_loads("[registry]\nimage = r/a\n[trust]\npolicy = off\n");
    assert_false(conf.trust.required);
}

static void size_is_bounded(void **state)
{
    static char text[16 * 1024 + 1];

    (void)state;
    memset(text, '\n', sizeof text);
    assert_int_equal(load_bytes(text, sizeof text - 1), 0);
    assert_int_equal(load_bytes(text, sizeof text), ERR_CONFIG);
    assert_string_equal(err.text, "agent.conf: larger than 16384 bytes");
    assert_int_equal(conf_load("absent.conf", &conf, &err), ERR_CONFIG);
    assert_string_equal(err.text, "absent.conf: No such file or directory");
}

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink("agent.conf");
    return chdir("/") || rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_file_gives_defaults),   cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(what_the_app_gets),           cmocka_unit_test(which_ports_are_published),
        cmocka_unit_test(image_without_tag_is_latest), cmocka_unit_test(wrong_images_are_refused),
        cmocka_unit_test(long_values_are_refused),     cmocka_unit_test(unknown_names_get_a_hint),
        cmocka_unit_test(broken_lines_are_refused),    cmocka_unit_test(wrong_values_are_refused),
        cmocka_unit_test(halves_are_refused),          cmocka_unit_test(size_is_bounded),
        cmocka_unit_test(trust_is_not_left_out),
    };

    return cmocka_run_group_tests_name("conf", tests, make_dir, remove_dir);
}
