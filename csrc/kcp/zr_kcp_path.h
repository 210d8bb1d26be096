/*
 * zr_kcp_path.h - what a media conversation knows of its path, from acknowledgements alone.
 *
 *   prompt RTT samples --+--> srtt, high: the round trip, and the one that hardly any exceeds
 *                        |    (but for those whose first ACKs were lost)
 *                        +--> least of 15..30 s, least of 100..200 ms: their difference is a standing queue
 *   sent again for nothing -> how much longer is waited, as the path reorders
 *   first transmissions ----> share that did not arrive -> loss level; frozen while the queue stands or all is silent
 *   acknowledged bytes -----> delivery rate
 *
 * A sample is prompt when it acknowledges the newest transmission acknowledged so far: repeats of older ACKs say how
 * long the peer waited, not how long the way is. All times in ms of the caller's clock, which may wrap.
 */
#ifndef ZR_KCP_PATH_H
#define ZR_KCP_PATH_H

#include "base/zr_base.h"

#define ZR_KCP_PATH_RTT_START 200 /* ms, before the first sample */
#define ZR_KCP_PATH_SLACK     8   /* ms a timer waits beyond the round trip: the peer repeats its ACKs within it */
#define ZR_KCP_PATH_QUEUE     30  /* ms of standing queue from which the link counts as full */
#define ZR_KCP_PATH_RATE_MS   50u /* one measurement of the rate */

/* The least of a window: of the current half and the one before. */
typedef struct zr_kcp_least {
    int32_t now, before;
    uint32_t since, half; /* ms */
} zr_kcp_least;

typedef struct zr_kcp_path {
    int32_t srtt16;           /* 1/16 ms; 0: no sample yet */
    int32_t high256, fall256; /* 1/256 ms; how much of a gap `high` falls by, in 1/256 */
    int32_t reorder256;       /* 1/256 ms: what the waits are longer by, as the path reorders */
    int32_t calm256;          /* with each that came in time it falls by so much of its step up */
    uint32_t srtt, timer;     /* ms; see the functions */
    uint32_t version; /* raised when srtt, timer, full or level change: what is derived from them is to be made anew */
    int32_t last;     /* the newest sample, */
    uint32_t last_at; /* ms */
    zr_kcp_least base, recent;
    bool full;
    uint32_t failed_ppm; /* first transmissions that did not arrive, copies and all */
    uint32_t outcomes;   /* how many that is drawn from, up to its window */
    uint32_t copies;     /* of a first transmission, now */
    uint32_t level;      /* of zr_kcp_plan */
    uint32_t rate_since, rate_bytes, rate_kbps, rate_best_kbps; /* the best of late, decaying */
} zr_kcp_path;

void zr_kcp_path_init(zr_kcp_path *path, uint32_t ms);
void zr_kcp_path_rtt(zr_kcp_path *path, int32_t rtt, uint32_t ms);
/* A first transmission's fate is known: did (any copy of) it arrive? Fates of the same round trip come in clumps, so
 * the window is some windows of `in_flight` segments. */
void zr_kcp_path_outcome(zr_kcp_path *path, bool arrived, uint32_t in_flight);
/* The same for `count` that arrived. */
void zr_kcp_path_arrived(zr_kcp_path *path, uint32_t count, uint32_t in_flight);
/* A segment was sent again, and then the ACK of the first attempt came, `late` ms after that attempt. */
void zr_kcp_path_spurious(zr_kcp_path *path, uint32_t late);
/* `count` first attempts were acknowledged before they were taken for lost. */
void zr_kcp_path_in_time(zr_kcp_path *path, uint32_t count);
void zr_kcp_path_bytes(zr_kcp_path *path, uint32_t acknowledged, uint32_t ms);
/* The plan now sends this many copies of a first transmission. */
void zr_kcp_path_set_copies(zr_kcp_path *path, uint32_t copies);

/* Round trip, ms, at least 1; ZR_KCP_PATH_RTT_START before the first sample. */
static inline uint32_t zr_kcp_path_srtt(const zr_kcp_path *path)
{
    return path->srtt;
}

/* How long after a transmission its silence means loss, when nothing later was acknowledged. */
static inline uint32_t zr_kcp_path_timer(const zr_kcp_path *path)
{
    return path->timer;
}
/* The same when something later was acknowledged. */
static inline uint32_t zr_kcp_path_patience(const zr_kcp_path *path)
{
    return ZR_MIN(path->timer, path->srtt + ZR_KCP_PATH_SLACK + (uint32_t)path->reorder256 / 256);
}
/* ms that datagrams wait in queues, by the least of the last moments against the least of the last half minute. */
uint32_t zr_kcp_path_queue(const zr_kcp_path *path);
/* Loss of single transmissions towards the peer, in millionths. */
uint32_t zr_kcp_path_loss_ppm(const zr_kcp_path *path);

#endif
