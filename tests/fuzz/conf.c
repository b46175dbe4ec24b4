/* agent.conf. */
#include "base/conf.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct conf conf;
    struct err e;

    (void)conf_load(fuzz_file(0, data, len), &conf, &e);
    return 0;
}
