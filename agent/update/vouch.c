#include "update/vouch.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "hal/board.h"
#include "trust/judge.h"
#include "update/record.h"
#include "update/state.h"
#include "update/talk.h"

#define DOCUMENT_MAX ((uint64_t)CONFIG_OCI_JSON_MAX_KB * 1024)
#define ROOT_MAGIC 0x74725753u /* "SWrt" */
#define ROOT_VERSION 1

struct vouch {
    const struct conf *conf;
    struct pump *pump;
    bool look;
    struct record root_record;
    struct notice_root root;
    struct trust_keys keys;
    struct trust_judge judge;
    struct trust_refs refs, referrers;
    struct trust_signed text;
};

/* Something could not be had. When the pipes are in step it is one bad signature, and others may be good; otherwise this
 * is the end. */
static bool is_final(const struct vouch *v)
{
    return v->pump->state != PUMP_IDLE;
}

static const char *repository_wanted(const struct conf *conf)
{
    return conf->trust.repository[0] ? conf->trust.repository : conf->registry.repository;
}

static bool repository_fits(const struct conf *conf, const char *repository)
{
    return !strcmp(repository_wanted(conf), "any") || !strcmp(repository_wanted(conf), repository);
}

/* --- asking --------------------------------------------------------------------------------------------------- */

static int refs_get(struct vouch *v, enum fetch_kind kind, const struct digest *digest,
                    struct trust_refs *out, struct err *e)
{
    struct fetch_request request = {.kind = kind, .digest = *digest, .size = DOCUMENT_MAX};
    int rc = talk_document(v->pump, JOB_SIGNATURES, &request, MEDIA_UNKNOWN, out, sizeof *out, e);

    if (rc == 0 && out->cnt > TRUST_REF_MAX)
        rc = err_set(e, ERR_PEER, "envelope named %u signatures", out->cnt);
    if (rc < 0)
        out->cnt = 0;
    return rc;
}

/* What `ref` names, with its signature, into v->text. */
static int text_get(struct vouch *v, const struct trust_ref *ref, struct err *e)
{
    struct fetch_request request = {.kind = FETCH_BLOB, .digest = ref->digest, .size = ref->size};
    bool bundle = ref->form == TRUST_BUNDLE;
    int rc = talk_document(v->pump, bundle ? JOB_BUNDLE : JOB_PAYLOAD, &request, MEDIA_UNKNOWN, &v->text,
                           sizeof v->text, e);

    if (rc < 0)
        return rc;
    if (v->text.payload_len > sizeof v->text.payload)
        return err_set(e, ERR_PEER, "envelope sent a payload of %u bytes", v->text.payload_len);
    if (!bundle) {
        v->text.form = ref->form;
        v->text.signature_len = ref->signature_len;
        memcpy(v->text.signature, ref->signature, sizeof v->text.signature);
    }
    return 0;
}

/* --- signatures of an image ----------------------------------------------------------------------------------- */

static int refs_judge(struct vouch *v, const struct trust_refs *refs, struct err *e)
{
    for (uint32_t i = 0; i < refs->cnt; i++) {
        if (refs->refs[i].form != TRUST_SIMPLE && refs->refs[i].form != TRUST_BUNDLE)
            continue;
        if (text_get(v, &refs->refs[i], e) == 0) {
            trust_judge_add(&v->judge, &v->text);
            continue;
        }
        err_prefix(e, "signature %u of %u", i + 1, refs->cnt);
        if (is_final(v))
            return e->code;
        trust_judge_note(&v->judge, e);
    }
    return 0;
}

/* A list that does not read is one bad signature. */
static int list_judge(struct vouch *v, enum fetch_kind kind, const struct digest *digest, struct err *e)
{
    if (refs_get(v, kind, digest, &v->refs, e) == 0)
        return refs_judge(v, &v->refs, e);
    err_prefix(e, "list of signatures");
    if (is_final(v))
        return e->code;
    trust_judge_note(&v->judge, e);
    return 0;
}

static int referrers_judge(struct vouch *v, const struct digest *digest, struct err *e)
{
    int rc = 0;

    if (refs_get(v, FETCH_REFERRERS, digest, &v->referrers, e) < 0) {
        err_prefix(e, "referrers");
        if (is_final(v))
            return e->code;
        trust_judge_note(&v->judge, e);
        return 0;
    }
    for (uint32_t i = 0; rc == 0 && i < v->referrers.cnt; i++)
        if (v->referrers.refs[i].form == TRUST_REFERRER)
            rc = list_judge(v, FETCH_MANIFEST, &v->referrers.refs[i].digest, e);
    return rc;
}

/* Signatures at cosign's tag first, then those that refer to the image. */
static int subject_judge(struct vouch *v, const struct digest *digest, struct trust_claim *claim,
                         struct err *e)
{
    int rc;

    trust_judge_begin(&v->judge, &v->keys, digest);
    rc = list_judge(v, FETCH_SIGNATURES, digest, e);
    if (rc < 0 || trust_judge_end(&v->judge, claim, e) == 0)
        return rc;
    rc = referrers_judge(v, digest, e);
    return rc < 0 ? rc : trust_judge_end(&v->judge, claim, e);
}

static int image_judge(struct vouch *v, const struct digest *tag, uint32_t media, struct vouched *out,
                       struct err *e)
{
    struct fetch_request request = {.kind = FETCH_MANIFEST, .digest = *tag, .size = DOCUMENT_MAX};
    struct err of_index;
    int rc;

    out->image = (struct oci_index_choice){.digest = *tag, .size = DOCUMENT_MAX, .media = media};
    rc = subject_judge(v, tag, &out->claim, e);
    if (rc == 0 || is_final(v) || (media != MEDIA_OCI_INDEX && media != MEDIA_DOCKER_INDEX))
        return rc;
    of_index = *e;
    if (talk_document(v->pump, JOB_INDEX, &request, media, &out->image, sizeof out->image, e) < 0)
        return err_prefix(e, "index");
    out->image.size = DOCUMENT_MAX; /* so far only the index says otherwise, which nobody signed */
    rc = subject_judge(v, &out->image.digest, &out->claim, e);
    if (rc != ERR_UNSIGNED)
        return rc;
    *e = of_index;
    return e->code;
}

/* --- notices -------------------------------------------------------------------------------------------------- */

/* The notice at a tag into v->text. Returns 1 when enough keys signed it, 0 when there is none that counts. One text,
 * that of the first layer; the other layers are more signatures of it. */
static int notice_get(struct vouch *v, enum fetch_kind kind, const char *name, struct err *e)
{
    const struct digest nothing = {{0}};
    uint32_t signers = 0;
    int rc = refs_get(v, kind, &nothing, &v->refs, e);

    if (rc == 0 && v->refs.cnt == 0)
        return 0;
    if (rc == 0)
        rc = text_get(v, &v->refs.refs[0], e);
    if (rc < 0 && is_final(v))
        return err_prefix(e, "%s", name);
    for (uint32_t i = 0; rc == 0 && i < v->refs.cnt; i++) {
        const struct trust_ref *ref = &v->refs.refs[i];

        if (ref->form != TRUST_NOTICE ||
            digest_compare(&ref->digest, &v->refs.refs[0].digest) != VERDICT_MATCH)
            continue;
        v->text.form = TRUST_NOTICE;
        v->text.signature_len = ref->signature_len;
        memcpy(v->text.signature, ref->signature, sizeof v->text.signature);
        signers |= trust_signers(&v->keys, &v->text, &nothing);
    }
    if (signers && (uint32_t)__builtin_popcount(signers) >= v->keys.threshold)
        return 1;
    log_warning("%s: passed over: %s", name, rc < 0 ? e->text : "not signed by enough keys of this device");
    return 0;
}

/* Take the keys of a newer root, signed by the keys so far. It is kept before it is used. */
static int root_renew(struct vouch *v, struct err *e)
{
    struct trust_keys keys;
    struct notice_root root;
    int rc = notice_get(v, FETCH_ROOT, "root", e);

    if (rc <= 0)
        return rc;
    rc = notice_root_parse((const char *)v->text.payload, v->text.payload_len, &root, e);
    if (rc < 0 || root.version <= v->root.version)
        return rc;
    rc = trust_keys_root(&root, &keys, e);
    if (rc == 0 && !v->look)
        rc = record_save(&v->root_record, &root, e);
    if (rc < 0) {
        trust_keys_free(&keys);
        return rc;
    }
    log_info("root version %u: %u keys, threshold %u", root.version, root.key_cnt, root.threshold);
    trust_keys_free(&v->keys);
    v->root = root;
    v->keys = keys;
    return 0;
}

static int brake_check(struct vouch *v, struct err *e)
{
    struct notice_brake brake;
    int rc = notice_get(v, FETCH_BRAKE, "brake", e);

    if (rc <= 0)
        return rc;
    rc = notice_brake_parse((const char *)v->text.payload, v->text.payload_len, &brake, e);
    if (rc < 0)
        return rc;
    if (!repository_fits(v->conf, brake.repository)) {
        log_warning("brake: passed over: it is for repository %s", brake.repository);
        return 0;
    }
    return err_set(e, ERR_HELD, "the fleet's brake is on: %s", brake.reason);
}

/* --- both ----------------------------------------------------------------------------------------------------- */

static int keys_open(struct vouch *v, struct err *e)
{
    v->root_record = (struct record){.store = board.store,
                                     .dir = v->conf->agent.root_dir,
                                     .name = "root",
                                     .magic = ROOT_MAGIC,
                                     .version = ROOT_VERSION,
                                     .len = sizeof v->root};
    /* a root that was there and can't be read must not bring revoked keys back */
    if (record_load(&v->root_record, &v->root, e) < 0)
        return err_prefix(e, "trust");
    return v->root.version ? trust_keys_root(&v->root, &v->keys, e)
                           : trust_keys_load(&v->conf->trust, &v->keys, e);
}

int vouch_image(const struct conf *conf, struct pump *pump, const struct digest *tag, uint32_t media,
                bool look, struct vouched *out, struct err *e)
{
    static struct vouch v;
    int rc;

    v.look = look;
    v.conf = conf;
    v.pump = pump;
    rc = keys_open(&v, e);
    if (rc == 0)
        rc = root_renew(&v, e);
    if (rc == 0)
        rc = brake_check(&v, e);
    if (rc == 0)
        rc = image_judge(&v, tag, media, out, e);
    trust_keys_free(&v.keys);
    return rc;
}

int vouch_admit(const struct conf *conf, const struct trust_claim *claim, const struct oci_manifest *manifest,
                uint64_t floor, uint64_t *version, struct err *e)
{
    const char *repository = claim->repository[0] ? claim->repository : manifest->repository;

    *version = claim->version ? claim->version : manifest->version;
    if (!repository[0] && !repository_fits(conf, ""))
        return err_set(e, ERR_SIGNATURE,
                       "signed, but for no repository: want %s, as by cosign sign -a repository=%s",
                       repository_wanted(conf), repository_wanted(conf));
    if (!repository_fits(conf, repository))
        return err_set(e, ERR_SIGNATURE, "signed for repository %.80s, and this device takes %.80s",
                       repository, repository_wanted(conf));
    if (floor == STATE_FLOOR_UNKNOWN)
        return err_set(e, ERR_OLDER,
                       "version %" PRIu64
                       ", and which this device has run is not known: its record is damaged; "
                       "`agentctl downgrade` installs what is signed and begins anew",
                       *version);
    if (*version == 0)
        return err_set(e, ERR_OLDER, "signed, but without a version, as by cosign sign -a version=%" PRIu64,
                       floor + 1);
    if (*version < floor)
        return err_set(e, ERR_OLDER,
                       "version %" PRIu64 " is older than %" PRIu64 ", which this device has run", *version,
                       floor);
    return 0;
}
