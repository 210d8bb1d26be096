/*
 * zr_fwd_priv.h - the forwarder's insides, for the forward/zr_fwd*.c files and white-box tests.
 *
 *   zr_fwd.c          memory, the turn's entry points      zr_fwd_cmd.c      commands
 *   zr_fwd_in.c       RTP, RTCP and media messages in      zr_fwd_life.c     what goes when a stream, sub, session goes
 *   zr_fwd_out.c      fan-out, output                      zr_fwd_rtcp.c     subscribers' RTCP, key frame requests
 *   zr_fwd_hold.c     what waits while egress takes nothing
 *   zr_fwd_session_cmd.c   commands about sessions
 *   zr_fwd_shed.c     what is left out on arrival and for a child; the worker's load
 *   zr_fwd_mirror.c   to and from other workers
 */
#ifndef ZR_FWD_PRIV_H
#define ZR_FWD_PRIV_H

#include "forward/zr_cache.h"
#include "forward/zr_fwd.h"
#include "forward/zr_ingress.h"
#include "forward/zr_pull.h"
#include "forward/zr_sub.h"

/* Packets for joiners in one turn: a crowd that joins at once must not hold up the rest. */
#define ZR_FWD_REPLAYS 4096u
#define ZR_FWD_CHILD   0x80000000u /* a conversation's user value: child's sub slot with this bit, or a pull's slot */

#define ZR_FWD_ASKED 512u       /* NACKed packets that may wait for one player */
#define ZR_FWD_BYES  256u       /* good-byes that may wait */
#define ZR_FWD_STUCK ZR_SEC(30) /* a child that acknowledges nothing for so long is reported */

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
    zr_mirrors mirrors;
    zr_list turning; /* streams with packets to fan out */
    zr_list leaving; /* streams with packets to output */
    zr_list rushing; /* and with such as go first */
    zr_list pli;     /* streams with a PLI to send */
    zr_list joining; /* players that wait for their replay */
    zr_list asking;  /* players with NACKed packets to send */
    zr_list locking; /* ingresses with a locked track */
    zr_list holding; /* streams with packets that wait behind what is leaving */
    uint32_t held, held_bytes, asked;
    uint32_t let_pairs, let_most; /* of held packets: let go at let_at; at most, at once */
    zr_ns_t let_at;
    uint32_t give; /* pairs for egress at once: what comes meanwhile can pass the rest */
    zr_shed shed;
    zr_shed_track *child_cuts; /* [conversation's handle][track], where the sub's `cut` has a bit */
    uint32_t inbox_before;     /* permille of our fullest inbox ring, at the look before */
    uint32_t looked_at;        /* next subscriber slot to be looked at for children that are stuck */
    zr_itemq byes;             /* good-byes that overtook media, until that can come no more: a player stops at them */
    zr_ns_t release_at;        /* next look at the locks; ZR_NEVER when there are none */
    uint32_t replays_left;     /* in this turn */
    uint32_t stream_count, closing_count;
    uint32_t closing_from; /* no ingress below it is closing */
    struct {               /* by session_secret, for the session_add or session_rekey that follows */
        uint32_t session, parts;
        zr_keys keys;
    } told;
    bool stopping, event_waiting;
    bool ring_corrupt; /* a ring to or from the agent is broken: it is left alone, media goes on */
};

/* zr_fwd.c */
void zr_fwd_event(zr_fwd *fwd, const zr_cmd *event);
/* Sessions that want new keys, to the control plane. */
void zr_fwd_tell_rekeys(zr_fwd *fwd);
/* NULL when out of range or closed. */
zr_stream *zr_fwd_stream(zr_fwd *fwd, uint32_t slot);
/* One media drop: ledger, row (stream may be NULL), packet. Returns ZR_E_dropped. */
int zr_fwd_drop(zr_fwd *fwd, zr_stream *stream, zr_pkt *pkt, enum zr_drop_id drop);

/* zr_fwd_in.c: one message of a conversation; consumes its views. */
void zr_fwd_message(zr_fwd *fwd, zr_lane_msg *msg, zr_ns_t now);
/* A packet of a mirror's stream, out of its owner's hands at `arrival`. Consumes it. */
void zr_fwd_mirrored(zr_fwd *fwd, zr_stream *stream, const zr_media *media, zr_pkt *pkt, zr_ns_t arrival, zr_ns_t now);
/* Good-byes that have waited for a deadline are forwarded; those of a stream that goes are not. */
zr_ns_t zr_fwd_byes_deadline(const zr_fwd *fwd);
void zr_fwd_say_byes(zr_fwd *fwd, zr_ns_t now);
void zr_fwd_forget_byes(zr_fwd *fwd, const zr_stream *stream);
/* Ends locks that have been silent; sets release_at. */
void zr_fwd_release_locks(zr_fwd *fwd, zr_ns_t now);

/* zr_fwd_out.c */
/* One packet to a child, header and all: counts due and the verdict. True when it was queued. */
bool zr_fwd_to_child(zr_fwd *fwd, zr_sub *sub, const zr_item *item, uint8_t flags, zr_ns_t now);

/* Its output queue is full: players are due what is in it. */
void zr_fwd_leave(zr_fwd *fwd, zr_stream *stream);
/* So is `rush`: it goes before all that is leaving, be that the stream's own. */
void zr_fwd_rush(zr_fwd *fwd, zr_stream *stream);
/* What is left of it goes: pairs due and dropped. */
void zr_fwd_rush_lost(zr_fwd *fwd, zr_stream *stream, enum zr_drop_id drop);
/* A player in whose turn it was has gone. */
void zr_fwd_rush_on(zr_stream *stream);

/* zr_fwd_hold.c: the turn's packets are kept for the players behind what is held already. */
void zr_fwd_hold(zr_fwd *fwd, zr_stream *stream, zr_ns_t now);
/* What may leave does; what waits too long, or is too much, goes. */
void zr_fwd_release(zr_fwd *fwd, zr_ns_t now);
void zr_fwd_forget_held(zr_fwd *fwd, zr_stream *stream);

/* The one served after it; NULL: it is the last. */
static inline zr_sub *zr_fwd_next_player(const zr_stream *stream, const zr_sub *sub)
{
    return sub->in_stream.next == &stream->players ? NULL : ZR_CONTAINER(sub->in_stream.next, zr_sub, in_stream);
}

/* zr_fwd_shed.c. Is this packet left out on arrival? The media drop, or ZR_DROP_COUNT: no. */
enum zr_drop_id zr_fwd_gate(zr_fwd *fwd, zr_stream *stream, const zr_item *item, zr_ns_t now);
static inline bool zr_fwd_gates(const zr_fwd *fwd, const zr_stream *stream)
{
    return fwd->shed.gate != ZR_SHED_NONE || stream->gated != 0;
}
/* Is it left out for this child? The fan drop, or ZR_DROP_COUNT: no. */
enum zr_drop_id zr_fwd_child_sheds(zr_fwd *fwd, zr_sub *sub, const zr_item *item, zr_ns_t now);
/* A key frame would mend what was shed. Asked for at once, then ever less often while it is shed again and again. */
void zr_fwd_mend(zr_fwd *fwd, zr_stream *stream, uint32_t track, zr_ns_t now);
/* The child's conversation did not take it. */
void zr_fwd_child_refused(zr_fwd *fwd, zr_sub *sub, const zr_item *item);

/* zr_fwd_cmd.c, zr_fwd_session_cmd.c: one function a command (zr_cmd.h), which looks at every field before it uses it.
 * ZR_OK or what goes back as `rc`; `value` goes back with it. */
#define X(op, a, b, c, d, x, y, addr, help)                                                                            \
    int zr_fwd_cmd_##op(zr_fwd *fwd, const zr_cmd *cmd, uint64_t *value, zr_ns_t now);
ZR_CMD_LIST(X)
#undef X
/* Keys that were told and belong to no session yet. */
void zr_fwd_forget_told(zr_fwd *fwd);
/* Canonical, so that addresses may be compared as bytes. */
static inline bool zr_fwd_addr_ok(const zr_addr *addr)
{
    static const uint8_t zero[12];

    if (addr->port == 0 || addr->pad != 0)
        return false;
    return addr->family == 6 || (addr->family == 4 && memcmp(addr->ip + 4, zero, sizeof zero) == 0);
}

/* zr_fwd_rtcp.c: a key frame of this track is wanted; merged, at most one request upstream per 500 ms. */
void zr_fwd_want_key(zr_fwd *fwd, zr_stream *stream, uint32_t track, zr_ns_t now);

/* zr_fwd_mirror.c */
/* ZR_OK; ZR_E_inval: it is a mirror itself, or there is no such worker; ZR_E_exists. Begins at the latest key
 * frame in the cache, or, `whole`, at the oldest packet there. */
int zr_fwd_mirror_add(zr_fwd *fwd, zr_stream *stream, uint32_t worker, uint32_t slot, uint32_t feed, bool whole,
                      zr_ns_t now);
void zr_fwd_mirrors_drop(zr_fwd *fwd, zr_stream *stream, uint64_t workers);
/* An accepted packet, to every worker that mirrors its stream: counts due and the verdict of each. */
void zr_fwd_to_mirrors(zr_fwd *fwd, zr_stream *stream, const zr_item *item);
void zr_fwd_catch_up(zr_fwd *fwd, zr_ns_t now);
/* False when the ring takes nothing. */
bool zr_fwd_ask_owner(zr_fwd *fwd, const zr_stream *stream, uint32_t track);
bool zr_fwd_mirrors_check(const zr_fwd *fwd);

/* zr_fwd_life.c */
void zr_fwd_sub_gone(zr_fwd *fwd, zr_sub *sub);
/* A player's pairs that are not judged yet. */
void zr_fwd_lose_due(zr_fwd *fwd, zr_sub *sub, enum zr_drop_id drop);
void zr_fwd_pull_gone(zr_fwd *fwd, zr_pull *pull);
/* What players are still due from the output queue is dropped, and the queue emptied. */
void zr_fwd_out_lost(zr_fwd *fwd, zr_stream *stream, enum zr_drop_id drop);
/* Children, pulls, queues, cache and locks go; players and the ingress binding stay. */
void zr_fwd_stream_cleared(zr_fwd *fwd, zr_stream *stream);
void zr_fwd_stream_gone(zr_fwd *fwd, zr_stream *stream);
void zr_fwd_session_gone(zr_fwd *fwd, uint32_t session);
void zr_fwd_ingress_gone(zr_fwd *fwd, zr_ingress *ingress);
void zr_fwd_all_gone(zr_fwd *fwd);

#endif
