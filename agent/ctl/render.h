/* Status in words, for a person at an 80x24 terminal or a slow serial line: plain ASCII, no line over 79 columns, no
 * colour. What is wrong comes first. Reads the JSON of schema 1 and trusts none of it. */
#ifndef SLIPWAY_CTL_RENDER_H
#define SLIPWAY_CTL_RENDER_H

#include <cJSON.h>
#include <stdbool.h>
#include <stdio.h>

#define RENDER_COLUMNS 79
#define RENDER_LINES 23 /* leaves one for the prompt */

/* At most RENDER_LINES lines. */
void render_status(const cJSON *status, FILE *out);
/* The apps that a status names, one on a line. */
void render_apps(const cJSON *apps, FILE *out);
/* The last failure: each cause under the one it explains, and what was done about it. */
void render_why(const cJSON *why, FILE *out);
/* A plan of schema 1: what the next update would do. At most RENDER_LINES lines. */
void render_plan(const cJSON *plan, FILE *out);
/* One event of the history, on one line and with its cause on up to three more. */
void render_event(const cJSON *event, FILE *out);
/* The last update failed, or the app does not run. A poll that failed is no failed update. */
bool render_is_failing(const cJSON *status);

#endif
