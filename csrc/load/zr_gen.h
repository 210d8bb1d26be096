/*
 * zr_gen.h - the publisher of a measurement: streams of marked packets, paced by absolute deadlines.
 *
 *   stream 0   FFFFFFFF        FFFFFFFF        ...      a frame each `frame / pps` seconds
 *   stream 1       FFFFFFFF        FFFFFFFF    ...      streams are spread evenly over that time
 *
 * A frame leaves at once: as UDP_SEGMENT messages, or one datagram after the other. Whoever falls behind catches up;
 * packets carry the moment they were due. Nothing is skipped, and what the kernel refuses is counted: then, and when
 * it is `busy` most of the time or often late, the generator limits the measurement.
 */
#ifndef ZR_GEN_H
#define ZR_GEN_H

#include "base/zr_addr.h"
#include "load/zr_mark.h"

#define ZR_GEN_FRAME_MAX 256u
#define ZR_GEN_LATE      ZR_MS(1) /* a frame that leaves later than this after its time counts as late */

typedef struct zr_gen_conf {
    uint32_t streams, ssrc; /* stream i has ssrc + i */
    uint32_t frame, size;   /* packets of a frame, 1..ZR_GEN_FRAME_MAX; bytes of an RTP packet */
    uint32_t pps;           /* of one stream */
    uint8_t payload_type;
    bool segment; /* a frame is UDP_SEGMENT messages of up to 64 packets; else single datagrams */
    zr_ns_t ramp; /* stream i begins this * i / streams later than the first; only in the first run */
} zr_gen_conf;

/* Totals of all runs; read by any thread. */
typedef struct zr_gen_counts {
    uint64_t due, sent, refused; /* packets; due = sent + refused */
    uint64_t frames, late, calls;
    uint64_t late_ns_max;
    uint64_t busy_ns, run_ns; /* not asleep, of how long */
} zr_gen_counts;

typedef struct zr_gen zr_gen;

/* 0 when the configuration is out of range. */
size_t zr_gen_bytes(const zr_gen_conf *conf);
/* In `mem`, aligned to ZR_CACHELINE. Stream i goes to to[i]; all leave by one socket bound to `from`, so that a relay
 * that learns its publisher knows it again. NULL: a bad configuration, or errno. */
zr_gen *zr_gen_open(void *mem, const zr_gen_conf *conf, const zr_addr *from, const zr_addr *to);
void zr_gen_close(zr_gen *gen);

/* Sends for `length` of time, beginning now; numbers go on where the last run ended. Whoever calls it owns the thread
 * for that time. */
void zr_gen_run(zr_gen *gen, zr_ns_t length);
/* Any thread: a run ends early. */
void zr_gen_stop(zr_gen *gen);
void zr_gen_counted(const zr_gen *gen, zr_gen_counts *counts);
/* Packets of one stream that the kernel took; not while it runs. */
uint64_t zr_gen_sent(const zr_gen *gen, uint32_t stream);

#endif
