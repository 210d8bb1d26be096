#include "ring/zr_chan.h"

#include "base/zr_err.h"

#define MAGIC   0x00316E616863727Au /* "zrchan1\0", read as a little-endian word */
#define VERSION 2u

static zr_spsc_mem *ring_mem(zr_chan_mem *mem, size_t offset)
{
    return (zr_spsc_mem *)(void *)(mem->rings + offset);
}

size_t zr_chan_bytes(uint32_t slots, uint32_t record_bytes)
{
    size_t ring = zr_spsc_bytes(slots, record_bytes);

    return ring == 0 ? 0 : sizeof(zr_chan_mem) + 2 * ring;
}

int zr_chan_init(zr_chan *chan, zr_chan_mem *mem, uint32_t slots, uint32_t record_bytes)
{
    size_t ring = zr_spsc_bytes(slots, record_bytes);

    if ((uintptr_t)mem % ZR_CACHELINE != 0 || ring == 0)
        return ZR_E_inval;

    mem->version = VERSION;
    atomic_init(&mem->slots, slots);
    atomic_init(&mem->record_bytes, record_bytes);
    mem->generation = 0;
    atomic_init(&mem->worker_asleep, 0);
    atomic_init(&mem->agent_asleep, 0);
    mem->magic = MAGIC;
    *chan = (zr_chan){ .mem = mem, .worker_asleep = &mem->worker_asleep, .agent_asleep = &mem->agent_asleep };
    (void)zr_spsc_init(&chan->commands, ring_mem(mem, 0), slots, record_bytes, 0);
    return zr_spsc_init(&chan->events, ring_mem(mem, ring), slots, record_bytes, 0);
}

int zr_chan_attach(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes)
{
    int rc = zr_chan_look(chan, mem, bytes, record_bytes);

    if (rc == ZR_OK)
        mem->generation++;
    return rc;
}

int zr_chan_look(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes)
{
    if ((uintptr_t)mem % ZR_CACHELINE != 0)
        return ZR_E_inval;
    if (bytes < sizeof *mem || mem->magic != MAGIC || mem->version != VERSION)
        return ZR_E_version;

    /* Sizes first, and read once: only they say that the rings lie within the mapping. */
    uint32_t slots = atomic_load_explicit(&mem->slots, memory_order_relaxed);
    if (atomic_load_explicit(&mem->record_bytes, memory_order_relaxed) != record_bytes ||
        zr_chan_bytes(slots, record_bytes) != bytes)
        return ZR_E_version;
    *chan = (zr_chan){ .mem = mem, .worker_asleep = &mem->worker_asleep, .agent_asleep = &mem->agent_asleep };
    size_t ring = zr_spsc_bytes(slots, record_bytes);
    int rc = zr_spsc_attach(&chan->commands, ring_mem(mem, 0), slots, record_bytes);
    return rc == ZR_OK ? zr_spsc_attach(&chan->events, ring_mem(mem, ring), slots, record_bytes) : rc;
}

zr_spsc *zr_chan_commands(zr_chan *chan)
{
    return &chan->commands;
}

zr_spsc *zr_chan_events(zr_chan *chan)
{
    return &chan->events;
}

/*
 * All three are read-modify-writes, also where the old value is of no use: a plain store in between would break the
 * release sequence, and the sleeper's acquire would no longer reach the waker's commit.
 */
bool zr_chan_wake_needed(_Atomic uint32_t *asleep)
{
    return atomic_exchange_explicit(asleep, 0, memory_order_release) != 0;
}

void zr_chan_sleep(_Atomic uint32_t *asleep)
{
    (void)atomic_exchange_explicit(asleep, 1, memory_order_acquire);
}

void zr_chan_awake(_Atomic uint32_t *asleep)
{
    (void)atomic_exchange_explicit(asleep, 0, memory_order_relaxed);
}
