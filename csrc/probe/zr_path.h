/*
 * zr_path.h - what one session knows of the way to its peer: loss each way, round trip, delays, two clocks.
 *
 *   the peer's counters, as they come --> received / expected of 60 s, longest run of losses of 10 min   (in)
 *                                           `- told to the peer, as it tells us                          (out)
 *   ping   t1 ------> t2                    round trip       t4 - t1: our own times, nobody else's
 *          t4 <------ t3   answer           one way out, in  t2 - t1, t4 - t3: each off by what the clocks differ
 *                                           queue            one way minus its least of 10 s
 *                                           clocks           both ways, over two minutes: zr_clocks.h
 *
 * Silence longer than the largest T_dead (zr_alive.h) is an outage, not loss: it counts in neither share nor run.
 */
#ifndef ZR_PATH_H
#define ZR_PATH_H

#include "base/zr_base.h"
#include "probe/zr_clocks.h"

#define ZR_PATH_SHARE_S  60u  /* seconds that a loss is drawn from */
#define ZR_PATH_RUN_MIN  10u  /* minutes that the longest run of losses is kept */
#define ZR_PATH_SAMPLES  256u /* round trips kept for percentiles: 77 s of pings */
#define ZR_PATH_OUTAGE   ZR_SEC(2)
#define ZR_PATH_JUMP_MAX 65536u /* a gap beyond it is a new beginning */

/* How much of what was sent arrived, over the last minute. */
typedef struct zr_path_share {
    uint32_t expected[ZR_PATH_SHARE_S], received[ZR_PATH_SHARE_S];
    uint64_t all_expected, all_received; /* sums of the above */
    int64_t second;
} zr_path_share;

/* The least of the last ten seconds. */
typedef struct zr_path_least {
    int64_t value[10]; /* of each second; INT64_MAX: none */
    int64_t second;
} zr_path_least;

typedef struct zr_path {
    /* The peer's counters. */
    bool counting;
    uint32_t run;                /* which of its beginnings: an older one's stragglers are not counted */
    uint64_t next;               /* above every counter that came */
    zr_ns_t heard;               /* 0: never */
    uint32_t expected, received; /* since the start; they wrap: what the peer is told */
    uint64_t reordered;
    zr_path_share in, out;
    struct {
        uint64_t from, to; /* the newest gap: [from, to) */
        uint32_t filled;   /* of it, by stragglers */
        zr_ns_t at;        /* 0: none is open */
    } gap;
    uint32_t most_lost[ZR_PATH_RUN_MIN]; /* longest run, by minute */
    int64_t minute;

    /* What the peer told of ours. */
    bool told;
    uint32_t told_expected, told_received, told_run;

    /* Delays. */
    uint32_t rtt_us[ZR_PATH_SAMPLES];
    uint32_t samples; /* since the start */
    uint32_t srtt_us, rttvar_us, rtt_min_us;
    bool in_known;
    int64_t in_last, in_ns, out_ns; /* the newest one way each */
    uint64_t jitter16_ns;           /* of the way in, 16 times (RFC 3550) */
    zr_path_least in_least, out_least;
    zr_clocks clocks;
} zr_path;

void zr_path_init(zr_path *path, zr_ns_t now);
/* A datagram of the peer was accepted. `run` grows whenever its counters begin anew (lane epoch, keys). */
void zr_path_on_counter(zr_path *path, uint32_t run, uint64_t counter, zr_ns_t now);
/* A ping or answer of the peer says when it left, by the peer's clock. */
void zr_path_on_clock(zr_path *path, zr_ns_t left, zr_ns_t now);
/* Our ping of `sent` is answered: it came to the peer at `came`, the answer left at `left`, by its clock. False when
 * these cannot be: the answer left before the ping came, or was held longer than the whole round trip. */
bool zr_path_answer_ok(zr_ns_t sent, zr_ns_t came, zr_ns_t left, zr_ns_t now);
void zr_path_on_answer(zr_path *path, zr_ns_t sent, zr_ns_t came, zr_ns_t left, zr_ns_t now);
/* The peer says how many of our datagrams it expected and received so far, and their longest run of losses. */
void zr_path_on_told(zr_path *path, uint32_t expected, uint32_t received, uint32_t run, zr_ns_t now);

/* 0..1 over the last minute; 0 when nothing was expected. */
double zr_path_loss(const zr_path_share *share);
/* Longest run of losses from the peer to us in the last ten minutes, datagrams. */
uint32_t zr_path_longest(const zr_path *path, zr_ns_t now);
/* Nanoseconds that the newest datagram waited in queues on its way in; out: as the newest answer showed. */
int64_t zr_path_queue_in(const zr_path *path);
int64_t zr_path_queue_out(const zr_path *path);
static inline int64_t zr_path_jitter(const zr_path *path)
{
    return (int64_t)(path->jitter16_ns / 16);
}
/* The peer's clock minus ours now, nanoseconds, and by how many parts per million it runs ahead; false: not known. */
bool zr_path_offset(const zr_path *path, zr_ns_t now, int64_t *offset, double *drift_ppm);
/* One way each, nanoseconds: the least of about a minute, by the clock of that offset and drift. On a symmetric path
 * they are as right as the offset; on any, one is off by as much too little as the other is too much, at most `*error`,
 * half of the least round trip. A change of one way shows in a minute; in two it looks like one of the clock. Only
 * where the offset is known. */
void zr_path_delays(const zr_path *path, int64_t offset, double drift_ppm, zr_ns_t now, int64_t *in, int64_t *out,
                    int64_t *error);
bool zr_path_check(const zr_path *path);

#endif
