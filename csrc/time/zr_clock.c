#include "time/zr_clock.h"

#include <time.h>

zr_ns_t zr_clock_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ZR_SEC(ts.tv_sec) + ts.tv_nsec;
}
