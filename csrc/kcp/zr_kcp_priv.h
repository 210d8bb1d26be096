/*
 * zr_kcp_priv.h - struct zr_kcp and what its sources share. Owners include it to embed a conversation, never to look
 * in.
 *
 *   send      snd_una            snd_nxt               snd_end
 *   ------------|---- in flight ----|---- queued --------|---->   a queued segment already lies in the slot of the sn
 * it acked holes between                               will get, so admitting it to the window moves no byte
 *
 *   receive   rcv_head           rcv_nxt          rcv_nxt + rcv_wnd
 *   ------------|---- for recv -----|- held behind gaps -|---->
 *
 * A segment lives in slot `sn % 8192` of its direction's table: 128 indexes of blocks of 64 slots. Which slots are
 * taken is one 64-bit word per block (zr_kcp_block_info), so that a fresh block needs no clearing and a scan skips the
 * holes of acknowledged segments. 8192 divides 2^32: nothing special happens at the wrap.
 *
 * Sources: zr_kcp_snd.c queue -> segments; zr_kcp_rcv.c segments -> messages; zr_kcp_ack.c una, ACKs both ways;
 * zr_kcp_loss.c when to send again (the only place that knows); zr_kcp_rto.c RTT; zr_kcp_cc.c congestion window.
 */
#ifndef ZR_KCP_PRIV_H
#define ZR_KCP_PRIV_H

#include "coll/zr_seq.h"
#include "kcp/zr_kcp.h"
#include "kcp/zr_kcp_cc.h"

#define ZR_KCP_TABLE      (ZR_KCP_WND_MAX / ZR_KCP_BLOCK)
#define ZR_KCP_NONE       0xFFFFu /* no block */
#define ZR_KCP_SEGS_MAX   127u    /* of a message we send */
#define ZR_KCP_RTO_MAX    60000u
#define ZR_KCP_FAST_LIMIT 5u /* fast resends stop after this many transmissions */
#define ZR_KCP_DEAD_LINK  20u
#define ZR_KCP_RTT_SANE   60000 /* ms */
#define ZR_KCP_ANSWER_MS  10u   /* hardened: at most one WINS asked for, one ACK of what una covers, in this time */

enum { ZR_KCP_ASK = 1, ZR_KCP_TELL = 2 }; /* kcp->probe: a WASK, a WINS is owed */

typedef struct zr_kcp_slot {
    zr_pkt *pkt; /* held; NULL when the segment has no body */
    uint16_t off, len;
    uint8_t frg, head_len;
    uint8_t head[ZR_KCP_HEAD_MAX];
    uint32_t ts, resend_at, rto; /* ms: last sent, to be sent again, its own time-out */
    uint32_t fastack, xmit;
} zr_kcp_slot;

_Static_assert(sizeof(zr_kcp_slot) <= 64, "a slot is a cache line");

typedef struct zr_kcp_block_info {
    uint64_t used; /* bit i: slot i is taken */
    uint32_t next; /* free list */
    uint32_t pad;
} zr_kcp_block_info;

typedef struct zr_kcp_table {
    uint16_t block[ZR_KCP_TABLE]; /* ZR_KCP_NONE or an index into the pool of blocks */
} zr_kcp_table;

typedef struct zr_kcp_ack {
    uint32_t sn, ts;
} zr_kcp_ack;

/* Owed acknowledgements in order of arrival: the first few inline, the rest in borrowed blocks of 512. */
#define ZR_KCP_ACKS_INLINE 64u
#define ZR_KCP_ACKS_BLOCK  (ZR_KCP_BLOCK * 64u / sizeof(zr_kcp_ack))
#define ZR_KCP_ACK_BLOCKS  16u

typedef struct zr_kcp_acks {
    uint32_t count, next, max; /* [next, count) are not sent yet; count never passes max */
    uint16_t block[ZR_KCP_ACK_BLOCKS];
    zr_kcp_ack first[ZR_KCP_ACKS_INLINE];
} zr_kcp_acks;

/* At once only: an ACK datagram is small, and losing it makes the peer resend all that it acknowledged. So the next
 * datagrams repeat what una does not cover, and while the path is known to lose, a silent one is followed by a WINS,
 * whose una covers the rest. */
#define ZR_KCP_TOLD       16u
#define ZR_KCP_TOLD_TIMES 2u        /* how often an ACK is repeated */
#define ZR_KCP_AGAIN_MS   6u        /* silence before the WINS */
#define ZR_KCP_LOSSY      ZR_SEC(1) /* after the last sign of loss */

typedef struct zr_kcp_told {
    zr_kcp_ack ring[ZR_KCP_TOLD];
    uint8_t left[ZR_KCP_TOLD]; /* repeats */
    uint32_t count;            /* since none was left to repeat */
    bool again;                /* the WINS is to go at again_at, ms */
    uint32_t again_at;
    zr_ns_t lossy_until;
} zr_kcp_told;

struct zr_kcp {
    zr_kcp_conf conf;
    zr_kcp_blocks *blocks;
    zr_pool *pool;
    const zr_kcp_cc *cc;
    zr_ns_t now; /* of the last call */

    uint32_t mss;
    uint32_t snd_una, snd_nxt, snd_end, snd_max; /* snd_end - snd_una <= snd_max */
    uint32_t snd_held;                           /* taken slots of [snd_una, snd_end) */
    uint32_t rmt_wnd;
    uint32_t rcv_head, rcv_nxt;

    int32_t srtt, rttvar; /* ms */
    uint32_t rto, rto_min;
    uint32_t backoff_max; /* ms a segment's own time-out grows to; UINT32_MAX: no bound, as stock */

    uint32_t cwnd, incr, ssthresh; /* incr: bytes */

    uint32_t resend_at;         /* earliest of the segments in flight; meaningless when there is none */
    bool resend_any;            /* something is in flight */
    bool fast_due;              /* some segment qualifies for fast resend */
    bool saw_fast, saw_timeout; /* since the last congestion reaction; survive an output cut short by a full batch */

    uint8_t probe;           /* ZR_KCP_ASK | ZR_KCP_TELL */
    bool updated, flush_due; /* grid only */
    uint32_t ts_flush;
    uint32_t probe_wait, ts_probe, probe_first, probe_max;
    uint32_t state; /* 0, or ~0 once a segment went out 20 times: informative, as in stock */

    struct { /* hardened: answers that repeated questions get once in a while, in ms */
        uint32_t wins, stale;
    } answered;

    struct { /* the datagram being taken in */
        bool open, acked;
        uint32_t una;            /* snd_una before it */
        uint32_t ack_sn, ack_ts; /* the ACK that counts for fast resend */
    } in;

    zr_kcp_acks acks;
    zr_kcp_told told;
    zr_kcp_table snd, rcv;
    zr_kcp_counts counts;
};

_Static_assert(sizeof(struct zr_kcp) <= 2048, "an idle conversation costs at most 2 KiB");

static inline uint32_t zr_kcp_ms(zr_ns_t now)
{
    return (uint32_t)(now / ZR_MS(1));
}

/* The nanosecond at which the clock reads `ms`, near `now`. At that very instant zr_kcp_ms gives `ms`: never early. */
static inline zr_ns_t zr_kcp_ns(zr_ns_t now, uint32_t ms)
{
    return (now / ZR_MS(1) + zr_seq_diff(ms, zr_kcp_ms(now))) * ZR_MS(1);
}

/* zr_kcp_blocks.c */
uint32_t zr_kcp_block_take(zr_kcp_blocks *blocks); /* ZR_KCP_NONE and a count when exhausted */
void zr_kcp_block_give(zr_kcp_blocks *blocks, uint32_t block);
void *zr_kcp_block_mem(const zr_kcp_blocks *blocks, uint32_t block);

static inline zr_kcp_block_info *zr_kcp_block_infos(const zr_kcp_blocks *blocks)
{
    return blocks->mem;
}

static inline uint32_t zr_kcp_block_of(const zr_kcp_table *table, uint32_t sn)
{
    return table->block[sn / ZR_KCP_BLOCK % ZR_KCP_TABLE];
}

/* The slot of `sn`, or NULL when it is empty. */
static inline zr_kcp_slot *zr_kcp_slot_at(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn)
{
    uint32_t block = zr_kcp_block_of(table, sn);
    if (block == ZR_KCP_NONE || (zr_kcp_block_infos(blocks)[block].used >> sn % ZR_KCP_BLOCK & 1) == 0)
        return NULL;
    return (zr_kcp_slot *)zr_kcp_block_mem(blocks, block) + sn % ZR_KCP_BLOCK;
}

void zr_kcp_table_init(zr_kcp_table *table);
/* An empty slot for `sn`, its content undefined; NULL when no block is left. */
zr_kcp_slot *zr_kcp_slot_take(zr_kcp_blocks *blocks, zr_kcp_table *table, uint32_t sn);
/* Empties a taken slot; its packet is the caller's. */
void zr_kcp_slot_give(zr_kcp_blocks *blocks, zr_kcp_table *table, uint32_t sn);
/* The first taken sn in [sn, end), or `end`. */
uint32_t zr_kcp_slot_next(const zr_kcp_blocks *blocks, const zr_kcp_table *table, uint32_t sn, uint32_t end);

/* zr_kcp.c. Grid only: the next output flushes whatever the clock says. */
void zr_kcp_flush(zr_kcp *kcp);

/* zr_kcp_snd.c */
void zr_kcp_snd_drop(zr_kcp *kcp, uint32_t sn); /* forgets the segment in `sn`'s slot, which is taken */
bool zr_kcp_snd_admissible(const zr_kcp *kcp);
void zr_kcp_probe_step(zr_kcp *kcp, uint32_t ms); /* the zero-window timer */

/* zr_kcp_ack.c */
void zr_kcp_acks_init(zr_kcp_acks *acks, uint32_t max);
void zr_kcp_acks_clear(zr_kcp_acks *acks, zr_kcp_blocks *blocks);
zr_kcp_ack *zr_kcp_acks_at(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t i);
/* False when the list is full: una will tell, or the peer asks again by resending. */
bool zr_kcp_acks_add(zr_kcp_acks *acks, zr_kcp_blocks *blocks, uint32_t sn, uint32_t ts);
bool zr_kcp_acks_recent(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t sn);
void zr_kcp_on_una(zr_kcp *kcp, uint32_t una);
/* The round trip that this ACK shows, if it does; before anything of its datagram's segment is applied. */
void zr_kcp_sample(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms);
void zr_kcp_on_ack(zr_kcp *kcp, uint32_t sn, uint32_t ts);
/* Owed ACKs, and after them what is repeated; `ack` is left at the last owed one: a stock engine's probes repeat its ts
 * and sn, and so do ours. */
int zr_kcp_put_acks(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms);
bool zr_kcp_again_due(const zr_kcp *kcp, uint32_t ms);
void zr_kcp_tell_again(zr_kcp *kcp, zr_pack *pack, const zr_seg *ack, uint32_t ms);

/* zr_kcp_rto.c */
void zr_kcp_on_rtt(zr_kcp *kcp, int32_t rtt_ms);

/* zr_kcp_loss.c */
enum zr_kcp_verdict { ZR_KCP_WAIT, ZR_KCP_FIRST, ZR_KCP_TIMEOUT, ZR_KCP_FAST };
enum zr_kcp_verdict zr_kcp_loss_verdict(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms);
/* Is there any segment in flight for which the verdict is not WAIT? O(1). */
bool zr_kcp_loss_due(const zr_kcp *kcp, uint32_t ms);
void zr_kcp_loss_sent(zr_kcp *kcp, zr_kcp_slot *slot, enum zr_kcp_verdict verdict, uint32_t ms);
/* Could a copy of this segment have been sent at `ts`? */
bool zr_kcp_loss_sent_at(const zr_kcp_slot *slot, uint32_t ts);
/* After a datagram that acknowledged something. */
void zr_kcp_loss_acked(zr_kcp *kcp);
/* The cached due time anew, by a walk over the window. */
void zr_kcp_loss_rearm(zr_kcp *kcp);
bool zr_kcp_loss_check(const zr_kcp *kcp);

#endif
