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
 * or the sleeper's exchange comes after the waker's, acquires from it, and its second look sees the record.
 */
#ifndef ZR_CHAN_H
#define ZR_CHAN_H

#include "ring/zr_spsc.h"

typedef struct zr_chan {
    uint64_t magic; /* "zrchan1\0" */
    uint32_t version;
    uint32_t slots, record_bytes; /* of each ring */
    uint32_t generation;          /* workers that have attached */
    alignas(ZR_CACHELINE) _Atomic uint32_t worker_asleep;
    alignas(ZR_CACHELINE) _Atomic uint32_t agent_asleep;
    alignas(ZR_CACHELINE) unsigned char rings[];
} zr_chan;

/* Sizes as in zr_spsc_bytes; 0 when out of range. */
size_t zr_chan_bytes(uint32_t slots, uint32_t record_bytes);
/* Agent, once, in memory of zr_chan_bytes. ZR_E_inval when a size is out of range. */
int zr_chan_init(zr_chan *chan, uint32_t slots, uint32_t record_bytes);
/* Worker: ZR_E_version unless magic, version, both rings and `bytes`, the size of the mapping, agree. */
int zr_chan_attach(zr_chan *chan, size_t bytes);

/* Agent, of a channel that an agent before it made: the same checks, and no new generation. */
int zr_chan_look(zr_chan *chan, size_t bytes);

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
