#include "ctl/serial.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

static const char magic[] = "~SW1";
#define MAGIC_LEN (sizeof magic - 1)

static uint32_t frame_crc(enum serial_kind kind, uint32_t seq, const char *json, size_t len)
{
    const unsigned char head[5] = {
        (unsigned char)kind,       (unsigned char)(seq >> 24), (unsigned char)(seq >> 16),
        (unsigned char)(seq >> 8), (unsigned char)seq,
    };
    uLong crc = crc32(0, head, sizeof head);

    return (uint32_t)crc32(crc, (const unsigned char *)json, (uInt)len);
}

static bool is_printable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] < 0x20 || s[i] > 0x7e)
            return false;
    return true;
}

/* `digits` lower-case hex digits and the space behind them. */
static bool hex_take(const char **at, int digits, uint32_t *out)
{
    uint32_t value = 0;

    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            value = value << 4 | (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    if ((*at)[digits] != ' ')
        return false;
    *at += digits + 1;
    *out = value;
    return true;
}

/* A frame that begins at `s` and ends with the line. */
static bool frame_parse(enum serial_kind kind, const char *s, size_t len, struct serial_frame *out)
{
    const char *at = s + MAGIC_LEN + 2;
    uint32_t json_len, crc;

    if (len < SERIAL_HEAD_LEN || s[MAGIC_LEN] != (char)kind || s[MAGIC_LEN + 1] != ' ')
        return false;
    if (!hex_take(&at, 8, &out->seq) || !hex_take(&at, 4, &json_len) || !hex_take(&at, 8, &crc))
        return false;
    if (json_len > len - SERIAL_HEAD_LEN)
        return false;
    if (!is_printable(at, json_len) || frame_crc(kind, out->seq, at, json_len) != crc)
        return false;
    out->json = at;
    out->len = json_len;
    return true;
}

/* The next "~SW1" of the line behind its first byte, or NULL. A frame that was cut may have another one behind it. */
static char *magic_next(const struct serial_rx *rx, const char *after)
{
    const char *from = after + 1;

    return memmem(from, rx->len - (size_t)(from - rx->buf), magic, MAGIC_LEN);
}

static bool line_parse(struct serial_rx *rx, struct serial_frame *out)
{
    for (const char *at = rx->buf; at; at = magic_next(rx, at))
        if (frame_parse(rx->kind, at, rx->len - (size_t)(at - rx->buf), out))
            return true;
    /* one's own kind coming back is an echo, no damage */
    if (rx->len > MAGIC_LEN && (rx->buf[MAGIC_LEN] == SERIAL_QUESTION || rx->buf[MAGIC_LEN] == SERIAL_ANSWER))
        rx->damaged += rx->buf[MAGIC_LEN] == (char)rx->kind;
    else
        rx->damaged++;
    return false;
}

/* A line that is too long may still hold the start of a frame further on. */
static void room_make(struct serial_rx *rx)
{
    char *at = magic_next(rx, rx->buf);

    rx->damaged++;
    rx->len = at ? rx->len - (size_t)(at - rx->buf) : 0;
    memmove(rx->buf, at ? at : rx->buf, rx->len);
}

void serial_rx_init(struct serial_rx *rx, enum serial_kind kind, char *buf, size_t cap)
{
    *rx = (struct serial_rx){.kind = kind, .buf = buf, .cap = cap};
}

bool serial_rx_byte(struct serial_rx *rx, char byte, struct serial_frame *out)
{
    bool found;

    if (byte == '\n' || byte == '\r') {
        found = rx->len >= MAGIC_LEN && line_parse(rx, out);
        rx->len = 0;
        return found;
    }
    if (rx->len < MAGIC_LEN && byte != magic[rx->len]) {
        rx->len = 0;
        if (byte != magic[0])
            return false;
    }
    if (rx->len == rx->cap)
        room_make(rx);
    rx->buf[rx->len++] = byte;
    return false;
}

int serial_frame_write(enum serial_kind kind, uint32_t seq, const char *json, size_t len, char *out,
                       size_t cap)
{
    char head[SERIAL_HEAD_LEN + 1];

    if (len > 0xffff || SERIAL_HEAD_LEN + len + 1 > cap || !is_printable(json, len))
        return -1;
    snprintf(head, sizeof head, "%s%c %08x %04x %08x ", magic, (int)kind, (unsigned)seq, (unsigned)len,
             (unsigned)frame_crc(kind, seq, json, len));
    memmove(out + SERIAL_HEAD_LEN, json, len);
    memcpy(out, head, SERIAL_HEAD_LEN);
    out[SERIAL_HEAD_LEN + len] = '\n';
    return (int)(SERIAL_HEAD_LEN + len + 1);
}
