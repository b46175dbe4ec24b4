/* Status as metrics, in Prometheus's text format 0.0.4: for node_exporter's textfile collector, or whatever else runs
 * `agentctl metrics`. Reads the JSON of schema 1; what a board does not know has no line. */
#ifndef SLIPWAY_CTL_METRICS_H
#define SLIPWAY_CTL_METRICS_H

#include <cJSON.h>
#include <stdio.h>

void metrics_render(const cJSON *status, FILE *out);

#endif
