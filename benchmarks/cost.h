/* cost.h - what programs that measure the cost of a call share: memory for engines, CPU time, a median. */
#ifndef COST_H
#define COST_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/zr_base.h"

/* Zeroed, aligned to a cache line, never given back. */
static inline void *memory(size_t bytes)
{
    size_t size = zr_round_up(bytes, ZR_CACHELINE);
    void *mem = aligned_alloc(ZR_CACHELINE, size);
    ZR_CHECK(mem != NULL);
    return memset(mem, 0, size);
}

/* Of this thread, which is the only one. */
static inline double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* For qsort of doubles. */
static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

#endif
