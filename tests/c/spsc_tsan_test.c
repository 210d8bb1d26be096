/* Two threads on one ring and one channel: for ThreadSanitizer, and quick enough for every run. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include "chan_mem.h"

#define RECORDS 1000000u
#define SLEEPS  20000u

typedef struct record {
    uint32_t number, check;
} record;

static void *produce(void *arg)
{
    zr_spsc *ring = arg;

    for (uint32_t i = 0; i < RECORDS;) {
        record *slot = zr_spsc_claim(ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        *slot = (record){ .number = i, .check = ~i };
        zr_spsc_commit(ring);
        i++;
    }
    return NULL;
}

ZR_TEST(a_million_records_cross_a_ring_of_64_whole_and_in_order)
{
    zr_spsc_mem *mem = zr_test_memory(zr_spsc_bytes(64, sizeof(record)));
    zr_spsc end, *ring = &end;
    pthread_t producer;
    uint32_t wrong = 0;

    CHECK_EQ(zr_spsc_init(ring, mem, 64, sizeof(record), UINT32_MAX - RECORDS / 2), ZR_OK);
    CHECK(pthread_create(&producer, NULL, produce, ring) == 0);
    for (uint32_t i = 0; i < RECORDS;) {
        const record *slot = zr_spsc_peek(ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        wrong += slot->number != i || slot->check != ~i;
        zr_spsc_release(ring);
        i++;
    }
    CHECK(pthread_join(producer, NULL) == 0);
    CHECK_EQ(wrong, 0);
    CHECK_EQ(zr_spsc_depth(ring), 0);
    free(mem);
}

/* A channel whose eventfd is a semaphore. */
typedef struct pair {
    zr_chan *chan;
    sem_t wake;
    uint32_t wakes;
} pair;

static void *command(void *arg)
{
    pair *p = arg;
    zr_spsc *ring = zr_chan_commands(p->chan);

    for (uint32_t i = 0; i < SLEEPS;) {
        uint32_t *slot = zr_spsc_claim(ring);
        if (slot == NULL) {
            sched_yield();
            continue;
        }
        *slot = i++;
        zr_spsc_commit(ring);
        if (zr_chan_wake_needed(p->chan->worker_asleep)) {
            p->wakes++;
            sem_post(&p->wake);
        }
    }
    return NULL;
}

/* False when nobody woke us for ten seconds: then a wake was lost. */
static bool wait_for_command(pair *p, zr_spsc *ring)
{
    struct timespec until;
    bool woken = true;

    zr_chan_sleep(p->chan->worker_asleep);
    if (zr_spsc_peek(ring) == NULL) {
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 10;
        woken = sem_timedwait(&p->wake, &until) == 0;
    }
    zr_chan_awake(p->chan->worker_asleep);
    return woken;
}

ZR_TEST(no_wake_is_lost_between_a_sleeper_and_a_waker)
{
    pair p = { .chan = zr_test_chan(2, sizeof(uint32_t)) };
    pthread_t agent;
    uint32_t wrong = 0, next = 0;
    bool woken = true;

    CHECK(sem_init(&p.wake, 0, 0) == 0);
    zr_spsc *ring = zr_chan_commands(p.chan);
    CHECK(pthread_create(&agent, NULL, command, &p) == 0);
    while (next < SLEEPS && woken) {
        const uint32_t *slot = zr_spsc_peek(ring);
        if (slot == NULL) {
            woken = wait_for_command(&p, ring);
            continue;
        }
        wrong += *slot != next++;
        zr_spsc_release(ring);
    }
    CHECK(woken);
    CHECK(pthread_join(agent, NULL) == 0);
    CHECK_EQ(wrong, 0);
    CHECK(p.wakes > 0);
    sem_destroy(&p.wake);
    free(p.chan);
}
