/*
 * zr_lane_priv.h - struct zr_lane and what its four sources share.
 *
 *   zr_lane.c  memory, sessions, deadlines, check     zr_lane_input.c   a datagram: judged whole, then applied
 *   zr_lane_conv.c  conversations, messages           zr_lane_output.c  what is due becomes sealed datagrams
 *   zr_lane_keys.c  generations, keys of pairs of lanes
 *   zr_lane_probe.c  lane 63: probes of the path (probe/)
 *   zr_lane_rate.c  max_rate: what waits for the session's bucket
 *   zr_lane_paths.c  a peer's addresses: which are listed, which is sent to; lane 63: challenges
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
#define ZR_LANE_VIOLATIONS                                                                                             \
    16u /* of a session within ZR_LANE_VIOLATING close its link: each of these is told at once                         \
         */
#define ZR_LANE_VIOLATING ZR_SEC(10)
#define ZR_LANE_GENS      3u

/* The keys of one handshake. */
typedef struct zr_lane_gen {
    bool open;       /* its index is known */
    bool over;       /* but its keys are gone: too old, or shut */
    uint32_t serial; /* in order of their coming, from 1 */
    uint32_t index, peer_index;
    zr_keys keys;
    zr_ns_t until;
    uint64_t forged; /* tags that did not verify */
} zr_lane_gen;

/* What we take from one peer lane, under one generation and one epoch of that lane. */
typedef struct zr_lane_rx {
    zr_list node; /* in lane->rx_free, or by itself */
    zr_seal seal;
    uint16_t epoch;
    struct zr_lane_rx *before; /* of the epoch before, until `late`; NULL: none */
    zr_ns_t late;
    zr_win win;
} zr_lane_rx;

typedef struct zr_lane_session {
    bool open;
    uint32_t slot;
    zr_session_conf conf; /* its keys and indices lie in gens */
    zr_lane_gen gens[ZR_LANE_GENS];
    uint32_t sending; /* under this one */
    uint32_t serials;
    uint32_t heard_serial;  /* of the newest generation that the peer was heard under; 0: none */
    zr_ns_t derive_full_at; /* zr_rate */
    zr_timer expiry;        /* of the oldest generation; never armed in plaintext */
    zr_list wanting;        /* in lane->wanting */
    enum zr_rekey_why why, told;
    zr_list hostile;                          /* in lane->hostile */
    uint32_t violations;                      /* not told yet */
    uint32_t violations_told;                 /* since violations_from */
    zr_ns_t violations_from, violations_rest; /* ten seconds; until then no more are told, unless they are many */
    zr_ns_t heard;
    uint32_t rtt_us;    /* told by the control plane, for conversations that only receive; 0: not known */
    zr_ns_t beat_every; /* ZR_NEVER: no heartbeats */
    zr_list convs, peers;
    uint16_t mtu;               /* KCP mtu of what is sent; conf.mtu bounds what comes */
    zr_probe *probe;            /* NULL: not probed here */
    zr_paths *paths;            /* with probe */
    zr_addr list[ZR_PATHS_MAX]; /* of the peer's agent; conf.agent is the one sent to, listed or not */
    uint32_t listed;
    zr_timer probe_timer;
    zr_list news;      /* in lane->news */
    uint64_t rate_bps; /* 0: as much as the windows let out */
    zr_ns_t rate_paid; /* until then everything sent is paid for */
    zr_list held;      /* peer lanes that wait for the bucket, by their `due` */
    zr_timer rate_timer;
    uint32_t reordered;                  /* segments that wait for others before them, of all conversations */
    uint32_t queued;                     /* segments that wait for their windows, of all conversations */
    struct zr_lane_peer *peer[ZR_LANES]; /* NULL until first used */
} zr_lane_session;

/* KCP measures in whole milliseconds and never says less than 1: that is no measurement of a shorter way. */
static inline uint32_t zr_lane_srtt_us(const zr_kcp *kcp)
{
    uint32_t ms = zr_kcp_srtt_ms(kcp);
    return ms <= 1 ? 0 : ms * 1000;
}

/* One lane of one peer. Lives as long as its session: the replay windows must. */
typedef struct zr_lane_peer {
    zr_list node;      /* in lane->peers_free or session->peers */
    zr_list due;       /* in lane->due or session->held */
    zr_list convs_due; /* touched conversations */
    zr_lane_session *session;
    uint8_t number;
    bool beat; /* a heartbeat is owed unless something else goes out */
    uint32_t convs;
    uint32_t tx_serial; /* of the generation that tx is keyed by; 0: none */
    uint64_t counter;   /* of the next datagram */
    uint64_t first;     /* of the first one under this generation */
    zr_seal tx;
    zr_lane_rx *rx[ZR_LANE_GENS]; /* NULL: nothing valid heard under it */
    zr_addr addr;
    zr_ns_t last_tx;
    zr_timer timer; /* the next heartbeat; armed while convs > 0 */
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
    struct {      /* the newest datagram applied to it: whose, under which keys, which one */
        uint8_t lane;
        uint16_t epoch;
        uint32_t serial;
        uint64_t counter;
    } newest;
    zr_timer timer;
    uint32_t queued;      /* its part of session->queued */
    uint32_t reordered;   /* and of session->reordered */
    zr_kcp_counts folded; /* what the page has already been told */
    zr_kcp kcp;
} zr_lane_conv;

_Static_assert(sizeof(zr_lane_conv) <= 2048, "an idle conversation costs at most 2 KiB, all that a lane holds of it");

enum { ZR_LANE_TIMER_CONV, ZR_LANE_TIMER_BEAT, ZR_LANE_TIMER_KEYS, ZR_LANE_TIMER_PROBE, ZR_LANE_TIMER_RATE };

struct zr_lane {
    zr_lane_conf conf;
    zr_pool *pool;
    zr_stat_page *page;
    zr_lane_session *sessions;
    zr_lane_conv *convs;
    zr_lane_peer *peers;
    uint32_t convs_open;
    uint32_t convs_used; /* below it: have been open at some time; above: memory that was never touched */
    zr_map by_index;     /* receiver index -> session slot * ZR_LANE_GENS + generation */
    zr_map by_conv;      /* session slot << 32 | conversation -> handle */
    zr_list convs_free, peers_free;
    zr_list due, ready;
    zr_list wanting; /* sessions that want new keys */
    zr_list hostile; /* sessions with violations to be told */
    zr_seal_kit kit;
    uint32_t prepared; /* ciphers whose contexts are made: 1 << enum zr_cipher */
    zr_lane_rx *rxs;
    zr_list rx_free;
    uint32_t rx_in_use;
    zr_seal trial; /* a key that nothing has verified under yet */
    /* No counter begins below: the same keys, told again to this lane after a reset, meet no nonce a second time. */
    uint64_t counter_floor;
    zr_kcp_blocks blocks;
    uint64_t exhausted_told;
    uint32_t queued_most; /* bytes that waited for the windows of one session, at most */
    struct {
        bool waiting;
        uint32_t session, conv;
        zr_ns_t rest; /* nothing is told before */
    } unknown;
    zr_probe *probes; /* by slot, or none */
    zr_paths *paths;  /* the same */
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

/* Its counters in the page: rx_..., tx_... */
static inline zr_link_row *zr_lane_row(const zr_lane *lane, const zr_lane_session *session)
{
    return &lane->page->sessions[session->slot];
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
void zr_lane_conv_settle(zr_lane *lane, zr_lane_conv *conv, zr_ns_t deadline);
/* What of it waits may have changed. */
void zr_lane_conv_note_reordered(zr_lane *lane, zr_lane_conv *conv);

/* zr_lane_keys.c. Memory and contexts; what is undone by _fini, also when _init failed. */
uint32_t zr_lane_rx_max(const zr_lane_conf *conf);
int zr_lane_keys_init(zr_lane *lane);
void zr_lane_keys_fini(zr_lane *lane);
int zr_lane_prepare(zr_lane *lane, enum zr_cipher cipher);
bool zr_lane_keys_check(const zr_lane *lane);
/* The first generation of a fresh session; later ones are zr_lane_session_rekey. All of them go. */
int zr_lane_gen_add(zr_lane *lane, zr_lane_session *session, uint32_t index, uint32_t peer_index, const zr_keys *keys,
                    zr_ns_t now);
void zr_lane_gens_drop(zr_lane *lane, zr_lane_session *session);
/* Generations whose time is over. */
void zr_lane_on_expiry(zr_lane *lane, zr_lane_session *session, zr_ns_t now);
/* A valid datagram came under it, here or in another lane of ours; the first one ends what was before, a little later.
 */
void zr_lane_gen_heard(zr_lane *lane, zr_lane_session *session, uint32_t gen, zr_ns_t now);
/* Nothing more under it; the session is told to want another for that reason. */
void zr_lane_gen_shut(zr_lane *lane, zr_lane_session *session, uint32_t gen, enum zr_rekey_why why);
void zr_lane_want_keys(zr_lane *lane, zr_lane_session *session, enum zr_rekey_why why);
/* A receive key for generation `gen`, not keyed yet, or NULL; and back. */
zr_lane_rx *zr_lane_rx_take(zr_lane *lane, zr_lane_session *session, uint32_t gen);
void zr_lane_rx_give(zr_lane *lane, zr_lane_rx *rx);
/* May this peer lane be sent `count` more datagrams? Keys its seal when the generation to send under is a new one. */
bool zr_lane_may_send(zr_lane *lane, zr_lane_peer *peer, uint32_t count, zr_ns_t now);

static inline bool zr_lane_gen_over(const zr_lane_gen *gen, zr_ns_t now)
{
    return gen->over || now >= gen->until;
}

/* zr_lane_output.c. The peer lane's heartbeat timer fired. */
void zr_lane_on_beat(zr_lane *lane, zr_lane_peer *peer, zr_ns_t now);
void zr_lane_gauge(zr_lane *lane);

/* zr_lane_rate.c, of sessions with a rate_bps. Output of a peer lane's due conversations as far as the bucket reaches:
 * ZR_E_again when something was left for later, ZR_E_full when the batch was. Then what it came to is paid. */
int zr_lane_rate_output(zr_lane *lane, zr_lane_peer *peer, zr_pack *pack, zr_ns_t now);
void zr_lane_rate_pay(zr_lane_session *session, uint32_t bytes, zr_ns_t now);
void zr_lane_rate_hold(zr_lane *lane, zr_lane_peer *peer, zr_ns_t now);
/* The timer fired: what was held is due again. */
void zr_lane_on_rate(zr_lane *lane, zr_lane_session *session);
/* How full a queue of so many bytes is, in sixteenths of ZR_LANE_RATE_WAIT. */
uint32_t zr_lane_rate_fill(const zr_lane_session *session, uint32_t queued);

/* zr_lane_probe.c */
#define ZR_LANE_AROUND    48u                               /* IP size minus datagram: IPv6, UDP */
#define ZR_LANE_ENVELOPED 80u                               /* IP size minus KCP mtu: IPv6, UDP, envelope */
#define ZR_LANE_MTU_SAFE  (ZR_MTU_BASE - ZR_LANE_ENVELOPED) /* KCP mtu of an IP size that every path takes */
#define ZR_LANE_BEAT_GRID ZR_MS(5)                          /* of a probing lane: sessions share its turns */
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

/* zr_lane_paths.c. Where lane `number` of a peer is, whose agent is at `agent`; does it send from there, or from
 * another listed address? */
zr_addr zr_lane_addr_of(const zr_addr *agent, uint8_t number);
bool zr_lane_listed(const zr_lane_session *session, uint8_t number, const zr_addr *from);
static inline bool zr_lane_paths_take(const zr_probe_seg *seg)
{
    return seg->cmd == ZR_PROBE_CHALLENGE || seg->cmd == ZR_PROBE_RESPONSE;
}
/* Of a session that is probed, like the functions of the same name above; output puts datagrams of its own. */
void zr_lane_paths_begin(zr_lane *lane, zr_lane_session *session, uint64_t seed, zr_ns_t now);
bool zr_lane_paths_judge(const zr_lane_session *session, const zr_probe_seg *seg);
void zr_lane_paths_input(zr_lane_session *session, const zr_probe_seg *seg, const zr_addr *from, zr_ns_t now);
void zr_lane_paths_follow(zr_lane *lane, zr_lane_session *session, zr_ns_t now);
int zr_lane_paths_output(zr_lane *lane, zr_lane_session *session, zr_batch *batch, zr_ns_t now);

#endif
