/*
 * zr_simlink.h - the link model: one one-way link. Serves tests/sim, the socket impairer and bench link alike.
 *
 *   in --[ loss or burst loss ]--[ dup ]--[ bottleneck: rate, queue ]--[ delay + jitter + reorder ]--> out
 *
 * A run is a pure function of (conf, seed, inputs): the same gives the same, byte for byte. Packets wait in slots of
 * memory counted at start. `now` never goes back between calls. Generator: zr_rng.h.
 */
#ifndef ZR_SIMLINK_H
#define ZR_SIMLINK_H

#include "base/zr_base.h"

#define ZR_SIMLINK_LEN_MAX     2048u
#define ZR_SIMLINK_PACKETS_MAX (1u << 20)

typedef struct zr_simlink_conf {
    zr_ns_t delay, jitter; /* each packet: delay + uniform(0, jitter), order kept unless reorder says so */
    double loss;           /* 0..1 */
    /* Mean burst length; <= 1: independent losses. Gilbert model with the same mean loss; where that would need good
     * runs shorter than one packet (loss > burst / (burst + 1)) the bursts grow, the mean loss stays. */
    double burst;
    /* 0..1. A reordered packet skips the order constraint and leaves up to `jitter` (without jitter: delay/2) early. */
    double dup, reorder;
    uint64_t rate_bps;    /* of the bottleneck, UDP payload bits; 0: infinite */
    uint32_t queue_bytes; /* of the bottleneck; drop-tail; 0 with a rate: 64 KiB */
    uint32_t packets_max; /* slots: packets on their way at once, 1..ZR_SIMLINK_PACKETS_MAX */
    uint64_t seed;
} zr_simlink_conf;

/* in + duplicated = lost + queue_dropped + overflow + out + on their way. Reordered: left before one put in earlier. */
typedef struct zr_simlink_counts {
    uint64_t in, lost, queue_dropped, overflow, duplicated, reordered, out;
} zr_simlink_counts;

typedef struct zr_simlink zr_simlink;

/* 0 for a conf out of range. */
size_t zr_simlink_bytes(const zr_simlink_conf *conf);
/* `link` is zr_simlink_bytes of memory, aligned to 8. ZR_E_inval for a conf out of range. */
int zr_simlink_init(zr_simlink *link, const zr_simlink_conf *conf);
/* Copies one packet in; `tag` comes out with it. ZR_OK, dropped or not: the counts know. ZR_E_oversize, uncounted,
 * above ZR_SIMLINK_LEN_MAX bytes. */
int zr_simlink_put(zr_simlink *link, const void *data, size_t len, uint64_t tag, zr_ns_t now);
/* When the next packet comes out; ZR_NEVER when none is on its way. */
zr_ns_t zr_simlink_deadline(const zr_simlink *link);
/* The next packet due at `now`: its length, data borrowed until the next call; ZR_E_again when none is due. */
int zr_simlink_get(zr_simlink *link, const uint8_t **data, uint64_t *tag, zr_ns_t now);
const zr_simlink_counts *zr_simlink_counted(const zr_simlink *link);
/* Heap, slots and counts agree. Slow. */
bool zr_simlink_check(const zr_simlink *link);

#endif
