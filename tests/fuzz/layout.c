/* A tar of an OCI image layout, that somebody brought on a stick. */
#include "oci/layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const uint32_t kinds[] = {FETCH_MANIFEST, FETCH_SIGNATURES, FETCH_REFERRERS,
                                     FETCH_ROOT,     FETCH_BRAKE,      FETCH_BLOB};
    static const struct conf_registry conf = {.tag = "stable"};
    struct layout l = {.archive_fd = -1};
    struct fetch_resolved found;
    struct fetch_end end;
    char source[256];
    struct err e;
    int out = open("/dev/null", O_WRONLY);

    snprintf(source, sizeof source, LAYOUT_ARCHIVE "%s", fuzz_file(0, data, len));
    if (layout_open(&l, &conf, source, &e) == 0 && layout_resolve(&l, &found, &e) == 0)
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
            struct fetch_request q = {.kind = kinds[i], .digest = found.digest, .size = 4096};

            (void)layout_body(&l, &q, out, &end, &e);
        }
    free(l.text);
    if (l.archive_fd >= 0)
        close(l.archive_fd);
    close(out);
    return 0;
}
