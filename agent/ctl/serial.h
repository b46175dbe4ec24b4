/* Control frames on a serial line that others use too: a boot loader's banner, kernel messages, a login prompt.
 *
 *     ~SW1? 0000002a 0016 a093dbbc {"v":1,"cmd":"status"}\n        a question; an answer has '!' for '?'
 *           seq      len  crc32    len bytes of printable ASCII
 *
 * The CRC is zlib's, over the kind, the seq and the JSON. Whatever is no whole frame is passed over. The kinds differ
 * so that an echo of one's own frame is not taken for the other side's; answers repeat the seq of their question. */
#ifndef SLIPWAY_CTL_SERIAL_H
#define SLIPWAY_CTL_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SERIAL_HEAD_LEN 29                                            /* up to the JSON */
#define SERIAL_FRAME_MAX(json_len) (SERIAL_HEAD_LEN + (json_len) + 2) /* with CR and LF */

enum serial_kind { SERIAL_QUESTION = '?', SERIAL_ANSWER = '!' };

/* What has come in of one line, from its first "~SW1" on. The buffer is its owner's: SERIAL_FRAME_MAX(the longest
 * JSON that is taken). */
struct serial_rx {
    enum serial_kind kind; /* the one that is taken */
    char *buf;
    size_t cap;
    size_t len;
    uint32_t damaged; /* lines with "~SW1" that held no whole frame */
};

struct serial_frame {
    uint32_t seq;
    const char *json; /* in rx->buf, valid until the next byte; not ended by a NUL */
    size_t len;
};

void serial_rx_init(struct serial_rx *rx, enum serial_kind kind, char *buf, size_t cap);
/* Take one byte; true when it completed a frame. */
bool serial_rx_byte(struct serial_rx *rx, char byte, struct serial_frame *out);

/* Write a frame with its line feed into `out`. Returns its length, or -1 when it does not fit, or the JSON is longer
 * than 65535 bytes or not printable ASCII. `json` may lie SERIAL_HEAD_LEN behind `out`. */
int serial_frame_write(enum serial_kind kind, uint32_t seq, const char *json, size_t len, char *out,
                       size_t cap);

#endif
