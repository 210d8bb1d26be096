#include "ring/zr_spsc.h"

#include "base/zr_err.h"

#define SLOTS_MAX      (1u << 20)
#define SLOT_BYTES_MAX 65536u

static bool sizes_ok(uint32_t slots, uint32_t slot_bytes)
{
    return slots >= 2 && slots <= SLOTS_MAX && (slots & (slots - 1)) == 0 && slot_bytes >= 1 &&
           slot_bytes <= SLOT_BYTES_MAX;
}

static size_t slot_at(const zr_spsc *ring, uint32_t counter)
{
    return (size_t)(counter & ring->mask) * ring->slot_bytes;
}

size_t zr_spsc_bytes(uint32_t slots, uint32_t slot_bytes)
{
    if (!sizes_ok(slots, slot_bytes))
        return 0;
    return zr_round_up(sizeof(zr_spsc) + (size_t)slots * slot_bytes, ZR_CACHELINE);
}

int zr_spsc_init(zr_spsc *ring, uint32_t slots, uint32_t slot_bytes, uint32_t start)
{
    if (!sizes_ok(slots, slot_bytes) || (uintptr_t)ring % ZR_CACHELINE != 0)
        return ZR_E_inval;
    atomic_init(&ring->tail, start);
    atomic_init(&ring->head, start);
    ring->head_seen = start;
    ring->mask = slots - 1;
    ring->slot_bytes = slot_bytes;
    return ZR_OK;
}

void *zr_spsc_claim(zr_spsc *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    if (tail - ring->head_seen > ring->mask) {
        /* Pairs with release(): the consumer's loads from the slot are over before we write into it again. */
        ring->head_seen = atomic_load_explicit(&ring->head, memory_order_acquire);
        /* A head beyond the tail, which only a broken consumer writes, also looks full: nothing is overwritten. */
        if (tail - ring->head_seen > ring->mask)
            return NULL;
    }
    return ring->slots + slot_at(ring, tail);
}

void zr_spsc_commit(zr_spsc *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    /* The slot's stores are visible before the counter that publishes them. */
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
}

const void *zr_spsc_peek(zr_spsc *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    /* Pairs with commit(): the slot is read only after its counter was. */
    uint32_t depth = atomic_load_explicit(&ring->tail, memory_order_acquire) - head;

    /* A tail that no producer of ours writes gives nothing to read; zr_spsc_check says which of the two it is. */
    if (depth == 0 || depth > ring->mask + 1)
        return NULL;
    return ring->slots + slot_at(ring, head);
}

void zr_spsc_release(zr_spsc *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    /* The slot's loads finish before the producer may reuse it. */
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
}

uint32_t zr_spsc_depth(const zr_spsc *ring)
{
    /* Head first: read after it, the tail can only be further on, so the difference is never negative. */
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t depth = atomic_load_explicit(&ring->tail, memory_order_acquire) - head;

    return ZR_MIN(depth, ring->mask + 1);
}

bool zr_spsc_check(const zr_spsc *ring)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

    return sizes_ok(ring->mask + 1, ring->slot_bytes) && tail - head <= ring->mask + 1;
}
