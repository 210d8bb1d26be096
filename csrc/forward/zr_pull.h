/*
 * zr_pull.h - a pull: one open conversation on which a parent sends a stream, and the delay of that hop.
 *
 * The two clocks are not synchronised: (now - hop time) is compared with the smallest such difference of the last 10 s
 * (two buckets of 5 s), which stands for the path at its best, half the round trip. A peer's clock that jumps ahead
 * sets a new best at once; one that jumps back shows as a delay until the old best is forgotten, and at once when the
 * delay would be longer than the memory.
 */
#ifndef ZR_PULL_H
#define ZR_PULL_H

#include "base/zr_err.h"
#include "forward/zr_list.h"

struct zr_stream;

typedef struct zr_hop {
    uint32_t best, best_before; /* smallest difference of this bucket and the one before, mod 2^32 us */
    bool known, known_before;
    zr_ns_t since; /* start of this bucket */
} zr_hop;

typedef struct zr_pull {
    struct zr_stream *stream; /* NULL: free */
    uint32_t slot, conv;      /* conv: the lane's handle */
    zr_list in_stream;
    zr_hop hop;
} zr_pull;

typedef struct zr_pulls {
    zr_pull *all;
    zr_list free;
    uint32_t max;
} zr_pulls;

/* Microseconds this packet spent on its last hop. */
uint32_t zr_hop_delay_us(zr_hop *hop, uint32_t hop_us, uint32_t srtt_us, zr_ns_t now);

size_t zr_pulls_bytes(uint32_t max);
void zr_pulls_init(zr_pulls *pulls, void *mem, uint32_t max);
/* NULL when none is left. The caller sets conv and appends in_stream to the stream's list. */
zr_pull *zr_pulls_take(zr_pulls *pulls, struct zr_stream *stream);
void zr_pulls_give(zr_pulls *pulls, zr_pull *pull);

#endif
