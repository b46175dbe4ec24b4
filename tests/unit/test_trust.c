/* Signatures, with keys and signatures that openssl makes here and now. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <mbedtls/base64.h>

#include "base/io.h"
#include "trust/judge.h"

#define SUBJECT "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define OTHER "sha256:2222222222222222222222222222222222222222222222222222222222222222"

static char dir[] = "/tmp/test_trust.XXXXXX";
static struct digest subject;
static struct trust_keys keys; /* a, b: P-256; c: P-384 */
static struct err err;

/* --- openssl ----------------------------------------------------------------------------------------------------- */

static void openssl(const char *first, ...)
{
    const char *argv[24] = {"openssl", first};
    va_list ap;
    int status, n = 2;
    pid_t pid;

    va_start(ap, first);
    while ((argv[n] = va_arg(ap, const char *)))
        n++;
    va_end(ap);
    pid = fork();
    if (pid == 0) {
        dup2(open("openssl.log", O_WRONLY | O_CREAT | O_APPEND, 0600), 2);
        execvp("openssl", (char **)(uintptr_t)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void key_make(const char *name, const char *curve)
{
    char private[32], public[32], option[64];

    snprintf(private, sizeof private, "%s.key", name);
    snprintf(public, sizeof public, "%s.pem", name);
    snprintf(option, sizeof option, "ec_paramgen_curve:%s", curve);
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", option, "-out", private, NULL);
    openssl("pkey", "-in", private, "-pubout", "-out", public, NULL);
}

static void file_write(const char *name, const void *data, size_t len)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(io_write_full(fd, data, len), 0);
    close(fd);
}

/* `s` with its payload signed by the key of that name. */
static void sign(struct trust_signed *s, const char *name, const char *hash)
{
    static char bytes[TRUST_PAYLOAD_MAX + 100];
    char private[32];
    int front = 0;
    ssize_t len;

    snprintf(private, sizeof private, "%s.key", name);
    if (s->form == TRUST_STATEMENT)
        front = snprintf(bytes, sizeof bytes, "DSSEv1 28 application/vnd.in-toto+json %u ", s->payload_len);
    memcpy(bytes + front, s->payload, s->payload_len);
    file_write("data", bytes, (size_t)front + s->payload_len);
    openssl("dgst", hash, "-sign", private, "-out", "signature", "data", NULL);
    len = io_read_file("signature", bytes, sizeof bytes);
    assert_true(len > 0 && len <= TRUST_SIGNATURE_MAX);
    memcpy(s->signature, bytes, (size_t)len);
    s->signature_len = (uint32_t)len;
}

static struct trust_signed text(enum trust_form form, const char *payload)
{
    struct trust_signed s = {.form = form, .payload_len = (uint32_t)strlen(payload)};

    memcpy(s.payload, payload, s.payload_len);
    return s;
}

static struct trust_signed simple(const char *digest, const char *optional, const char *key)
{
    char payload[1024];
    struct trust_signed s;

    snprintf(payload, sizeof payload,
             "{\"critical\":{\"identity\":{\"docker-reference\":\"r.example.com:5000/fleet/web:x@y\"},"
             "\"image\":{\"docker-manifest-digest\":\"%s\"},\"type\":\"cosign container image signature\"},"
             "\"optional\":%s}",
             digest, optional);
    s = text(TRUST_SIMPLE, payload);
    sign(&s, key, "-sha256");
    return s;
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static int load(const char *a, const char *b)
{
    static struct trust_keys out;
    struct conf_trust conf = {.required = true, .threshold = 1};
    int rc;

    snprintf(conf.keys[0], sizeof conf.keys[0], "%s/%s", dir, a);
    if (b)
        snprintf(conf.keys[1], sizeof conf.keys[1], "%s/%s", dir, b);
    rc = trust_keys_load(&conf, &out, &err);
    trust_keys_free(&out);
    return rc;
}

static void assert_load_refused(const char *a, const char *b, const char *words)
{
    assert_int_equal(load(a, b), ERR_CONFIG);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in: %s", words, err.text);
}

static void wrong_keys_are_refused(void **state)
{
    (void)state;
    assert_int_equal(load("a.pem", "c.pem"), 0);
    assert_load_refused("absent.pem", NULL, "absent.pem: No such file");
    assert_load_refused("a.pem", "a.pem", "the same key as number 1");
    assert_load_refused("a.key", NULL, "no public key");
    file_write("junk.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 58);
    assert_load_refused("junk.pem", NULL, "no public key");
    openssl("genpkey", "-algorithm", "ed25519", "-out", "ed.key", NULL);
    openssl("pkey", "-in", "ed.key", "-pubout", "-out", "ed.pem", NULL);
    assert_load_refused("ed.pem", NULL, "Ed25519 and RSA are not supported");
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.key", NULL);
    openssl("pkey", "-in", "rsa.key", "-pubout", "-out", "rsa.pem", NULL);
    assert_load_refused("rsa.pem", NULL, "Ed25519 and RSA are not supported");
    key_make("k1", "secp256k1");
    assert_load_refused("k1.pem", NULL, "P-256 or P-384");
    assert_int_equal(chmod("a.pem", 0664), 0);
    assert_load_refused("a.pem", NULL, "others than its owner may write it (mode 0664)");
    assert_int_equal(chmod("a.pem", 0644), 0);
}

/* --- verifying: the same questions to it and to one that is wrong --------------------------------------------------- */

typedef enum verdict (*verifier)(struct trust_keys *k, uint32_t at, const struct trust_signed *s,
                                 const struct digest *subject);

static enum verdict says_yes(struct trust_keys *k, uint32_t at, const struct trust_signed *s,
                             const struct digest *d)
{
    (void)k, (void)at, (void)s, (void)d;
    return VERDICT_MATCH;
}

/* Looks at the first half of a signature only. */
static enum verdict looks_halfway(struct trust_keys *k, uint32_t at, const struct trust_signed *s,
                                  const struct digest *d)
{
    static struct trust_signed good;

    if (trust_key_verify(k, at, s, d) == VERDICT_MATCH)
        good = *s;
    return s->payload_len == good.payload_len && !memcmp(s->payload, good.payload, s->payload_len) &&
                   !memcmp(s->signature, good.signature, 36)
               ? VERDICT_MATCH
               : VERDICT_MISMATCH;
}

/* How many of the bits of payload and signature may be flipped without it being seen. */
static int flips_missed(verifier verify, const struct trust_signed *good, uint32_t key)
{
    struct trust_signed s = *good;
    int missed = 0;

    assert_int_equal(verify(&keys, key, &s, &subject), VERDICT_MATCH);
    for (uint32_t bit = 0; bit < s.signature_len * 8; bit++) {
        s.signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
        missed += verify(&keys, key, &s, &subject) == VERDICT_MATCH;
        s.signature[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint32_t bit = 0; bit < s.payload_len * 8; bit += 37) {
        s.payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
        missed += verify(&keys, key, &s, &subject) == VERDICT_MATCH;
        s.payload[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    return missed;
}

static void every_flipped_bit_is_seen(void **state)
{
    struct trust_signed a = simple(SUBJECT, "null", "a");
    struct trust_signed dsse = text(TRUST_STATEMENT, "{}");

    (void)state;
    sign(&dsse, "b", "-sha256");
    assert_int_equal(flips_missed(trust_key_verify, &a, 0), 0);
    assert_int_equal(flips_missed(trust_key_verify, &dsse, 1), 0);
    assert_true(flips_missed(says_yes, &a, 0) > 0);
    assert_true(flips_missed(looks_halfway, &a, 0) > 0);
}

static void only_the_key_that_signed(void **state)
{
    struct trust_signed s = simple(SUBJECT, "null", "a");
    struct trust_signed c = text(TRUST_NOTICE, "hello");

    (void)state;
    assert_int_equal(trust_signers(&keys, &s, &subject), 1);
    sign(&c, "c", "-sha256");
    assert_int_equal(trust_signers(&keys, &c, &subject), 4);
    sign(&c, "c", "-sha384");
    assert_int_equal(trust_signers(&keys, &c, &subject), 4);
    sign(&c, "a", "-sha384"); /* a short curve takes no more than the short hash */
    assert_int_equal(trust_signers(&keys, &c, &subject), 0);
    s.signature_len = 0;
    assert_int_equal(trust_signers(&keys, &s, &subject), 0);
    s.signature_len = TRUST_SIGNATURE_MAX + 1;
    assert_int_equal(trust_signers(&keys, &s, &subject), 0);
}

/* The same bytes mean different things in different forms, so a signature of one is none of the other. */
static void forms_are_not_mixed_up(void **state)
{
    struct trust_signed s = simple(SUBJECT, "null", "a");

    (void)state;
    s.form = TRUST_STATEMENT;
    assert_int_equal(trust_signers(&keys, &s, &subject), 0);
    s.form = TRUST_MESSAGE;
    assert_int_equal(trust_signers(&keys, &s, &subject), 0);
}

static void message_is_over_the_subject(void **state)
{
    struct trust_signed s = text(TRUST_NOTICE, "a manifest");
    struct digest d;

    (void)state;
    sign(&s, "b", "-sha256");
    hash_bytes("a manifest", 10, &d);
    s.form = TRUST_MESSAGE;
    s.payload_len = 0;
    assert_int_equal(trust_signers(&keys, &s, &d), 2);
    assert_int_equal(trust_signers(&keys, &s, &subject), 0);
}

/* --- judging ----------------------------------------------------------------------------------------------------- */

static struct trust_claim claim;

static int judge(uint32_t threshold, const struct trust_signed *list, size_t cnt)
{
    static struct trust_judge j;

    keys.threshold = threshold;
    trust_judge_begin(&j, &keys, &subject);
    for (size_t i = 0; i < cnt; i++)
        trust_judge_add(&j, &list[i]);
    return trust_judge_end(&j, &claim, &err);
}

static void threshold_counts_keys(void **state)
{
    struct trust_signed list[] = {
        simple(SUBJECT, "{\"version\":\"5\"}", "a"),
        simple(SUBJECT, "{\"version\":\"5\",\"more\":\"words\"}", "a"),
        simple(SUBJECT, "{\"version\":\"6\"}", "b"),
        simple(SUBJECT, "{\"version\":5}", "c"),
    };

    (void)state;
    assert_int_equal(judge(1, list, 0), ERR_UNSIGNED);
    assert_int_equal(judge(1, list, 1), 0);
    assert_int_equal(claim.version, 5);
    assert_string_equal(claim.repository, "fleet/web");
    assert_int_equal(judge(2, list, 2), ERR_SIGNATURE); /* one key twice */
    assert_int_equal(judge(2, list, 3), ERR_SIGNATURE); /* two keys, but of two minds */
    assert_int_equal(judge(2, list, 4), 0);
    assert_int_equal(claim.version, 5);
    assert_int_equal(judge(1, list, 4), 0);
    assert_int_equal(claim.version, 6); /* the highest that enough keys agree on */
}

static void assert_claim_refused(struct trust_signed s, int code, const char *words)
{
    assert_int_equal(judge(1, &s, 1), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" is not in: %s", words, err.text);
}

static struct trust_signed statement(const char *payload)
{
    struct trust_signed s = text(TRUST_STATEMENT, payload);

    sign(&s, "a", "-sha256");
    return s;
}

#define STATEMENT(predicate, subjects)                                                                       \
    "{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":\"" predicate                          \
    "\",\"subject\":[" subjects "],\"predicate\":{}}"
#define SIGN "https://sigstore.dev/cosign/sign/v1"
#define ONE "{\"digest\":{\"sha256\":\"1111111111111111111111111111111111111111111111111111111111111111\"}}"

static void claims_must_fit(void **state)
{
    struct trust_signed s = statement(STATEMENT(SIGN, ONE));

    (void)state;
    assert_int_equal(judge(1, &s, 1), 0);
    assert_int_equal(claim.version, 0);
    assert_string_equal(claim.repository, "");
    assert_claim_refused(statement(STATEMENT("https://slsa.dev/provenance/v1", ONE)), ERR_SIGNATURE,
                         "no permission to install");
    assert_claim_refused(statement(STATEMENT(SIGN, ONE "," ONE)), ERR_SIGNATURE, "want one, got 2");
    assert_claim_refused(statement(STATEMENT(SIGN, "")), ERR_SIGNATURE, "want one, got 0");
    assert_claim_refused(statement("{}"), ERR_FORMAT, "_type");
    assert_claim_refused(statement("not JSON"), ERR_FORMAT, "signed payload");
    assert_claim_refused(simple(OTHER, "null", "a"), ERR_SIGNATURE, "signs another image");
    assert_claim_refused(simple(SUBJECT, "{\"version\":\"1.2\"}", "a"), ERR_SIGNATURE, "version");
    assert_claim_refused(simple(SUBJECT, "{\"version\":1.5}", "a"), ERR_FORMAT, "version");
    assert_claim_refused(simple(SUBJECT, "{\"version\":\"09\"}", "a"), ERR_SIGNATURE, "version");
    assert_claim_refused(simple(SUBJECT, "{\"version\":\"9007199254740992\"}", "a"), ERR_SIGNATURE,
                         "version");
    assert_claim_refused(simple(SUBJECT, "{\"version\":[]}", "a"), ERR_SIGNATURE, "version");
    assert_claim_refused(simple(SUBJECT, "{\"version\":\"1\",\"version\":\"2\"}", "a"), ERR_FORMAT, "twice");
}

/* --- envelopes --------------------------------------------------------------------------------------------------- */

static struct trust_refs refs;

static int refs_of(const char *json)
{
    return envelope_refs(json, strlen(json), &refs, &err);
}

#define SIMPLE_TYPE "\"mediaType\":\"application/vnd.dev.cosign.simplesigning.v1+json\""
#define LAYER(size, annotations)                                                                             \
    "{" SIMPLE_TYPE ",\"digest\":\"" OTHER "\",\"size\":" size ",\"annotations\":{" annotations "}}"
#define GOOD LAYER("5", "\"dev.cosignproject.cosign/signature\":\"AQID\"")

static void references_are_bounded(void **state)
{
    static char many[8192] = "{\"layers\":[" GOOD;

    (void)state;
    assert_int_equal(refs_of(""), 0);
    assert_int_equal(refs.cnt, 0);
    assert_int_equal(refs_of("{\"layers\":[" GOOD ",{\"mediaType\":\"other\"}]}"), 0);
    assert_int_equal(refs.cnt, 1);
    assert_int_equal(refs.refs[0].signature_len, 3);
    assert_int_equal(refs_of("{\"layers\":[" LAYER("0", "") "]}"), ERR_LIMIT);
    assert_int_equal(refs_of("{\"layers\":[" LAYER("8193", "") "]}"), ERR_LIMIT);
    assert_int_equal(refs_of("{\"layers\":[" LAYER("5", "") "]}"), ERR_FORMAT);
    assert_int_equal(refs_of("{\"layers\":[" LAYER("-5", "") "]}"), ERR_FORMAT);
    assert_int_equal(refs_of("{\"layers\":[" LAYER("5", "\"dev.cosignproject.cosign/signature\":\"\"") "]}"),
                     ERR_FORMAT);
    assert_int_equal(refs_of("{}"), ERR_FORMAT);
    assert_int_equal(refs_of("[]"), ERR_FORMAT);
    for (int i = 1; i < TRUST_REF_MAX; i++)
        strcat(many, "," GOOD);
    strcat(many, "]}");
    assert_int_equal(refs_of(many), 0);
    assert_int_equal(refs.cnt, TRUST_REF_MAX);
    strcpy(strrchr(many, ']'), "," GOOD "]}");
    assert_int_equal(refs_of(many), ERR_LIMIT);
}

#define BUNDLE_V03 "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\","

static void bundles_are_read_strictly(void **state)
{
    static const struct {
        const char *json;
        int code;
    } cases[] = {
        {BUNDLE_V03 "\"messageSignature\":{\"signature\":\"AQID\"}}", 0},
        {BUNDLE_V03 "\"dsseEnvelope\":{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"e30=\","
                    "\"signatures\":[{\"sig\":\"AQID\"}]}}",
         0},
        {BUNDLE_V03 "\"dsseEnvelope\":{\"payloadType\":\"text/plain\",\"payload\":\"e30=\","
                    "\"signatures\":[{\"sig\":\"AQID\"}]}}",
         ERR_POLICY},
        {BUNDLE_V03 "\"dsseEnvelope\":{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"e30=\","
                    "\"signatures\":[]}}",
         ERR_FORMAT},
        {BUNDLE_V03 "\"dsseEnvelope\":{},\"messageSignature\":{}}", ERR_FORMAT},
        {BUNDLE_V03 "\"messageSignature\":{\"signature\":\"*\"}}", ERR_FORMAT},
        {"{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.9+json\"}", ERR_UNSUPPORTED},
    };
    static struct trust_signed s;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (envelope_bundle(cases[i].json, strlen(cases[i].json), &s, &err) != cases[i].code)
            fail_msg("case %zu: %s", i, err.text);
}

/* --- notices ----------------------------------------------------------------------------------------------------- */

static int root_of(const char *notice)
{
    static struct notice_root root;

    return notice_root_parse(notice, strlen(notice), &root, &err);
}

static void notices_are_read_strictly(void **state)
{
    static const char *const bad[] = {
        "",
        "slipway brake\nversion 1\nthreshold 1\nkey AQID\n",
        "slipway root\nversion 1\nthreshold 1\nkey AQID",
        "slipway root\nversion 0\nthreshold 1\nkey AQID\n",
        "slipway root\nversion 1\nversion 2\nthreshold 1\nkey AQID\n",
        "slipway root\nversion 4294967296\nthreshold 1\nkey AQID\n",
        "slipway root\nversion 1\nthreshold 2\nkey AQID\n",
        "slipway root\nversion 1\nthreshold 1\n",
        "slipway root\nversion 1\nthreshold 1\nkey *\n",
        "slipway root\nversion 1\nthreshold 1\nkey AQID\nsurprise 1\n",
        "slipway root\nversion 1\nthreshold 1\nkey AQID\n\n",
        "slipway root\nversion 1\nthreshold 1\nkey AQID\r\n",
    };
    struct notice_brake brake;
    const char *text_of_brake = "slipway brake\nrepository fleet/web\nreason it is bad\n";

    (void)state;
    assert_int_equal(root_of("slipway root\nversion 1\nthreshold 1\nkey AQID\n"), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (root_of(bad[i]) == 0)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(notice_brake_parse(text_of_brake, strlen(text_of_brake), &brake, &err), 0);
    assert_string_equal(brake.repository, "fleet/web");
    assert_string_equal(brake.reason, "it is bad");
    assert_true(notice_brake_parse(text_of_brake, strlen(text_of_brake) - 18, &brake, &err) < 0);
}

static void root_keys_are_keys(void **state)
{
    static struct notice_root root = {.version = 1, .threshold = 1, .key_cnt = 1, .keys = {{3, {1, 2, 3}}}};
    static struct trust_keys out;
    char der[256];
    ssize_t len;

    (void)state;
    assert_int_equal(trust_keys_root(&root, &out, &err), ERR_CONFIG);
    trust_keys_free(&out);
    openssl("pkey", "-pubin", "-in", "c.pem", "-outform", "DER", "-out", "c.der", NULL);
    len = io_read_file("c.der", der, sizeof der);
    assert_true(len > 0 && len <= NOTICE_KEY_LEN_MAX);
    memcpy(root.keys[0].der, der, (size_t)len);
    root.keys[0].len = (uint32_t)len;
    assert_int_equal(trust_keys_root(&root, &out, &err), 0);
    trust_keys_free(&out);
    root.threshold = 2;
    assert_int_equal(trust_keys_root(&root, &out, &err), ERR_CONFIG);
    trust_keys_free(&out);
}

static int set_up(void **state)
{
    struct conf_trust conf = {.required = true, .threshold = 1};

    (void)state;
    if (!mkdtemp(dir) || chdir(dir))
        return -1;
    key_make("a", "prime256v1");
    key_make("b", "prime256v1");
    key_make("c", "secp384r1");
    for (int i = 0; i < 3; i++)
        snprintf(conf.keys[i], sizeof conf.keys[i], "%s/%c.pem", dir, 'a' + i);
    return !digest_parse(SUBJECT, strlen(SUBJECT), &subject) || trust_keys_load(&conf, &keys, &err);
}

static int tear_down(void **state)
{
    static const char *const names[] = {"openssl.log", "data", "signature", "junk.pem", "c.der"};
    static const char *const pairs[] = {"a", "b", "c", "ed", "rsa", "k1"};
    char name[32];

    (void)state;
    trust_keys_free(&keys);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(names[i]);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        snprintf(name, sizeof name, "%s.key", pairs[i]);
        unlink(name);
        snprintf(name, sizeof name, "%s.pem", pairs[i]);
        unlink(name);
    }
    return chdir("/") || rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_keys_are_refused),
        cmocka_unit_test(every_flipped_bit_is_seen),
        cmocka_unit_test(only_the_key_that_signed),
        cmocka_unit_test(forms_are_not_mixed_up),
        cmocka_unit_test(message_is_over_the_subject),
        cmocka_unit_test(threshold_counts_keys),
        cmocka_unit_test(claims_must_fit),
        cmocka_unit_test(references_are_bounded),
        cmocka_unit_test(bundles_are_read_strictly),
        cmocka_unit_test(notices_are_read_strictly),
        cmocka_unit_test(root_keys_are_keys),
    };

    return cmocka_run_group_tests_name("trust", tests, set_up, tear_down);
}
