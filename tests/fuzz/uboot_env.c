/* U-Boot's environment in two copies, whose CRCs the first byte makes right. */
#include <string.h>
#include <zlib.h>

#include "fuzz.h"
#include "hal/linux/uboot_env.h"

#define SIZE 256u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t image[2 * SIZE];
    struct uboot_env_place place = {.offset = {0, SIZE}, .size = SIZE, .lock = "/dev/null"};
    struct uboot_env env;
    struct err e;

    if (len-- == 0)
        return 0;
    memset(image, 0, sizeof image);
    memcpy(image, data + 1, len < sizeof image ? len : sizeof image);
    for (unsigned i = 0; i < 2; i++)
        if (data[0] & 1u << i) {
            uint32_t sum = (uint32_t)crc32(0, image + i * SIZE + 5, SIZE - 5);

            memcpy(image + i * SIZE, &sum, sizeof sum);
        }
    place.device[0] = place.device[1] = fuzz_file(0, image, sizeof image);
    if (uboot_env_read(&place, &env, &e) < 0)
        return 0;
    (void)uboot_env_get(&env, "BOOT_ORDER");
    if (uboot_env_set(&env, "BOOT_ORDER", "B A", &e) == 0)
        (void)uboot_env_set(&env, "BOOT_A_LEFT", "", &e);
    return 0;
}
