#include "update/tables.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define TABLES "tables"
#define OWN "layer-"
#define STREAM "stream"

struct table_path table_path(const char *stage_dir, const char *name)
{
    struct table_path p;

    snprintf(p.text, sizeof p.text, "%s/" TABLES "/%s", stage_dir, name);
    return p;
}

struct name {
    char text[sizeof OWN + DIGEST_TEXT_LEN];
};

static struct name name_of(const char *kind, const struct digest *d)
{
    char text[DIGEST_TEXT_LEN];
    struct name n;

    digest_format(d, text);
    snprintf(n.text, sizeof n.text, "%s%s", kind, text + strlen("sha256:"));
    return n;
}

struct table_path table_of_toc(const char *stage_dir, const struct digest *toc)
{
    return table_path(stage_dir, name_of("", toc).text);
}

struct table_path table_of_layer(const char *stage_dir, const struct digest *diff_id)
{
    return table_path(stage_dir, name_of(OWN, diff_id).text);
}

struct table_path table_of_stream(const char *stage_dir)
{
    return table_path(stage_dir, STREAM);
}

int tables_begin(const char *stage_dir, struct err *e)
{
    struct table_path dir = table_path(stage_dir, "");

    return mkdir(dir.text, 0700) < 0 && errno != EEXIST ? err_errno(e, "%s", dir.text) : 0;
}

static bool is_of_image(const char *name, const struct oci_manifest *m, const struct oci_config *c)
{
    for (uint32_t i = 0; i < m->layer_cnt; i++)
        if ((m->layers[i].toc.len > 0 && strcmp(name_of("", &m->layers[i].toc.digest).text, name) == 0) ||
            strcmp(name_of(OWN, &c->diff_ids[i]).text, name) == 0)
            return true;
    return strcmp(name, STREAM) == 0; /* a cut one, or of the next try no use; one file in any case */
}

void tables_prune(const char *stage_dir, const struct oci_manifest *m, const struct oci_config *c)
{
    struct table_path dir = table_path(stage_dir, "");
    DIR *d = opendir(dir.text);
    struct dirent *entry;

    while (d && (entry = readdir(d)))
        if (entry->d_name[0] != '.' && !is_of_image(entry->d_name, m, c) &&
            unlinkat(dirfd(d), entry->d_name, 0) < 0)
            log_warning("%s%s: %s", dir.text, entry->d_name, strerror(errno));
    if (d)
        closedir(d);
}
