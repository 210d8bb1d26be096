#include "ring/zr_chan.h"

#include "base/zr_err.h"

#define MAGIC   0x00316E616863727Au /* "zrchan1\0", read as a little-endian word */
#define VERSION 1u

static zr_spsc *ring_at(zr_chan *chan, size_t offset)
{
    return (zr_spsc *)(void *)(chan->rings + offset);
}

static bool ring_fits(const zr_spsc *ring, const zr_chan *chan)
{
    return ring->mask == chan->slots - 1 && ring->slot_bytes == chan->record_bytes && zr_spsc_check(ring);
}

size_t zr_chan_bytes(uint32_t slots, uint32_t record_bytes)
{
    size_t ring = zr_spsc_bytes(slots, record_bytes);

    return ring == 0 ? 0 : sizeof(zr_chan) + 2 * ring;
}

int zr_chan_init(zr_chan *chan, uint32_t slots, uint32_t record_bytes)
{
    if ((uintptr_t)chan % ZR_CACHELINE != 0 || zr_chan_bytes(slots, record_bytes) == 0)
        return ZR_E_inval;

    chan->version = VERSION;
    chan->slots = slots;
    chan->record_bytes = record_bytes;
    chan->generation = 0;
    atomic_init(&chan->worker_asleep, 0);
    atomic_init(&chan->agent_asleep, 0);
    chan->magic = MAGIC;
    (void)zr_spsc_init(zr_chan_commands(chan), slots, record_bytes, 0);
    return zr_spsc_init(zr_chan_events(chan), slots, record_bytes, 0);
}

int zr_chan_attach(zr_chan *chan, size_t bytes)
{
    int rc = zr_chan_look(chan, bytes);

    if (rc == ZR_OK)
        chan->generation++;
    return rc;
}

int zr_chan_look(zr_chan *chan, size_t bytes)
{
    if ((uintptr_t)chan % ZR_CACHELINE != 0)
        return ZR_E_inval;
    if (bytes < sizeof *chan || chan->magic != MAGIC || chan->version != VERSION)
        return ZR_E_version;
    /* Sizes first: only they say that the rings lie within the mapping. */
    if (zr_chan_bytes(chan->slots, chan->record_bytes) != bytes)
        return ZR_E_version;
    if (!ring_fits(zr_chan_commands(chan), chan) || !ring_fits(zr_chan_events(chan), chan))
        return ZR_E_version;
    return ZR_OK;
}

zr_spsc *zr_chan_commands(zr_chan *chan)
{
    return ring_at(chan, 0);
}

zr_spsc *zr_chan_events(zr_chan *chan)
{
    return ring_at(chan, zr_spsc_bytes(chan->slots, chan->record_bytes));
}

/*
 * All three are read-modify-writes, also where the old value is of no use: a plain store in between would break the
 * release sequence, and the sleeper's acquire would no longer reach the waker's commit.
 */
bool zr_chan_wake_needed(_Atomic uint32_t *asleep)
{
    return atomic_exchange_explicit(asleep, 0, memory_order_seq_cst) != 0;
}

void zr_chan_sleep(_Atomic uint32_t *asleep)
{
    (void)atomic_exchange_explicit(asleep, 1, memory_order_seq_cst);
}

void zr_chan_awake(_Atomic uint32_t *asleep)
{
    (void)atomic_exchange_explicit(asleep, 0, memory_order_seq_cst);
}
