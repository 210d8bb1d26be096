#include "time/zr_clock.h"

#include <time.h>

static zr_ns_t look(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ZR_SEC(ts.tv_sec) + ts.tv_nsec;
}

zr_ns_t zr_clock_now(void)
{
    return look(CLOCK_MONOTONIC);
}

zr_ns_t zr_clock_wall_offset(void)
{
    zr_ns_t before = look(CLOCK_MONOTONIC), wall = look(CLOCK_REALTIME), after = look(CLOCK_MONOTONIC);
    return wall - (before + (after - before) / 2);
}
