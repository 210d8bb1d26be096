/* chan_mem.h - a channel for a test: its view and its memory in one piece, freed with one free(). */
#ifndef ZR_CHAN_MEM_H
#define ZR_CHAN_MEM_H

#include "base/zr_err.h"
#include "ring/zr_chan.h"
#include "zr_test.h"

#define CHAN_VIEW zr_round_up(sizeof(zr_chan), ZR_CACHELINE)

static inline zr_chan *zr_test_chan(uint32_t slots, uint32_t record_bytes)
{
    char *memory = zr_test_memory(CHAN_VIEW + zr_chan_bytes(slots, record_bytes));

    CHECK_EQ(zr_chan_init((void *)memory, (void *)(memory + CHAN_VIEW), slots, record_bytes), ZR_OK);
    return (void *)memory;
}

#endif
