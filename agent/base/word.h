/* How near two short words are, to guess what was meant by a mistyped one. */
#ifndef SLIPWAY_BASE_WORD_H
#define SLIPWAY_BASE_WORD_H

#define WORD_LEN_MAX 31

/* Number of letters to change, add or leave out; WORD_LEN_MAX when one of them is longer than that. */
unsigned word_distance(const char *a, const char *b);

#endif
