/*
 * zr_kcp.h - one KCP conversation: sans-IO, indexed by sn, no allocation after init, `now` is an argument.
 *
 *          zr_kcp_send                 zr_kcp_output
 *   app  ------------->  snd queue+window  ----------->  segments into a zr_pack, datagrams into a batch
 *        <-------------  rcv window        <-----------  zr_kcp_input_seg*, zr_kcp_input_end
 *          zr_kcp_recv
 *
 * Order within one turn: input_seg* -> input_end -> recv until 0 -> on_deadline -> send* -> output until it returns 0.
 *
 * Payload is never copied: a sent segment is up to 16 inline bytes (`head`, e.g. the media header) + a view of a held
 * packet; a received one is a view of the datagram's packet. Window slots come in blocks of 64 from `blocks` and return
 * when empty, so an idle conversation costs its struct: <= 2 KiB with all that a lane holds of it.
 *
 * Rules and arithmetic: shared spec kcp.md sections 2-10 (compat), in milliseconds derived from `now`.
 */
#ifndef ZR_KCP_H
#define ZR_KCP_H

#include "kcp/zr_pack.h"
#include "kcp/zr_seg.h"
#include "mem/zr_pool.h"

#define ZR_KCP_WND_MAX       8192u
#define ZR_KCP_BLOCK         64u
#define ZR_KCP_FRAGMENTS_MAX 127u
#define ZR_KCP_HEAD_MAX      16u

enum zr_kcp_profile {
    ZR_KCP_COMPAT, /* stock KCP to the byte and the millisecond; output is due on the interval grid */
    ZR_KCP_MEDIA   /* wire-compatible, everything else better; output is due on send, input and deadlines */
};

typedef struct zr_kcp_conf {
    uint32_t conv;
    uint32_t mtu; /* KCP bytes per datagram: 1420 between our relays */
    uint32_t snd_wnd, rcv_wnd;
    uint32_t start_sn;              /* 0; tests begin near 2^32 */
    uint16_t interval_ms;           /* compat: the flush grid, 10..5000 */
    uint16_t deadline_ms;           /* media: after `send` a message is given up; 0: never */
    uint8_t profile;                /* enum zr_kcp_profile: local, never negotiated */
    uint8_t nodelay, resend, nc;    /* compat */
    uint8_t stream;                 /* compat */
    uint8_t fragments_max;          /* of an incoming message: 2 on media conversations, 127 else */
    bool conservative;              /* compat: fastack rule of C1.7.1 (true) or C<=1.7 (false) */
    bool in_order;                  /* media: messages in order, as compat always has them; wants deadline_ms 0 */
    bool harden;                    /* the hardening list of PROTOCOL.md; false only in the twin test */
    const struct zr_kcp_plan *plan; /* media: how many copies; outlives the conversation. NULL: one each time */
} zr_kcp_conf;

/* The usual choices. */
zr_kcp_conf zr_kcp_conf_compat(uint32_t conv);  /* a stock engine's turbo: nodelay 1, interval 10, resend 2, nc 1 */
zr_kcp_conf zr_kcp_conf_media(uint32_t conv);   /* between our relays: first arrival, deadline 400 ms */
zr_kcp_conf zr_kcp_conf_control(uint32_t conv); /* conversation 0: media's recovery, in order, no deadline */

typedef struct zr_kcp_blocks { /* pool of window blocks, one per worker */
    void *infos;               /* one record per block */
    uint8_t *slots;            /* 64 slots of a cache line per block */
    uint32_t count, free_head, in_use, in_use_max;
    uint64_t exhausted;
} zr_kcp_blocks;

size_t zr_kcp_blocks_bytes(uint32_t count); /* count <= 65534 */
int zr_kcp_blocks_init(zr_kcp_blocks *blocks, void *mem, uint32_t count);
bool zr_kcp_blocks_check(const zr_kcp_blocks *blocks);

typedef struct zr_kcp_counts { /* since init; the owner adds differences to its page */
    uint64_t segs_sent, retrans_timeout, retrans_fast, segs_received, duplicates, acks_sent, window_drops;
    uint64_t copies;   /* media: sent besides one transmission per attempt */
    uint64_t spurious; /* media: sent again although the first transmission had arrived */
    uint64_t expired;  /* media: given up at their deadline, unacknowledged or never sent */
    uint64_t holes;    /* media: numbers passed over at their deadline, and halves left alone by them */
    uint64_t late;     /* media: received after they had been passed over */
    uint64_t conflict; /* received again with other bytes; the first ones stand */
    uint64_t ack_ts;   /* ACKs with a time at which their segment was not sent: no RTT sample */
} zr_kcp_counts;

typedef struct zr_kcp zr_kcp; /* defined in zr_kcp_priv.h so that it can be embedded; touch only by these functions */

int zr_kcp_init(zr_kcp *kcp, const zr_kcp_conf *conf, zr_kcp_blocks *blocks, zr_pool *pool, zr_ns_t now);
/* From now on segments are made for datagrams of `mtu` bytes, at most what it was made with: that stays the limit of
 * what may come. Not below what the second of two segments takes (1061). Segments that wait or are in flight keep their
 * size. */
void zr_kcp_set_mtu(zr_kcp *kcp, uint32_t mtu);
/* The peer was heard again: what is silent since it could not be reached tries at once. */
void zr_kcp_kick(zr_kcp *kcp, zr_ns_t now);
/* Drops every packet and block. */
void zr_kcp_fini(zr_kcp *kcp);

/* One message: `head_len` <= 16 inline bytes, then body (held; may be NULL with len 0). Cut into mss-sized segments.
 * ZR_OK; ZR_E_full when queue + window cannot take all its segments (nothing taken); ZR_E_oversize beyond 127. */
int zr_kcp_send(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, zr_ns_t now);
/* The same with a deadline of its own in place of the conversation's, by class: audio, key frame, delta. */
int zr_kcp_send_within(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, uint16_t deadline_ms,
                       zr_ns_t now);
/* The same from plain bytes (control messages): copied into packets of the pool. */
int zr_kcp_send_bytes(zr_kcp *kcp, const uint8_t *data, size_t len, zr_ns_t now);

/* Would this segment be a violation here? ZR_OK or ZR_E_malformed with *drop set to the word. Changes nothing, so that
 * a datagram can be judged whole before any of it is applied. */
int zr_kcp_judge(const zr_kcp *kcp, const zr_seg *seg, int *drop);
/* Applies one judged segment. `pkt` is the datagram seg->data points into; held when payload is kept. */
void zr_kcp_input_seg(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now);
/* The same of a datagram that was sent before one already applied: what it says of the peer's window is out of date. */
void zr_kcp_input_overtaken(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now);
/* After the last segment of a datagram that concerned this conversation (kcp.md 6.4). */
void zr_kcp_input_end(zr_kcp *kcp, zr_ns_t now);

/* The next complete message as up to `max` views whose references pass to the caller (drop each). Returns how many;
 * 0 when none is ready; ZR_E_full when it has more than `max` fragments (nothing taken). */
int zr_kcp_recv(zr_kcp *kcp, zr_slice *views, int max);
/* Copies the next message; returns its length, ZR_E_again when none, ZR_E_oversize when `size` is too small. */
int zr_kcp_recv_bytes(zr_kcp *kcp, uint8_t *to, size_t size);

/* When must I be called again? ZR_NEVER when idle (nothing unacknowledged, no ack owed, no probe). */
zr_ns_t zr_kcp_deadline(const zr_kcp *kcp);
void zr_kcp_on_deadline(zr_kcp *kcp, zr_ns_t now);
/* False when zr_kcp_output would emit nothing now. True may be a false alarm: what was due is acknowledged already. */
bool zr_kcp_due(const zr_kcp *kcp, zr_ns_t now);
/* Compat only: the next output flushes whatever the grid says, as ikcp_flush does. */
void zr_kcp_flush(zr_kcp *kcp);
/* Puts every due segment into the packer. 0: done; ZR_E_full: the batch is full, send it and call again. */
int zr_kcp_output(zr_kcp *kcp, zr_pack *pack, zr_ns_t now);
/* The end of a turn in one call: output if anything is due, then *deadline = zr_kcp_deadline. Not set on ZR_E_full. */
int zr_kcp_turn(zr_kcp *kcp, zr_pack *pack, zr_ns_t now, zr_ns_t *deadline);

uint32_t zr_kcp_waiting(const zr_kcp *kcp); /* segments not yet acknowledged or not yet sent */
uint32_t zr_kcp_unsent(const zr_kcp *kcp);  /* of these, waiting for their first transmission */
/* Places of window and queue that are taken, numbers passed over included, and how many there are. */
uint32_t zr_kcp_used(const zr_kcp *kcp, uint32_t *most);
/* Segments that arrived and wait for others: halves of messages; in order, all places behind the gap. */
uint32_t zr_kcp_reordered(const zr_kcp *kcp);
/* This PUSH would be one more of them, or may be. */
bool zr_kcp_reorders(const zr_kcp *kcp, const zr_seg *seg);
uint32_t zr_kcp_srtt_ms(const zr_kcp *kcp); /* 0: no sample yet */

typedef struct zr_kcp_estimates { /* media: what the conversation has measured, for others to use */
    uint32_t srtt_ms;             /* 0: no sample yet */
    uint32_t timer_ms;            /* silence that means loss */
    uint32_t queue_ms;            /* standing queue on the round trip */
    uint32_t loss_ppm;            /* of single transmissions to the peer */
    uint32_t inbound_ppm;         /* of arrivals that show loss on the way here, or of our ACKs */
    uint32_t rate_kbps;           /* acknowledged of late */
    bool full;                    /* the queue says: full rather than lossy */
    bool dark;                    /* nothing was heard though something is in flight */
    zr_ns_t heard;                /* when anything was heard; 0: never */
} zr_kcp_estimates;

zr_kcp_estimates zr_kcp_estimated(const zr_kcp *kcp);
const zr_kcp_counts *zr_kcp_counted(const zr_kcp *kcp);
bool zr_kcp_check(const zr_kcp *kcp);

#endif
