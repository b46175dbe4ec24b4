#include "oci/fetch.h"

#include <signal.h>

#include "base/log.h"
#include "base/reach.h"
#include "base/sandbox.h"
#include "base/shared.h"
#include "oci/layout.h"
#include "oci/registry.h"
#include "stream/frame.h"

static struct registry registry;
static struct layout layout;
static bool offline; /* the layout is asked, not the registry */
static uint8_t sessions[FETCH_SESSIONS_MAX];

/* What it takes to look up names, and a source of random numbers. */
static int files_let(struct err *e)
{
    static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"};
    int rc = reach_begin(e);

    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof files[0]; i++)
        rc = reach_let(files[i], REACH_READ, e);
    return rc == 0 ? reach_let("/dev/random", REACH_DEVICE, e) : rc;
}

static int offline_start(const struct conf *conf, const char *source, struct err *e)
{
    int rc = layout_open(&layout, &conf->registry, source, e);

    offline = true;
    if (rc == 0)
        sandbox_allow(layout.dir_fd);
    return rc < 0 ? rc : sandbox_enter(SANDBOX_FETCH, conf->agent.worker_uid, e);
}

static int fetch_start(const struct conf *conf, const struct fetch_setup *setup, struct err *e)
{
    const struct traffic_bounds bounds = {conf->update.rate_kib_s, setup->bytes, setup->time_s};
    uint32_t *meter = shared_map(setup->meter_fd, FETCH_METER_LEN, true, e);
    int rc = meter ? 0 : e->code;

    registry.conf = &conf->registry;
    registry.watch_fd = setup->req_fd;
    registry.time.floor_s = setup->time_floor_s;
    registry.time.expired_is_ok = conf->trust.required && conf->trust.expired_is_ok;
    if (!rc)
        rc = auth_load(&conf->registry, setup->secret, &registry.auth, e);
    if (!rc)
        rc = http_open(&conf->registry, setup->secret, &registry.time, &registry.http, e);
    if (!rc)
        http_bind(registry.http, &bounds, meter);
    if (!rc)
        rc = sandbox_enter(SANDBOX_FETCH, conf->agent.worker_uid, e);
    return rc ? err_prefix(e, "fetch") : 0;
}

/* --- requests ------------------------------------------------------------------------------------------------- */

static int serve_resolve(int body_fd, struct err *e)
{
    struct fetch_resolved out;
    int rc = offline ? layout_resolve(&layout, &out, e) : registry_resolve(&registry, &out, e);
    size_t len = 0;

    /* a session goes on without a look at the certificate; one that raises an alarm is to be looked at each time */
    if (rc == 0 && out.expired_s == 0 && !offline)
        len = http_sessions_save(registry.http, sessions, sizeof sessions);
    if (len)
        rc = frame_write(body_fd, FRAME_SESSIONS, sessions, (uint32_t)len, e);
    return rc ? rc : frame_write(body_fd, FRAME_RESOLVED, &out, sizeof out, e);
}

static int serve_body(const struct fetch_request *q, int body_fd, struct err *e)
{
    struct fetch_end out;
    bool is_blob = q->kind == FETCH_BLOB || q->kind == FETCH_PART;
    int rc = offline                     ? layout_body(&layout, q, body_fd, &out, e)
             : is_blob                   ? registry_blob(&registry, q, body_fd, &out, e)
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
    case FETCH_PART:
        return serve_body(q, body_fd, e);
    default:
        return err_set(e, ERR_PEER, "request of unknown kind %u", q->kind);
    }
}

static int request_read(int req_fd, struct fetch_request *q, struct err *e)
{
    struct frame head;
    int rc = frame_read_head(req_fd, &head, e);

    if (rc == 0 && head.type == FRAME_SESSIONS) {
        if (head.len > sizeof sessions)
            return err_set(e, ERR_PEER, "sessions of %u bytes", head.len);
        rc = frame_read_fixed(req_fd, &head, sessions, head.len, e);
        if (rc == 0 && registry.http)
            http_sessions_load(registry.http, sessions, head.len);
        if (rc == 0)
            rc = frame_read_head(req_fd, &head, e);
    }
    if (rc)
        return rc;
    if (head.type != FRAME_REQUEST)
        return err_set(e, ERR_PEER, "want a request, got frame type %u", head.type);
    return frame_read_fixed(req_fd, &head, q, sizeof *q, e);
}

/* A fault at the start is the answer to every request, so that it reaches a person. */
int fetch_main(const struct conf *conf, const struct fetch_setup *setup)
{
    const int req_fd = setup->req_fd, body_fd = setup->body_fd;
    struct err start, e;
    struct fetch_request q;
    int started;

    log_role("fetch");
    signal(SIGPIPE, SIG_IGN);
    started = files_let(&start);
    if (started == 0)
        started =
            setup->source ? offline_start(conf, setup->source, &start) : fetch_start(conf, setup, &start);
    while (request_read(req_fd, &q, &e) == 0) {
        int rc = started ? started : serve(&q, body_fd, &e);

        if (rc == ERR_PEER)
            return 1;
        if (rc && frame_write_err(body_fd, started ? &start : &e, &e))
            return 1;
    }
    return 0;
}
