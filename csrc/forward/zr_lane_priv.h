/*
 * zr_lane_priv.h - struct zr_lane and what its four sources share.
 *
 *   zr_lane.c  memory, sessions, deadlines, check     zr_lane_input.c   a datagram: judged whole, then applied
 *   zr_lane_conv.c  conversations, messages           zr_lane_output.c  what is due becomes enveloped datagrams
 *   zr_lane_probe.c  lane 63: probes of the path (probe/)
 *
 * Whatever happens to a conversation (send, recv, input, deadline) *touches* it: it joins its peer lane's list, and the
 * peer lane joins the lane's. Output empties these lists, and settles each conversation as it leaves: its counts go to
 * the page, its timer to its new deadline. So both happen once a turn, however often a conversation was touched.
 */
#ifndef ZR_LANE_PRIV_H
#define ZR_LANE_PRIV_H

#include "forward/zr_lane.h"
#include "forward/zr_list.h"
#include "kcp/zr_kcp_priv.h"

#define ZR_LANE_MTU_MAX      1500u
#define ZR_LANE_MTU_MIN      (ZR_SEG_HEAD + ZR_PACK_LARGE)
#define ZR_LANE_INDEX_MAX    ((1u << 26) - 1)
#define ZR_LANE_PROBE_FIRST  96u /* segment commands of probes, conversation 0 */
#define ZR_LANE_PROBE_LAST   103u
#define ZR_LANE_UNKNOWN_REST ZR_MS(100)

typedef struct zr_lane_session {
    bool open;
    uint32_t slot;
    zr_session_conf conf;
    uint64_t
        counter; /* of the next datagram. One for all peer lanes: the key is our lane's, a number is never reused */
    zr_ns_t heard;
    uint32_t rtt_us;    /* told by the control plane, for conversations that only receive; 0: not known */
    zr_ns_t beat_every; /* ZR_NEVER: no heartbeats */
    zr_list convs, peers;
    uint16_t mtu;    /* KCP mtu of what is sent; conf.mtu bounds what comes */
    zr_probe *probe; /* NULL: not probed here */
    zr_timer probe_timer;
    zr_list news;                        /* in lane->news */
    uint32_t queued;                     /* segments that wait for their windows, of all conversations */
    struct zr_lane_peer *peer[ZR_LANES]; /* NULL until first used */
} zr_lane_session;

/* KCP measures in whole milliseconds and never says less than 1: that is no measurement of a shorter way. */
static inline uint32_t zr_lane_srtt_us(const zr_kcp *kcp)
{
    uint32_t ms = zr_kcp_srtt_ms(kcp);
    return ms <= 1 ? 0 : ms * 1000;
}

/* One lane of one peer. Lives as long as its session: the replay window must. */
typedef struct zr_lane_peer {
    zr_list node;      /* in lane->peers_free or session->peers */
    zr_list due;       /* in lane->due */
    zr_list convs_due; /* touched conversations */
    zr_lane_session *session;
    uint8_t number;
    bool heard; /* epoch and window mean something */
    bool beat;  /* a heartbeat is owed unless something else goes out */
    uint16_t epoch;
    uint32_t convs;
    zr_addr addr;
    zr_ns_t last_tx;
    zr_timer timer; /* the next heartbeat; armed while convs > 0 */
    zr_win win;
} zr_lane_peer;

typedef struct zr_lane_conv {
    zr_list node;             /* in lane->convs_free or session->convs */
    zr_list due;              /* in peer->convs_due */
    zr_list ready;            /* in lane->ready: may have a message */
    zr_lane_session *session; /* NULL: free */
    zr_lane_peer *peer;       /* NULL: not learned yet */
    uint32_t id, user;
    enum zr_conv_kind kind;
    bool applied; /* the datagram at hand had segments of this conversation */
    zr_timer timer;
    uint32_t queued;      /* its part of session->queued */
    zr_kcp_counts folded; /* what the page has already been told */
    zr_kcp kcp;
} zr_lane_conv;

enum { ZR_LANE_TIMER_CONV, ZR_LANE_TIMER_BEAT, ZR_LANE_TIMER_PROBE };

struct zr_lane {
    zr_lane_conf conf;
    zr_pool *pool;
    zr_stat_page *page;
    zr_lane_session *sessions;
    zr_lane_conv *convs;
    zr_lane_peer *peers;
    uint32_t convs_open;
    uint32_t convs_used; /* below it: have been open at some time; above: memory that was never touched */
    zr_map by_index;     /* receiver index -> session slot */
    zr_map by_conv;      /* session slot << 32 | conversation -> handle */
    zr_list convs_free, peers_free;
    zr_list due, ready;
    zr_kcp_blocks blocks;
    uint64_t exhausted_told;
    uint32_t queued_most; /* bytes that waited for the windows of one session, at most */
    struct {
        bool waiting;
        uint32_t session, conv;
        zr_ns_t rest; /* nothing is told before */
    } unknown;
    zr_probe *probes; /* by slot, or none */
    zr_list news;     /* sessions to be named by zr_lane_probed */
    bool listens;
    zr_ns_t listened;
    zr_wheel wheel;
    zr_kcp_plan plan; /* of every conversation */
};

/* Between a free list and its owner's. */
static inline void zr_lane_move(zr_list *list, zr_list *link)
{
    zr_list_remove(link);
    zr_list_append(list, link);
}

static inline uint64_t zr_lane_conv_key(uint32_t session, uint32_t conv)
{
    return (uint64_t)session << 32 | conv;
}

/* zr_lane.c. The session's peer lane, taken from the pool when this is its first use; NULL when the pool is empty. */
zr_lane_peer *zr_lane_peer_get(zr_lane *lane, zr_lane_session *session, uint8_t number);
/* NULL unless open. */
zr_lane_session *zr_lane_session_at(const zr_lane *lane, uint32_t slot);

/* zr_lane_conv.c */
zr_lane_conv *zr_lane_conv_at(const zr_lane *lane, uint32_t handle); /* NULL unless open */
void zr_lane_conv_bind(zr_lane *lane, zr_lane_conv *conv, zr_lane_peer *peer, zr_ns_t now);
void zr_lane_conv_touch(zr_lane *lane, zr_lane_conv *conv);
void zr_lane_conv_settle(zr_lane *lane, zr_lane_conv *conv);

/* zr_lane_output.c. The peer lane's heartbeat timer fired. */
void zr_lane_on_beat(zr_lane *lane, zr_lane_peer *peer, zr_ns_t now);
void zr_lane_gauge(zr_lane *lane);

/* zr_lane_probe.c */
#define ZR_LANE_MTU_SAFE  (ZR_MTU_BASE - 80u) /* KCP mtu of an IP size that every path takes */
#define ZR_LANE_BEAT_GRID ZR_MS(5)            /* of a probing lane: sessions share its turns */
void zr_lane_probe_begin(zr_lane *lane, zr_lane_session *session, zr_ns_t now);
void zr_lane_probe_end(zr_lane *lane, zr_lane_session *session);
static inline zr_probe_seg zr_lane_probe_seg(const zr_seg *seg)
{
    return (zr_probe_seg){ .cmd = seg->cmd,
                           .flags = seg->frg,
                           .ts = seg->ts,
                           .id = seg->sn,
                           .token = seg->una,
                           .len = seg->len,
                           .data = seg->data };
}
void zr_lane_on_probe(zr_lane *lane, zr_lane_session *session, zr_ns_t now);
/* A datagram of the peer's was accepted; then each probe segment in it; then once: */
void zr_lane_probe_settle(zr_lane *lane, zr_lane_session *session, zr_ns_t now);
/* Everything due into the packer; ZR_E_full: call again with another batch. */
int zr_lane_probe_output(zr_lane *lane, zr_lane_session *session, zr_pack *pack, zr_ns_t now);

#endif
