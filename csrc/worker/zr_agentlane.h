/*
 * zr_agentlane.h - lane 63: the agent's end of every session, with its socket. Conversation 0 of each session carries
 * control messages; hellos and answers come out raw, after a gate in C.
 *
 *   datagram ─▶ 0x08..0x0A? ─▶ zr_gate ──────────▶ zr_agentlane_hello  ─▶ Python
 *              data? ──▶ zr_lane ──────────────────▶ zr_agentlane_message ─▶ Python
 *
 * Without keys (plaintext, on loopback only) the gate is length and rate per source, and hellos are of any length.
 *
 * Not a worker: the agent calls it from its event loop. Datagrams that are handed out count as link_accepted; who
 * refuses one afterwards says so by zr_agentlane_refuse, and the ledger stays exact.
 */
#ifndef ZR_AGENTLANE_H
#define ZR_AGENTLANE_H

#include "forward/zr_lane.h"
#include "gate/zr_gate.h"
#include "net/zr_udp_rx.h"
#include "net/zr_udp_tx.h"

#define ZR_AGENT_DGRAMS 256 /* per zr_agentlane_receive; an empty one is one too */

#define ZR_HELLO_MIN   5u
#define ZR_HELLO_MAX   1400u
#define ZR_HELLO_QUEUE 1024u
#define ZR_HELLO_EVERY ZR_MS(50)                      /* per source: 20 a second */
#define ZR_MESSAGE_MAX (ZR_KCP_FRAGMENTS_MAX * 1500u) /* a control message cannot be longer */
#define ZR_HELLO_BURST 5
#define ZR_RATE_IDLE   25
#define ZR_RATE_ACTIVE 100

typedef struct zr_agentlane_conf {
    uint32_t sessions_max, pkts_max;
    uint32_t batch; /* messages per system call */
    bool gso;
    double residual, max_overhead;   /* as in zr_lane_conf */
    uint16_t rate_idle, rate_active; /* datagrams a second that each session promises its peer; idle 0: no probes */
    uint64_t seed;                   /* of the probes' tokens */
    const zr_udp_calls *calls;       /* NULL: libc's */
} zr_agentlane_conf;

typedef struct zr_hello {
    zr_addr from;
    zr_pkt *pkt; /* the caller's: drop it */
} zr_hello;

typedef struct zr_agentlane zr_agentlane;

zr_agentlane_conf zr_agentlane_conf_default(uint32_t sessions_max);
size_t zr_agentlane_bytes(const zr_agentlane_conf *conf);
/* As zr_lane_context_bytes. */
size_t zr_agentlane_context_bytes(const zr_agentlane_conf *conf);
/* In `mem`, zeroed and aligned to ZR_CACHELINE. NULL: out of range. */
zr_agentlane *zr_agentlane_init(void *mem, const zr_agentlane_conf *conf, zr_stat_page *page, zr_ns_t now);
void zr_agentlane_fini(zr_agentlane *agent);

/* One datagram: ZR_OK, or ZR_E_dropped and counted. */
int zr_agentlane_input(zr_agentlane *agent, const uint8_t *data, size_t len, bool truncated, const zr_addr *from,
                       zr_ns_t now);
/* What the socket holds, up to ZR_AGENT_DGRAMS and what one more recvmmsg brings; datagrams taken. */
int zr_agentlane_receive(zr_agentlane *agent, int fd, zr_ns_t now);
/* The next hello, answer or cookie reply that passed the gate; ZR_E_again. */
int zr_agentlane_hello(zr_agentlane *agent, zr_hello *hello);
uint32_t zr_agentlane_hellos_waiting(const zr_agentlane *agent);
/* The next control message: copied into `to` of ZR_MESSAGE_MAX bytes; its length or ZR_E_again. */
int zr_agentlane_message(zr_agentlane *agent, uint32_t *session, uint8_t to[ZR_MESSAGE_MAX]);
/* Something handed out was no good: one datagram moves from accepted to `why`, a drop of the link ledger. */
int zr_agentlane_refuse(zr_agentlane *agent, enum zr_drop_id why);

/* From now on handshakes are sealed and no plaintext hello passes. Again with other keys: in their place; who has not
 * them yet is a stranger, and cookies start anew. ZR_E_os: libcrypto lacks an algorithm, and nothing passes. */
int zr_agentlane_gate_keys(zr_agentlane *agent, const zr_gate_keys *keys);
/* How much of a core this process uses, in thousandths: above ZR_GATE_BUSY sources must prove their address. */
void zr_agentlane_busy(zr_agentlane *agent, uint32_t thousandths);

/* With its conversation 0. As zr_lane_session_add, zr_lane_conv_open. */
int zr_agentlane_session_add(zr_agentlane *agent, uint32_t slot, const zr_session_conf *conf, zr_ns_t now);
/* As zr_lane_session_rekey, zr_lane_rekey_wanted. */
int zr_agentlane_session_rekey(zr_agentlane *agent, uint32_t slot, uint32_t index, uint32_t peer_index,
                               const zr_keys *keys, zr_ns_t now);
bool zr_agentlane_rekey_wanted(zr_agentlane *agent, uint32_t *slot, enum zr_rekey_why *why);
/* As zr_lane_violations. */
bool zr_agentlane_violations(zr_agentlane *agent, uint32_t *slot, uint32_t *count);
int zr_agentlane_session_drop(zr_agentlane *agent, uint32_t slot);
/* ZR_E_missing; as zr_lane_send_bytes. */
int zr_agentlane_send(zr_agentlane *agent, uint32_t slot, const uint8_t *data, size_t len, zr_ns_t now);
zr_ns_t zr_agentlane_heard(const zr_agentlane *agent, uint32_t slot);
uint32_t zr_agentlane_index(const zr_agentlane *agent, uint32_t slot);
/* As zr_lane_session_rtt_us. */
uint32_t zr_agentlane_rtt_us(const zr_agentlane *agent, uint32_t slot);
/* Of conversation 0, as zr_lane_conv_estimated; `sent`: the segments that this is drawn from. */
int zr_agentlane_estimated(const zr_agentlane *agent, uint32_t slot, zr_kcp_estimates *estimates, uint64_t *sent);

/* As zr_lane_session_set_active, zr_lane_session_probe, zr_lane_probed. */
int zr_agentlane_session_active(zr_agentlane *agent, uint32_t slot, bool active, zr_ns_t now);
const zr_probe *zr_agentlane_probe(const zr_agentlane *agent, uint32_t slot);
int zr_agentlane_probed(zr_agentlane *agent, uint32_t *slot);
/* As zr_lane_session_set_paths, zr_lane_session_paths. */
int zr_agentlane_session_paths(zr_agentlane *agent, uint32_t slot, const zr_addr *addrs, uint32_t count, zr_ns_t now);
const zr_paths *zr_agentlane_paths(const zr_agentlane *agent, uint32_t slot);
/* As zr_lane_session_heard_at. */
int zr_agentlane_heard_elsewhere(zr_agentlane *agent, uint32_t slot, zr_ns_t when, zr_ns_t now);

zr_ns_t zr_agentlane_deadline(const zr_agentlane *agent);
/* Fills the batch with what is due. 0: all; ZR_E_full: empty the batch and call again. The caller resets it. */
int zr_agentlane_output(zr_agentlane *agent, zr_ns_t now);
zr_batch *zr_agentlane_batch(zr_agentlane *agent);
/* Output into a socket until all is sent. */
void zr_agentlane_flush(zr_agentlane *agent, int fd, zr_ns_t now);
bool zr_agentlane_check(const zr_agentlane *agent);

#endif
