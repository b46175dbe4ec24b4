/* Role decode: no network, no file system, no privilege; every byte that nobody vouched for is parsed here. */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "hal/board.h"
#include "oci/image.h"
#include "stream/chunked.h"
#include "stream/frame.h"
#include "stream/tar.h"
#include "trust/envelope.h"
#include "update/stage.h"

#include <errno.h>
#include <unistd.h>

#define TEXT_MAX ((size_t)CONFIG_OCI_JSON_MAX_KB * 1024)

struct decode {
    struct err start; /* why it can't do any job; the answer to each */
    struct job job;
    uint32_t left; /* of the present FRAME_RAW */
    bool raw_end;  /* FRAME_RAW_END was read */
    uint64_t raw_len;
    struct unpack *unpack;
    struct blocks blocks;
    struct tar *tar;
    struct chunked *chunked;
    union {
        struct oci_index_choice choice;
        struct oci_manifest manifest;
        struct oci_config config;
        struct trust_refs refs;
        struct trust_signed signed_;
    } result;
    char *text;    /* TEXT_MAX */
    bool envelope; /* this is the envelope role */
};

/* The envelope role gets what nobody signed, decode what somebody did (where signatures are required). Neither does
 * the other's jobs, so that a mistake of ours shows. */
static bool job_fits(const struct decode *d)
{
    bool of_envelope = d->job.kind >= JOB_SIGNATURES && d->job.kind <= JOB_BUNDLE;

    return d->job.kind == JOB_INDEX || of_envelope == d->envelope;
}

/* The blob's bytes, up to cap of them; 0 at its end. */
static ssize_t raw_read(void *ctx, void *buf, size_t cap, struct err *e)
{
    struct decode *d = ctx;
    struct frame head;
    ssize_t n;

    while (d->left == 0 && !d->raw_end) {
        int rc = frame_read_head(DECODE_FD_RAW, &head, e);

        if (rc < 0)
            return rc;
        if (head.type != FRAME_RAW && head.type != FRAME_RAW_END)
            return err_set(e, ERR_PEER, "stage sent frame %u in the middle of a blob", head.type);
        d->left = head.len;
        d->raw_end = head.type == FRAME_RAW_END;
    }
    if (d->raw_end)
        return 0;
    n = IO_RETRY(read(DECODE_FD_RAW, buf, cap < d->left ? cap : d->left));
    if (n <= 0)
        return err_set(e, ERR_PEER, "stage ended in the middle of a blob");
    d->left -= (uint32_t)n;
    d->raw_len += (uint64_t)n;
    if (d->raw_len > d->job.size)
        return err_set(e, ERR_SIZE, "blob is longer than its %" PRIu64 " bytes", d->job.size);
    return n;
}

/* stage goes on sending after a refusal; all of it must be read before the next job. Bounded by what stage sends. */
static int raw_drain(struct decode *d, struct err *e)
{
    static uint8_t waste[4096];
    ssize_t n;

    d->job.size = UINT64_MAX;
    do
        n = raw_read(d, waste, sizeof waste, e);
    while (n > 0);
    return (int)n;
}

static ssize_t text_collect(struct decode *d, struct err *e)
{
    size_t len = 0;
    ssize_t n;

    while ((n = raw_read(d, d->text + len, TEXT_MAX - len, e)) > 0) {
        len += (size_t)n;
        if (len == TEXT_MAX)
            return err_set(e, ERR_LIMIT, "document of %d KB or more, this build takes less",
                           CONFIG_OCI_JSON_MAX_KB);
    }
    return n < 0 ? n : (ssize_t)len;
}

static int document_parse(struct decode *d, struct err *e)
{
    ssize_t len = text_collect(d, e);
    size_t result_len = 0;
    int rc = ERR_PEER;

    if (len < 0)
        return (int)len;
    switch (d->job.kind) {
    case JOB_INDEX:
        rc = oci_index_choose(d->text, (size_t)len, (enum oci_media)d->job.media, &board.platform,
                              &d->result.choice, e);
        result_len = sizeof d->result.choice;
        break;
    case JOB_MANIFEST:
        rc = oci_manifest_parse(d->text, (size_t)len, (enum oci_media)d->job.media, &d->result.manifest, e);
        result_len = sizeof d->result.manifest;
        break;
    case JOB_CONFIG:
        rc = oci_config_parse(d->text, (size_t)len, &board.platform, &d->result.config, e);
        result_len = sizeof d->result.config;
        break;
    case JOB_SIGNATURES:
        rc = envelope_refs(d->text, (size_t)len, &d->result.refs, e);
        result_len = sizeof d->result.refs;
        break;
    case JOB_PAYLOAD:
        rc = envelope_payload(d->text, (size_t)len, &d->result.signed_, e);
        result_len = sizeof d->result.signed_;
        break;
    case JOB_BUNDLE:
        rc = envelope_bundle(d->text, (size_t)len, &d->result.signed_, e);
        result_len = sizeof d->result.signed_;
        break;
    default:
        return err_set(e, ERR_PEER, "stage sent a job of kind %u", d->job.kind);
    }
    return rc < 0 ? rc : frame_write(DECODE_FD_ENTRIES, FRAME_RESULT, &d->result, (uint32_t)result_len, e);
}

static int job_do(struct decode *d, struct err *e)
{
    const struct source blob = {raw_read, d};
    struct job_end end = {0};
    struct err cause = {0};
    int rc;

    d->left = 0;
    d->raw_end = false;
    d->raw_len = d->job.kind == JOB_LAYER ? d->job.offset : 0;
    d->job.only[sizeof d->job.only - 1] = '\0';
    if (d->start.code < 0)
        rc = err_set(&cause, d->start.code, "%s", d->start.text);
    else if (!job_fits(d))
        rc = err_set(&cause, ERR_PEER, "stage sent a job of kind %u to the wrong process", d->job.kind);
    else if (d->job.kind == JOB_LAYER)
        rc = tar_stream(d->tar, &d->job, &blob, DECODE_FD_ENTRIES, &end, &cause);
    else if (d->job.kind == JOB_TOC)
        rc = chunked_toc(d->chunked, &d->job, &blob, DECODE_FD_ENTRIES, &cause);
    else if (d->job.kind == JOB_PIECE)
        rc = chunked_piece(d->chunked, &d->job, &blob, DECODE_FD_ENTRIES, &cause);
    else
        rc = document_parse(d, &cause);
    if (rc == 0 && d->job.kind == JOB_LAYER && d->raw_len != d->job.size)
        rc = err_set(&cause, ERR_SIZE, "blob has %" PRIu64 " bytes, want %" PRIu64, d->raw_len, d->job.size);
    if (rc < 0) {
        rc = frame_write_err(DECODE_FD_ENTRIES, &cause, e);
        if (rc == 0 && !d->raw_end)
            rc = raw_drain(d, e);
        return rc;
    }
    return frame_write(DECODE_FD_ENTRIES, FRAME_JOB_END, &end, sizeof end, e);
}

/* Where to begin, when it is not with the first byte. */
static int place_read(struct decode *d, struct err *e)
{
    struct job_checkpoint known;
    struct frame head;
    uint32_t len;
    void *room = tar_place_room(d->tar, &len);
    int rc = frame_read_head(DECODE_FD_RAW, &head, e);

    if (rc == 0 && (head.type != FRAME_CHECKPOINT || head.len != sizeof known + len))
        rc = err_set(e, ERR_PEER, "stage sent frame %u of %u bytes as a checkpoint", head.type, head.len);
    if (rc < 0)
        return rc;
    if (io_read_full(DECODE_FD_RAW, &known, sizeof known) != (ssize_t)sizeof known ||
        io_read_full(DECODE_FD_RAW, room, len) != (ssize_t)len)
        return err_set(e, ERR_PEER, "stage ended in the middle of a checkpoint");
    return 0;
}

static int jobs_serve(struct decode *d, struct err *e)
{
    struct frame head;

    /* the end of the input between two jobs is the end of the role */
    while (frame_read_head(DECODE_FD_RAW, &head, e) == 0) {
        int rc = head.type == FRAME_JOB
                     ? frame_read_fixed(DECODE_FD_RAW, &head, &d->job, sizeof d->job, e)
                     : err_set(e, ERR_PEER, "stage sent frame %u instead of a job", head.type);

        if (rc == 0 && d->job.go_on)
            rc = place_read(d, e);
        if (rc == 0)
            rc = job_do(d, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int decode_start(struct decode *d, uint32_t uid, struct err *e)
{
    if (!(d->unpack = unpack_new()) || !(d->tar = tar_new(d->unpack, &d->blocks)) ||
        !(d->chunked = chunked_new(d->unpack)) || !(d->text = malloc(TEXT_MAX)))
        return err_set(e, ERR_LIMIT, "decode does not fit under its ceiling of %d KB", CONFIG_MEM_DECODE_KB);
    if (!d->envelope && blocks_map(&d->blocks, DECODE_FD_BLOCKS, DECODE_FD_BACK, e) < 0)
        return e->code;
    return sandbox_enter(SANDBOX_DECODE, uid, e);
}

int decode_main(uint32_t uid, bool envelope)
{
    static struct decode decode;
    struct err e = {0};

    log_role(envelope ? "envelope" : "decode");
    signal(SIGPIPE, SIG_IGN);
    hash_start();
    decode.envelope = envelope;
    (void)decode_start(&decode, uid, &decode.start);
    if (jobs_serve(&decode, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    return 0;
}
