/* zr_clock.h - the only reader of the monotonic clock. Everyone else takes `now`. */
#ifndef ZR_CLOCK_H
#define ZR_CLOCK_H

#include "base/zr_base.h"

zr_ns_t zr_clock_now(void);
/* Wall clock minus monotonic, for the kernel's stamps. It jumps when the wall clock is set: ask again now and then. */
zr_ns_t zr_clock_wall_offset(void);

#endif
