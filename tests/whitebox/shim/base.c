#include <stdlib.h>
#include <string.h>

#include "base/zr_addr.h"
#include "base/zr_base.h"

static void *wb_memory(size_t bytes)
{
    size_t whole = zr_round_up(bytes > 0 ? bytes : 1, ZR_CACHELINE);
    void *memory = aligned_alloc(ZR_CACHELINE, whole);

    ZR_CHECK(memory != NULL);
    return memset(memory, 0, whole);
}

static void wb_free(void *memory)
{
    free(memory);
}

static bool wb_addr_eq(const zr_addr *a, const zr_addr *b)
{
    return zr_addr_eq(a, b);
}
