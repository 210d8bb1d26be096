/*
 * zr_chan.h - the channel between the agent and one worker: two rings of records in one shared region.
 *
 *   | header | worker_asleep | agent_asleep | commands: agent -> worker | events: worker -> agent |
 *
 * The region outlives the worker: a successor attaches to the same rings with `generation` + 1 and goes on with the
 * oldest command that was not released.
 *
 * Sleeping. Who finds its ring empty says so before it blocks on its eventfd, looks once more, and only then blocks;
 * who has committed records asks whether the other one sleeps, and writes the eventfd only then:
 *
 *     sleeper                              waker
 *     zr_chan_sleep(&chan->x_asleep)       zr_spsc_commit(ring)
 *     if (zr_spsc_peek(ring) == NULL)      if (zr_chan_wake_needed(&chan->x_asleep))
 *         block until the eventfd is set       write the eventfd
 *     zr_chan_awake(&chan->x_asleep)
 *
 * Each side writes one word, then reads the other's: with ordinary stores both reads could pass both writes (Dekker's
 * store-buffer case) and the record would lie there with its reader asleep. Here all three write the flag by exchange,
 * so these stand in one order, and the later of a sleep and a wake reads from the earlier: either the waker gets the 1,
 * or the sleeper's exchange comes after the waker's, acquires from it, and its second look sees the record. A release
 * in the waker and an acquire in the sleeper are all that takes; no order over several words, so nothing is seq_cst.
 *
 * zr_chan_mem is shared; a zr_chan is one process's private view of it (see zr_spsc.h): the sizes are read from the
 * shared memory once, when they are checked against the size of the mapping.
 */
#ifndef ZR_CHAN_H
#define ZR_CHAN_H

#include "ring/zr_spsc.h"

typedef struct zr_chan_mem {
    uint64_t magic; /* "zrchan1\0" */
    uint32_t version;
    _Atomic uint32_t slots, record_bytes; /* of each ring; read at attach */
    uint32_t generation;                  /* workers that have attached */
    alignas(ZR_CACHELINE) _Atomic uint32_t worker_asleep;
    alignas(ZR_CACHELINE) _Atomic uint32_t agent_asleep;
    alignas(ZR_CACHELINE) unsigned char rings[];
} zr_chan_mem;

/* One process's view. Must not move while somebody holds one of its rings. */
typedef struct zr_chan {
    zr_chan_mem *mem;
    zr_spsc commands, events;
    _Atomic uint32_t *worker_asleep, *agent_asleep; /* in `mem` */
} zr_chan;

/* Size of a zr_chan_mem, sizes as in zr_spsc_bytes; 0 when out of range. */
size_t zr_chan_bytes(uint32_t slots, uint32_t record_bytes);
/* Agent, once, in memory of zr_chan_bytes. ZR_E_inval when a size is out of range. */
int zr_chan_init(zr_chan *chan, zr_chan_mem *mem, uint32_t slots, uint32_t record_bytes);
/* Worker: ZR_E_version unless magic, version, both rings, `record_bytes` and `bytes`, the size of the mapping, agree.
 */
int zr_chan_attach(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes);

/* Agent, of a channel that an agent before it made: the same checks, and no new generation. */
int zr_chan_look(zr_chan *chan, zr_chan_mem *mem, size_t bytes, uint32_t record_bytes);

/* Only for a channel that init, attach or look found right. */
zr_spsc *zr_chan_commands(zr_chan *chan);
zr_spsc *zr_chan_events(zr_chan *chan);

/* Waker, after its commits: true when it must write the sleeper's eventfd. True for one waker per sleep. */
bool zr_chan_wake_needed(_Atomic uint32_t *asleep);
/* Sleeper, before it blocks: it must look at its ring once more after this. */
void zr_chan_sleep(_Atomic uint32_t *asleep);
/* Sleeper, when it goes on for whatever reason: spares the waker an eventfd write. */
void zr_chan_awake(_Atomic uint32_t *asleep);

#endif
