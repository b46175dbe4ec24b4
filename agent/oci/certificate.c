#include "oci/certificate.h"

#include <time.h>

static int64_t seconds_of(const mbedtls_x509_time *t)
{
    struct tm tm = {.tm_year = t->year - 1900,
                    .tm_mon = t->mon - 1,
                    .tm_mday = t->day,
                    .tm_hour = t->hour,
                    .tm_min = t->min,
                    .tm_sec = t->sec};

    return timegm(&tm);
}

int64_t certificate_now(const struct certificate_time *t)
{
    int64_t clock = time(NULL);

    return clock > t->floor_s ? clock : t->floor_s;
}

int certificate_check(void *ctx, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
    struct certificate_time *t = ctx;
    int64_t now = certificate_now(t);
    bool clock_is_wrong = time(NULL) < t->floor_s;
    int64_t until = seconds_of(&crt->valid_to);

    (void)depth;
    *flags &= ~(uint32_t)(MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE);
    if (!clock_is_wrong && seconds_of(&crt->valid_from) > now)
        *flags |= MBEDTLS_X509_BADCERT_FUTURE;
    if (until < now && !t->expired_is_ok)
        *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
    else if (until < now && (t->expired_s == 0 || until < t->expired_s))
        t->expired_s = until;
    t->bad |= *flags;
    return 0;
}

void certificate_fault(const struct certificate_time *t, char *out, size_t cap)
{
    int len = mbedtls_x509_crt_verify_info(out, cap, "", t->bad);

    for (int i = 0; i < len; i++)
        if (out[i] == '\n')
            out[i] = i + 1 < len ? ';' : '\0';
}
