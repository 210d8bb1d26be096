/*
 * zr_stat.h - the counter page: one writer (a worker, or the agent for its own lane), any number of readers.
 *
 * Lives in a sealed memfd of the supervisor's, so it outlives the worker: a successor attaches to the same page with
 * `generation` + 1 and counts on. Writers use plain relaxed stores (no lock prefix); readers see each word whole.
 * On the packet path we count; sentences are made by the reader.
 *
 *   | header | stat[] | drop[] | hist[][] | sessions[] rows | streams[streams_max] rows |
 */
#ifndef ZR_STAT_H
#define ZR_STAT_H

#include <stdatomic.h>

#include "base/zr_base.h"
#include "stat/zr_drop.h"

/* id, kind (c = counter, g = gauge), unit, help.  Append only: the position is the ABI. */
#define ZR_STAT_LIST(X)                                                                                                \
    X(rx_link, c, "datagrams", "taken from the lane's link socket")                                                    \
    X(rx_link_bytes, c, "bytes", "taken from the lane's link socket")                                                  \
    X(link_accepted, c, "datagrams", "passed the envelope and every segment check")                                    \
    X(link_empty, c, "datagrams", "accepted heartbeats: an empty plaintext")                                           \
    X(link_hello, c, "datagrams", "accepted hellos and answers (agent)")                                               \
    X(rx_media, c, "packets", "RTP, RTCP and media messages received")                                                 \
    X(rx_media_bytes, c, "bytes", "RTP, RTCP and media messages received")                                             \
    X(media_accepted, c, "packets", "given to a stream, or RTCP consumed here")                                        \
    X(fan_due, c, "packets", "(accepted packet, subscriber) pairs")                                                    \
    X(fan_sent, c, "packets", "pairs queued for a socket or a child's conversation")                                   \
    X(tx_due, c, "datagrams", "handed to a socket")                                                                    \
    X(tx_sent, c, "datagrams", "taken by the kernel")                                                                  \
    X(tx_bytes, c, "bytes", "taken by the kernel")                                                                     \
    X(tx_runs, c, "messages", "sendmmsg messages; one run each")                                                       \
    X(tx_gso_runs, c, "messages", "of these, with UDP_SEGMENT")                                                        \
    X(tx_gso_off, c, "events", "destinations where UDP_SEGMENT was refused")                                           \
    X(sys_recvmmsg, c, "calls", "recvmmsg calls")                                                                      \
    X(sys_sendmmsg, c, "calls", "sendmmsg calls")                                                                      \
    X(sys_epoll, c, "calls", "epoll_wait calls")                                                                       \
    X(tx_short, c, "calls", "sendmmsg took fewer messages than it was given")                                          \
    X(pool_in_use, g, "packets", "packets out of the pool")                                                            \
    X(pool_in_use_max, g, "packets", "most packets ever out of the pool")                                              \
    X(pool_exhausted, c, "takes", "takes refused by an empty pool")                                                    \
    X(kcp_segs_sent, c, "segments", "PUSH segments sent, retransmissions included")                                    \
    X(kcp_retrans_timeout, c, "segments", "sent again by timeout")                                                     \
    X(kcp_retrans_fast, c, "segments", "sent again after later acknowledgements")                                      \
    X(kcp_segs_received, c, "segments", "PUSH segments received")                                                      \
    X(kcp_duplicates, c, "segments", "PUSH segments received again")                                                   \
    X(kcp_acks_sent, c, "segments", "ACK segments sent")                                                               \
    X(kcp_window_drops, c, "segments", "PUSH segments beyond the receive window")                                      \
    X(kcp_blocks_in_use, g, "blocks", "window blocks of 64 slots out of their pool")                                   \
    X(kcp_blocks_exhausted, c, "takes", "block takes refused")                                                         \
    X(kcp_conv_unknown, c, "segments", "segments of a conversation that is not open")                                  \
    X(cache_entries, g, "packets", "packets held by the replay caches")                                                \
    X(cache_evicted, c, "packets", "taken from the least recently used stream's cache")                                \
    X(nack_asked, c, "packets", "RTP sequence numbers asked for by NACK")                                              \
    X(nack_served, c, "packets", "of these, sent again from the replay cache")                                         \
    X(cache_replayed, c, "packets", "sent to joiners from the replay cache")                                           \
    X(keyframe_asked, c, "requests", "PLI, FIR and keyframe requests from below")                                      \
    X(keyframe_sent, c, "requests", "of these, sent upstream")                                                         \
    X(rtcp_reports, c, "packets", "receiver reports consumed")                                                         \
    X(commands, c, "records", "commands executed")                                                                     \
    X(commands_failed, c, "records", "of these, refused")                                                              \
    X(events, c, "records", "events written")                                                                          \
    X(events_lost, c, "records", "events lost to a full event ring")                                                   \
    X(turns, c, "turns", "turns of the loop")                                                                          \
    X(busy_ns, c, "nanoseconds", "time spent in turns that did work")                                                  \
    X(turn_ns_max, g, "nanoseconds", "longest turn since start")                                                       \
    X(streams, g, "streams", "streams open here")                                                                      \
    X(subs, g, "subscribers", "subscribers here, children included")                                                   \
    X(convs, g, "conversations", "conversations open here")                                                            \
    X(link_late, c, "segments", "segments of an already delivered or given-up message")                                \
    X(heartbeats_sent, c, "datagrams", "empty datagrams sent to keep a path alive")                                    \
    X(wakes, c, "calls", "eventfd writes to the other side")                                                           \
    X(kcp_copies, c, "segments", "sent besides one transmission per attempt")                                          \
    X(kcp_spurious, c, "segments", "sent again although the first transmission had arrived")                           \
    X(kcp_expired, c, "segments", "given up by the sender at their deadline, unacknowledged")                          \
    X(kcp_holes, c, "segments", "passed over by the receiver at their deadline, never received")                       \
    X(kcp_late, c, "segments", "PUSH segments received after they had been passed over")                               \
    X(kcp_conflict, c, "segments", "PUSH segments received again with other bytes; the first ones stand")              \
    X(kcp_ack_ts, c, "segments", "ACK segments with a time at which their segment was not sent")                       \
    X(tx_blocked, c, "events", "a socket's buffer was full: the rest of its batch was kept and went later")            \
    X(tx_waiting, g, "datagrams", "handed to a socket and kept until it takes more")                                   \
    X(tx_hints, c, "errors", "told about earlier datagrams, by ICMP as a rule")                                        \
    X(tx_paced, c, "events", "times sends were slowed down: the kernel had no memory (ENOBUFS, ENOMEM)")               \
    X(tx_unreachable, c, "events", "destinations skipped from then on until they can be reached again")                \
    X(tx_refused_bytes, g, "bytes", "length of the last datagram that was too long for its path (EMSGSIZE)")           \
    X(holds, c, "events", "fan-outs put off so that runs get longer ([egress] hold)")                                  \
    X(rx_copied_bytes, c, "bytes", "copied from a receive area into a packet: the one copy of a payload")              \
    X(rx_lost_link, c, "datagrams", "dropped by the kernel: the link socket's receive buffer was full")                \
    X(rx_lost_egress, c, "datagrams", "dropped by the kernel: the egress socket's receive buffer was full")            \
    X(rx_lost_ingress, c, "datagrams", "dropped by the kernel: an ingress socket's receive buffer was full")           \
    X(link_rcvbuf, g, "bytes", "receive buffer that the kernel granted the link socket")                               \
    X(link_sndbuf, g, "bytes", "send buffer that the kernel granted the link socket")                                  \
    X(egress_rcvbuf, g, "bytes", "receive buffer that the kernel granted the egress socket")                           \
    X(egress_sndbuf, g, "bytes", "send buffer that the kernel granted the egress socket")                              \
    X(overload_level, g, "level", "0: all on .. 4: audio, control and key frames only")                                \
    X(overload_changes, c, "events", "changes of the level")                                                           \
    X(held_packets, g, "packets", "waiting for subscribers whose socket takes nothing")                                \
    X(held_packets_max, g, "packets", "most that ever waited")                                                         \
    X(held_packets_cap, g, "packets", "as many may wait, in all")                                                      \
    X(held_bytes, g, "bytes", "waiting for subscribers whose socket takes nothing")                                    \
    X(asked_packets, g, "packets", "asked for by NACK, waiting to be sent again")                                      \
    X(asked_refused, c, "packets", "asked for by NACK, not sent again: too many wait, or too much to do")              \
    X(byes_held, g, "packets", "good-byes that wait for media they overtook")                                          \
    X(byes_early, c, "packets", "of these, sent on early: too many waited")                                            \
    X(events_queued, g, "records", "events the control plane has not read")                                            \
    X(child_queue_max, g, "bytes", "most that ever waited for one session's windows, in full segments")                \
    X(children_stuck, c, "events", "children that acknowledged nothing for 30 s")                                      \
    X(mirrors, g, "mirrors", "(stream, other worker) pairs that are sent its packets")                                 \
    X(mirror_sent, c, "records", "written into other workers' inboxes")                                                \
    X(mirror_received, c, "records", "taken from this worker's inbox")                                                 \
    X(inbox_fill_max, g, "records", "most records ever found waiting in one ring of the inbox")                        \
    X(ring_corrupt, c, "rings", "rings whose counters could not be true: no longer used, or given up at the start")    \
    X(channel_broken, g, "channels",                                                                                   \
      "1: a ring to or from the agent broke; the supervisor is asked for another worker")                              \
    X(fdpass_refused, c, "messages",                                                                                   \
      "no message of the supervisor's, or not with one UDP socket: nothing more is taken")                             \
    X(replayed, c, "records", "commands taken over from the one before (zr_journal.h)")                                \
    X(resume_ahead, c, "requests", "pulls that wanted to resume after a number or epoch still to come")                \
    X(rekeys, c, "generations", "generations of keys that followed a session's first")                                 \
    X(lane_keys, g, "keys", "receive keys held: one per pair of lanes and generation")                                 \
    X(lane_keys_cap, g, "keys", "as many may be held")                                                                 \
    X(lane_keys_exhausted, c, "takes", "receive keys refused: all were held")                                          \
    X(lane_keys_derived, c, "keys", "receive keys tried for a lane or epoch not heard before")                         \
    X(link_unsealed, c, "datagrams", "not sent: no keys in force, too old or used up")                                 \
    X(roam_refused, c, "datagrams", "accepted from an address not listed for their peer; nothing is sent there")       \
    X(hello_queued, g, "datagrams", "hellos and handshake messages that passed the gate and wait to be handled")       \
    X(hello_queued_cap, g, "datagrams", "as many may wait")                                                            \
    X(gate_loads, c, "events", "times the gate began to ask sources for cookies")                                      \
    X(gate_loaded, g, "gates", "1: it asks for them now")                                                              \
    X(gate_replies, c, "datagrams", "cookie replies sent")                                                             \
    X(probes_sent, c, "segments", "probes of links, and answers to them, sent")                                        \
    X(probes_received, c, "segments", "probes of links, and answers to them, received")                                \
    X(link_deaths, c, "events", "sessions whose peer was silent for T_dead, or said that it hears nothing")            \
    X(link_rate_held, c, "events", "times that a peer's max_rate made something wait")                                 \
    X(reorder_max, g, "segments", "most of one session that ever waited for others before them")                       \
    X(reorder_cap, g, "segments", "as many may wait")                                                                  \
    X(reorder_refused, c, "segments", "not taken: too many of their session wait; they come again")                    \
    X(child_queue_cap, g, "bytes", "from here on nothing but RTCP is put into a session's queue")                      \
    X(path_moves, c, "events", "sessions that are sent to at another address of their peer's from then on")            \
    X(gate_overlap, g, "gates", "1: our public key before the rotation is taken, too, for now")                        \
    X(gate_former, c, "datagrams", "handshake messages that were made for our public key before the rotation")

enum zr_stat_id {
#define X(id, kind, unit, help) ZR_STAT_##id,
    ZR_STAT_LIST(X)
#undef X
        ZR_STAT_COUNT
};

/* id, unit, help: log-linear histograms, 8 buckets an octave (<= 12.5 % wide), HDR style. */
#define ZR_HIST_LIST(X)                                                                                                \
    X(turn_ns, "nanoseconds", "length of a turn that did work")                                                        \
    X(hop_delay_us, "microseconds", "delay of the last hop, from hop time and its minimum")                            \
    X(age_us, "microseconds", "age of a packet since it entered the mesh, when accepted here")                         \
    X(rx_batch, "datagrams", "datagrams per recvmmsg")                                                                 \
    X(tx_run, "datagrams", "datagrams per message of sendmmsg")                                                        \
    X(tx_batch, "datagrams", "datagrams per sendmmsg")                                                                 \
    X(loop_lag_ns, "nanoseconds", "how late a turn began that a deadline asked for")                                   \
    X(forward_us, "microseconds",                                                                                      \
      "from the kernel's receive time of a packet to the return of the sendmmsg that took it")

enum zr_hist_id {
#define X(id, unit, help) ZR_HIST_##id,
    ZR_HIST_LIST(X)
#undef X
        ZR_HIST_COUNT
};

#define ZR_HIST_BUCKETS 320 /* values below 2^42; above: the last bucket too */

typedef struct zr_stream_row { /* per stream, by slot; written by the worker */
    _Atomic uint64_t epoch, packets, bytes, last_ns, first_ns, next_number;
    _Atomic uint64_t fan_sent, nack_asked, nack_served, keyframes, stalls,
        drops;                                          /* stall: gap >= 200 ms; drops: all media drops */
    _Atomic uint64_t duplicates, oversize, state, gaps; /* state: 0 free, 1 open; gaps: stretches that never came */
    _Atomic uint64_t resume_number; /* every number below is here or too old to be asked for; <= next_number */
} zr_stream_row;

#define ZR_STAT_SESSIONS 1024u

/* Per session of this lane, by slot. A slot's next session counts on: whoever reads remembers where it began. Datagrams
 * by their UDP payload; of those received, the ones that were accepted, of those sent, the ones put out, whatever the
 * kernel did with them. Payload: messages, each once, without headers, repetition and padding. */
typedef struct zr_link_row {
    alignas(ZR_CACHELINE) _Atomic uint64_t rx_datagrams;
    _Atomic uint64_t rx_bytes, rx_payload, tx_datagrams, tx_bytes, tx_payload;
} zr_link_row;

typedef struct zr_stat_page {
    uint64_t magic; /* "zrstat1\0" */
    uint32_t version, stat_count, drop_count, hist_count, streams_max;
    uint32_t generation;
    _Atomic uint64_t pid, heartbeat_ns, started_ns;
    alignas(ZR_CACHELINE) _Atomic uint32_t life; /* zr_life.h */
    _Atomic uint64_t turn; /* odd while a worker's turn is under way: then the ledgers do not add up yet */
    alignas(ZR_CACHELINE) _Atomic uint64_t stat[ZR_STAT_COUNT];
    alignas(ZR_CACHELINE) _Atomic uint64_t drop[ZR_DROP_COUNT];
    alignas(ZR_CACHELINE) _Atomic uint64_t hist[ZR_HIST_COUNT][ZR_HIST_BUCKETS];
    zr_link_row sessions[ZR_STAT_SESSIONS];
    alignas(ZR_CACHELINE) zr_stream_row streams[];
} zr_stat_page;

size_t zr_stat_bytes(uint32_t streams_max);
/* Fresh memory, all zero. */
int zr_stat_init(zr_stat_page *page, uint32_t streams_max);
/* An existing page: ZR_E_version when it is not ours or its lists differ; generation + 1. */
int zr_stat_attach(zr_stat_page *page, size_t bytes);
/* Reader: the same checks, and no new generation. */
int zr_stat_look(const zr_stat_page *page, size_t bytes);

static inline void zr_stat_bump(_Atomic uint64_t *word, uint64_t by)
{
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + by, memory_order_relaxed);
}

static inline void zr_stat_add(zr_stat_page *page, enum zr_stat_id id, uint64_t by)
{
    zr_stat_bump(&page->stat[id], by);
}

static inline void zr_stat_set(zr_stat_page *page, enum zr_stat_id id, uint64_t value)
{
    atomic_store_explicit(&page->stat[id], value, memory_order_relaxed);
}

static inline void zr_stat_max(zr_stat_page *page, enum zr_stat_id id, uint64_t value)
{
    if (value > atomic_load_explicit(&page->stat[id], memory_order_relaxed))
        zr_stat_set(page, id, value);
}

static inline void zr_drop_add(zr_stat_page *page, enum zr_drop_id id)
{
    zr_stat_bump(&page->drop[id], 1);
}

void zr_hist_add(zr_stat_page *page, enum zr_hist_id id, uint64_t value);
/* The same value `count` times. */
void zr_hist_add_many(zr_stat_page *page, enum zr_hist_id id, uint64_t value, uint64_t count);
/* Bucket of a value and the lowest value of a bucket: readers rebuild percentiles from these. */
uint32_t zr_hist_bucket(uint64_t value);
uint64_t zr_hist_floor(uint32_t bucket);

/* Writer: around what changes several counters that belong together (a sequence lock, Lamport 1977). */
static inline void zr_stat_turn_begin(zr_stat_page *page)
{
    zr_stat_bump(&page->turn, 1);
    /* The counters' stores stay behind: whoever sees one of them sees the odd number too. */
    atomic_thread_fence(memory_order_release);
}

static inline void zr_stat_turn_end(zr_stat_page *page)
{
    uint64_t turn = atomic_load_explicit(&page->turn, memory_order_relaxed);
    atomic_store_explicit(&page->turn, turn + 1, memory_order_release);
}

/* All counters as they stood between two turns. */
typedef struct zr_stat_counts {
    uint64_t stat[ZR_STAT_COUNT], drop[ZR_DROP_COUNT];
} zr_stat_counts;

/* Reader, any process. False when the writer left no gap to read in for a thousand looks, or died within a turn:
 * each number is right, but they may belong to different moments. */
bool zr_stat_snapshot(const zr_stat_page *page, zr_stat_counts *counts);
int64_t zr_counts_off(const zr_stat_counts *counts, enum zr_ledger ledger);

/* What the ledger is off by: 0 when conservation holds. rx-side total minus (accepted + waiting + drops). */
int64_t zr_ledger_off(const zr_stat_page *page, enum zr_ledger ledger);

/* The lists, for the binding and the docs. */
typedef struct zr_stat_info {
    const char *name, *kind, *unit, *help;
} zr_stat_info;
typedef struct zr_drop_info {
    const char *name, *ledger, *word, *help;
} zr_drop_info;
extern const zr_stat_info zr_stat_infos[ZR_STAT_COUNT];
extern const zr_drop_info zr_drop_infos[ZR_DROP_COUNT];
extern const zr_stat_info zr_hist_infos[ZR_HIST_COUNT]; /* kind = "h" */

#endif
