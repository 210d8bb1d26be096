#include "ring/zr_chan.h"

#include "base/zr_err.h"
#include "zr_test.h"

#define SLOTS 8u
#define BYTES 24u

static zr_chan *open_chan(void)
{
    zr_chan *chan = zr_test_memory(zr_chan_bytes(SLOTS, BYTES));

    CHECK_EQ(zr_chan_init(chan, SLOTS, BYTES), ZR_OK);
    return chan;
}

ZR_TEST(a_channel_has_two_rings_within_its_bytes)
{
    zr_chan *chan = open_chan();
    char *end = (char *)chan + zr_chan_bytes(SLOTS, BYTES);

    for (uint32_t i = 0; i < SLOTS; i++) {
        char *command = zr_spsc_claim(zr_chan_commands(chan));
        char *event = zr_spsc_claim(zr_chan_events(chan));
        CHECK(command != NULL && event != NULL);
        CHECK(command > (char *)chan && command + BYTES <= (char *)zr_chan_events(chan));
        CHECK(event > (char *)zr_chan_events(chan) && event + BYTES <= end);
        memset(command, 'c', BYTES);
        memset(event, 'e', BYTES);
        zr_spsc_commit(zr_chan_commands(chan));
        zr_spsc_commit(zr_chan_events(chan));
    }
    CHECK_EQ(*(const char *)zr_spsc_peek(zr_chan_commands(chan)), 'c');
    CHECK_EQ(*(const char *)zr_spsc_peek(zr_chan_events(chan)), 'e');
    CHECK_EQ(zr_chan_attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    free(chan);
}

ZR_TEST(sizes_that_no_ring_takes_are_refused)
{
    zr_chan *chan = zr_test_memory(zr_chan_bytes(SLOTS, BYTES));

    CHECK_EQ(zr_chan_bytes(3, BYTES), 0);
    CHECK_EQ(zr_chan_bytes(SLOTS, 0), 0);
    CHECK_EQ(zr_chan_init(chan, 3, BYTES), ZR_E_inval);
    CHECK_EQ(zr_chan_init((zr_chan *)(void *)((char *)chan + 8), SLOTS, BYTES), ZR_E_inval);
    free(chan);
}

ZR_TEST(a_successor_attaches_with_the_next_generation_and_finds_what_was_left)
{
    zr_chan *chan = open_chan();

    CHECK_EQ(zr_chan_attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    CHECK_EQ(chan->generation, 1);
    CHECK(zr_spsc_claim(zr_chan_commands(chan)) != NULL);
    zr_spsc_commit(zr_chan_commands(chan));
    CHECK_EQ(zr_chan_attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_OK);
    CHECK_EQ(chan->generation, 2);
    CHECK_EQ(zr_spsc_depth(zr_chan_commands(chan)), 1);
    free(chan);
}

static void magic_wrong(zr_chan *chan)
{
    chan->magic ^= 1;
}
static void version_wrong(zr_chan *chan)
{
    chan->version++;
}
static void slots_wrong(zr_chan *chan)
{
    chan->slots *= 2;
}
static void slots_huge(zr_chan *chan)
{
    chan->slots = 1u << 31;
}
static void record_wrong(zr_chan *chan)
{
    chan->record_bytes++;
}
static void ring_mask_wrong(zr_chan *chan)
{
    zr_chan_commands(chan)->mask = 2 * SLOTS - 1;
}
static void ring_slot_wrong(zr_chan *chan)
{
    zr_chan_events(chan)->slot_bytes--;
}
static void ring_tail_wrong(zr_chan *chan)
{
    atomic_store(&zr_chan_events(chan)->tail, SLOTS + 1);
}

static void (*const damages[])(zr_chan *) = { magic_wrong,  version_wrong,   slots_wrong,     slots_huge,
                                              record_wrong, ring_mask_wrong, ring_slot_wrong, ring_tail_wrong };

ZR_TEST(a_channel_whose_header_or_rings_cannot_be_true_is_refused)
{
    for (size_t i = 0; i < ZR_LEN(damages); i++) {
        zr_chan *chan = open_chan();

        damages[i](chan);
        CHECK_EQ(zr_chan_attach(chan, zr_chan_bytes(SLOTS, BYTES)), ZR_E_version);
        CHECK_EQ(chan->generation, 0);
        free(chan);
    }
}

ZR_TEST(a_mapping_of_another_size_is_refused)
{
    static const size_t sizes[] = { 0, 8, sizeof(zr_chan), 4096 };
    zr_chan *chan = open_chan();
    size_t right = zr_chan_bytes(SLOTS, BYTES);

    for (size_t i = 0; i < ZR_LEN(sizes); i++)
        CHECK_EQ(zr_chan_attach(chan, sizes[i]), ZR_E_version);
    CHECK_EQ(zr_chan_attach(chan, right - 1), ZR_E_version);
    CHECK_EQ(zr_chan_attach(chan, right + 1), ZR_E_version);
    free(chan);
}

ZR_TEST(a_sleeper_is_woken_once_and_who_is_awake_never)
{
    zr_chan *chan = open_chan();

    CHECK(!zr_chan_wake_needed(&chan->worker_asleep));
    zr_chan_sleep(&chan->worker_asleep);
    CHECK(!zr_chan_wake_needed(&chan->agent_asleep));
    CHECK(zr_chan_wake_needed(&chan->worker_asleep));
    CHECK(!zr_chan_wake_needed(&chan->worker_asleep));
    zr_chan_sleep(&chan->worker_asleep);
    zr_chan_awake(&chan->worker_asleep);
    CHECK(!zr_chan_wake_needed(&chan->worker_asleep));
    free(chan);
}
