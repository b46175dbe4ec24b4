/* JSON of a registry: index, manifest, config. */
#include "oci/image.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct platform board = {"linux", "arm", "v7"};
    static union {
        struct oci_index_choice choice;
        struct oci_manifest manifest;
        struct oci_config config;
    } out;
    const char *text = (const char *)data + 1;
    struct err e;

    if (len == 0)
        return 0;
    if (data[0] % 3 == 0)
        (void)oci_index_choose(text, len - 1, MEDIA_UNKNOWN, &board, &out.choice, &e);
    else if (data[0] % 3 == 1)
        (void)oci_manifest_parse(text, len - 1, MEDIA_UNKNOWN, &out.manifest, &e);
    else
        (void)oci_config_parse(text, len - 1, &board, &out.config, &e);
    return 0;
}
