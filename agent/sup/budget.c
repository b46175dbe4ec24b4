#include "sup/budget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"

#define APP_LEAST_KB 1024
/* All roles, as during an update; envelope, which reads 64 KB at most, is done before decode has a layer. */
#define AGENT_KB                                                                                             \
    (CONFIG_MEM_AGENTD_KB + CONFIG_MEM_FETCH_KB + CONFIG_MEM_STAGE_KB + CONFIG_MEM_DECODE_KB +               \
     CONFIG_MEM_BLOCKS_KB)

int budget_fit(uint32_t wanted_kb, uint32_t beside_kb, uint32_t others_kb, uint64_t total_kb,
               uint32_t *out_kb, struct err *e)
{
    uint64_t app_kb = wanted_kb ? wanted_kb : APP_LEAST_KB;
    uint32_t agent_kb = AGENT_KB + beside_kb;
    uint64_t sum_kb = app_kb + others_kb + agent_kb + CONFIG_APP_RESERVE_KB;
    char others[40] = "";

    if (others_kb)
        snprintf(others, sizeof others, "other apps %u KB + ", others_kb);
    if (sum_kb > total_kb)
        return err_set(e, ERR_LIMIT,
                       "memory: app %llu KB + %sagent %u KB + reserve %u KB = %llu KB, the board has %llu KB",
                       (unsigned long long)app_kb, others, agent_kb, CONFIG_APP_RESERVE_KB,
                       (unsigned long long)sum_kb, (unsigned long long)total_kb);
    total_kb -= sum_kb - app_kb;
    *out_kb = wanted_kb ? wanted_kb : total_kb < UINT32_MAX ? (uint32_t)total_kb : UINT32_MAX;
    return 0;
}

int budget_total(uint64_t *out_kb, struct err *e)
{
    char text[4096];
    const char *at;

    if (io_read_file("/proc/meminfo", text, sizeof text) < 0)
        return err_errno(e, "/proc/meminfo");
    at = strstr(text, "MemTotal:");
    *out_kb = at ? strtoull(at + strlen("MemTotal:"), NULL, 10) : 0;
    return *out_kb ? 0 : err_set(e, ERR_FORMAT, "/proc/meminfo: no MemTotal");
}
