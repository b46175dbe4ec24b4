#include <string.h>
#include <strings.h>

#include "oci/image.h"

static const struct {
    enum oci_media media;
    const char *name;
} medias[] = {
    {MEDIA_OCI_INDEX, "application/vnd.oci.image.index.v1+json"},
    {MEDIA_OCI_MANIFEST, "application/vnd.oci.image.manifest.v1+json"},
    {MEDIA_DOCKER_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json"},
    {MEDIA_DOCKER_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"},
};

#define MEDIA_CNT (sizeof medias / sizeof medias[0])

enum oci_media oci_media_parse(const char *text, size_t len)
{
    const char *semicolon = memchr(text, ';', len);

    if (semicolon)
        len = (size_t)(semicolon - text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    for (size_t i = 0; i < MEDIA_CNT; i++)
        if (strlen(medias[i].name) == len && !strncasecmp(medias[i].name, text, len))
            return medias[i].media;
    return MEDIA_UNKNOWN;
}

const char *oci_media_name(enum oci_media m)
{
    for (size_t i = 0; i < MEDIA_CNT; i++)
        if (medias[i].media == m)
            return medias[i].name;
    return "unknown";
}
