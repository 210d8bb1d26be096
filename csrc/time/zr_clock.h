/* zr_clock.h - the only reader of the monotonic clock. Everyone else takes `now`. */
#ifndef ZR_CLOCK_H
#define ZR_CLOCK_H

#include "base/zr_base.h"

zr_ns_t zr_clock_now(void);

#endif
