/* What the explorer tries: the product's ring, channel and counter page, two threads each. One line a scenario:
 * "name executions states cut verdict"; exit status 1 when one fails. `explore [NAME]`. */
#include <stdalign.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"
#include "ring/zr_chan.h"
#include "ring/zr_inbox.h"
#include "stat/zr_stat.h"

#define EXECUTIONS_MAX 20000000u
#define SLOTS          2u
#define LAPS           3u /* records: the ring of two fills, empties and is used again */
#define START          (UINT32_MAX - 1)

static alignas(64) unsigned char memory[1 << 17];
static zr_spsc producer, consumer;
static zr_chan agent, worker;
static uint32_t records;

static uint64_t *slot_of(zr_spsc_mem *mem, uint32_t i)
{
    return (uint64_t *)(void *)mem->slots + i;
}

static void watch_ring(zr_spsc_mem *mem)
{
    xp_word(&mem->tail, sizeof mem->tail);
    xp_word(&mem->head, sizeof mem->head);
    for (uint32_t i = 0; i < SLOTS; i++)
        xp_word(slot_of(mem, i), 8);
}

/* Ring: whole records, in order, none lost. Both poll: a bounded number of looks, what is not done by then is no fault.
 * Without polling's endless repetitions all there is to see is seen with a few looks more than records. */
static void ring_open(void)
{
    memset(memory, 0, 4096);
    zr_spsc_init(&producer, (void *)memory, SLOTS, 8, START);
    zr_spsc_attach(&consumer, (void *)memory, SLOTS, 8);
    watch_ring(producer.mem);
}

static void ring_produce(void)
{
    uint64_t next = 0;

    for (uint32_t look = 0; look < LAPS + 3 && next < LAPS; look++) {
        uint64_t *slot = zr_spsc_claim(&producer);
        if (slot == NULL)
            continue;
        xp_write(slot, 100 + next++);
        zr_spsc_commit(&producer);
    }
    if (!zr_spsc_check(&producer) || zr_spsc_depth(&producer) > SLOTS)
        xp_fail("the producer takes an honest ring for broken");
}

static void ring_consume(void)
{
    uint64_t next = 0;

    for (uint32_t look = 0; look < LAPS + 3 && next < LAPS; look++) {
        const uint64_t *slot = zr_spsc_peek(&consumer);
        if (slot == NULL)
            continue;
        if (xp_read((uint64_t *)(uintptr_t)slot) != 100 + next++)
            xp_fail("a record is torn, lost, repeated or out of order");
        zr_spsc_release(&consumer);
    }
    if (!zr_spsc_check(&consumer) || zr_spsc_depth(&consumer) > SLOTS)
        xp_fail("the consumer takes an honest ring for broken");
}

static void ring_close(void)
{
    if (producer.producer.broken || consumer.consumer.broken)
        xp_fail("an honest ring is broken");
}

/* Wake-up: whoever sleeps while a record is there is woken. */
static void wake_open(void)
{
    size_t bytes = zr_chan_bytes(SLOTS, 8);

    memset(memory, 0, 4096);
    zr_chan_init(&agent, (void *)memory, SLOTS, 8);
    zr_chan_attach(&worker, (void *)memory, bytes, 8);
    watch_ring(agent.commands.mem);
    xp_word(agent.worker_asleep, 4);
}

static void wake_produce(void)
{
    for (uint64_t i = 0; i < records; i++) {
        uint64_t *slot = zr_spsc_claim(&agent.commands);
        xp_write(slot, 100 + i);
        zr_spsc_commit(&agent.commands);
        if (zr_chan_wake_needed(agent.worker_asleep))
            xp_eventfd_write(0);
    }
}

static void wake_consume(void)
{
    for (uint64_t i = 0; i < records;) {
        const uint64_t *slot = zr_spsc_peek(&worker.commands);
        if (slot != NULL) {
            if (xp_read((uint64_t *)(uintptr_t)slot) != 100 + i++)
                xp_fail("a record is torn, lost, repeated or out of order");
            zr_spsc_release(&worker.commands);
            continue;
        }
        zr_chan_sleep(worker.worker_asleep);
        if (zr_spsc_peek(&worker.commands) == NULL)
            xp_eventfd_read(0);
        zr_chan_awake(worker.worker_asleep);
    }
}

static void nothing(void)
{
}

static void wake_one(void)
{
    records = 1;
    wake_open();
}

static void wake_two(void)
{
    records = 2;
    wake_open();
}

/* Inbox: the same promises as the ring's, and its own wake word; its ends are not zr_spsc. */
static zr_inbox box;
static zr_inbox_end to_box, from_box;

static void inbox_open(void)
{
    memset(memory, 0, 4096);
    zr_inbox_init((void *)memory, 1, SLOTS, 8);
    zr_inbox_look(&box, (void *)memory, zr_inbox_bytes(1, SLOTS, 8));
    zr_inbox_writer(&to_box, &box, 0);
    zr_inbox_reader(&from_box, &box, 0);
    watch_ring((void *)box.page->rings);
    records = LAPS;
}

static void inbox_produce(void)
{
    uint64_t next = 0;

    for (uint32_t look = 0; look < LAPS + 3 && next < LAPS; look++) {
        uint64_t *slot = zr_inbox_claim(&to_box);
        if (slot == NULL)
            continue;
        xp_write(slot, 100 + next++);
        zr_inbox_commit(&to_box);
    }
}

static void inbox_consume(void)
{
    uint64_t next = 0;

    for (uint32_t look = 0; look < LAPS + 3 && next < LAPS; look++) {
        const uint64_t *slot = zr_inbox_peek(&from_box);
        if (slot == NULL)
            continue;
        if (xp_read((uint64_t *)(uintptr_t)slot) != 100 + next++)
            xp_fail("a record is torn, lost, repeated or out of order");
        zr_inbox_release(&from_box);
    }
    if (from_box.corrupt)
        xp_fail("an honest ring is broken");
}

/* The reader gives up what stands there after its first look: nothing it still read is written over. */
static void inbox_consume_and_mend(void)
{
    uint64_t last = 99;

    for (uint32_t look = 0; look < LAPS + 1; look++) {
        const uint64_t *slot = zr_inbox_peek(&from_box);
        if (slot == NULL)
            continue;
        uint64_t number = xp_read((uint64_t *)(uintptr_t)slot);
        if (number <= last)
            xp_fail("a record is repeated or out of order");
        last = number;
        if (look == 0)
            zr_inbox_mend(&from_box);
        else
            zr_inbox_release(&from_box);
    }
}

static void inbox_wake_open(void)
{
    inbox_open();
    xp_word(&box.page->asleep, 4);
    records = 2;
}

static void inbox_wake_produce(void)
{
    for (uint64_t i = 0; i < records; i++) {
        uint64_t *slot = zr_inbox_claim(&to_box);
        xp_write(slot, 100 + i);
        zr_inbox_commit(&to_box);
        if (zr_chan_wake_needed(&box.page->asleep))
            xp_eventfd_write(0);
    }
}

static void inbox_wake_consume(void)
{
    for (uint64_t i = 0; i < records;) {
        const uint64_t *slot = zr_inbox_peek(&from_box);
        if (slot != NULL) {
            if (xp_read((uint64_t *)(uintptr_t)slot) != 100 + i++)
                xp_fail("a record is torn, lost, repeated or out of order");
            zr_inbox_release(&from_box);
            continue;
        }
        zr_chan_sleep(&box.page->asleep);
        if (zr_inbox_waiting(&from_box) == 0)
            xp_eventfd_read(0);
        zr_chan_awake(&box.page->asleep);
    }
}

/* Counter page: a snapshot is of one moment between turns. Two counters that only move together, two turns. */
static zr_stat_page *page;

static void stat_open(void)
{
    memset(memory, 0, offsetof(zr_stat_page, sessions)); /* nobody here touches the rows */
    page = (void *)memory;
    if (zr_stat_bytes(0) > sizeof memory)
        abort();
    zr_stat_init(page, 0);
    xp_word(&page->turn, 8);
    xp_word(&page->stat[ZR_STAT_rx_media], 8);
    xp_word(&page->stat[ZR_STAT_media_accepted], 8);
}

static void stat_write(void)
{
    for (int turn = 0; turn < 2; turn++) {
        zr_stat_turn_begin(page);
        zr_stat_add(page, ZR_STAT_rx_media, 1);
        zr_stat_add(page, ZR_STAT_media_accepted, 1);
        zr_stat_turn_end(page);
    }
}

static void stat_read(void)
{
    static zr_stat_counts counts;

    if (zr_stat_snapshot(page, &counts) && counts.stat[ZR_STAT_rx_media] != counts.stat[ZR_STAT_media_accepted])
        xp_fail("a snapshot mixes two turns");
}

static const xp_scenario scenarios[] = {
    { "ring", ring_open, { ring_produce, ring_consume }, ring_close, 40 },
    { "wake", wake_one, { wake_produce, wake_consume }, nothing, 40 },
    { "wake-twice", wake_two, { wake_produce, wake_consume }, nothing, 40 },
    { "inbox", inbox_open, { inbox_produce, inbox_consume }, nothing, 40 },
    { "inbox-mend", inbox_open, { inbox_produce, inbox_consume_and_mend }, nothing, 40 },
    { "inbox-wake", inbox_wake_open, { inbox_wake_produce, inbox_wake_consume }, nothing, 40 },
    { "snapshot", stat_open, { stat_write, stat_read }, nothing, 19 },
};

int main(int argc, char **argv)
{
    int failed = 0;

    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (argc > 1 && strcmp(argv[1], scenarios[i].name) != 0)
            continue;
        xp_result r = xp_explore(&scenarios[i], EXECUTIONS_MAX);
        printf("%s executions=%llu states=%llu cut=%llu %s%s%s\n", scenarios[i].name, (unsigned long long)r.executions,
               (unsigned long long)r.states, (unsigned long long)r.cut, r.failure == NULL ? "ok" : r.failure,
               r.failure == NULL ? "" : " after ", r.failure == NULL ? "" : r.path);
        fflush(stdout);
        failed += r.failure != NULL;
    }
    return failed > 0;
}
