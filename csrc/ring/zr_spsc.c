#include "ring/zr_spsc.h"

#include "base/zr_err.h"

#define SLOTS_MAX      (1u << 20)
#define SLOT_BYTES_MAX 65536u

static uint32_t word(const _Atomic uint32_t *at)
{
    return atomic_load_explicit(at, memory_order_relaxed);
}

static bool sizes_ok(uint32_t slots, uint32_t slot_bytes)
{
    return slots >= 2 && slots <= SLOTS_MAX && (slots & (slots - 1)) == 0 && slot_bytes >= 1 &&
           slot_bytes <= SLOT_BYTES_MAX;
}

static unsigned char *slot_at(const zr_spsc *ring, uint32_t counter)
{
    return ring->mem->slots + (size_t)(counter & ring->mask) * ring->slot_bytes;
}

/* Each end begins with a look at the other's counter: the producer takes the ring for full, the consumer for empty. */
static void begin(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes)
{
    uint32_t tail = word(&mem->tail), head = word(&mem->head);

    *ring = (zr_spsc){ .mem = mem, .mask = slots - 1, .slot_bytes = slot_bytes };
    ring->producer.tail = tail;
    ring->producer.head_seen = tail - slots;
    ring->consumer.head = ring->consumer.tail_seen = head;
}

size_t zr_spsc_bytes(uint32_t slots, uint32_t slot_bytes)
{
    if (!sizes_ok(slots, slot_bytes))
        return 0;
    return zr_round_up(sizeof(zr_spsc_mem) + (size_t)slots * slot_bytes, ZR_CACHELINE);
}

int zr_spsc_init(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes, uint32_t start)
{
    if (!sizes_ok(slots, slot_bytes) || (uintptr_t)mem % ZR_CACHELINE != 0)
        return ZR_E_inval;
    atomic_init(&mem->tail, start);
    atomic_init(&mem->head, start);
    atomic_init(&mem->mask, slots - 1);
    atomic_init(&mem->slot_bytes, slot_bytes);
    begin(ring, mem, slots, slot_bytes);
    return ZR_OK;
}

int zr_spsc_attach(zr_spsc *ring, zr_spsc_mem *mem, uint32_t slots, uint32_t slot_bytes)
{
    if (!sizes_ok(slots, slot_bytes) || (uintptr_t)mem % ZR_CACHELINE != 0)
        return ZR_E_inval;
    begin(ring, mem, slots, slot_bytes);
    return zr_spsc_check(ring) ? ZR_OK : ZR_E_version;
}

void *zr_spsc_claim(zr_spsc *ring)
{
    uint32_t tail = ring->producer.tail;

    if (tail - ring->producer.head_seen > ring->mask) {
        /* Pairs with release(): the consumer's loads from the slot are over before we write into it again. */
        uint32_t head = atomic_load_explicit(&ring->mem->head, memory_order_acquire);
        /* Ahead of our tail or further behind than there are slots: no consumer of ours writes that. */
        if (tail - head > ring->mask + 1)
            ring->producer.broken = true;
        if (ring->producer.broken || tail - head > ring->mask)
            return NULL;
        ring->producer.head_seen = head;
    }
    return slot_at(ring, tail);
}

void zr_spsc_commit(zr_spsc *ring)
{
    /* The slot's stores are visible before the counter that publishes them. */
    atomic_store_explicit(&ring->mem->tail, ++ring->producer.tail, memory_order_release);
}

const void *zr_spsc_peek(zr_spsc *ring)
{
    uint32_t head = ring->consumer.head;

    if (head == ring->consumer.tail_seen) {
        /* Pairs with commit(): the slot is read only after its counter was. */
        uint32_t tail = atomic_load_explicit(&ring->mem->tail, memory_order_acquire);
        /* Beyond the slots or gone back: no producer of ours writes that. */
        if (tail - head > ring->mask + 1)
            ring->consumer.broken = true;
        if (ring->consumer.broken || tail == head)
            return NULL;
        ring->consumer.tail_seen = tail;
    }
    return slot_at(ring, head);
}

void zr_spsc_release(zr_spsc *ring)
{
    /* The slot's loads finish before the producer may reuse it. */
    atomic_store_explicit(&ring->mem->head, ++ring->consumer.head, memory_order_release);
}

uint32_t zr_spsc_depth(const zr_spsc *ring)
{
    /* Nothing is read on the strength of this, and one of the two is the caller's own: relaxed will do. */
    uint32_t head = word(&ring->mem->head), depth = word(&ring->mem->tail) - head;

    return ZR_MIN(depth, ring->mask + 1);
}

bool zr_spsc_check(const zr_spsc *ring)
{
    uint32_t head = word(&ring->mem->head), depth = word(&ring->mem->tail) - head;

    return !ring->producer.broken && !ring->consumer.broken && word(&ring->mem->mask) == ring->mask &&
           word(&ring->mem->slot_bytes) == ring->slot_bytes && depth <= ring->mask + 1;
}
