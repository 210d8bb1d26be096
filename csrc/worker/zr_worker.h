/*
 * zr_worker.h - one worker: the data plane (zr_fwd) joined to its sockets. The life of a worker is zr_worker_turn,
 * which reads aloud; zr_worker_run repeats it until somebody says stop.
 *
 *   link socket ─┐                       ┌─▶ sendmmsg          command ring ─▶ ┐
 *   egress socket├─▶ areas ─▶ packets ─▶ zr_fwd ─▶ batch                       ├ agent
 *   ingress * n ─┘                                             event ring ◀─── ┘
 *
 * No descriptor is opened after init, except that ingress sockets come from the supervisor (net/zr_fdpass.h); those are
 * the worker's, all others are the caller's to close.
 */
#ifndef ZR_WORKER_H
#define ZR_WORKER_H

#include "forward/zr_fwd.h"
#include "net/zr_udp_rx.h"
#include "net/zr_udp_tx.h"

#define ZR_WORKER_PARTS             (8 + ZR_FWD_PARTS)
#define ZR_WORKER_COMMANDS_PER_TURN 256
#define ZR_WORKER_DGRAMS_PER_TURN   64  /* per socket, and what one more recvmmsg brings: a death loses them */
#define ZR_WORKER_RECORDS_PER_TURN  256 /* of each other worker */
#define ZR_WORKER_HOLD_MAX          ZR_MS(1)
#define ZR_WORKER_AREAS_MAX         32 /* of 64 KiB each: GRO fills one with up to 54 full-size datagrams */

typedef struct zr_worker_fds { /* -1: there is none */
    int link, egress;          /* UDP */
    int fdpass;                /* from the supervisor */
    int wake;                  /* eventfd: somebody writes it to end our sleep */
    int agent_wake;            /* eventfd: we write it to end the agent's */
} zr_worker_fds;

typedef struct zr_worker_peer { /* a worker of this relay, ourselves included */
    zr_inbox inbox;
    int wake; /* its eventfd: we write it to end its sleep */
} zr_worker_peer;

typedef struct zr_worker_conf {
    zr_fwd_conf fwd;
    zr_worker_fds fds;
    uint32_t batch; /* messages per recvmmsg, at most ZR_WORKER_AREAS_MAX; a send batch has 16 times that, and fans */
    uint32_t area_bytes;
    bool gso;
    bool stamps;               /* measure forward_us: the kernel's receive times are asked for */
    zr_ns_t spin;              /* 0: block in epoll */
    zr_ns_t hold;              /* 0..1 ms: the fan-out may wait so long that runs get longer */
    int stop_signal;           /* ends zr_worker_run; must be blocked in every thread. 0: none */
    const zr_udp_calls *calls; /* NULL: libc's */

    const zr_worker_peer *peers; /* by number, fwd.workers of them, copied; NULL: alone */
    bool spare;                  /* has no place yet: its sockets and peers come with one (zr_spare.h) */
} zr_worker_conf;

typedef struct zr_worker zr_worker;

zr_worker_conf zr_worker_conf_default(uint8_t lane, uint32_t streams_max);
size_t zr_worker_bytes(const zr_worker_conf *conf);
/* What that is for, into at least ZR_WORKER_PARTS; how many, 0 when out of range. */
int zr_worker_parts(const zr_worker_conf *conf, zr_part *parts);
/* In `mem` (zeroed, aligned to ZR_CACHELINE); page and chan are attached. Writes pid and start into the page. NULL: out
 * of range, not our kind of descriptor, or the system refused. */
zr_worker *zr_worker_init(void *mem, const zr_worker_conf *conf, zr_stat_page *page, zr_chan *chan, zr_ns_t now);
void zr_worker_fini(zr_worker *worker);

/* One bounded slice of work on what the last zr_worker_rest found; how much was done. */
int zr_worker_turn(zr_worker *worker, zr_ns_t now);
/* Between turns: waits by the idle strategy. `work`: what the turn answered. */
void zr_worker_rest(zr_worker *worker, zr_ns_t now, int work);

/* Turn and rest until the stop command, the stop signal or zr_worker_ask_stop. ZR_OK. */
int zr_worker_run(zr_worker *worker);
/* From any thread or signal handler. */
void zr_worker_ask_stop(zr_worker *worker);
bool zr_worker_stopping(const zr_worker *worker);
zr_fwd *zr_worker_fwd(zr_worker *worker);

#endif
