/*
 * zr_kcp_slot.h - where the segments of a window lie: slots of a cache line in borrowed blocks of 64.
 *
 * A segment lives in slot `sn % 8192` of its direction's table: 128 indexes of blocks of 64 slots. Which slots are
 * taken is one 64-bit word per block (zr_kcp_block_info), so that a fresh block needs no clearing and a scan skips the
 * holes of acknowledged segments. 8192 divides 2^32: nothing special happens at the wrap.
 */
#ifndef ZR_KCP_SLOT_H
#define ZR_KCP_SLOT_H

#include "kcp/zr_kcp.h"

#define ZR_KCP_TABLE (ZR_KCP_WND_MAX / ZR_KCP_BLOCK)
#define ZR_KCP_NONE  0xFFFFu /* no block */

typedef struct zr_kcp_slot {
    zr_pkt *pkt; /* held; NULL when the segment has no body */
    uint16_t off, len;
    uint8_t frg, head_len;
    uint8_t head[ZR_KCP_HEAD_MAX];
    bool piece;  /* not the first segment of its message */
    uint32_t ts; /* ms: last sent */
    union {
        struct {
            uint32_t resend_at, rto; /* ms: to be sent again, its own time-out */
            uint32_t fastack, xmit;
        } stock;
        struct {
            uint32_t due;            /* ms: copying: of the next copy; waiting: what its silence is counted from */
            uint32_t first, give_up; /* ms: first sent; deadline, unless `endless` */
            uint16_t second;         /* ms from `first` to the second attempt; 0: there was none */
            uint16_t next, prev;     /* in kcp->media.waiting or .copying, by sn % 8192 */
            uint8_t first_copies;    /* of the first attempt */
            uint8_t left, wanted;    /* copies of this attempt still to go; copies to go after it, by the plan */
            uint8_t attempts, flags;
            uint8_t spread; /* ms from the first to the latest copy of this attempt */
        } media;
        struct {
            uint16_t next; /* first arrival: the ready list */
            bool held;     /* a piece that waits for its other half */
        } rcv;
    };
} zr_kcp_slot;

/* slot->media.flags: no deadline; in `copying`, not in `waiting`; in one of the two, not fresh */
enum { ZR_KCP_ENDLESS = 1, ZR_KCP_COPYING = 2, ZR_KCP_LISTED = 4 };

_Static_assert(sizeof(zr_kcp_slot) <= 64, "a slot is a cache line");

#define ZR_KCP_BLOCK_BYTES (ZR_KCP_BLOCK * 64u)

typedef struct zr_kcp_block_info {
    uint64_t used; /* bit i: slot i is taken */
    uint32_t next; /* free list */
    uint32_t pad;
} zr_kcp_block_info;

typedef struct zr_kcp_table {
    uint16_t block[ZR_KCP_TABLE]; /* ZR_KCP_NONE or an index into the pool of blocks */
} zr_kcp_table;

uint32_t zr_kcp_block_take(zr_kcp_blocks *blocks); /* ZR_KCP_NONE and a count when exhausted */
void zr_kcp_block_give(zr_kcp_blocks *blocks, uint32_t block);
void zr_kcp_table_init(zr_kcp_table *table);

static inline void *zr_kcp_block_mem(const zr_kcp_blocks *blocks, uint32_t block)
{
    return blocks->slots + (size_t)block * ZR_KCP_BLOCK_BYTES;
}

static inline zr_kcp_block_info *zr_kcp_block_infos(const zr_kcp_blocks *blocks)
{
    return blocks->infos;
}

static inline uint32_t zr_kcp_block_of(const zr_kcp_table *table, uint32_t sn)
{
    return table->block[sn / ZR_KCP_BLOCK % ZR_KCP_TABLE];
}

/* The place of `sn`'s slot in a block that is there, taken or not. */
static inline zr_kcp_slot *zr_kcp_slot_in(const zr_kcp_blocks *blocks, uint32_t block, uint32_t sn)
{
    return (zr_kcp_slot *)(void *)(blocks->slots + ((size_t)block * ZR_KCP_BLOCK + sn % ZR_KCP_BLOCK) * 64);
}

/* The slot of `sn`, or NULL when it is empty. */
static inline zr_kcp_slot *zr_kcp_slot_at(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn)
{
    uint32_t block = zr_kcp_block_of(table, sn);
    if (block == ZR_KCP_NONE || (zr_kcp_block_infos(blocks)[block].used >> sn % ZR_KCP_BLOCK & 1) == 0)
        return NULL;
    return zr_kcp_slot_in(blocks, block, sn);
}

/* The slot of `sn`, which is known to be taken. */
static inline zr_kcp_slot *zr_kcp_slot_of(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn)
{
    return zr_kcp_slot_in(blocks, zr_kcp_block_of(table, sn), sn);
}

/* An empty slot for `sn`, its content undefined; NULL when no block is left. */
static inline zr_kcp_slot *zr_kcp_slot_take(zr_kcp_blocks *blocks, zr_kcp_table *table, uint32_t sn)
{
    uint16_t *block = &table->block[sn / ZR_KCP_BLOCK % ZR_KCP_TABLE];

    if (*block == ZR_KCP_NONE) {
        *block = (uint16_t)zr_kcp_block_take(blocks);
        if (*block == ZR_KCP_NONE)
            return NULL;
    }
    zr_kcp_block_infos(blocks)[*block].used |= (uint64_t)1 << sn % ZR_KCP_BLOCK;
    return zr_kcp_slot_in(blocks, *block, sn);
}

/* Empties taken slots of the block in which `sn` lies, a bit each; their packets are the caller's. */
static inline void zr_kcp_slots_give(zr_kcp_blocks *blocks, zr_kcp_table *table, uint32_t sn, uint64_t slots)
{
    uint16_t *block = &table->block[sn / ZR_KCP_BLOCK % ZR_KCP_TABLE];
    uint64_t *used = &zr_kcp_block_infos(blocks)[*block].used;

    *used &= ~slots;
    if (*used == 0) {
        zr_kcp_block_give(blocks, *block);
        *block = ZR_KCP_NONE;
    }
}

static inline void zr_kcp_slot_give(zr_kcp_blocks *blocks, zr_kcp_table *table, uint32_t sn)
{
    zr_kcp_slots_give(blocks, table, sn, (uint64_t)1 << sn % ZR_KCP_BLOCK);
}

/* How many slots are taken: of [sn, end); wherever they lie (UINT32_MAX when a block is empty or out of range). */
uint32_t zr_kcp_slots_taken(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn, uint32_t end);
uint32_t zr_kcp_slots_anywhere(const zr_kcp_blocks *blocks, const zr_kcp_table *table);
/* The first taken sn in [sn, end), or `end`. */
uint32_t zr_kcp_slot_next(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn, uint32_t end);

#endif
