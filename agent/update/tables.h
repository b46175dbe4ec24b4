/* The folder of tables of contents in the state directory: the registry's, each named by its digest, and the device's own
 * of layers that were streamed, named by their diff_id (agent/FORMAT.md, "Tables of layers"). Both are kept for as long
 * as the image installed last has the layer.
 */
#ifndef SLIPWAY_UPDATE_TABLES_H
#define SLIPWAY_UPDATE_TABLES_H

#include "base/conf.h"
#include "oci/image.h"

struct table_path {
    char text[CONF_PATH_MAX + 96];
};

struct table_path table_path(const char *stage_dir, const char *name);
struct table_path table_of_toc(const char *stage_dir, const struct digest *toc);
struct table_path table_of_layer(const char *stage_dir, const struct digest *diff_id);
/* Make the folder, if there is none. */
int tables_begin(const char *stage_dir, struct err *e);
/* Where the table of the layer that is streaming is written. */
struct table_path table_of_stream(const char *stage_dir);
/* Forget the tables of layers that the image does not have. */
void tables_prune(const char *stage_dir, const struct oci_manifest *m, const struct oci_config *c);

#endif
