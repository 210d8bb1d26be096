#include "forward/zr_cache.h"

#include "zr_test.h"

typedef struct store {
    void *memory, *packets;
    zr_cache cache;
    zr_pool pool;
    uint64_t ordinal;
} store;

static void store_open(store *s, uint32_t max)
{
    *s = (store){ .memory = zr_test_memory(zr_cache_bytes(max, 2)), .packets = zr_test_memory(zr_pool_bytes(32)) };
    CHECK_EQ(zr_pool_init(&s->pool, s->packets, 32), 0);
    zr_cache_init(&s->cache, s->memory, max, 2, ZR_SEC(2), &s->pool);
}

static void put(store *s, uint32_t stream, uint16_t seq, uint8_t flags, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_take(&s->pool);
    zr_item item = { .slice = { .pkt = pkt }, .stream = stream, .ssrc = 7, .seq = seq, .arrival = now };

    item.media.flags = flags;
    item.media.number = 1000u + seq;
    item.ordinal = ++s->ordinal;
    zr_cache_put(&s->cache, &item, now);
    zr_pkt_drop(pkt);
    CHECK(zr_cache_check(&s->cache));
}

static void store_close(store *s)
{
    zr_cache_clear(&s->cache, 0);
    zr_cache_clear(&s->cache, 1);
    CHECK(zr_cache_check(&s->cache));
    CHECK_EQ(s->pool.in_use, 0);
    free(s->memory);
    free(s->packets);
}

ZR_TEST(a_repeated_sequence_number_is_found_once_and_makes_no_chain)
{
    store s;
    store_open(&s, 16);
    for (int i = 0; i < 40; i++) {
        uint32_t indexed = 0;
        put(&s, 0, 5, 0, ZR_MS(i));
        for (uint32_t b = 0; b <= s.cache.bucket_mask; b++)
            for (const zr_item *item = s.cache.buckets[b]; item != NULL; item = item->hash_next)
                indexed++;
        CHECK_EQ(indexed, 1);
        CHECK_EQ(zr_cache_find(&s.cache, 0, 7, 5, ZR_MS(i))->arrival, ZR_MS(i));
    }
    store_close(&s);
}

ZR_TEST(a_full_cache_takes_from_the_stream_used_longest_ago)
{
    store s;
    store_open(&s, 4);
    put(&s, 0, 1, 0, 1);
    put(&s, 1, 1, 0, 1);
    put(&s, 0, 2, 0, 1);
    put(&s, 1, 2, 0, 1);
    put(&s, 1, 3, 0, 1);
    CHECK_EQ(s.cache.evicted, 1);
    CHECK(zr_cache_find(&s.cache, 0, 7, 1, 1) == NULL);
    CHECK(zr_cache_find(&s.cache, 0, 7, 2, 1) != NULL); /* a use: stream 1 is older now */
    put(&s, 0, 3, 0, 1);
    CHECK(zr_cache_find(&s.cache, 0, 7, 2, 1) != NULL);
    CHECK(zr_cache_find(&s.cache, 1, 7, 1, 1) == NULL);
    store_close(&s);
}

ZR_TEST(a_cached_packet_is_found_for_two_seconds_by_its_own_names_only)
{
    store s;
    store_open(&s, 8);
    put(&s, 0, 9, 0, 0);
    CHECK(zr_cache_find(&s.cache, 0, 7, 9, ZR_SEC(2)) != NULL);
    CHECK(zr_cache_find(&s.cache, 1, 7, 9, 0) == NULL);
    CHECK(zr_cache_find(&s.cache, 0, 8, 9, 0) == NULL);
    CHECK(zr_cache_find(&s.cache, 0, 7, 8, 0) == NULL);
    CHECK(zr_cache_find(&s.cache, 0, 7, 9, ZR_SEC(2) + 1) == NULL);
    CHECK(zr_cache_first(&s.cache, 0, ZR_SEC(2) + 1) == NULL);
    CHECK_EQ(s.pool.in_use, 0);
    store_close(&s);
}

ZR_TEST(a_joiner_begins_at_the_latest_key_frame)
{
    store s;
    uint32_t number = 0;
    store_open(&s, 8);
    put(&s, 0, 1, 0, 0);
    CHECK(!zr_cache_key(&s.cache, 0, &number, 0));
    put(&s, 0, 2, ZR_MEDIA_KEY, 0);
    put(&s, 0, 4, ZR_MEDIA_KEY, 0);
    put(&s, 0, 3, ZR_MEDIA_KEY, 0); /* an older one that came late */
    CHECK(zr_cache_key(&s.cache, 0, &number, 0));
    CHECK_EQ(number, 1004);
    store_close(&s);
}
