/*
 * A neighbour that went mad: another process writes at random into the rings of a channel, headers and records, while
 * an honest forwarder reads commands from it and writes events into it, and an honest agent does the reverse. Nobody
 * leaves the rings (their memory ends at a page without access), nobody crashes, a broken ring is told from an honest
 * one, and the forwarder's own state stays whole. ZR_FULL=1: ten times as long.
 */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fwd_rig.h"
#include "hostile_rig.h"
#include "sim/zr_rng.h"

#define SLOTS 64u

/* Half of the writes go to the words that everything hangs on. */
static void scribble(zr_chan *chan, size_t bytes, zr_rng *rng, uint32_t writes)
{
    zr_spsc_mem *rings[2] = { chan->commands.mem, chan->events.mem };

    for (uint32_t i = 0; i < writes; i++) {
        zr_spsc_mem *ring = rings[zr_rng_next(rng) % 2];
        uint64_t random = zr_rng_next(rng);
        uint32_t value = (uint32_t)random;
        if (random >> 62 == 0)
            value = (uint32_t)(random >> 40) % (2 * SLOTS + 1);
        else if (random >> 62 == 1)
            value = atomic_load_explicit(&ring->tail, memory_order_relaxed) + (uint32_t)(random >> 40) % 200 - 100;
        switch (zr_rng_next(rng) % 12) {
        case 0:
            put32(&ring->tail, value);
            break;
        case 1:
            put32(&ring->head, value);
            break;
        case 2:
            put32(&ring->mask, value);
            break;
        case 3:
            put32(&ring->slot_bytes, value);
            break;
        case 4:
            put32(chan->worker_asleep, value);
            break;
        case 5:
            put32((unsigned char *)chan->mem + zr_rng_next(rng) % (sizeof(zr_chan_mem) / 4) * 4, value);
            break;
        case 6: /* an operation that exists, on numbers that may */
        case 7: {
            unsigned char *slot = ring->slots + zr_rng_next(rng) % SLOTS * sizeof(zr_cmd);
            put32(slot, (uint32_t)zr_rng_next(rng) % ZR_CMD_COUNT);
            put32(slot + 8 + zr_rng_next(rng) % 4 * 4, (uint32_t)zr_rng_next(rng) % 8);
            break;
        }
        default:
            put32((unsigned char *)chan->mem + zr_rng_next(rng) % (bytes / 4) * 4, value);
        }
        if (i % 16 == 0)
            sched_yield();
    }
}

/* The channel is made anew when one of its rings is broken, as the supervisor does it; attached to by both sides. */
static bool renew(zr_chan *agent, zr_chan *worker, const region *r)
{
    return zr_chan_init(agent, r->at, SLOTS, sizeof(zr_cmd)) == ZR_OK &&
           zr_chan_attach(worker, r->at, r->bytes, sizeof(zr_cmd)) == ZR_OK;
}

typedef struct tally {
    uint64_t turns, refused, commands;
} tally;

static void honest_turn(rig *r, zr_chan *agent, const region *at, tally *t)
{
    zr_cmd *slot = zr_spsc_claim(zr_chan_commands(agent));
    if (slot != NULL) {
        memset(slot, 0, sizeof *slot);
        slot->seq = (uint32_t)t->turns;
        zr_spsc_commit(zr_chan_commands(agent));
        (void)zr_chan_wake_needed(agent->worker_asleep);
    }
    t->commands += (uint64_t)zr_fwd_commands(r->fwd, 64, r->now);
    zr_fwd_on_deadline(r->fwd, r->now);
    zr_fwd_fan_out(r->fwd, r->now);
    for (int n = 0; n < 50 && (zr_fwd_output(r->fwd, &r->batch, r->now), r->batch.count > 0); n++)
        zr_batch_reset(&r->batch);
    for (int n = 0; n < 8; n++) {
        const zr_cmd *event = zr_spsc_peek(zr_chan_events(agent));
        if (event == NULL)
            break;
        zr_cmd copy = *event;
        zr_spsc_release(zr_chan_events(agent));
        (void)copy;
    }
    if (!zr_spsc_check(zr_chan_commands(r->chan)) || !zr_spsc_check(zr_chan_events(agent)))
        while (!renew(agent, r->chan, at)) /* written over again before both had looked */
            t->refused++;
    r->now += ZR_US(50);
    t->turns++;
}

ZR_TEST(a_mad_neighbour_breaks_its_rings_and_nothing_else)
{
    uint32_t writes = getenv("ZR_FULL") != NULL ? 10000000 : 1000000;
    region at = region_open(zr_chan_bytes(SLOTS, sizeof(zr_cmd)));
    zr_chan agent;
    tally t = { 0 };
    int status;
    rig r;

    rig_open(&r, 0, 64);
    CHECK(renew(&agent, r.chan, &at));
    pid_t mad = fork();
    if (mad == 0) {
        zr_rng rng;
        zr_rng_seed(&rng, 4);
        scribble(&agent, at.bytes, &rng, writes);
        _exit(0);
    }
    CHECK(mad > 0);
    while (waitpid(mad, &status, WNOHANG) == 0)
        honest_turn(&r, &agent, &at, &t);
    CHECK(WIFEXITED(status));
    CHECK(zr_fwd_check(r.fwd));
    CHECK(t.turns > 100);
    CHECK(t.commands > 100);
    /* Left alone, the two work as if nothing had been. */
    CHECK(renew(&agent, r.chan, &at));
    uint64_t commands = t.commands;
    for (int i = 0; i < 100; i++)
        honest_turn(&r, &agent, &at, &t);
    CHECK(t.commands >= commands + 100);
    CHECK(rig_stat(&r, ZR_STAT_ring_corrupt) > 0);
    CHECK(zr_fwd_check(r.fwd));
    fprintf(stderr, "hostile: %u writes, %llu turns, %llu commands, %llu rings broken\n", writes,
            (unsigned long long)t.turns, (unsigned long long)t.commands,
            (unsigned long long)rig_stat(&r, ZR_STAT_ring_corrupt));
    CHECK(renew(&agent, r.chan, &at)); /* rig_close is both ends of r.chan */
    rig_close(&r);
    region_close(&at);
}
