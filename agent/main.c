/* Slipway: one binary, several roles. The name it is called by, or its first argument, chooses the role. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/hash.h"
#include "base/log.h"
#include "ctl/agentctl.h"
#include "hal/board.h"
#include "oci/fetch.h"
#include "sup/forward.h"
#include "update/agentd.h"
#include "update/scrub.h"
#include "update/stage.h"

struct arguments {
    const char *conf;
    const char *target; /* the name of an app, "" for the system */
    struct stage_job job;
    struct fetch_setup fetch;
    struct scrub_job scrub;
};

static int usage(void)
{
    fprintf(stderr,
            "usage: agentd [-c FILE]\n"
            "       agentctl VERB ...   (agentctl help)\n"
            "FILE is the configuration, %s by default.\n",
            CONF_DEFAULT);
    return 2;
}

static int arguments_read(int argc, char **argv, struct arguments *out)
{
    int opt;

    *out = (struct arguments){.conf = CONF_DEFAULT,
                              .target = "",
                              .fetch = {.secret = board.secret,
                                        .req_fd = FETCH_FD_REQUEST,
                                        .body_fd = FETCH_FD_BODY,
                                        .meter_fd = FETCH_FD_METER}};
    while ((opt = getopt(argc, argv, "c:w:s:d:m:f:t:o:b:u:n:x:r:F:alp")) != -1) {
        switch (opt) {
        case 'c':
            out->conf = optarg;
            break;
        case 'w':
            out->target = optarg;
            break;
        case 's':
            out->job.slot = out->scrub.slot = strcmp(optarg, "B") == 0 ? SLOT_B : SLOT_A;
            break;
        case 'd':
            if (!digest_parse(optarg, strlen(optarg), &out->job.digest))
                return -1;
            break;
        case 'r':
            if (!digest_parse(optarg, strlen(optarg), &out->job.booted))
                return -1;
            break;
        case 'F':
            if (!digest_parse(optarg, strlen(optarg), &out->job.failed))
                return -1;
            break;
        case 'm':
            out->job.media = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 't':
            out->fetch.time_floor_s = out->job.time_floor_s = strtoll(optarg, NULL, 10);
            break;
        case 'f':
            out->job.floor = strtoull(optarg, NULL, 10);
            break;
        case 'o':
            out->fetch.source = optarg;
            break;
        case 'b':
            out->fetch.bytes = strtoull(optarg, NULL, 10);
            break;
        case 'u':
            out->fetch.time_s = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            out->scrub.disk_len = strtoull(optarg, NULL, 10);
            break;
        case 'x':
            out->scrub.disk_xxh64 = strtoull(optarg, NULL, 16);
            break;
        case 'a':
            out->scrub.active = true;
            break;
        case 'l':
            out->job.look = true;
            break;
        case 'p':
            out->job.asked = true;
            break;
        default:
            return -1;
        }
    }
    return optind == argc ? 0 : -1;
}

/* A program started without stdin, stdout or stderr must not get a pipe or a slot in their place. */
static void standard_fds_fill(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
}

static int role_run(const char *role, int argc, char **argv)
{
    static struct conf conf;
    struct arguments a;
    struct err e = {0};

    if (strcmp(role, "forward") == 0)
        return forward_main(argc, argv);
    if (arguments_read(argc, argv, &a) < 0)
        return usage();
    if (conf_load(a.conf, &conf, &e) < 0 || conf_view(&conf, a.target, &e) < 0) {
        log_error("%s", e.text);
        return 1;
    }
    if (strcmp(role, "fetch") == 0)
        return fetch_main(&conf, &a.fetch);
    if (strcmp(role, "stage") == 0)
        return stage_main(&conf, &a.job);
    if (strcmp(role, "scrub") == 0)
        return scrub_main(&conf, &a.scrub);
    if (strcmp(role, "decode") == 0)
        return decode_main(conf.agent.worker_uid, false);
    if (strcmp(role, "envelope") == 0)
        return decode_main(conf.agent.worker_uid, true);
    log_role("agentd");
    return agentd_main(&conf, a.conf);
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];

    standard_fds_fill();
    if (strcmp(name, "agentctl") == 0)
        return agentctl_main(argc, argv);
    if (strcmp(name, "slipway") == 0 && argc > 1 && argv[1][0] != '-')
        return role_run(argv[1], argc - 1, argv + 1);
    return role_run("agentd", argc, argv);
}
