#include "oci/fetch.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "oci/registry.h"
#include "stream/frame.h"

static struct registry registry;

/* --- privileges ----------------------------------------------------------------------------------------------- */

static int identity_drop(uint32_t uid, struct err *e)
{
    if (geteuid() != 0)
        return 0;
    if (uid == 0)
        return err_set(e, ERR_CONFIG, "agent.worker_uid is 0: the network is not spoken to as root");
    if (setgroups(0, NULL) || setgid(uid) || setuid(uid))
        return err_errno(e, "become user %u", uid);
    if (setuid(0) == 0)
        return err_set(e, ERR_STATE, "root's rights came back");
    return 0;
}

/* Pipes are written as before under RLIMIT_FSIZE 0; a log file on stderr is not, which must not kill us. */
static int privileges_drop(uint32_t uid, struct err *e)
{
    const struct rlimit none = {0, 0};
    int rc = identity_drop(uid, e);

    if (rc)
        return rc;
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return err_errno(e, "ignore signals");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || setrlimit(RLIMIT_FSIZE, &none) ||
        setrlimit(RLIMIT_CORE, &none))
        return err_errno(e, "give up privileges");
    return 0;
}

static int fetch_start(const struct conf *conf, int req_fd, struct err *e)
{
    int rc;

    registry.conf = &conf->registry;
    registry.watch_fd = req_fd;
    rc = auth_load(&conf->registry, &registry.auth, e);
    if (!rc)
        rc = http_open(&conf->registry, &registry.http, e);
    if (!rc)
        rc = privileges_drop(conf->agent.worker_uid, e);
    return rc ? err_prefix(e, "fetch") : 0;
}

/* --- requests ------------------------------------------------------------------------------------------------- */

static int serve_resolve(int body_fd, struct err *e)
{
    struct fetch_resolved out;
    int rc = registry_resolve(&registry, &out, e);

    return rc ? rc : frame_write(body_fd, FRAME_RESOLVED, &out, sizeof out, e);
}

static int serve_body(const struct fetch_request *q, int body_fd, struct err *e)
{
    struct fetch_end out;
    int rc = q->kind == FETCH_BLOB       ? registry_blob(&registry, q, body_fd, &out, e)
             : q->kind == FETCH_MANIFEST ? registry_manifest(&registry, q, body_fd, &out, e)
                                         : registry_named(&registry, q, body_fd, &out, e);

    return rc ? rc : frame_write(body_fd, FRAME_BODY_END, &out, sizeof out, e);
}

static int serve(const struct fetch_request *q, int body_fd, struct err *e)
{
    switch (q->kind) {
    case FETCH_RESOLVE:
        return serve_resolve(body_fd, e);
    case FETCH_MANIFEST:
    case FETCH_BLOB:
    case FETCH_SIGNATURES:
    case FETCH_REFERRERS:
    case FETCH_ROOT:
    case FETCH_BRAKE:
        return serve_body(q, body_fd, e);
    default:
        return err_set(e, ERR_PEER, "request of unknown kind %u", q->kind);
    }
}

static int request_read(int req_fd, struct fetch_request *q, struct err *e)
{
    struct frame head;
    int rc = frame_read_head(req_fd, &head, e);

    if (rc)
        return rc;
    if (head.type != FRAME_REQUEST)
        return err_set(e, ERR_PEER, "want a request, got frame type %u", head.type);
    return frame_read_fixed(req_fd, &head, q, sizeof *q, e);
}

/* A fault at the start is the answer to every request, so that it reaches a person. */
int fetch_main(const struct conf *conf, int req_fd, int body_fd)
{
    struct err start, e;
    struct fetch_request q;
    int started = fetch_start(conf, req_fd, &start);

    while (request_read(req_fd, &q, &e) == 0) {
        int rc = started ? started : serve(&q, body_fd, &e);

        if (rc == ERR_PEER)
            return 1;
        if (rc && frame_write_err(body_fd, started ? &start : &e, &e))
            return 1;
    }
    return 0;
}
