#include "chan_mem.h"

#define SLOTS 8u
#define BYTES 24u

/* A worker that comes after the channel was made. */
static int attach(zr_chan *chan, size_t bytes)
{
    zr_chan worker;
    return zr_chan_attach(&worker, chan->mem, bytes, BYTES);
}

ZR_TEST(a_channel_has_two_rings_within_its_bytes)
{
    zr_chan *chan = zr_test_chan(SLOTS, BYTES);
    char *end = (char *)chan->mem + zr_chan_bytes(SLOTS, BYTES);

    for (uint32_t i = 0; i < SLOTS; i++) {
        char *command = zr_spsc_claim(zr_chan_commands(chan));
        char *event = zr_spsc_claim(zr_chan_events(chan));
        CHECK(command != NULL && event != NULL);
        CHECK(command > (char *)chan->mem && command + BYTES <= (char *)zr_chan_events(chan)->mem);
        CHECK(event > (char *)zr_chan_events(chan)->mem && event + BYTES <= end);
        memset(command, 'c', BYTES);
        memset(event, 'e', BYTES);
        zr_spsc_commit(zr_chan_commands(chan));
        zr_spsc_commit(zr_chan_events(chan));
    }
    CHECK_EQ(*(const char *)zr_spsc_peek(zr_chan_commands(chan)), 'c');
    CHECK_EQ(*(const char *)zr_spsc_peek(zr_chan_events(chan)), 'e');
    CHECK_EQ(attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    free(chan);
}

ZR_TEST(sizes_that_no_ring_takes_are_refused)
{
    zr_chan *chan = zr_test_chan(SLOTS, BYTES);

    CHECK_EQ(zr_chan_bytes(3, BYTES), 0);
    CHECK_EQ(zr_chan_bytes(SLOTS, 0), 0);
    CHECK_EQ(zr_chan_init(chan, chan->mem, 3, BYTES), ZR_E_inval);
    CHECK_EQ(zr_chan_init(chan, (void *)((char *)chan->mem + 8), SLOTS, BYTES), ZR_E_inval);
    free(chan);
}

ZR_TEST(a_successor_attaches_with_the_next_generation_and_finds_what_was_left)
{
    zr_chan *chan = zr_test_chan(SLOTS, BYTES);

    CHECK_EQ(attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    CHECK_EQ(chan->mem->generation, 1);
    CHECK(zr_spsc_claim(zr_chan_commands(chan)) != NULL);
    zr_spsc_commit(zr_chan_commands(chan));
    CHECK_EQ(attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    CHECK_EQ(chan->mem->generation, 2);
    CHECK_EQ(zr_spsc_depth(zr_chan_commands(chan)), 1);
    free(chan);
}

static void magic_wrong(zr_chan *chan)
{
    chan->mem->magic ^= 1;
}
static void version_wrong(zr_chan *chan)
{
    chan->mem->version++;
}
static void slots_wrong(zr_chan *chan)
{
    chan->mem->slots *= 2u;
}
static void slots_huge(zr_chan *chan)
{
    chan->mem->slots = 1u << 31;
}
static void record_wrong(zr_chan *chan)
{
    chan->mem->record_bytes++;
}
static void ring_mask_wrong(zr_chan *chan)
{
    zr_chan_commands(chan)->mem->mask = 2 * SLOTS - 1;
}
static void ring_slot_wrong(zr_chan *chan)
{
    zr_chan_events(chan)->mem->slot_bytes--;
}
static void ring_tail_wrong(zr_chan *chan)
{
    atomic_store(&zr_chan_events(chan)->mem->tail, SLOTS + 1);
}

static void (*const damages[])(zr_chan *) = { magic_wrong,  version_wrong,   slots_wrong,     slots_huge,
                                              record_wrong, ring_mask_wrong, ring_slot_wrong, ring_tail_wrong };

ZR_TEST(a_channel_whose_header_or_rings_cannot_be_true_is_refused)
{
    for (size_t i = 0; i < ZR_LEN(damages); i++) {
        zr_chan *chan = zr_test_chan(SLOTS, BYTES);

        damages[i](chan);
        CHECK_EQ(attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_E_version);
        CHECK_EQ(chan->mem->generation, 0);
        free(chan);
    }
}

ZR_TEST(a_mapping_of_another_size_is_refused)
{
    static const size_t sizes[] = { 0, 8, sizeof(zr_chan_mem), 4096 };
    zr_chan *chan = zr_test_chan(SLOTS, BYTES);
    size_t right = zr_chan_bytes(SLOTS, BYTES);

    for (size_t i = 0; i < ZR_LEN(sizes); i++)
        CHECK_EQ(attach(chan, sizes[i]), ZR_E_version);
    CHECK_EQ(attach(chan, right - 1), ZR_E_version);
    CHECK_EQ(attach(chan, right + 1), ZR_E_version);
    free(chan);
}

ZR_TEST(a_sleeper_is_woken_once_and_who_is_awake_never)
{
    zr_chan *chan = zr_test_chan(SLOTS, BYTES);

    CHECK(!zr_chan_wake_needed(chan->worker_asleep));
    zr_chan_sleep(chan->worker_asleep);
    CHECK(!zr_chan_wake_needed(chan->agent_asleep));
    CHECK(zr_chan_wake_needed(chan->worker_asleep));
    CHECK(!zr_chan_wake_needed(chan->worker_asleep));
    zr_chan_sleep(chan->worker_asleep);
    zr_chan_awake(chan->worker_asleep);
    CHECK(!zr_chan_wake_needed(chan->worker_asleep));
    free(chan);
}
