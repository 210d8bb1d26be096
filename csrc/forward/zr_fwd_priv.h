/*
 * zr_fwd_priv.h - the forwarder's insides, for the forward/zr_fwd*.c files and white-box tests.
 *
 *   zr_fwd.c          memory, the turn's entry points      zr_fwd_cmd.c      commands
 *   zr_fwd_in.c       RTP, RTCP and media messages in      zr_fwd_life.c     what goes when a stream, sub, session goes
 *   zr_fwd_out.c      fan-out, output                      zr_fwd_rtcp.c     subscribers' RTCP, key frame requests
 */
#ifndef ZR_FWD_PRIV_H
#define ZR_FWD_PRIV_H

#include "forward/zr_cache.h"
#include "forward/zr_fwd.h"
#include "forward/zr_ingress.h"
#include "forward/zr_pull.h"
#include "forward/zr_sub.h"

#define ZR_FWD_REPLAYS                                                                                                 \
    4096u /* packets for joiners in one turn: a crowd that joins at once must not hold up the rest                     \
           */
#define ZR_FWD_CHILD 0x80000000u /* a conversation's user value: child's sub slot with this bit, or a pull's slot */

struct zr_fwd {
    zr_fwd_conf conf;
    zr_stat_page *page;
    zr_spsc *commands, *events;
    zr_journal *journal; /* NULL: nobody comes after us */
    zr_pool pool;
    zr_lane *lane;
    zr_stream *streams;
    zr_ingress *ingresses;
    zr_items items; /* turn queues, output queues, NACKed packets */
    zr_cache cache;
    zr_subs subs;
    zr_pulls pulls;
    zr_list turning;       /* streams with packets to fan out */
    zr_list leaving;       /* streams with packets to output */
    zr_list pli;           /* streams with a PLI to send */
    zr_list joining;       /* players that wait for their replay */
    zr_list asking;        /* players with NACKed packets to send */
    zr_list locking;       /* ingresses with a locked track */
    zr_itemq byes;         /* good-byes that overtook media, until that can come no more: a player stops at them */
    zr_ns_t release_at;    /* next look at the locks; ZR_NEVER when there are none */
    uint32_t replays_left; /* in this turn */
    uint32_t stream_count, closing_count;
    uint32_t closing_from; /* no ingress below it is closing */
    bool stopping, event_waiting;
    bool ring_corrupt; /* a ring to or from the agent is broken: it is left alone, media goes on */
};

/* zr_fwd.c */
void zr_fwd_event(zr_fwd *fwd, const zr_cmd *event);
/* NULL when out of range or closed. */
zr_stream *zr_fwd_stream(zr_fwd *fwd, uint32_t slot);
/* One media drop: ledger, row (stream may be NULL), packet. Returns ZR_E_dropped. */
int zr_fwd_drop(zr_fwd *fwd, zr_stream *stream, zr_pkt *pkt, enum zr_drop_id drop);

/* zr_fwd_in.c: one message of a conversation; consumes its views. */
void zr_fwd_message(zr_fwd *fwd, zr_lane_msg *msg, zr_ns_t now);
/* Good-byes that have waited for a deadline are forwarded; those of a stream that goes are not. */
zr_ns_t zr_fwd_byes_deadline(const zr_fwd *fwd);
void zr_fwd_say_byes(zr_fwd *fwd, zr_ns_t now);
void zr_fwd_forget_byes(zr_fwd *fwd, const zr_stream *stream);
/* Ends locks that have been silent; sets release_at. */
void zr_fwd_release_locks(zr_fwd *fwd, zr_ns_t now);

/* zr_fwd_out.c */
/* One packet to a child, header and all: counts due and the verdict. True when it was queued. */
bool zr_fwd_to_child(zr_fwd *fwd, zr_sub *sub, const zr_item *item, uint8_t flags, zr_ns_t now);

/* zr_fwd_rtcp.c: a key frame of this track is wanted; merged, at most one request upstream per 500 ms. */
void zr_fwd_want_key(zr_fwd *fwd, zr_stream *stream, uint32_t track, zr_ns_t now);

/* zr_fwd_life.c */
void zr_fwd_sub_gone(zr_fwd *fwd, zr_sub *sub);
void zr_fwd_pull_gone(zr_fwd *fwd, zr_pull *pull);
/* Children, pulls, queues, cache and locks go; players and the ingress binding stay. */
void zr_fwd_stream_cleared(zr_fwd *fwd, zr_stream *stream);
void zr_fwd_stream_gone(zr_fwd *fwd, zr_stream *stream);
void zr_fwd_session_gone(zr_fwd *fwd, uint32_t session);
void zr_fwd_ingress_gone(zr_fwd *fwd, zr_ingress *ingress);
void zr_fwd_all_gone(zr_fwd *fwd);

#endif
