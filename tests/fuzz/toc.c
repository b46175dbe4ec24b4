/* A slot's table of contents, damaged on flash. */
#include "slot/toc.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct toc toc;
    struct toc_item item;
    uint64_t pos = 0;
    struct err e;

    if (toc_open(&toc, fuzz_file(0, data, len), &e) < 0)
        return 0;
    while (toc_next(&toc, &pos, &item, &e) == 1)
        (void)toc_node(&item);
    (void)toc_read(&toc, len ? data[len / 2] : 0, &item, &e);
    toc_close(&toc);
    return 0;
}
