/*
 * zr_rate.h - a token bucket kept as one time: when it will be full again (GCRA). Zeroed memory is a full bucket.
 */
#ifndef ZR_RATE_H
#define ZR_RATE_H

#include "base/zr_base.h"

/* Takes one token; false when none is left. One comes back every `every` ns, at most `burst` lie there. */
static inline bool zr_rate_take(zr_ns_t *full_at, zr_ns_t now, zr_ns_t every, int burst)
{
    zr_ns_t from = ZR_MAX(*full_at, now);

    if (from - now > (burst - 1) * every)
        return false;
    *full_at = from + every;
    return true;
}

#endif
