/*
 * zr_fwd.h - the data plane of one worker, without sockets: streams, subscribers, replay cache, RTP edge, its lane.
 *
 *   zr_fwd_link_input     datagrams of other relays' lanes       zr_fwd_commands   what the control plane wants
 *   zr_fwd_ingress_input  publishers' RTP and RTCP               zr_fwd_on_deadline
 *   zr_fwd_egress_input   subscribers' RTCP                      zr_fwd_fan_out, then zr_fwd_output until 0
 *   zr_fwd_mirror_input   what other workers give us            zr_fwd_wake_next: whom we gave something
 *
 * A turn: commands -> inputs -> on_deadline -> fan_out -> output* (worker/zr_worker.c, and tests/sim on a virtual
 * clock, drive exactly this). Packets accepted in a turn wait in their stream's turn queue; fan_out gives children
 * their messages and marks streams with subscribers; output walks marked streams, subscriber by subscriber, so that
 * what a turn holds for one destination lies in a row: a run.
 *
 * Every packet ends in exactly one counter of its ledger (stat/zr_drop.h). Counts rx_link, rx_media itself.
 */
#ifndef ZR_FWD_H
#define ZR_FWD_H

#include "forward/zr_cmd.h"
#include "forward/zr_journal.h"
#include "forward/zr_lane.h"
#include "forward/zr_mirror.h"
#include "forward/zr_shed.h"
#include "ring/zr_chan.h"
#include "wire/zr_media.h"

#define ZR_FWD_PARTS (16 + ZR_LANE_PARTS)

typedef struct zr_fwd_conf {
    zr_lane_conf lane;
    uint32_t pkts_max; /* packet pool */
    uint32_t streams_max, subs_max, ingress_max;
    uint32_t cache_max;    /* cached packets in all, <= pkts_max / 2 */
    zr_ns_t cache_age_max; /* 2 s */
    uint32_t rtcp_ssrc;    /* our SSRC in PLI */
    /* By class, of every message on its hop: the sender gives it up after it, the receiver does not forward it. At
     * least 1; the longest is the lane's. */
    uint16_t deadline_ms[ZR_DEADLINES];
    /* What may wait for players whose socket takes nothing: of one stream, of all, and how long. */
    uint32_t hold_pkts, hold_bytes, hold_pkts_all;
    zr_ns_t hold_age;
    uint16_t overload_enter[ZR_SHED_LEVELS]; /* share of time that is work, permille; [0] unused */
    uint8_t workers;                         /* of this relay; ours is number lane.lane. 0, 1: alone */
} zr_fwd_conf;

#define ZR_NUMBER_JUMP                                                                                                 \
    65536u /* a successor numbers its local streams on from here: what was under way is behind it                      \
            */

typedef struct zr_fwd zr_fwd;

/* Sensible sizes for a relay of `streams_max` streams; the lane number is set by the caller. */
zr_fwd_conf zr_fwd_conf_default(uint8_t lane, uint32_t streams_max);
size_t zr_fwd_bytes(const zr_fwd_conf *conf);
/* What that is for, the lane's parts for the lane, into at least ZR_FWD_PARTS; how many, 0 when out of range. */
int zr_fwd_parts(const zr_fwd_conf *conf, zr_part *parts);
/* In `mem` (aligned to ZR_CACHELINE, zeroed). `page` and `chan` are shared with the control plane. NULL: out of range.
 */
zr_fwd *zr_fwd_init(void *mem, const zr_fwd_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now);
void zr_fwd_fini(zr_fwd *fwd);
/* As zr_lane_set_own. */
void zr_fwd_set_own(zr_fwd *fwd, const zr_addr *own);

zr_pool *zr_fwd_pool(zr_fwd *fwd);
/* Touches where the first streams, subscribers and packets will lie: memory is cleared by the kernel when it is touched
 * for the first time, two megabytes in 0.1 to 0.2 ms. */
void zr_fwd_touch(const zr_fwd *fwd);
/* A prepared one, that has heard nothing yet, is `lane` from now on, in its life `epoch`; what it executes is noted in
 * `journal` (attached; NULL: nowhere). */
void zr_fwd_become(zr_fwd *fwd, uint8_t lane, uint16_t epoch, zr_journal *journal, zr_ns_t now);
/* Executes what is in force in the journal, numbers by the rows of the page; returns how many commands. */
int zr_fwd_replay(zr_fwd *fwd, zr_ns_t now);
/* Executes up to `budget` commands; returns how many. */
int zr_fwd_commands(zr_fwd *fwd, int budget, zr_ns_t now);
/* Ingress sockets to close since the last call: a slot, or ZR_E_again (the worker owns the descriptors). */
int zr_fwd_ingress_closed(zr_fwd *fwd);
/* The worker could not take this slot's socket: the control plane is told, and asks again. */
void zr_fwd_ingress_lost(zr_fwd *fwd, uint32_t slot);
bool zr_fwd_stopping(const zr_fwd *fwd);

/* Each consumes `pkt`; ZR_OK or ZR_E_dropped, counted. */
int zr_fwd_link_input(zr_fwd *fwd, zr_pkt *pkt, const zr_addr *from, zr_ns_t now);
int zr_fwd_ingress_input(zr_fwd *fwd, uint32_t slot, zr_pkt *pkt, const zr_addr *from, zr_ns_t now);
int zr_fwd_egress_input(zr_fwd *fwd, zr_pkt *pkt, const zr_addr *from, zr_ns_t now);

/* Once per worker, before the first turn: its inbox, with our own among them. The region outlives us. ZR_OK, or
 * ZR_E_inval: no such worker, or an inbox of other sizes. */
int zr_fwd_meet(zr_fwd *fwd, uint32_t worker, const zr_inbox *inbox);
/* Records from other workers, up to `budget` from each; how many. */
int zr_fwd_mirror_input(zr_fwd *fwd, int budget, zr_ns_t now);
/* After fan_out, until ZR_E_again: a worker that must be woken for what this turn wrote into its inbox. */
int zr_fwd_wake_next(zr_fwd *fwd);
/* For who sleeps on our inbox: zr_mirrors_waiting. */
zr_mirrors *zr_fwd_mirrors(zr_fwd *fwd);

void zr_fwd_on_deadline(zr_fwd *fwd, zr_ns_t now);
zr_ns_t zr_fwd_deadline(const zr_fwd *fwd);
/* The same, leaving out what cannot go on now anyway. */
enum zr_fwd_wait {
    ZR_FWD_EGRESS_BLOCKED = 1, /* zr_fwd_output_egress is not called */
    ZR_FWD_LINKS_BLOCKED = 2,  /* zr_fwd_output_links is not called */
    ZR_FWD_HELD = 4            /* zr_fwd_fan_out is not called */
};
zr_ns_t zr_fwd_deadline_but(const zr_fwd *fwd, uint32_t waits);
/* Are there packets that zr_fwd_fan_out would take? */
bool zr_fwd_turning(const zr_fwd *fwd);
int zr_fwd_fan_out(zr_fwd *fwd, zr_ns_t now);
/* 0: done; ZR_E_full: the batch is full, send it, reset it, call again. Egress: players, replays, key frame requests;
 * links: the lane. While a socket is blocked its output is not called: packets wait in their streams' queues. */
int zr_fwd_output_egress(zr_fwd *fwd, zr_batch *batch, zr_ns_t now);
int zr_fwd_output_links(zr_fwd *fwd, zr_batch *batch, zr_ns_t now);
/* Both into one batch, without sockets that could block. */
int zr_fwd_output(zr_fwd *fwd, zr_batch *batch, zr_ns_t now);
/* How it went since the last call, each ZR_SHED_EVERY: the level follows. Pool and rings are looked at here too. */
void zr_fwd_load(zr_fwd *fwd, const zr_load *load, zr_ns_t now);
/* Events waiting for the control plane since the last call? The worker then wakes the agent. */
bool zr_fwd_events_waiting(zr_fwd *fwd);
bool zr_fwd_check(const zr_fwd *fwd);

#endif
