/*
 * zr_kcp_heard.h - what a media conversation remembers of arrivals behind a gap: one borrowed block of 4 KiB.
 *
 *   bits    which of [rcv_nxt, rcv_top) are here, by sn % 8192                        zr_kcp_first.c
 *   marks   what rcv_top was at which time, so that a gap's age is known              zr_kcp_first.c
 *   ring    the newest arrivals with their ts, to be acknowledged again               zr_kcp_tell.c
 */
#ifndef ZR_KCP_HEARD_H
#define ZR_KCP_HEARD_H

#include "kcp/zr_kcp_priv.h"

#define ZR_KCP_RING  206u
#define ZR_KCP_MARKS 36u

typedef struct zr_kcp_told {
    uint32_t sn, ts;
    uint16_t at;                 /* ms of arrival */
    uint8_t told : 4, later : 4; /* how often: quickly, and riding along */
    uint8_t sum;                 /* of a few bytes and the length: another payload under the same number is noticed */
} zr_kcp_told;

typedef struct zr_kcp_mark {
    uint32_t top, at;
} zr_kcp_mark;

typedef struct zr_kcp_heard {
    uint64_t bits[ZR_KCP_WND_MAX / 64];
    zr_kcp_told ring[ZR_KCP_RING];
    uint8_t where[256]; /* place in the ring by sn % 256, if that entry is of the same sn */
    zr_kcp_mark marks[ZR_KCP_MARKS];
    uint32_t mark_first, mark_end;
    uint32_t first, end, later; /* of the ring: before `first` nothing is left to tell; where put_later goes on */
} zr_kcp_heard;

_Static_assert(sizeof(zr_kcp_heard) <= ZR_KCP_BLOCK * 64u, "fits a block");

/* NULL when none is borrowed. */
static inline zr_kcp_heard *zr_kcp_heard_of(const zr_kcp *kcp)
{
    return kcp->tell.heard == ZR_KCP_NONE ? NULL : zr_kcp_block_mem(kcp->blocks, kcp->tell.heard);
}

static inline bool zr_kcp_heard_bit(const zr_kcp_heard *heard, uint32_t sn)
{
    return (heard->bits[sn % ZR_KCP_WND_MAX / 64] >> sn % 64 & 1) != 0;
}

static inline void zr_kcp_heard_set(zr_kcp_heard *heard, uint32_t sn)
{
    heard->bits[sn % ZR_KCP_WND_MAX / 64] |= (uint64_t)1 << sn % 64;
}

static inline void zr_kcp_heard_clear(zr_kcp_heard *heard, uint32_t sn)
{
    heard->bits[sn % ZR_KCP_WND_MAX / 64] &= ~((uint64_t)1 << sn % 64);
}

/* zr_kcp_tell.c. Makes sure there is a block; false when none is left. */
bool zr_kcp_heard_borrow(zr_kcp *kcp);
/* Gives it back when nothing is missing and nothing is left to tell. */
void zr_kcp_heard_return(zr_kcp *kcp);
/* Remembers that [from, to) was passed over. */
void zr_kcp_note_gap(zr_kcp *kcp, uint32_t from, uint32_t to);

#endif
