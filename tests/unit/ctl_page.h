/* For the tests of what agentctl draws: an answer, the page made of it, and what holds for every page. */
#ifndef SLIPWAY_TESTS_CTL_PAGE_H
#define SLIPWAY_TESTS_CTL_PAGE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ctl/json.h"
#include "ctl/line.h"

#define FILL(array, c) (memset((array), (c), sizeof(array) - 1), (array)[sizeof(array) - 1] = '\0')

static char json[CTL_RESPONSE_MAX];
static char page[16384];

static inline void page_draw(void (*how)(const cJSON *o, FILE *out), const cJSON *o)
{
    FILE *out;

    memset(page, 0, sizeof page);
    out = fmemopen(page, sizeof page - 1, "w");
    how(o, out);
    fclose(out);
}

/* The longest line and the number of lines; nothing but printable ASCII. */
static inline void assert_fits(size_t columns, int lines)
{
    int cnt = 0;

    for (const char *at = page; *at; cnt++) {
        size_t len = strcspn(at, "\n");

        if (len > columns)
            fail_msg("line of %zu columns: %.*s", len, (int)len, at);
        for (size_t i = 0; i < len; i++)
            assert_in_range((unsigned char)at[i], 0x20, 0x7e);
        at += len + 1;
    }
    if (cnt > lines)
        fail_msg("%d lines:\n%s", cnt, page);
}

static inline void assert_says(const char *words)
{
    if (!strstr(page, words))
        fail_msg("does not say \"%s\":\n%s", words, page);
}

#endif
