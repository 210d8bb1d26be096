#include "ring/zr_spsc.h"

#include "base/zr_err.h"
#include "zr_test.h"

/* The counters wrap after two slots: the wrap is the common case here. */
static zr_spsc *open_ring(uint32_t slots)
{
    zr_spsc *ring = zr_test_memory(zr_spsc_bytes(slots, sizeof(uint32_t)));

    CHECK_EQ(zr_spsc_init(ring, slots, sizeof(uint32_t), UINT32_MAX - 1), ZR_OK);
    return ring;
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

    for (size_t i = 0; i < ZR_LEN(sizes); i++) {
        CHECK_EQ(zr_spsc_bytes(sizes[i].slots, sizes[i].slot_bytes) > 0, sizes[i].ok);
        if (!sizes[i].ok)
            CHECK_EQ(zr_spsc_init((zr_spsc *)(void *)memory, sizes[i].slots, sizes[i].slot_bytes, 0), ZR_E_inval);
    }
    CHECK_EQ(zr_spsc_init((zr_spsc *)(void *)(memory + 8), 2, 8, 0), ZR_E_inval);
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
    free(ring);
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
    free(ring);
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
    free(ring);
}

ZR_TEST(a_ring_moved_to_another_address_goes_on)
{
    size_t bytes = zr_spsc_bytes(4, sizeof(uint32_t));
    zr_spsc *ring = open_ring(4), *copy = zr_test_memory(bytes);

    CHECK(push(ring, 7));
    memcpy((void *)copy, ring, bytes);
    free(ring);
    CHECK_EQ(pop(copy), 7);
    free(copy);
}

ZR_TEST(a_tail_beyond_the_slots_or_behind_the_head_is_seen_and_gives_nothing_to_read)
{
    zr_spsc *ring = open_ring(4);

    atomic_store(&ring->tail, UINT32_MAX - 1 + 5);
    CHECK(!zr_spsc_check(ring));
    CHECK(zr_spsc_peek(ring) == NULL);
    CHECK_EQ(zr_spsc_depth(ring), 4);
    atomic_store(&ring->tail, UINT32_MAX - 2);
    CHECK(!zr_spsc_check(ring));
    CHECK(zr_spsc_peek(ring) == NULL);
    atomic_store(&ring->tail, UINT32_MAX - 1);
    CHECK(zr_spsc_check(ring));
    free(ring);
}

ZR_TEST(a_head_beyond_the_tail_lets_nothing_be_overwritten)
{
    zr_spsc *ring = open_ring(2);

    CHECK(push(ring, 1));
    CHECK(push(ring, 2));
    atomic_store(&ring->head, UINT32_MAX - 1 + 3);
    CHECK(!zr_spsc_check(ring));
    CHECK(zr_spsc_claim(ring) == NULL);
    free(ring);
}

ZR_TEST(sizes_in_the_header_that_cannot_be_true_are_seen)
{
    zr_spsc *ring = open_ring(4);

    ring->mask = 4;
    CHECK(!zr_spsc_check(ring));
    ring->mask = 3;
    ring->slot_bytes = 0;
    CHECK(!zr_spsc_check(ring));
    free(ring);
}
