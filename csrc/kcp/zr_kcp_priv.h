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
 * A segment lives in slot `sn % 8192` of its direction's table (zr_kcp_slot.h).
 *
 * The two profiles are tables of functions, so that neither is littered with the other's conditions:
 *
 *   zr_kcp_rules      when to send again, what to acknowledge      zr_kcp_stock.c        zr_kcp_media.h, zr_kcp_tell.c
 *   zr_kcp_delivery   what a PUSH becomes                          zr_kcp_order.c        zr_kcp_first.c
 *
 * Shared: zr_kcp_snd.c queue -> segments; zr_kcp_rcv.c input and recv; zr_kcp_ack.c una, ACKs, RTT samples;
 * zr_kcp_slot.c slots. Stock only: zr_kcp_rto.c, zr_kcp_cc.c. Media only: zr_kcp_path.c, zr_kcp_plan.c.
 */
#ifndef ZR_KCP_PRIV_H
#define ZR_KCP_PRIV_H

#include "coll/zr_seq.h"
#include "kcp/zr_kcp.h"
#include "kcp/zr_kcp_cc.h"
#include "kcp/zr_kcp_path.h"
#include "kcp/zr_kcp_plan.h"
#include "kcp/zr_kcp_slot.h"

#define ZR_KCP_SEGS_MAX   127u  /* of a message we send */
#define ZR_KCP_TAIL       1021u /* first arrival: bytes of the second of two segments (zr_kcp_first.c) */
#define ZR_KCP_RTO_MAX    60000u
#define ZR_KCP_FAST_LIMIT 5u /* fast resends stop after this many transmissions */
#define ZR_KCP_DEAD_LINK  20u
#define ZR_KCP_RTT_SANE   60000 /* ms */
#define ZR_KCP_ANSWER_MS  10u   /* hardened: at most one WINS asked for, one ACK of what una covers, in this time */

#define ZR_KCP_NEVER INT32_MAX
#define ZR_KCP_WHOLE 16u

enum { ZR_KCP_ASK = 1, ZR_KCP_TELL = 2 }; /* kcp->probe: a WASK, a WINS is owed */

typedef struct zr_kcp_ack {
    uint32_t sn, ts;
} zr_kcp_ack;

/* Owed acknowledgements in order of arrival: the first few inline, the rest in borrowed blocks of 512. */
#define ZR_KCP_ACKS_INLINE 32u
#define ZR_KCP_ACKS_LEAST  64u /* so many may be owed whatever the receive window */
#define ZR_KCP_ACKS_BLOCK  (ZR_KCP_BLOCK * 64u / sizeof(zr_kcp_ack))
#define ZR_KCP_ACK_BLOCKS  16u

typedef struct zr_kcp_acks {
    uint32_t count, next, max; /* [next, count) are not sent yet; count never passes max */
    uint16_t block[ZR_KCP_ACK_BLOCKS];
    zr_kcp_ack first[ZR_KCP_ACKS_INLINE];
} zr_kcp_acks;

/* Segments in flight in the order of their last transmission: indexes sn % 8192, ZR_KCP_NONE at the ends. */
typedef struct zr_kcp_line {
    uint16_t head, tail;
} zr_kcp_line;

/* How the next first transmission is made, when `left` ms remain before its deadline. */
typedef struct zr_kcp_start {
    bool valid;
    uint8_t copies, wanted; /* now; in all */
    uint8_t rest;           /* what is still to go when one went */
    int32_t earn;           /* 1/1024 of its bytes: what it adds to the credit */
    uint32_t left, version; /* for this it holds */
} zr_kcp_start;

/* Media, sending. */
typedef struct zr_kcp_media {
    zr_kcp_line waiting, copying; /* for an ACK; for the next copy of the same attempt */
    uint32_t fresh;               /* nothing before it was sent only once */
    uint32_t in_flight;
    uint32_t arrived, settled_bytes; /* fresh segments, and bytes, acknowledged by the datagram at hand */
    zr_kcp_start start;
    bool any_acked;
    uint32_t newest;                           /* ms: the latest transmission known to have arrived */
    uint32_t quiet;                            /* ms since when nothing was heard though something is in flight */
    bool dark;                                 /* for too long: only probes go out again */
    uint32_t probe_at, probe_wait, trickle_at; /* ms */
    int32_t credit;                            /* bytes that repair may still spend */
    uint32_t pace_from, paced, slice;          /* ms; packets sent in this slice of 2 ms; packets that may be */
    zr_kcp_path path;
} zr_kcp_media;

/* Media, acknowledging: zr_kcp_tell.c. */
typedef struct zr_kcp_tell {
    uint16_t heard;     /* a block: struct zr_kcp_heard; ZR_KCP_NONE while everything came in order */
    bool owed;          /* something arrived since the last ACK */
    bool armed;         /* a repeat goes at `at`, ms */
    bool fresh;         /* what una says is new since then: to be repeated */
    uint8_t una_left;   /* repeats of what una says */
    bool first_una;     /* the first WINS about it is in kcp->probe */
    bool crowded;       /* the ring turns over within four slacks */
    bool cut, said;     /* a full batch cut what is being said; it had an ACK in it */
    uint8_t later_left; /* ACKs that may still ride along */
    uint8_t held;       /* arrivals that wait for company since `told_at`, ms */
    uint32_t told_at;
    uint32_t next; /* of the ring, from the newest down: said up to here */
    uint32_t at;
    zr_kcp_ack last;  /* of the newest arrival */
    uint32_t bad_ppm; /* arrivals that show loss */
} zr_kcp_tell;

/* What every turn of a media conversation needs lies together, in front: of 5 000 conversations each turn finds its own
 * in no cache, and a line is a miss (zr_kcp_prefetch). */
struct zr_kcp {
    zr_kcp_conf conf;
    zr_kcp_blocks *blocks;
    zr_pool *pool;
    const struct zr_kcp_rules *rules;
    const struct zr_kcp_delivery *delivery;
    zr_ns_t now, now_ms; /* of the last call; the same in whole ms */
    zr_ns_t heard;       /* of the last datagram; 0: never */

    uint32_t mss;
    uint32_t tail;                               /* media: length of the second of two segments */
    uint32_t snd_una, snd_nxt, snd_end, snd_max; /* snd_end - snd_una <= snd_max */
    uint32_t snd_held;                           /* taken slots of [snd_una, snd_end) */
    uint32_t rmt_wnd, peer_una;                  /* of the newest segment heard */
    uint32_t rcv_head, rcv_nxt;                  /* in order: [rcv_head, rcv_nxt) waits for recv */
    uint32_t rcv_top;                            /* behind the highest number that arrived */
    uint32_t probe_wait, ts_probe;
    uint16_t wnd;            /* what every segment of the output at hand says */
    uint8_t probe;           /* ZR_KCP_ASK | ZR_KCP_TELL */
    bool updated, flush_due; /* grid only */
    bool cut;                /* grid only: a full batch cut the flush short, before segment `scanned` */

    struct { /* the datagram being taken in */
        bool open, acked;
        uint32_t una;            /* snd_una before it */
        uint32_t ack_sn, ack_ts; /* the ACK that counts for fast resend */
    } in;
    const zr_kcp_cc *cc; /* NULL: media, nothing but the windows limits */

    zr_kcp_media media;
    zr_kcp_tell tell;
    struct {                 /* first arrival */
        uint32_t count;      /* complete messages that wait for recv: those of `whole`, then the list */
        uint16_t head, tail; /* by sn % 8192 */
        uint8_t whole_first, whole_end;
        uint32_t held;    /* halves of messages */
        uint32_t half_at; /* ms: when the last first half came */
        bool half_gone;   /* one with nothing behind it was given up: half_sn is its other half */
        uint32_t half_sn;
        uint32_t gaps; /* passed over so far */
        struct {
            uint32_t from, to;
        } given_up[8]; /* the newest gaps that were passed over */
    } ready;
    zr_kcp_counts counts;
    zr_kcp_table snd, rcv;

    zr_slice whole[ZR_KCP_WHOLE]; /* first arrival: messages of one segment that came in order: they need no slot */
    uint32_t probe_first, probe_max;
    struct { /* hardened: answers that repeated questions get once in a while, in ms */
        uint32_t wins, stale;
    } answered;

    /* Stock. */
    int32_t srtt, rttvar; /* ms */
    uint32_t rto, rto_min;
    uint32_t cwnd, incr, ssthresh; /* incr: bytes */
    uint32_t resend_at;            /* earliest of the segments in flight; meaningless when there is none */
    bool resend_any;               /* something is in flight */
    bool fast_due;                 /* some segment qualifies for fast resend */
    bool saw_fast, saw_timeout;    /* since the last congestion reaction; survive an output cut short by a full batch */
    uint32_t scanned;
    uint32_t ts_flush;
    uint32_t state; /* 0, or ~0 once a segment went out 20 times: informative, as in stock */
    zr_kcp_acks acks;
};

/* Asks the memory for what a turn of a media conversation needs: for who knows whose turn comes soon. */
static inline void zr_kcp_prefetch(const zr_kcp *kcp)
{
    const char *from = (const char *)kcp;

    for (size_t at = 0; at < offsetof(zr_kcp, snd); at += ZR_CACHELINE)
        __builtin_prefetch(from + at, 1);
}

/* What waits for recv: the advertised window shrinks by it. */
static inline uint32_t zr_kcp_queued(const zr_kcp *kcp)
{
    return kcp->tail != 0 ? kcp->ready.count : kcp->rcv_nxt - kcp->rcv_head;
}

/* Messages that wait in `whole`. */
static inline uint32_t zr_kcp_whole_count(const zr_kcp *kcp)
{
    return (uint32_t)kcp->ready.whole_end - kcp->ready.whole_first;
}

static inline uint32_t zr_kcp_ms(zr_ns_t now)
{
    return (uint32_t)(now / ZR_MS(1));
}

/* The nanosecond at which the clock reads `ms`, near `now`. At that very instant zr_kcp_ms gives `ms`: never early. */
static inline zr_ns_t zr_kcp_ns(zr_ns_t now, uint32_t ms)
{
    return (now / ZR_MS(1) + zr_seq_diff(ms, zr_kcp_ms(now))) * ZR_MS(1);
}

/* The time of a call, in ms: divided once, since the calls of a turn all say the same. */
static inline uint32_t zr_kcp_at(zr_kcp *kcp, zr_ns_t now)
{
    if (now != kcp->now) {
        kcp->now = now;
        kcp->now_ms = now / ZR_MS(1);
    }
    return (uint32_t)kcp->now_ms;
}

/* What became of a PUSH. */
enum zr_kcp_taken {
    ZR_KCP_NEW,     /* taken */
    ZR_KCP_KNOWN,   /* held already, or below rcv_nxt: acknowledged again */
    ZR_KCP_REFUSED, /* no room: not acknowledged */
};

/* When and what to send again, and what to acknowledge. */
typedef struct zr_kcp_rules {
    const char *name;
    void (*init)(zr_kcp *kcp, uint32_t ms);
    void (*fini)(zr_kcp *kcp);
    /* The number from which the send window counts. */
    uint32_t (*base)(const zr_kcp *kcp);
    /* A segment joined the queue: stock has no deadlines, 0 is none. */
    void (*queued)(zr_kcp *kcp, zr_kcp_slot *slot, uint32_t deadline_ms, uint32_t ms);
    /* The receive window was shut and is open again. */
    void (*reopened)(zr_kcp *kcp);
    /* The queue is full: makes room if it can. */
    void (*purge)(zr_kcp *kcp, uint32_t ms);
    /* ACKs, and windows told again; `ack` is left at the last one: a stock engine's probes repeat its ts and sn. */
    int (*acknowledge)(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms);
    /* Everything due of what is in flight, then new segments. ZR_OK, or ZR_E_full: call again. */
    int (*send)(zr_kcp *kcp, zr_pack *pack, uint32_t ms);
    /* In how many ms from `ms` on acknowledge or send may do something: at most 0 is now, which may be a false alarm;
     * ZR_KCP_NEVER: not by time alone. O(1). */
    int32_t (*wait)(const zr_kcp *kcp, uint32_t ms);
    /* A PUSH arrived and was taken (or was here before): it wants an ACK. */
    void (*arrived)(zr_kcp *kcp, const zr_seg *seg, enum zr_kcp_taken taken, uint32_t ms);
    /* Could a copy of this segment have been sent at `ts`? */
    bool (*sent_at)(const zr_kcp_slot *slot, uint32_t ts);
    void (*rtt)(zr_kcp *kcp, uint32_t ts, int32_t rtt, uint32_t ms);
    /* A segment in flight is acknowledged and about to be dropped: by an ACK with `ts`, or by una (ts NULL). */
    void (*settled)(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, const uint32_t *ts, uint32_t ms);
    /* A datagram with something for this conversation is through; did it acknowledge anything? */
    void (*heard)(zr_kcp *kcp, bool acked, uint32_t ms);
    bool (*check)(const zr_kcp *kcp);
} zr_kcp_rules;

extern const zr_kcp_rules zr_kcp_rules_stock, zr_kcp_rules_media;

/* What a PUSH becomes. */
typedef struct zr_kcp_delivery {
    const char *name;
    enum zr_kcp_taken (*take)(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms);

    /* Segments of the next complete message, 0 when there is none, and its bytes. */
    uint32_t (*message)(const zr_kcp *kcp, size_t *len);
    /* The first segment of the queue; its reference passes to the caller. */
    zr_slice (*consume)(zr_kcp *kcp);
    /* A whole message by one call: how many segments, 0 when there is none, ZR_E_full when there are more than `max`.
     */
    int (*recv)(zr_kcp *kcp, zr_slice *views, int max);
    /* Gives up holes that are too old. */
    void (*expire)(zr_kcp *kcp, uint32_t ms);
    bool (*deadline)(const zr_kcp *kcp, uint32_t *ms);
    void (*fini)(zr_kcp *kcp);
    bool (*check)(const zr_kcp *kcp);
} zr_kcp_delivery;

extern const zr_kcp_delivery zr_kcp_in_order, zr_kcp_first_arrival;

/* zr_kcp_snd.c */
void zr_kcp_snd_drop(zr_kcp *kcp, uint32_t sn, const zr_kcp_slot *slot); /* forgets the segment in its slot */
/* How many queued segments the windows let out now; is it any? */
uint32_t zr_kcp_snd_room(const zr_kcp *kcp);
static inline bool zr_kcp_snd_admissible(const zr_kcp *kcp)
{
    return kcp->snd_nxt != kcp->snd_end && zr_kcp_snd_room(kcp) > 0;
}
void zr_kcp_probe_step(zr_kcp *kcp, uint32_t ms); /* the zero-window timer */
/* A segment that shares its datagram, or may. */
bool zr_kcp_put_shared(const zr_kcp *kcp, zr_pack *pack, uint32_t sn, const zr_kcp_slot *slot, uint32_t ms);

/* A large segment stands alone: its bytes go straight to where they are sent from. */
__attribute__((always_inline)) static inline bool zr_kcp_put_alone(const zr_kcp *kcp, zr_pack *pack, uint32_t sn,
                                                                   const zr_kcp_slot *slot, uint32_t ms)
{
    uint32_t len = (uint32_t)slot->head_len + slot->len;
    uint8_t *to = zr_pack_alone(pack, kcp->conf.conv, ZR_SEG_HEAD + len);

    if (to == NULL)
        return false;
    zr_put32(to, kcp->conf.conv);
    zr_put32(to + 4, ZR_SEG_PUSH | (uint32_t)slot->frg << 8 | (uint32_t)kcp->wnd << 16);
    zr_put32(to + 8, ms);
    zr_put32(to + 12, sn);
    zr_put32(to + 16, kcp->rcv_nxt);
    zr_put32(to + 20, len);
    memcpy(to + ZR_SEG_HEAD, slot->head, ZR_KCP_HEAD_MAX); /* all of it: what is not used, the body overwrites */
    memcpy(to + ZR_SEG_HEAD + slot->head_len, slot->pkt->buf + slot->off, slot->len);
    return true;
}

/* One PUSH into the packer. Inline: what is saved around the copy is a twentieth of a packet's cost. */
__attribute__((always_inline)) static inline int zr_kcp_put_push(zr_kcp *kcp, zr_pack *pack, uint32_t sn,
                                                                 zr_kcp_slot *slot, uint32_t ms)
{
    bool put = pack->runs && slot->len > ZR_PACK_LARGE ? zr_kcp_put_alone(kcp, pack, sn, slot, ms)
                                                       : zr_kcp_put_shared(kcp, pack, sn, slot, ms);

    if (!put)
        return ZR_E_full;
    slot->ts = ms;
    kcp->counts.segs_sent++;
    return ZR_OK;
}
/* Moves snd_una over the holes that single ACKs have left, to the first segment still in flight. */
void zr_kcp_snd_shrink(zr_kcp *kcp);

/* zr_kcp_ack.c */
void zr_kcp_acks_init(zr_kcp_acks *acks, uint32_t max);
void zr_kcp_acks_clear(zr_kcp_acks *acks, zr_kcp_blocks *blocks);
zr_kcp_ack *zr_kcp_acks_at(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t i);
/* False when the list is full: una will tell, or the peer asks again by resending. */
bool zr_kcp_acks_add(zr_kcp_acks *acks, zr_kcp_blocks *blocks, uint32_t sn, uint32_t ts);
bool zr_kcp_acks_recent(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t sn);
int zr_kcp_put_acks(zr_kcp *kcp, zr_pack *pack, zr_seg *ack);
/* una is behind snd_una. */
void zr_kcp_on_una(zr_kcp *kcp, uint32_t una, uint32_t ms);
/* The round trip that this ACK shows, if it does; before anything of its datagram's segment is applied. */
void zr_kcp_sample(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms);
void zr_kcp_on_ack(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms);

/* zr_kcp_rcv.c. Hardened, at most once per ZR_KCP_ANSWER_MS: a question left out is asked again. */
bool zr_kcp_may_answer(const zr_kcp *kcp, uint32_t *last, uint32_t ms);
/* A slot of the receive table with the segment in it, its packet held; NULL when no block is left. */
static inline zr_kcp_slot *zr_kcp_rcv_keep(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt)
{
    zr_kcp_slot *slot = zr_kcp_slot_take(kcp->blocks, &kcp->rcv, seg->sn);
    if (slot == NULL)
        return NULL;
    zr_pkt_hold(pkt);
    slot->pkt = pkt;
    slot->off = (uint16_t)(seg->data - pkt->buf);
    slot->len = (uint16_t)seg->len;
    slot->frg = seg->frg;
    return slot;
}

/* zr_kcp_tell.c */
void zr_kcp_tell_init(zr_kcp *kcp);
void zr_kcp_tell_fini(zr_kcp *kcp);
void zr_kcp_tell_arrived(zr_kcp *kcp, const zr_seg *seg, enum zr_kcp_taken taken, uint32_t ms);
int zr_kcp_tell_put(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms);
static inline bool zr_kcp_tell_due(const zr_kcp *kcp, uint32_t ms)
{
    return kcp->tell.owed || kcp->tell.cut || kcp->tell.first_una ||
           (kcp->tell.armed && !zr_seq_before(ms, kcp->tell.at));
}
/* una moved, or the window opened, without an arrival: say so, and again. */
void zr_kcp_tell_una(zr_kcp *kcp);

/* zr_kcp_rto.c */
void zr_kcp_on_rtt(zr_kcp *kcp, int32_t rtt_ms);

#endif
