/* What comes over a serial line that is not ours alone. */
#include "ctl/serial.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static char buf[SERIAL_FRAME_MAX(128)];
    struct serial_rx rx;
    struct serial_frame frame;

    serial_rx_init(&rx, SERIAL_QUESTION, buf, sizeof buf);
    for (size_t i = 0; i < len; i++)
        if (serial_rx_byte(&rx, (char)data[i], &frame))
            for (size_t k = 0; k < frame.len; k++)
                if (frame.json[k] < 0x20 || frame.json[k] > 0x7e)
                    __builtin_trap();
    return 0;
}
