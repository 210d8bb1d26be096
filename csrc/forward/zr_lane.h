/*
 * zr_lane.h - the data side of sessions: one lane's end of every session with every peer. Sans-IO.
 *
 *   datagram -> zr_lane_input -> envelope, index, source, replay window -> every segment judged, then applied by conv
 *            -> zr_lane_recv: one complete message at a time, at once
 *   zr_lane_send(conv) -> KCP -> zr_lane_output: segments of all conversations to one peer lane share datagrams
 *
 * A worker's lane carries media conversations, the agent's (lane 63) conversation 0 of each session. A session is known
 * by its slot, picked by the control plane; a conversation by a handle. Peer lanes (address, replay window, heartbeat)
 * come from a pool when first used and stay as long as their session. Order within a turn:
 *
 *     input* -> recv until ZR_E_again -> on_deadline -> send* -> output until it returns 0
 *
 * Keys: a session is added with the keys of one handshake, or without any (plaintext, on loopback). Each further
 * handshake is one more *generation*, with indices of its own; three are kept. A lane takes valid datagrams under all
 * of them and sends under one, which only ever moves to a newer one. Each pair (our lane, peer's lane) has its own keys
 * under each, its own dense counter and its own replay window; see zr_lane_keys.c.
 *
 * Drops are counted in `page`, ledger link; the caller counts rx_link for what it passes in. Memory is the caller's,
 * except libcrypto's contexts (zr_seal.h): those of the ciphers in conf.ciphers are made by zr_lane_init, those of
 * another cipher with the first session that wants it.
 */
#ifndef ZR_LANE_H
#define ZR_LANE_H

#include "base/zr_addr.h"
#include "coll/zr_map.h"
#include "coll/zr_win.h"
#include "kcp/zr_kcp.h"
#include "mem/zr_batch.h"
#include "probe/zr_paths.h"
#include "probe/zr_probe.h"
#include "stat/zr_stat.h"
#include "time/zr_wheel.h"
#include "wire/zr_seal.h"

#define ZR_LANE_PARTS        9
#define ZR_LANE_DEADLINE_MS  400u
#define ZR_LANE_QUEUE_MAX    (4u << 20)       /* bytes that wait for the windows of one session, in full segments */
#define ZR_LANE_REORDER_MAX  8192u            /* segments of one session that wait for others before them */
#define ZR_LANE_RATE_MIN     64000ull         /* bits a second */
#define ZR_LANE_RATE_MAX     1000000000000ull /* the same */
#define ZR_LANE_RATE_WAIT    ZR_MS(100)       /* a queue that needs so long at its session's rate is full */
#define ZR_LANE_RESIDUAL     1e-6
#define ZR_LANE_MAX_OVERHEAD 6.5
#define ZR_LANE_INDEX_NONE   UINT32_MAX

#define ZR_LANE_KEYS_AGE    ZR_SEC(900)         /* then nothing is sent or taken under them any more */
#define ZR_LANE_KEYS_REKEY  ((uint64_t)1 << 26) /* datagrams of one pair of lanes: new keys are asked for */
#define ZR_LANE_KEYS_LIMIT  ((uint64_t)1 << 28) /* and none is sent beyond this (RFC 9001, appendix B) */
#define ZR_LANE_KEYS_FORGED ((uint64_t)1 << 36) /* tags that did not verify: nothing is taken any more */
/* Of a session: at most 100 receive keys in any second are derived on a stranger's word. */
#define ZR_LANE_DERIVE_EVERY ZR_US(15625)
#define ZR_LANE_DERIVE_BURST 36
#define ZR_LANE_KEYS_LATE    ZR_SEC(5) /* keys are gone so long after the peer was heard under newer ones */
#define ZR_LANE_EPOCH_LATE   ZR_SEC(1) /* datagrams of a replaced lane are taken so long after its successor's first */

typedef struct zr_lane_conf {
    uint8_t lane;          /* 0..61, or 63: the agent */
    uint16_t epoch;        /* of this lane */
    uint32_t sessions_max; /* slots 0..sessions_max-1 */
    uint32_t convs_max;
    uint32_t peer_lanes_max; /* (session, peer lane) pairs in use at once */
    uint32_t blocks_max;     /* KCP window blocks */
    uint32_t window;         /* segments per conversation, <= 8192 */
    /* Of media; 0: the usual. */
    uint16_t deadline_ms; /* the longest of any message: a hole is passed over after it */
    double residual;      /* share of messages that may miss their deadline */
    double max_overhead;  /* transmissions per segment, at most */
    uint32_t ciphers;     /* 1 << enum zr_cipher: contexts made at start */
    uint32_t keys_max;    /* receive keys, one per pair of lanes and generation; 0: twice the peer lanes and 64 */
    zr_addr own;          /* as zr_lane_set_own */
    /* Lane 63: how sessions are probed; rate_idle 0: they are not. ip_max and seed are set per session. */
    zr_probe_conf probe;
} zr_lane_conf;

typedef struct zr_session_conf {
    uint32_t index, peer_index; /* 26 bits: ours and the peer's */
    zr_addr agent;              /* the peer's agent; its lane i is at port + 1 + i */
    uint8_t lanes;              /* its workers */
    uint16_t mtu;               /* KCP mtu */
    uint32_t rate_mhz;          /* heartbeats per 1000 s on a peer lane with open conversations; 0: none */
    zr_keys keys;               /* cipher 0: plaintext */
} zr_session_conf;

/* Why a session wants new keys, the more urgent the higher. */
enum zr_rekey_why {
    ZR_REKEY_SOON = 1, /* ZR_LANE_KEYS_REKEY */
    ZR_REKEY_MUTE = 2, /* too old, or ZR_LANE_KEYS_LIMIT: nothing is sent any more */
    ZR_REKEY_SHUT = 3, /* the counter's last number, or ZR_LANE_KEYS_FORGED: nothing is taken any more */
};

typedef struct zr_lane zr_lane;

enum zr_conv_kind { ZR_CONV_CONTROL, ZR_CONV_MEDIA };

typedef struct zr_lane_msg {
    uint32_t conv; /* handle */
    uint32_t user; /* what zr_lane_conv_open was given */
    uint32_t session;
    uint32_t srtt_us;
    zr_slice views[2]; /* 1, or 2 for a message of two segments; references pass to the caller */
    int view_count;    /* 0: a control message waits, take it with zr_lane_recv_bytes(conv) */
} zr_lane_msg;

size_t zr_lane_bytes(const zr_lane_conf *conf);
/* What that is for, into at least ZR_LANE_PARTS; how many. */
int zr_lane_parts(const zr_lane_conf *conf, zr_part *parts);
/* Outside of that, on the heap: libcrypto's contexts that zr_lane_init makes. About. */
size_t zr_lane_context_bytes(const zr_lane_conf *conf);
/* Builds a lane in `mem`, aligned to ZR_CACHELINE; pool and page outlive it. NULL when conf is out of range. */
zr_lane *zr_lane_init(void *mem, const zr_lane_conf *conf, zr_pool *pool, zr_stat_page *page, zr_ns_t now);
/* Before its first session: another number and epoch than it was made with. */
void zr_lane_become(zr_lane *lane, uint8_t number, uint16_t epoch, zr_ns_t now);
void zr_lane_fini(zr_lane *lane);
/* Where this lane's socket is bound: nothing comes from there. family 0: not known. */
void zr_lane_set_own(zr_lane *lane, const zr_addr *own);

/* ZR_OK; ZR_E_exists, ZR_E_inval, ZR_E_os: no memory for contexts. The caller wipes its keys. */
int zr_lane_session_add(zr_lane *lane, uint32_t slot, const zr_session_conf *conf, zr_ns_t now);
/* Closes its conversations too: walk them with zr_lane_conv_next first to learn their users. ZR_E_missing. */
int zr_lane_session_drop(zr_lane *lane, uint32_t slot);
/*
 * The next generation of keys: ZR_OK; ZR_E_missing; ZR_E_inval, also for a session in plaintext; ZR_E_exists when the
 * index or the keys are in use. Datagrams under it are taken from now on, and sent: by the initiator at once, else
 * after the first valid one under it. The oldest generation goes when there are three. Told again, and as initiator:
 * the peer was heard under it elsewhere, it is sent under from now on.
 */
int zr_lane_session_rekey(zr_lane *lane, uint32_t slot, uint32_t index, uint32_t peer_index, const zr_keys *keys,
                          zr_ns_t now);
/* A session wants new keys: which and why; each reason is told once per generation. */
bool zr_lane_rekey_wanted(zr_lane *lane, uint32_t *session, enum zr_rekey_why *why);
bool zr_lane_session_open(const zr_lane *lane, uint32_t slot);
/* When anything valid of this session was last heard on this lane; 0: never. */
zr_ns_t zr_lane_session_heard(const zr_lane *lane, uint32_t slot);
/* Our index of the newest generation that the peer was heard under, else of the one sent under; ZR_LANE_INDEX_NONE
 * without the session. */
uint32_t zr_lane_session_index(const zr_lane *lane, uint32_t slot);
/* Round trip of the session's conversation 0, microseconds; 0: not measured, or below KCP's 1 ms. Only who sends
 * measures, so workers, whose conversations mostly receive, are told by the agent what it measured. */
uint32_t zr_lane_session_rtt_us(const zr_lane *lane, uint32_t slot);
int zr_lane_session_set_rtt(zr_lane *lane, uint32_t slot, uint32_t rtt_us);

/* Size of KCP datagrams from now on, at most the session's own mtu. ZR_E_missing, ZR_E_inval. */
int zr_lane_session_set_mtu(zr_lane *lane, uint32_t slot, uint16_t mtu);
/* Of UDP payload, bits a second from now on, whatever the peer acknowledges; 0: no bound. ZR_E_missing, ZR_E_inval. */
int zr_lane_session_set_rate(zr_lane *lane, uint32_t slot, uint64_t bps, zr_ns_t now);
/* Its conversations that are dark try at once. ZR_E_missing. */
int zr_lane_session_kick(zr_lane *lane, uint32_t slot, zr_ns_t now);
/* Of a lane that probes; NULL: no such session, or a lane that does not. */
zr_probe *zr_lane_session_probe(const zr_lane *lane, uint32_t slot);
/* The session carries streams: it promises the higher rate. ZR_E_missing. */
int zr_lane_session_set_active(zr_lane *lane, uint32_t slot, bool active, zr_ns_t now);
/* A datagram of so many bytes to a peer's agent was refused as too long (zr_udp_tx_oversize): see zr_mtu_on_refused. */
void zr_lane_on_oversize(zr_lane *lane, const zr_addr *to, uint32_t bytes, zr_ns_t now);
/* A worker's lane heard it at `when`. ZR_E_missing. */
int zr_lane_session_heard_at(zr_lane *lane, uint32_t slot, zr_ns_t when, zr_ns_t now);
/* The next session whose state (up, down), path mtu or address changed since it was last named; ZR_E_again. */
int zr_lane_probed(zr_lane *lane, uint32_t *slot);
/* Where the peer's agent may be; its session's address must be among them. Datagrams from there are the peer's, and a
 * lane that probes keeps all of them warm and sends to the best: see zr_paths.h. ZR_E_missing; ZR_E_inval, also for a
 * lane that does not probe. */
int zr_lane_session_set_paths(zr_lane *lane, uint32_t slot, const zr_addr *addrs, uint32_t count, zr_ns_t now);
/* NULL: no such session, or a lane that does not probe. */
const zr_paths *zr_lane_session_paths(const zr_lane *lane, uint32_t slot);
/* What other lanes are told of that: listed address `number`, in order, 0 begins anew; and which is sent to. */
int zr_lane_session_list(zr_lane *lane, uint32_t slot, uint32_t number, const zr_addr *addr);
int zr_lane_session_set_addr(zr_lane *lane, uint32_t slot, const zr_addr *addr);
/* Silence counts up to here: the socket was empty then. Who never says so is taken to listen always. */
void zr_lane_listened(zr_lane *lane, zr_ns_t now);

/*
 * Opens conversation `conv` to `peer_lane`; returns its handle, or ZR_E_missing (no session), ZR_E_inval, ZR_E_exists,
 * ZR_E_nomem. ZR_LANE_ANY: nothing is sent until the first datagram that carries the conversation shows its sender's
 * lane. A lane once known stays: segments from another lane of the peer's are taken, but answered to the known one.
 */
int zr_lane_conv_open(zr_lane *lane, uint32_t session, uint32_t conv, uint8_t peer_lane, enum zr_conv_kind kind,
                      uint32_t user, zr_ns_t now);
/* Handle of an open conversation or ZR_E_missing. */
int zr_lane_conv_find(const zr_lane *lane, uint32_t session, uint32_t conv);
/* The first conversation of a session, or the one behind `after` (a handle); ZR_E_missing at the end. */
int zr_lane_conv_next(const zr_lane *lane, uint32_t session, int after);
uint32_t zr_lane_conv_user(const zr_lane *lane, uint32_t conv);
void zr_lane_conv_close(zr_lane *lane, uint32_t conv);
/* What the conversation has measured of its way; ZR_E_missing when it is not open. */
int zr_lane_conv_estimated(const zr_lane *lane, uint32_t conv, zr_kcp_estimates *estimates);
/* As zr_kcp_counted; NULL when it is not open. */
const zr_kcp_counts *zr_lane_conv_counted(const zr_lane *lane, uint32_t conv);

/* One datagram. Consumes `pkt`. ZR_OK, or ZR_E_dropped after counting exactly one link drop. */
int zr_lane_input(zr_lane *lane, zr_pkt *pkt, const zr_addr *from, zr_ns_t now);
/* The next complete message; ZR_E_again when there is none. Control messages have no bound of two segments, so they are
 * only announced here (view_count 0): once, and again after each zr_lane_recv_bytes while more wait. */
int zr_lane_recv(zr_lane *lane, zr_lane_msg *msg);
/* Copies the next message of a control conversation; its length, ZR_E_again when there is none, ZR_E_oversize (not
 * taken) when `size` is too small, ZR_E_missing when the conversation is not open. */
int zr_lane_recv_bytes(zr_lane *lane, uint32_t conv, uint8_t *to, size_t size);
/* A segment for a conversation that is not open was dropped: who and which; true at most once per 100 ms. */
bool zr_lane_unknown(zr_lane *lane, uint32_t *session, uint32_t *conv);
/* A session's datagrams broke the rules of KCP: which, and how many since it was told last. At once for the
 * first 16 in ten seconds, which close a link; then once per 100 ms or per 16 of them. */
bool zr_lane_violations(zr_lane *lane, uint32_t *session, uint32_t *count);

/* As zr_kcp_send, _send_within, _send_bytes; ZR_E_missing when the conversation is not open. zr_lane_send: within the
 * lane's deadline. */
int zr_lane_send(zr_lane *lane, uint32_t conv, const uint8_t *head, size_t head_len, const zr_slice *body, zr_ns_t now);
int zr_lane_send_within(zr_lane *lane, uint32_t conv, const uint8_t *head, size_t head_len, const zr_slice *body,
                        uint16_t deadline_ms, zr_ns_t now);
int zr_lane_send_bytes(zr_lane *lane, uint32_t conv, const uint8_t *data, size_t len, zr_ns_t now);

/* How full a conversation's send queue is, in sixteenths: its window and queue, or what its session may have waiting,
 * whichever is fuller. 0: less than half. */
uint32_t zr_lane_conv_fill(const zr_lane *lane, uint32_t conv);

/* When on_deadline must be called; 0 while output is owed. */
zr_ns_t zr_lane_deadline(const zr_lane *lane);
/* The same without what waits for zr_lane_output. */
zr_ns_t zr_lane_timers(const zr_lane *lane);
void zr_lane_on_deadline(zr_lane *lane, zr_ns_t now);
/* Appends due datagrams, one peer lane after the other. 0: all done; ZR_E_full: send the batch and call again. */
int zr_lane_output(zr_lane *lane, zr_batch *batch, zr_ns_t now);
bool zr_lane_check(const zr_lane *lane);

#endif
