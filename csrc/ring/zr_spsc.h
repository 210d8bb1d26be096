/*
 * zr_spsc.h - single-producer single-consumer ring of fixed-size slots, placed in memory the caller owns.
 *
 *        consumed            committed          claimed
 *           |  readable slots    |  being filled   |      free ...
 *   --------+--------------------+-----------------+--------------
 *          head                 tail             tail+1
 *
 * head and tail are free-running 32-bit counters; only their unsigned difference is ever compared.
 *
 * zr_spsc_mem is what both processes map, at whatever address. zr_spsc is one end, in memory of its process alone: the
 * place, the sizes agreed on at the start, its own counter and what it last saw of the other's. So each end reads one
 * word of the shared memory, the other end's counter, only when the ring looks full or empty, and that word is compared
 * but never used as an index: whatever a neighbour writes into the ring, no end leaves it. A counter that cannot be
 * true breaks the ring for this end, for good: claim and peek give NULL from then on, zr_spsc_check says so. What is
 * left to the neighbour is the contents of the records; they are copied, then validated.
 */
#ifndef ZR_SPSC_H
#define ZR_SPSC_H

#include <stdatomic.h>

#include "base/zr_base.h"

typedef struct zr_spsc_mem {
    alignas(ZR_CACHELINE) _Atomic uint32_t tail; /* written by the producer only */
    alignas(ZR_CACHELINE) _Atomic uint32_t head; /* written by the consumer only */
    alignas(ZR_CACHELINE) _Atomic uint32_t mask; /* slots - 1; constant after init, read at attach */
    _Atomic uint32_t slot_bytes;                 /* the same */
    alignas(ZR_CACHELINE) unsigned char slots[];
} zr_spsc_mem;

/* An end. Within one process both ends may share it, on two threads too: neither writes what the other reads. */
typedef struct zr_spsc {
    zr_spsc_mem *mem;
    uint32_t mask, slot_bytes;
    struct {
        uint32_t tail, head_seen; /* head_seen: refreshed only when the ring looks full */
        bool broken;
    } producer;
    struct {
        uint32_t head, tail_seen; /* tail_seen: refreshed only when the ring looks empty */
        bool broken;
    } consumer;
} zr_spsc;

/* Size of a zr_spsc_mem. `slots`: a power of two, 2..2^20; `slot_bytes`: 1..65536. 0 when out of range. */
size_t zr_spsc_bytes(uint32_t slots, uint32_t slot_bytes);
/* A new ring in `mem`. `start` is where head and tail begin (0; tests begin near 2^32 so that the wrap is the common
 * case). ZR_E_inval. */
int zr_spsc_init(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes, uint32_t start);
/* An end of an existing ring of these sizes, the first or a successor: goes on behind the last commit and the last
 * release. ZR_E_version when the header says otherwise or cannot be true. */
int zr_spsc_attach(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes);

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
/* False when this end met a counter that cannot be true, or when the header cannot be true now. */
bool zr_spsc_check(const zr_spsc *ring);

#endif
