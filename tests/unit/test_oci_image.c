/* The manifest rows of the odd and hostile images: each document is a good one with one thing changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "oci/image.h"

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D3 "sha256:3333333333333333333333333333333333333333333333333333333333333333"
#define OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define LAYER "application/vnd.oci.image.layer.v1.tar"
#define CONFIG_BLOB                                                                                          \
    "{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"" D1 "\",\"size\":7}"
#define BLOB(media, digest, size) "{\"mediaType\":\"" media "\",\"digest\":\"" digest "\",\"size\":" size "}"
#define LAYERS(list) "{\"schemaVersion\":2,\"config\":" CONFIG_BLOB ",\"layers\":[" list "]}"

static const struct platform v7 = {"linux", "arm", "v7"};
static const struct platform v5 = {"linux", "arm", "v5"};
static const struct platform arm64 = {"linux", "arm64", "v8"};
static const struct platform amd64 = {"linux", "amd64", ""};

static struct oci_manifest manifest;
static struct oci_config config;
static struct oci_index_choice choice;
static struct err err;

static void expect(int rc, int want, const char *text)
{
    if (rc != want || (rc && err.code != rc))
        fail_msg("want %s, got %s (%s) for %.300s", err_name(want), err_name(rc), rc ? err.text : "", text);
}

/* A copy without a NUL behind it, so that the address sanitizer sees a read past the end. */
static int on_exact(const char *text, int (*parse)(const char *, size_t))
{
    size_t len = strlen(text);
    char *copy = malloc(len ? len : 1);
    int rc;

    memcpy(copy, text, len);
    rc = parse(copy, len);
    free(copy);
    return rc;
}

static int parse_manifest(const char *text, size_t len)
{
    return oci_manifest_parse(text, len, MEDIA_OCI_MANIFEST, &manifest, &err);
}

static void manifest_is(int want, const char *text)
{
    expect(on_exact(text, parse_manifest), want, text);
}

/* --- manifest ------------------------------------------------------------------------------------------------- */

static void manifest_good(void **state)
{
    (void)state;
    manifest_is(
        0, LAYERS(BLOB(LAYER "+gzip", D2, "10") "," BLOB(LAYER "+zstd", D3, "20") "," BLOB(LAYER, D2, "0")));
    assert_int_equal(manifest.layer_cnt, 3);
    assert_int_equal(manifest.config.size, 7);
    assert_int_equal(manifest.config.digest.b[0], 0x11);
    assert_int_equal(manifest.layers[0].codec, CODEC_GZIP);
    assert_int_equal(manifest.layers[1].codec, CODEC_ZSTD);
    assert_int_equal(manifest.layers[1].size, 20);
    assert_int_equal(manifest.layers[2].codec, CODEC_NONE);
    assert_int_equal(manifest.layers[2].digest.b[31], 0x22);
}

static void manifest_layer_types(void **state)
{
    (void)state;
    manifest_is(0, LAYERS(BLOB(LAYER "+lz4", D2, "1")));
    manifest_is(0, LAYERS(BLOB("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", D2, "1")));
    manifest_is(0, LAYERS(BLOB("application/vnd.docker.image.rootfs.diff.tar.gzip", D2, "1")));
    manifest_is(ERR_POLICY,
                LAYERS(BLOB("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", D2, "1")));
    manifest_is(ERR_POLICY, LAYERS(BLOB(LAYER "+gzip+encrypted", D2, "1")));
    manifest_is(ERR_POLICY, LAYERS(BLOB(LAYER "+xz", D2, "1")));
    manifest_is(ERR_POLICY, LAYERS(BLOB("", D2, "1")));
    manifest_is(ERR_POLICY, LAYERS("{\"mediaType\":\"" LAYER "\",\"digest\":\"" D2 "\",\"size\":1,"
                                   "\"urls\":[\"https://elsewhere.example.com/x\"]}"));
}

static void manifest_sizes(void **state)
{
    (void)state;
    manifest_is(0, LAYERS(BLOB(LAYER, D2, "9007199254740991")));
    assert_true(manifest.layers[0].size == 9007199254740991u);
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "9007199254740992")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "4611686018427387904")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "-1")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "1.5")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "10.0")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "1e3")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "010")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "1e999")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "\"10\"")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "null")));
}

static void manifest_digests(void **state)
{
    (void)state;
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, "sha512:11", "1")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, "sha256:11", "1")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2 "1", "1")));
    manifest_is(
        ERR_FORMAT,
        LAYERS(BLOB(LAYER, "sha256:../../../../../../../../../../../../../../../../../../../etc/x", "1")));
    manifest_is(
        ERR_FORMAT,
        LAYERS(BLOB(LAYER, "sha256:ABCDEF1111111111111111111111111111111111111111111111111111111111", "1")));
}

static void manifest_head(void **state)
{
    (void)state;
    const char *tail = "\"config\":" CONFIG_BLOB ",\"layers\":[" BLOB(LAYER, D2, "1") "]";
    static const struct {
        const char *head;
        const char *more;
        int want;
    } rows[] = {
        {"\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST "\",", "", 0},
        {"\"schemaVersion\":2,\"annotations\":{\"a\":\"1.5\"},\"x\":1.5,", "", 0},
        {"\"schemaVersion\":2,\"mediaType\":null,", "", 0},
        {"\"schemaVersion\":1,", "", ERR_FORMAT},
        {"\"schemaVersion\":3,", "", ERR_FORMAT},
        {"\"schemaVersion\":2.0,", "", ERR_FORMAT},
        {"\"schemaVersion\":\"2\",", "", ERR_FORMAT},
        {"", "", ERR_FORMAT},
        {"\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX "\",", "", ERR_POLICY},
        {"\"schemaVersion\":2,\"mediaType\":\"application/vnd.docker.distribution.manifest.v2+json\",", "",
         ERR_POLICY},
        {"\"schemaVersion\":2,", ",\"manifests\":[]", ERR_POLICY},
        {"\"schemaVersion\":2,", ",\"Layers\":[]", 0},
        {"\"schemaVersion\":2,", ",\"layers\":[]", ERR_FORMAT},
        {"\"schemaVersion\":2,", ",\"x\":{\"a\":1,\"a\":1}", ERR_FORMAT},
    };
    char text[2048];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "{%s%s%s}", rows[i].head, tail, rows[i].more);
        manifest_is(rows[i].want, text);
    }
}

static void manifest_layers(void **state)
{
    (void)state;
    char text[64 + (CONFIG_OCI_LAYER_MAX + 2) * 160];
    size_t used;

    manifest_is(ERR_FORMAT, LAYERS(""));
    manifest_is(ERR_FORMAT, "{\"schemaVersion\":2,\"config\":" CONFIG_BLOB "}");
    manifest_is(ERR_FORMAT, "{\"schemaVersion\":2,\"config\":" CONFIG_BLOB ",\"layers\":{}}");
    manifest_is(ERR_FORMAT,
                "{\"schemaVersion\":2,\"Layers\":[" BLOB(LAYER, D2, "1") "],\"config\":" CONFIG_BLOB "}");
    manifest_is(ERR_FORMAT, LAYERS("7"));
    manifest_is(ERR_POLICY,
                "{\"schemaVersion\":2,\"config\":" BLOB("application/vnd.oci.empty.v1+json", D1,
                                                        "2") ",\"layers\":[" BLOB(LAYER, D2, "1") "]}");
    manifest_is(ERR_LIMIT, "{\"schemaVersion\":2,\"config\":" BLOB(
                               "application/vnd.oci.image.config.v1+json", D1,
                               "99999999") ",\"layers\":[" BLOB(LAYER, D2, "1") "]}");
    for (int cnt = CONFIG_OCI_LAYER_MAX; cnt <= CONFIG_OCI_LAYER_MAX + 1; cnt++) {
        used = (size_t)snprintf(text, sizeof text, "{\"schemaVersion\":2,\"config\":%s,\"layers\":[",
                                CONFIG_BLOB);
        for (int i = 0; i < cnt; i++)
            used +=
                (size_t)snprintf(text + used, sizeof text - used, "%s%s", i ? "," : "", BLOB(LAYER, D2, "1"));
        snprintf(text + used, sizeof text - used, "]}");
        manifest_is(cnt > CONFIG_OCI_LAYER_MAX ? ERR_LIMIT : 0, text);
    }
}

/* Every prefix of a good document is no document. */
static void manifest_cut(void **state)
{
    (void)state;
    const char *whole = LAYERS(BLOB(LAYER "+gzip", D2, "10"));
    char text[1024];

    for (size_t len = 0; len < strlen(whole); len++) {
        snprintf(text, sizeof text, "%.*s", (int)len, whole);
        manifest_is(ERR_FORMAT, text);
    }
}

static void json_oddities(void **state)
{
    (void)state;
    char text[1024] = "";

    manifest_is(ERR_FORMAT, "\xef\xbb\xbf" LAYERS(BLOB(LAYER, D2, "1")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "1")) "x");
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER, D2, "1")) "{}");
    manifest_is(0, LAYERS(BLOB(LAYER, D2, "1")) " \r\n\t");
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER "\\u0000", D2, "1")));
    manifest_is(ERR_FORMAT, LAYERS(BLOB(LAYER "\n", D2, "1")));
    manifest_is(ERR_FORMAT, "[]");
    manifest_is(ERR_FORMAT, "]");
    manifest_is(ERR_FORMAT, "<html></html>");
    for (int depth = 0; depth < 100; depth++)
        strcat(text, "[");
    manifest_is(ERR_FORMAT, text);
}

static void json_depth(void **state)
{
    (void)state;
    char text[1024];

    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"x\":%.*s%.*s,\"config\":" CONFIG_BLOB ",\"layers\":[%s]}", 15,
             "[[[[[[[[[[[[[[[[[[[[", 15, "]]]]]]]]]]]]]]]]]]]]", BLOB(LAYER, D2, "1"));
    manifest_is(0, text);
    snprintf(text, sizeof text,
             "{\"schemaVersion\":2,\"x\":%.*s%.*s,\"config\":" CONFIG_BLOB ",\"layers\":[%s]}", 16,
             "[[[[[[[[[[[[[[[[[[[[", 16, "]]]]]]]]]]]]]]]]]]]]", BLOB(LAYER, D2, "1"));
    manifest_is(ERR_FORMAT, text);
}

static void json_too_much(void **state)
{
    (void)state;
    size_t len = (size_t)CONFIG_OCI_JSON_MAX_KB * 1024 + 1;
    char *text = malloc(len + 1);

    memset(text, ' ', len);
    text[0] = '{';
    expect(oci_manifest_parse(text, len, MEDIA_OCI_MANIFEST, &manifest, &err), ERR_LIMIT, "spaces");
    for (size_t i = 0; i < len; i++)
        text[i] = i % 2 ? '1' : ',';
    memcpy(text, "{\"a\":[", 6);
    expect(oci_manifest_parse(text, 100000, MEDIA_OCI_MANIFEST, &manifest, &err), ERR_LIMIT, "values");
    free(text);
}

/* --- index ---------------------------------------------------------------------------------------------------- */

static const struct platform *board;

static int parse_index(const char *text, size_t len)
{
    return oci_index_choose(text, len, MEDIA_OCI_INDEX, board, &choice, &err);
}

/* `want` is the first byte of the digest chosen, or an error. */
static void index_is(const struct platform *on, int want, const char *entries)
{
    char text[4096];
    int rc;

    board = on;
    snprintf(text, sizeof text, "{\"schemaVersion\":2,\"manifests\":[%s]}", entries);
    rc = on_exact(text, parse_index);
    expect(rc, want < 0 ? want : 0, text);
    if (want >= 0)
        assert_int_equal(choice.digest.b[0], want);
}

#define ENTRY(digest, platform)                                                                              \
    "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" digest "\",\"size\":5" platform "}"
#define ON(os, arch) ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\"}"
#define ONV(os, arch, variant)                                                                               \
    ",\"platform\":{\"os\":\"" os "\",\"architecture\":\"" arch "\",\"variant\":\"" variant "\"}"

static void index_variants(void **state)
{
    (void)state;
    index_is(&v7, 0x33,
             ENTRY(D1, ONV("linux", "arm", "v5")) "," ENTRY(D2, ONV("linux", "arm", "v6")) "," ENTRY(
                 D3, ONV("linux", "arm", "v7")));
    index_is(&v7, 0x22, ENTRY(D1, ONV("linux", "arm", "v5")) "," ENTRY(D2, ONV("linux", "arm", "v6")));
    index_is(&v7, 0x11, ENTRY(D1, ONV("linux", "arm", "v5")));
    index_is(&v5, 0x11, ENTRY(D1, ONV("linux", "arm", "v5")) "," ENTRY(D2, ONV("linux", "arm", "v6")));
    index_is(&v7, 0x22, ENTRY(D1, ONV("linux", "arm", "v8")) "," ENTRY(D2, ON("linux", "arm")));
    index_is(&v7, 0x22, ENTRY(D1, ON("linux", "arm")) "," ENTRY(D2, ONV("linux", "arm", "v7")));
    index_is(&v5, ERR_PLATFORM, ENTRY(D1, ON("linux", "arm")));
    index_is(&v7, ERR_PLATFORM, ENTRY(D1, ONV("linux", "arm", "v8")));
    index_is(&v7, ERR_PLATFORM, ENTRY(D1, ONV("linux", "arm", "7")));
    index_is(&arm64, 0x11, ENTRY(D1, ON("linux", "arm64")));
    index_is(&arm64, 0x22, ENTRY(D1, ON("linux", "arm64")) "," ENTRY(D2, ONV("linux", "arm64", "v8")));
    index_is(&arm64, ERR_PLATFORM, ENTRY(D1, ONV("linux", "arm64", "v9")));
    index_is(&amd64, 0x22, ENTRY(D1, ONV("linux", "amd64", "v3")) "," ENTRY(D2, ON("linux", "amd64")));
    index_is(&v7, ERR_PLATFORM, ENTRY(D1, ONV("windows", "arm", "v7")));
}

static void index_says_what_there_is(void **state)
{
    (void)state;
    index_is(&v7, ERR_PLATFORM,
             ENTRY(D1, ON("linux", "amd64")) "," ENTRY(D2, ONV("linux", "arm64", "v8")) "," ENTRY(D3, ""));
    assert_string_equal(err.text, "want linux/arm/v7, there is linux/amd64, linux/arm64/v8, (no platform)");
    index_is(&v7, ERR_PLATFORM, "");
    assert_non_null(strstr(err.text, "nothing"));
}

static void index_entries(void **state)
{
    (void)state;
    index_is(&v7, 0x11, ENTRY(D1, ""));
    index_is(&v7, 0x22, ENTRY(D1, "") "," ENTRY(D2, ON("linux", "arm")));
    index_is(&v7, ERR_POLICY, "{\"mediaType\":\"" OCI_INDEX "\",\"digest\":\"" D1 "\",\"size\":5}");
    index_is(&v7, 0x22,
             "{\"mediaType\":\"application/x\",\"digest\":\"" D1
             "\",\"size\":5}," ENTRY(D2, ON("linux", "arm")));
    index_is(&v7, 0x22, ENTRY(D1, ON("unknown", "unknown")) "," ENTRY(D2, ON("linux", "arm")));
    index_is(&v7, ERR_FORMAT, "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"sha512:1\",\"size\":5}");
    index_is(&v7, ERR_FORMAT, ENTRY(D1, ",\"platform\":{\"os\":\"linux\"}"));
    index_is(&v7, ERR_FORMAT, "7");
    index_is(&v7, ERR_LIMIT, "{\"mediaType\":\"" OCI_MANIFEST "\",\"digest\":\"" D1 "\",\"size\":5000000}");
}

static void index_head(void **state)
{
    const char *good = "{\"schemaVersion\":2,\"manifests\":[" ENTRY(D1, "") "]}";
    const char *both = "{\"schemaVersion\":2,\"manifests\":[" ENTRY(D1, "") "],\"layers\":[]}";

    (void)state;
    expect(oci_index_choose(good, strlen(good), MEDIA_UNKNOWN, &v7, &choice, &err), 0, good);
    assert_int_equal(choice.media, MEDIA_OCI_MANIFEST);
    assert_int_equal(choice.size, 5);
    expect(oci_index_choose(good, strlen(good), MEDIA_OCI_MANIFEST, &v7, &choice, &err), ERR_POLICY, good);
    expect(oci_index_choose(both, strlen(both), MEDIA_OCI_INDEX, &v7, &choice, &err), ERR_POLICY, both);
}

/* --- config --------------------------------------------------------------------------------------------------- */

static int parse_config(const char *text, size_t len)
{
    return oci_config_parse(text, len, board, &config, &err);
}

/* `what` is the value of "config", `rootfs` that of "rootfs". */
static void config_is(int want, const char *platform, const char *rootfs, const char *what)
{
    char text[4096];

    board = &v7;
    snprintf(text, sizeof text, "{%s,\"rootfs\":%s,\"config\":%s}", platform, rootfs, what);
    expect(on_exact(text, parse_config), want, text);
}

#define ARM "\"os\":\"linux\",\"architecture\":\"arm\""
#define ROOTFS "{\"type\":\"layers\",\"diff_ids\":[\"" D1 "\",\"" D2 "\"]}"

static void config_good(void **state)
{
    static const char text[] = "/bin/a\0-x\0A=1\0B=";

    (void)state;
    config_is(0, ARM, ROOTFS,
              "{\"Entrypoint\":[\"/bin/a\"],\"Cmd\":[\"-x\"],\"Env\":[\"A=1\",\"B=\"],\"User\":\"www:www\","
              "\"WorkingDir\":\"/srv\",\"StopSignal\":\"SIGINT\",\"Labels\":{\"dev.slipway.disk\":\"//boot/"
              "disk.img\","
              "\"org.opencontainers.image.version\":\"1.2\\u00e9\"}}");
    assert_int_equal(config.diff_cnt, 2);
    assert_int_equal(config.diff_ids[1].b[0], 0x22);
    assert_int_equal(config.app.arg_cnt, 2);
    assert_int_equal(config.app.env_cnt, 2);
    assert_int_equal(config.app.text_len, sizeof text);
    assert_memory_equal(config.app.text, text, sizeof text);
    assert_string_equal(config.app.user, "www:www");
    assert_string_equal(config.app.cwd, "/srv");
    assert_int_equal(config.app.stop_signal, 2);
    assert_string_equal(config.disk, "boot/disk.img");
    assert_string_equal(config.version, "1.2??");
}

static void config_health_and_volumes(void **state)
{
    (void)state;
    config_is(0, ARM, ROOTFS,
              "{\"Entrypoint\":[\"e\"],\"Cmd\":[\"c\"],\"Healthcheck\":{\"Test\":[\"CMD-SHELL\",\"a b\"],"
              "\"Interval\":5000000000,\"Timeout\":1,\"StartPeriod\":60000000000,\"Retries\":4},"
              "\"Volumes\":{\"/data\":{}},\"Env\":[\"A=1\"]}");
    assert_int_equal(config.app.entry_cnt, 1);
    assert_string_equal(app_spec_text(&config.app, APP_TEXT_ENV, 0), "A=1");
    assert_int_equal(config.app.health_cnt, 3);
    assert_string_equal(app_spec_text(&config.app, APP_TEXT_HEALTH, 0), "/bin/sh");
    assert_string_equal(app_spec_text(&config.app, APP_TEXT_HEALTH, 2), "a b");
    assert_string_equal(app_spec_text(&config.app, APP_TEXT_VOLUME, 0), "/data");
    assert_int_equal(config.app.health_interval_ms, 5000);
    assert_int_equal(config.app.health_timeout_ms, 1);
    assert_int_equal(config.app.health_start_ms, 60000);
    assert_int_equal(config.app.health_retries, 4);
    config_is(0, ARM, ROOTFS, "{\"Healthcheck\":{\"Test\":[\"CMD\",\"/x\",\"y\"]}}");
    assert_int_equal(config.app.health_cnt, 2);
    config_is(0, ARM, ROOTFS, "{\"Healthcheck\":{\"Test\":[\"NONE\"]}}");
    assert_int_equal(config.app.health_cnt, 0);
}

static void config_absent(void **state)
{
    (void)state;
    config_is(0, ARM, ROOTFS,
              "{\"Entrypoint\":null,\"Cmd\":null,\"Env\":null,\"Labels\":null,\"User\":null}");
    assert_int_equal(config.app.arg_cnt, 0);
    assert_string_equal(config.app.cwd, "/");
    assert_int_equal(config.app.stop_signal, 15);
    config_is(0, ARM, ROOTFS, "null");
    config_is(0, ARM, ROOTFS, "{}");
    assert_string_equal(config.disk, "");
}

static void config_platform(void **state)
{
    (void)state;
    config_is(0, ARM ",\"variant\":\"v6\"", ROOTFS, "{}");
    config_is(ERR_PLATFORM, ARM ",\"variant\":\"v8\"", ROOTFS, "{}");
    config_is(ERR_PLATFORM, "\"os\":\"linux\",\"architecture\":\"amd64\"", ROOTFS, "{}");
    config_is(ERR_PLATFORM, "\"os\":\"windows\",\"architecture\":\"arm\"", ROOTFS, "{}");
    config_is(ERR_FORMAT, "\"os\":\"linux\"", ROOTFS, "{}");
}

static void config_rootfs(void **state)
{
    (void)state;
    config_is(ERR_FORMAT, ARM, "null", "{}");
    config_is(ERR_FORMAT, ARM, "{\"type\":\"other\",\"diff_ids\":[\"" D1 "\"]}", "{}");
    config_is(ERR_FORMAT, ARM, "{\"type\":\"layers\",\"diff_ids\":[]}", "{}");
    config_is(ERR_FORMAT, ARM, "{\"type\":\"layers\",\"diff_ids\":[7]}", "{}");
    config_is(ERR_FORMAT, ARM, "{\"type\":\"layers\",\"diff_ids\":[\"sha512:1\"]}", "{}");
}

static void config_what_to_run(void **state)
{
    static const struct {
        const char *text;
        int want;
    } rows[] = {
        {"{\"Entrypoint\":\"/bin/sh\"}", ERR_FORMAT},
        {"{\"Cmd\":[1]}", ERR_FORMAT},
        {"{\"Cmd\":[\"\"]}", ERR_FORMAT},
        {"{\"Env\":[\"A\"]}", ERR_FORMAT},
        {"{\"Env\":[\"=A\"]}", ERR_FORMAT},
        {"{\"Healthcheck\":{\"Test\":[\"NONE\"],\"Interval\":0}}", 0},
        {"{\"Healthcheck\":{\"Test\":[\"CMD\"]}}", ERR_FORMAT},
        {"{\"Healthcheck\":{\"Test\":[\"RUN\",\"x\"]}}", ERR_FORMAT},
        {"{\"Healthcheck\":{\"Test\":[\"CMD\",1]}}", ERR_FORMAT},
        {"{\"Healthcheck\":{\"Interval\":-1}}", ERR_FORMAT},
        {"{\"Healthcheck\":{\"Interval\":86400000000001}}", ERR_LIMIT},
        {"{\"Healthcheck\":[]}", ERR_FORMAT},
        {"{\"Volumes\":{\"/a\":{},\"/b/c\":{}}}", 0},
        {"{\"Volumes\":{\"a\":{}}}", ERR_FORMAT},
        {"{\"Volumes\":{\"/\":{}}}", ERR_FORMAT},
        {"{\"Volumes\":{\"/a/../b\":{}}}", ERR_FORMAT},
        {"{\"WorkingDir\":\"srv\"}", ERR_FORMAT},
        {"{\"WorkingDir\":\"\"}", 0},
        {"{\"User\":\"0123456789012345678901234567890123456789012345678901234567890123\"}", ERR_LIMIT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"/\"}}", ERR_FORMAT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"a/../b\"}}", ERR_FORMAT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"..\"}}", ERR_FORMAT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"a//b\"}}", ERR_FORMAT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"a/\"}}", ERR_FORMAT},
        {"{\"Labels\":{\"dev.slipway.disk\":\"a..b/.c\"}}", 0},
        {"{\"Labels\":[]}", ERR_FORMAT},
        {"[]", ERR_FORMAT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        config_is(rows[i].want, ARM, ROOTFS, rows[i].text);
}

static void config_signals(void **state)
{
    static const struct {
        const char *text;
        int number; /* 0: refused */
    } rows[] = {
        {"SIGTERM", 15},    {"TERM", 15},    {"9", 9},           {"", 15},
        {"SIGRTMIN+3", 37}, {"RTMAX-1", 63}, {"SIGRTMAX", 64},   {"0", 0},
        {"65", 0},          {"SIGFOO", 0},   {"SIGRTMIN+99", 0}, {"-9", 0},
        {"sigterm", 0},     {"123", 0},      {"SIGRTMAX-", 0},   {"SIGRTMIN+", 0},
    };
    char text[64];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(text, sizeof text, "{\"StopSignal\":\"%s\"}", rows[i].text);
        config_is(rows[i].number ? 0 : ERR_FORMAT, ARM, ROOTFS, text);
        if (rows[i].number)
            assert_int_equal(config.app.stop_signal, rows[i].number);
    }
}

static void media_types(void **state)
{
    (void)state;
    assert_int_equal(oci_media_parse(OCI_INDEX "; charset=utf-8", strlen(OCI_INDEX) + 15), MEDIA_OCI_INDEX);
    assert_int_equal(oci_media_parse(OCI_INDEX "x", strlen(OCI_INDEX) + 1), MEDIA_UNKNOWN);
    assert_int_equal(oci_media_parse("", 0), MEDIA_UNKNOWN);
    assert_string_equal(oci_media_name(MEDIA_OCI_MANIFEST), OCI_MANIFEST);
}

/* --- table of contents ---------------------------------------------------------------------------------------- */

#define ZSTD_LAYER(notes)                                                                                    \
    LAYERS("{\"mediaType\":\"" LAYER "+zstd\",\"digest\":\"" D2 "\",\"size\":1000,\"annotations\":{" notes   \
           "}}")
#define OLD "io.containers.zstd-chunked.manifest-"
#define NEW "io.github.containers.zstd-chunked.manifest-"
#define NOTES(prefix, digest, position)                                                                      \
    "\"" prefix "checksum\":\"" digest "\",\"" prefix "position\":\"" position "\""

static void test_toc(void **state)
{
    const struct oci_toc *t = &manifest.layers[0].toc;

    (void)state;
    manifest_is(0, ZSTD_LAYER("\"a\":\"b\""));
    assert_int_equal(t->len, 0);
    manifest_is(0, ZSTD_LAYER(NOTES(OLD, D1, "900:50:5000:1")));
    assert_int_equal(t->offset, 900);
    assert_int_equal(t->len, 50);
    assert_int_equal(t->raw_len, 5000);
    assert_int_equal(t->digest.b[0], 0x11);
    manifest_is(0, ZSTD_LAYER(NOTES(OLD, D1, "1:1:1:1") "," NOTES(NEW, D3, "950:50:1:1")));
    assert_int_equal(t->offset, 950);
    assert_int_equal(t->digest.b[0], 0x33);
    manifest_is(ERR_POLICY, ZSTD_LAYER(NOTES(NEW, D1, "951:50:1:1")));
    manifest_is(ERR_POLICY, ZSTD_LAYER(NOTES(NEW, D1, "1001:1:1:1")));
    manifest_is(ERR_POLICY, ZSTD_LAYER(NOTES(NEW, D1, "900:0:1:1")));
    manifest_is(ERR_LIMIT, ZSTD_LAYER(NOTES(NEW, D1, "900:50:157286400:1")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, D1, "900:50:1:2")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, D1, "900:50:1")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, D1, "900:50:1:1:")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, D1, "-900:50:1:1")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, D1, "99999999999999999999999:50:1:1")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER(NOTES(NEW, "sha256:xyz", "900:50:1:1")));
    manifest_is(ERR_FORMAT, ZSTD_LAYER("\"" NEW "checksum\":\"" D1 "\""));
    manifest_is(ERR_FORMAT, ZSTD_LAYER("\"" NEW "position\":\"900:50:1:1\""));
    manifest_is(ERR_FORMAT, ZSTD_LAYER("\"" NEW "checksum\":7"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_toc),
        cmocka_unit_test(manifest_good),
        cmocka_unit_test(manifest_layer_types),
        cmocka_unit_test(manifest_sizes),
        cmocka_unit_test(manifest_digests),
        cmocka_unit_test(manifest_head),
        cmocka_unit_test(manifest_layers),
        cmocka_unit_test(manifest_cut),
        cmocka_unit_test(json_oddities),
        cmocka_unit_test(json_depth),
        cmocka_unit_test(json_too_much),
        cmocka_unit_test(index_variants),
        cmocka_unit_test(index_says_what_there_is),
        cmocka_unit_test(index_entries),
        cmocka_unit_test(index_head),
        cmocka_unit_test(config_good),
        cmocka_unit_test(config_health_and_volumes),
        cmocka_unit_test(config_absent),
        cmocka_unit_test(config_platform),
        cmocka_unit_test(config_rootfs),
        cmocka_unit_test(config_what_to_run),
        cmocka_unit_test(config_signals),
        cmocka_unit_test(media_types),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
