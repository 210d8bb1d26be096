/*
 * zr_spsc.h - single-producer single-consumer ring of fixed-size slots, placed in memory the caller owns.
 *
 *        consumed            committed          claimed
 *           |  readable slots    |  being filled   |      free ...
 *   --------+--------------------+-----------------+--------------
 *          head                 tail             tail+1
 *
 * head and tail are free-running 32-bit counters; only their unsigned difference is ever compared. head_seen is the
 * producer's private copy of head: refreshed only when the ring looks full, so the producer touches the consumer's
 * cache line once per lap instead of once per slot. Position independent: both ends may map it at other addresses.
 */
#ifndef ZR_SPSC_H
#define ZR_SPSC_H

#include <stdatomic.h>

#include "base/zr_base.h"

typedef struct zr_spsc {
    alignas(ZR_CACHELINE) _Atomic uint32_t tail; /* written by the producer only */
    uint32_t head_seen;                          /* producer-private */
    alignas(ZR_CACHELINE) _Atomic uint32_t head; /* written by the consumer only */
    alignas(ZR_CACHELINE) uint32_t mask;         /* slots - 1; constant after init */
    uint32_t slot_bytes;
    alignas(ZR_CACHELINE) unsigned char slots[];
} zr_spsc;

/* `slots`: a power of two, 2..2^20; `slot_bytes`: 1..65536. 0 when out of range. */
size_t zr_spsc_bytes(uint32_t slots, uint32_t slot_bytes);
/* `start` is where head and tail begin (0; tests begin near 2^32 so that the wrap is the common case). */
int zr_spsc_init(zr_spsc *ring, uint32_t slots, uint32_t slot_bytes, uint32_t start);

/* Producer: a slot to fill, NULL when full. Claiming again without a commit gives the same slot. */
void *zr_spsc_claim(zr_spsc *ring);
/* Producer: makes the claimed slot readable. */
void zr_spsc_commit(zr_spsc *ring);
/* Consumer: the oldest readable slot, NULL when empty; valid until release. */
const void *zr_spsc_peek(zr_spsc *ring);
/* Consumer: gives the peeked slot back. */
void zr_spsc_release(zr_spsc *ring);
/* Either side, approximate for the other: slots readable now. */
uint32_t zr_spsc_depth(const zr_spsc *ring);
/* False when the header cannot be true (a hostile or torn neighbour): depth beyond the slots, sizes out of range. */
bool zr_spsc_check(const zr_spsc *ring);

#endif
