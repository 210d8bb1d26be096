#include "mem/zr_batch.h"

#include "base/zr_err.h"
#include "zr_test.h"

static const zr_addr here = { .ip = { 127, 0, 0, 1 }, .port = 9, .family = 4 };

static void *open_batch(zr_batch *batch, uint32_t cap, uint32_t arena)
{
    void *memory = zr_test_memory(zr_batch_bytes(cap, arena));

    CHECK_EQ(zr_batch_init(batch, memory, cap, arena), ZR_OK);
    return memory;
}

ZR_TEST(a_batch_of_no_entries_or_in_crooked_memory_is_refused)
{
    zr_batch batch;
    char *memory = zr_test_memory(zr_batch_bytes(4, 64));

    CHECK_EQ(zr_batch_init(&batch, memory, 0, 64), ZR_E_inval);
    CHECK_EQ(zr_batch_init(&batch, memory + 1, 2, 64), ZR_E_inval);
    free(memory);
}

ZR_TEST(arena_entries_of_a_run_touch_each_other)
{
    zr_batch batch;
    void *memory = open_batch(&batch, 3, 64);

    for (uint8_t i = 0; i < 3; i++) {
        uint8_t *at = zr_batch_reserve(&batch, 20);
        CHECK(at != NULL);
        memset(at, i, 13);
        zr_batch_commit(&batch, &here, ZR_SOCK_LINK, 13);
    }
    for (uint8_t i = 0; i < 3; i++) {
        CHECK(batch.tx[i].data == batch.arena + 13 * i);
        CHECK_EQ(batch.tx[i].len, 13);
        CHECK_EQ(batch.tx[i].data[12], i);
        CHECK(batch.tx[i].held == NULL);
        CHECK(zr_addr_eq(&batch.tx[i].to, &here));
    }
    free(memory);
}

ZR_TEST(a_batch_is_full_by_bytes_or_by_entries)
{
    zr_batch batch;
    void *memory = open_batch(&batch, 2, 64);

    CHECK(zr_batch_fits(&batch, 64));
    CHECK(!zr_batch_fits(&batch, 65));
    CHECK(zr_batch_reserve(&batch, 65) == NULL);
    zr_batch_commit(&batch, &here, ZR_SOCK_LINK, 60);
    CHECK(zr_batch_reserve(&batch, 5) == NULL);
    CHECK(zr_batch_reserve(&batch, 4) != NULL);
    zr_batch_commit(&batch, &here, ZR_SOCK_LINK, 1);
    CHECK(zr_batch_reserve(&batch, 0) == NULL);
    zr_batch_reset(&batch);
    CHECK(zr_batch_reserve(&batch, 64) == batch.arena);
    free(memory);
}

ZR_TEST(no_entry_is_longer_than_its_length_field)
{
    zr_batch batch;
    void *memory = open_batch(&batch, 1, 1u << 17);

    CHECK(zr_batch_fits(&batch, UINT16_MAX));
    CHECK(!zr_batch_fits(&batch, UINT16_MAX + 1u));
    free(memory);
}

ZR_TEST(a_held_packet_lives_until_the_reset_and_is_not_copied)
{
    zr_batch batch;
    zr_pool pool;
    void *memory = open_batch(&batch, 2, 64);
    void *packets = zr_test_memory(zr_pool_bytes(1));

    CHECK_EQ(zr_pool_init(&pool, packets, 1), ZR_OK);
    zr_pkt *pkt = zr_pool_copy(&pool, "abcdef", 6);
    zr_slice slice = { .pkt = pkt, .off = (uint16_t)(pkt->off + 2), .len = 3 };

    CHECK_EQ(zr_batch_hold(&batch, &here, ZR_SOCK_EGRESS, &slice), ZR_OK);
    CHECK_EQ(zr_batch_hold(&batch, &here, ZR_SOCK_EGRESS, &slice), ZR_OK);
    CHECK_EQ(zr_batch_hold(&batch, &here, ZR_SOCK_EGRESS, &slice), ZR_E_full);
    CHECK_EQ(pkt->refs, 3);
    zr_pkt_drop(pkt);
    CHECK_EQ(pool.in_use, 1);
    CHECK(batch.tx[1].data == zr_pkt_data(pkt) + 2);
    CHECK(memcmp(batch.tx[1].data, "cde", 3) == 0);
    CHECK_EQ(batch.tx[1].len, 3);
    CHECK_EQ(batch.tx[1].sock, ZR_SOCK_EGRESS);
    CHECK_EQ(batch.arena_len, 0);
    zr_batch_reset(&batch);
    CHECK_EQ(pool.in_use, 0);
    zr_batch_reset(&batch); /* nothing is dropped twice */
    CHECK(zr_pool_check(&pool));
    free(packets);
    free(memory);
}

ZR_TEST(gathered_entries_lie_one_behind_the_other_and_say_the_same)
{
    zr_batch batch;
    void *memory = open_batch(&batch, 4, 256);
    static const uint8_t far[3][100] = { { 1, 2 }, { 3, 4 }, { 5, 6 } };

    CHECK(zr_batch_reserve(&batch, 5) != NULL);
    zr_batch_commit(&batch, &here, ZR_SOCK_EGRESS, 5);
    for (uint32_t i = 0; i < 3; i++)
        batch.tx[batch.count++] = (zr_tx){ .to = here, .len = (uint16_t)(20 + i), .data = far[i] };
    zr_batch_gather(&batch, 1, 3);
    for (uint32_t i = 1; i < 4; i++) {
        CHECK_EQ(batch.tx[i].len, 19 + i);
        CHECK_EQ(memcmp(batch.tx[i].data, far[i - 1], batch.tx[i].len), 0);
        CHECK(i == 1 || batch.tx[i].data == batch.tx[i - 1].data + batch.tx[i - 1].len);
    }
    CHECK(batch.tx[0].data == batch.arena && batch.tx[1].data >= batch.arena + 5);
    free(memory);
}

ZR_TEST(what_does_not_fit_into_the_arena_stays_where_it_is)
{
    zr_batch batch;
    void *memory = open_batch(&batch, 2, 64);
    static const uint8_t far[2][40] = { { 1 }, { 2 } };

    for (uint32_t i = 0; i < 2; i++)
        batch.tx[batch.count++] = (zr_tx){ .to = here, .len = 40, .data = far[i] };
    zr_batch_gather(&batch, 0, 2);
    CHECK(batch.tx[0].data == far[0] && batch.tx[1].data == far[1]);
    CHECK_EQ(batch.arena_len, 0);
    free(memory);
}
