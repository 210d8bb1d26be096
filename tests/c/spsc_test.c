#include "ring/zr_spsc.h"

#include "base/zr_err.h"
#include "zr_test.h"

/* The counters wrap after two slots: the wrap is the common case here. */
static zr_spsc *open_ring(uint32_t slots)
{
    zr_spsc *ring = malloc(sizeof *ring);
    zr_spsc_mem *mem = zr_test_memory(zr_spsc_bytes(slots, sizeof(uint32_t)));

    CHECK(ring != NULL);
    CHECK_EQ(zr_spsc_init(ring, mem, slots, sizeof(uint32_t), UINT32_MAX - 1), ZR_OK);
    return ring;
}

static void close_ring(zr_spsc *ring)
{
    free(ring->mem);
    free(ring);
}

static bool push(zr_spsc *ring, uint32_t value)
{
    void *slot = zr_spsc_claim(ring);

    if (slot == NULL)
        return false;
    memcpy(slot, &value, sizeof value);
    zr_spsc_commit(ring);
    return true;
}

static uint32_t pop(zr_spsc *ring)
{
    const void *slot = zr_spsc_peek(ring);
    uint32_t value;

    CHECK(slot != NULL);
    memcpy(&value, slot, sizeof value);
    zr_spsc_release(ring);
    return value;
}

static const struct {
    uint32_t slots, slot_bytes;
    bool ok;
} sizes[] = {
    { 2, 1, true },  { 1u << 20, 65536, true }, { 64, 128, true }, { 0, 8, false },     { 1, 8, false },
    { 3, 8, false }, { 1u << 21, 8, false },    { 4, 0, false },   { 4, 65537, false },
};

ZR_TEST(a_ring_has_a_power_of_two_of_slots_of_bounded_size)
{
    char *memory = zr_test_memory(zr_spsc_bytes(64, 128));
    zr_spsc ring;

    for (size_t i = 0; i < ZR_LEN(sizes); i++) {
        CHECK_EQ(zr_spsc_bytes(sizes[i].slots, sizes[i].slot_bytes) > 0, sizes[i].ok);
        if (!sizes[i].ok)
            CHECK_EQ(zr_spsc_init(&ring, (void *)memory, sizes[i].slots, sizes[i].slot_bytes, 0), ZR_E_inval);
    }
    CHECK_EQ(zr_spsc_init(&ring, (void *)(memory + 8), 2, 8, 0), ZR_E_inval);
    free(memory);
}

ZR_TEST(a_ring_gives_records_back_in_order_across_the_wrap_of_its_counters)
{
    zr_spsc *ring = open_ring(4);

    for (uint32_t i = 0; i < 20; i++) {
        CHECK(push(ring, i));
        CHECK(push(ring, i + 100));
        CHECK_EQ(zr_spsc_depth(ring), 2);
        CHECK_EQ(pop(ring), i);
        CHECK_EQ(pop(ring), i + 100);
        CHECK(zr_spsc_peek(ring) == NULL);
        CHECK(zr_spsc_check(ring));
    }
    close_ring(ring);
}

ZR_TEST(a_full_ring_refuses_until_a_slot_is_released)
{
    zr_spsc *ring = open_ring(4);

    for (uint32_t i = 0; i < 4; i++)
        CHECK(push(ring, i));
    CHECK(zr_spsc_claim(ring) == NULL);
    CHECK_EQ(zr_spsc_depth(ring), 4);
    CHECK_EQ(pop(ring), 0);
    CHECK(push(ring, 4));
    CHECK(zr_spsc_claim(ring) == NULL);
    for (uint32_t i = 1; i <= 4; i++)
        CHECK_EQ(pop(ring), i);
    close_ring(ring);
}

ZR_TEST(a_claimed_slot_is_invisible_until_commit_and_claiming_again_gives_the_same)
{
    zr_spsc *ring = open_ring(2);
    void *slot = zr_spsc_claim(ring);

    CHECK(zr_spsc_claim(ring) == slot);
    CHECK(zr_spsc_peek(ring) == NULL);
    zr_spsc_commit(ring);
    CHECK(zr_spsc_peek(ring) == slot);
    CHECK(zr_spsc_peek(ring) == slot);
    close_ring(ring);
}

ZR_TEST(a_successor_finds_the_ring_at_another_address_and_goes_on)
{
    size_t bytes = zr_spsc_bytes(4, sizeof(uint32_t));
    zr_spsc *ring = open_ring(4), next;
    void *copy = zr_test_memory(bytes);

    CHECK(push(ring, 7));
    CHECK(push(ring, 8));
    CHECK_EQ(pop(ring), 7);
    memcpy(copy, ring->mem, bytes);
    close_ring(ring);
    CHECK_EQ(zr_spsc_attach(&next, copy, 8, sizeof(uint32_t)), ZR_E_version);
    CHECK_EQ(zr_spsc_attach(&next, copy, 4, 8), ZR_E_version);
    CHECK_EQ(zr_spsc_attach(&next, copy, 3, sizeof(uint32_t)), ZR_E_inval);
    CHECK_EQ(zr_spsc_attach(&next, copy, 4, sizeof(uint32_t)), ZR_OK);
    CHECK_EQ(zr_spsc_depth(&next), 1);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(push(&next, i));
    CHECK(zr_spsc_claim(&next) == NULL);
    CHECK_EQ(pop(&next), 8);
    CHECK_EQ(pop(&next), 0);
    free(copy);
}

/* S01 and S03 of the bad input catalogue: what the neighbour wrote into its counter. */
static const struct {
    uint32_t tail, head;
    bool reader_sees, writer_sees;
} counters[] = {
    { UINT32_MAX - 1 + 5, UINT32_MAX - 1, true, false }, /* S01: beyond the slots */
    { UINT32_MAX - 2, UINT32_MAX - 1, true, false },     /* S03: moved backwards */
    { UINT32_MAX - 1, UINT32_MAX - 1 + 5, false, true }, /* released what was never committed */
    { UINT32_MAX - 1, UINT32_MAX - 1 - 5, false, true }, /* took back a release */
    { 0x7FFFFFFFu, UINT32_MAX - 1, true, false },
};

ZR_TEST(a_counter_that_cannot_be_true_breaks_the_ring_for_the_end_that_saw_it_and_for_good)
{
    for (size_t i = 0; i < ZR_LEN(counters); i++) {
        zr_spsc *ring = open_ring(4);

        for (uint32_t n = 0; counters[i].writer_sees && n < 4; n++)
            CHECK(push(ring, n));
        atomic_store(&ring->mem->head, counters[i].head);
        if (counters[i].reader_sees)
            atomic_store(&ring->mem->tail, counters[i].tail);
        if (counters[i].reader_sees)
            CHECK(zr_spsc_peek(ring) == NULL);
        if (counters[i].writer_sees)
            CHECK(zr_spsc_claim(ring) == NULL);
        CHECK_EQ(ring->consumer.broken, counters[i].reader_sees);
        CHECK_EQ(ring->producer.broken, counters[i].writer_sees);
        CHECK(!zr_spsc_check(ring));
        CHECK(zr_spsc_depth(ring) <= 4);
        /* Set right again, it stays out of use: what came in between is anybody's guess. */
        atomic_store(&ring->mem->tail, counters[i].writer_sees ? UINT32_MAX - 1 + 4 : UINT32_MAX);
        atomic_store(&ring->mem->head, UINT32_MAX - 1);
        CHECK(!counters[i].reader_sees || zr_spsc_peek(ring) == NULL);
        CHECK(!zr_spsc_check(ring));
        close_ring(ring);
    }
}

ZR_TEST(nobody_but_an_end_itself_moves_its_own_counter)
{
    zr_spsc *ring = open_ring(4);

    CHECK(push(ring, 1));
    CHECK(push(ring, 2));
    CHECK_EQ(pop(ring), 1);
    atomic_store(&ring->mem->tail, 77);
    atomic_store(&ring->mem->head, 78);
    CHECK_EQ(pop(ring), 2); /* seen before */
    CHECK_EQ(ring->mem->head, 0);
    CHECK(push(ring, 3));
    CHECK_EQ(ring->mem->tail, 1);
    CHECK_EQ(pop(ring), 3);
    CHECK(zr_spsc_check(ring));
    close_ring(ring);
}

ZR_TEST(sizes_that_changed_in_the_header_are_seen_and_never_used)
{
    zr_spsc *ring = open_ring(4);
    unsigned char *first = zr_spsc_claim(ring);

    atomic_store(&ring->mem->mask, UINT32_MAX);
    CHECK(!zr_spsc_check(ring));
    atomic_store(&ring->mem->slot_bytes, UINT32_MAX);
    for (uint32_t i = 0; i < 4; i++)
        CHECK(push(ring, i));
    CHECK(zr_spsc_claim(ring) == NULL);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(pop(ring), i);
    CHECK(zr_spsc_claim(ring) == first);
    atomic_store(&ring->mem->mask, 3);
    CHECK(!zr_spsc_check(ring));
    atomic_store(&ring->mem->slot_bytes, sizeof(uint32_t));
    CHECK(zr_spsc_check(ring));
    close_ring(ring);
}
