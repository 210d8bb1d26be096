#include "coll/zr_map.h"

#include "base/zr_err.h"
#include "zr_test.h"

static void *open_map(zr_map *map, uint32_t max)
{
    void *memory = zr_test_memory(zr_map_bytes(max));

    CHECK_EQ(zr_map_init(map, memory, max), ZR_OK);
    return memory;
}

ZR_TEST(a_map_has_room_for_twice_its_entries)
{
    static const uint32_t sizes[] = { 1, 2, 3, 4, 5, 63, 64, 65, 1000 };
    zr_map map;

    for (size_t i = 0; i < ZR_LEN(sizes); i++) {
        void *memory = open_map(&map, sizes[i]);
        CHECK(map.mask + 1 >= 2 * sizes[i]);
        CHECK_EQ((map.mask + 1) * sizeof(zr_map_cell), zr_map_bytes(sizes[i]));
        free(memory);
    }
    CHECK_EQ(zr_map_bytes(0), 0);
    CHECK_EQ(zr_map_bytes((1u << 30) + 1), 0);
    CHECK_EQ(zr_map_init(&map, &map, 0), ZR_E_inval);
}

ZR_TEST(every_64_bit_key_is_legal_and_zero_is_not_emptiness)
{
    static const uint64_t keys[] = { 0, 1, UINT64_MAX, (uint64_t)1 << 63, 0xFFFFFFFFu };
    zr_map map;
    void *memory = open_map(&map, ZR_LEN(keys));

    for (uint32_t i = 0; i < ZR_LEN(keys); i++) {
        CHECK_EQ(zr_map_get(&map, keys[i]), ZR_MAP_NONE);
        CHECK_EQ(zr_map_put(&map, keys[i], i), ZR_OK);
    }
    for (uint32_t i = 0; i < ZR_LEN(keys); i++)
        CHECK_EQ(zr_map_get(&map, keys[i]), i);
    CHECK(zr_map_check(&map));
    free(memory);
}

ZR_TEST(a_taken_key_a_full_map_and_the_value_none_are_refused)
{
    zr_map map;
    void *memory = open_map(&map, 2);

    CHECK_EQ(zr_map_put(&map, 1, ZR_MAP_NONE), ZR_E_inval);
    CHECK_EQ(zr_map_put(&map, 1, 10), ZR_OK);
    CHECK_EQ(zr_map_put(&map, 1, 11), ZR_E_exists);
    CHECK_EQ(zr_map_get(&map, 1), 10);
    CHECK_EQ(zr_map_put(&map, 2, 20), ZR_OK);
    CHECK_EQ(zr_map_put(&map, 3, 30), ZR_E_full);
    CHECK_EQ(zr_map_put(&map, 2, 21), ZR_E_exists); /* also when full */
    CHECK_EQ(zr_map_del(&map, 1), 10);
    CHECK_EQ(zr_map_del(&map, 1), ZR_MAP_NONE);
    CHECK_EQ(zr_map_put(&map, 3, 30), ZR_OK);
    CHECK_EQ(map.count, 2);
    free(memory);
}

ZR_TEST(deleting_in_any_order_leaves_no_entry_unreachable)
{
    zr_map map;
    void *memory = open_map(&map, 64);

    for (uint64_t step = 1; step < 64; step += 2) { /* odd: visits each key once */
        for (uint32_t key = 0; key < 64; key++)
            CHECK_EQ(zr_map_put(&map, key, key), ZR_OK);
        for (uint64_t i = 0; i < 64; i++) {
            uint64_t key = i * step % 64;
            CHECK_EQ(zr_map_del(&map, key), key);
            CHECK(zr_map_check(&map));
        }
        CHECK_EQ(map.count, 0);
    }
    free(memory);
}

ZR_TEST(the_map_check_sees_a_wrong_count_a_lost_entry_and_a_double_one)
{
    zr_map map;
    void *memory = open_map(&map, 8);

    for (uint32_t key = 0; key < 4; key++)
        CHECK_EQ(zr_map_put(&map, key, key), ZR_OK);
    map.count++;
    CHECK(!zr_map_check(&map));
    map.count--;
    CHECK(zr_map_check(&map));

    uint32_t at = 0;
    while (map.cells[at].value == ZR_MAP_NONE)
        at++;
    zr_map_cell saved = map.cells[at];
    for (uint64_t key = 4; map.cells[at].key == saved.key; key++) { /* a key that belongs elsewhere */
        map.cells[at].key = key;
        if (zr_map_get(&map, key) != ZR_MAP_NONE)
            map.cells[at].key = saved.key;
    }
    CHECK(!zr_map_check(&map));
    map.cells[at] = saved;

    uint32_t empty = 0;
    while (map.cells[empty].value != ZR_MAP_NONE)
        empty++;
    map.cells[empty] = saved;
    map.count++;
    CHECK(!zr_map_check(&map));
    free(memory);
}
