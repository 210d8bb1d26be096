/* hostile_rig.h - memory shared with a process that writes into it at random, between two pages that nobody may touch.
 */
#ifndef HOSTILE_RIG_H
#define HOSTILE_RIG_H

#include <stdatomic.h>
#include <sys/mman.h>

#include "base/zr_base.h"
#include "zr_test.h"

#define HOSTILE_PAGE 4096u

typedef struct region {
    unsigned char *mapped;
    size_t mapped_bytes, bytes;
    void *at; /* its last byte is the last before a page that faults */
} region;

/* Zeroed. `bytes`: whole cache lines. */
static inline region region_open(size_t bytes)
{
    region r = { .bytes = bytes };
    size_t inside = zr_round_up(bytes, HOSTILE_PAGE);

    CHECK(bytes > 0 && bytes % ZR_CACHELINE == 0);
    r.mapped_bytes = inside + 2 * HOSTILE_PAGE;
    r.mapped = mmap(NULL, r.mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(r.mapped != MAP_FAILED);
    r.at = r.mapped + HOSTILE_PAGE + inside - bytes;
    CHECK_EQ(mprotect(r.mapped, HOSTILE_PAGE, PROT_NONE), 0);
    CHECK_EQ(mprotect(r.mapped + HOSTILE_PAGE + inside, HOSTILE_PAGE, PROT_NONE), 0);
    return r;
}

static inline void region_close(region *r)
{
    munmap(r->mapped, r->mapped_bytes);
}

static inline void put32(void *at, uint32_t value)
{
    atomic_store_explicit((_Atomic uint32_t *)at, value, memory_order_relaxed);
}

#endif
