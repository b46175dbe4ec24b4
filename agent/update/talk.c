#include "update/talk.h"

#include "oci/image.h"
#include "update/stage.h"

int talk_begin(struct pump *p, const struct fetch_request *request, const struct job *job, struct err *e)
{
    int rc = frame_write(STAGE_FD_REQUEST, FRAME_REQUEST, request, sizeof *request, e);

    if (rc == 0)
        rc = frame_write(p->raw_fd, FRAME_JOB, job, sizeof *job, e);
    if (rc == 0)
        pump_begin(p, request->size, job->every > 0);
    return rc;
}

int talk_refused(struct pump *p, const struct digest *want, struct err *e)
{
    struct err finish;
    int rc = pump_finish(p, want, &finish);

    if (rc == ERR_DIGEST || rc == ERR_SIZE)
        *e = finish;
    return e->code;
}

static int job_refused(struct pump *p, const struct frame *head, const struct digest *want, struct err *e)
{
    struct err refusal;
    int rc = entry_pipe_fixed(&p->said.pipe, head, &refusal, sizeof refusal, e);

    if (rc < 0)
        return rc;
    (void)frame_take_err(&refusal, e);
    return talk_refused(p, want, e);
}

int talk_end(struct pump *p, const struct frame *head, const struct digest *want, struct err *e)
{
    struct job_end end;
    int rc;

    if (head->type == FRAME_ERR)
        return job_refused(p, head, want, e);
    if (head->type != FRAME_JOB_END)
        return err_set(e, ERR_PEER, "decode sent frame %u at the end of a job", head->type);
    rc = entry_pipe_fixed(&p->said.pipe, head, &end, sizeof end, e);
    if (rc < 0)
        return rc;
    p->bytes_hashed +=
        end.tar_len; /* of a layer that went on from a checkpoint also what was unpacked before */
    return pump_finish(p, want, e);
}

int talk_document(struct pump *p, enum job_kind kind, const struct fetch_request *request, uint32_t media,
                  void *out, uint32_t len, struct err *e)
{
    bool by_digest = request->kind == FETCH_MANIFEST || request->kind == FETCH_BLOB;
    const struct digest *want = by_digest ? &request->digest : NULL;
    struct job job = {.kind = kind, .codec = CODEC_NONE, .media = media, .size = request->size};
    struct frame head;
    int rc = talk_begin(p, request, &job, e);

    if (rc == 0)
        rc = entry_pipe_head(&p->said.pipe, &head, e);
    if (rc < 0)
        return rc;
    if (head.type == FRAME_ERR)
        return job_refused(p, &head, want, e);
    if (head.type != FRAME_RESULT)
        return err_set(e, ERR_PEER, "decode sent frame %u where a result was expected", head.type);
    rc = entry_pipe_fixed(&p->said.pipe, &head, out, len, e);
    if (rc == 0)
        rc = entry_pipe_head(&p->said.pipe, &head, e);
    if (rc == 0)
        rc = talk_end(p, &head, want, e);
    if (rc == 0 && media != MEDIA_UNKNOWN && p->media != media)
        return err_set(e, ERR_POLICY, "registry calls it %s, want %s",
                       oci_media_name((enum oci_media)p->media), oci_media_name((enum oci_media)media));
    return rc;
}
