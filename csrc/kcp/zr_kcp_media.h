/*
 * zr_kcp_media.h - what the sources of the media profile's sending side share.
 *
 *   zr_kcp_media.c    the rules: what goes out, what an acknowledgement settles
 *   zr_kcp_when.c     when: loss, probes, pace, deadlines
 *   zr_kcp_copies.c   how many: the plan, and the credit it is paid from
 *   zr_kcp_line.c     segments in flight in send order
 */
#ifndef ZR_KCP_MEDIA_H
#define ZR_KCP_MEDIA_H

#include "kcp/zr_kcp_priv.h"

#define ZR_KCP_COPY_GAP     5u  /* ms between copies: loss comes in bursts */
#define ZR_KCP_COPY_BACK    10u /* ms of an attempt's later copies that the timer does not wait for */
#define ZR_KCP_PROBE_MIN    50u /* ms */
#define ZR_KCP_PACE_MS      2u
#define ZR_KCP_PACE_PACKETS 16u
#define ZR_KCP_CREDIT_MAX   64     /* segments */
#define ZR_KCP_PACE_KBPS    20000u /* first copies of slower streams are never held back */

/* Of a segment that is there. */
static inline zr_kcp_slot *zr_kcp_snd_slot(const zr_kcp *kcp, uint32_t index)
{
    return zr_kcp_slot_of(kcp->blocks, &kcp->snd, index);
}

static inline uint32_t zr_kcp_snd_sn(const zr_kcp *kcp, uint32_t index)
{
    return kcp->snd_una + (index - kcp->snd_una) % ZR_KCP_WND_MAX;
}

static inline bool zr_kcp_endless(const zr_kcp_slot *slot)
{
    return (slot->media.flags & ZR_KCP_ENDLESS) != 0;
}

/* What is sent later than this arrives after its deadline. */
static inline uint32_t zr_kcp_last_call(const zr_kcp *kcp, const zr_kcp_slot *slot)
{
    return slot->media.give_up - zr_kcp_path_srtt(&kcp->media.path) / 2;
}

static inline int32_t zr_kcp_wire_len(const zr_kcp_slot *slot)
{
    return (int32_t)(ZR_SEG_HEAD + slot->head_len + slot->len);
}

/* May another packet leave in this slice of time? */
static inline bool zr_kcp_has_pace(const zr_kcp *kcp, uint32_t ms)
{
    return kcp->media.paced < kcp->media.slice || ms - kcp->media.pace_from >= ZR_KCP_PACE_MS;
}

/* Does the pace, if there is one, let a first transmission out? */
static inline bool zr_kcp_in_pace(const zr_kcp *kcp, uint32_t ms)
{
    return kcp->media.path.rate_kbps <= ZR_KCP_PACE_KBPS || zr_kcp_has_pace(kcp, ms);
}

/* zr_kcp_line.c */
/* The first number from the cursor on that is fresh, or snd_nxt: where the cursor stands after each call from outside.
 */
uint32_t zr_kcp_fresh_head(const zr_kcp *kcp);
/* Behind the transmission just made: to the line where the segment belongs now. */
void zr_kcp_line_up(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, uint32_t ms);
/* Out of its line, if it is in one. */
void zr_kcp_unlink(zr_kcp *kcp, zr_kcp_slot *slot);
bool zr_kcp_lines_check(const zr_kcp *kcp);

/* zr_kcp_copies.c */
/* How a first transmission is made changes with what is known of the path only, so it is kept until that changes. */
const zr_kcp_start *zr_kcp_start_of(zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms);
/* Many copies take long to send, and may cost an attempt; then the plan for one attempt less is right. */
uint32_t zr_kcp_copies_now(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms);
/* As many copies as the credit pays for, at least the one. */
uint32_t zr_kcp_affordable(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t copies);
/* Takes from the credit; negative: adds to it. */
void zr_kcp_spend(zr_kcp *kcp, int32_t bytes);

/* zr_kcp_when.c */
/* The silence of the first in line means loss from then on. */
uint32_t zr_kcp_lost_at(const zr_kcp *kcp, const zr_kcp_slot *slot);
/* The newest number of a window that is used up is kept beyond its deadline: only a later arrival makes the peer pass
 * over what it misses. */
bool zr_kcp_needed(const zr_kcp *kcp, uint32_t sn);
/* In the dark numbers are spared: when half the window is used, new ones trickle, as probes. */
bool zr_kcp_trickles(const zr_kcp *kcp);
/* When the next first transmission may leave; `ms`: now. */
uint32_t zr_kcp_new_at(const zr_kcp *kcp, uint32_t ms);
int32_t zr_kcp_media_wait(const zr_kcp *kcp, uint32_t ms); /* zr_kcp_rules.wait */

#endif
