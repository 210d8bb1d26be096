#include "coll/zr_seq.h"

#include "base/zr_base.h"
#include "zr_test.h"

static const struct {
    uint32_t a, b;
    int32_t apart;
} distances[] = {
    { 5, 3, 2 },
    { 3, 5, -2 },
    { 0, UINT32_MAX, 1 },
    { UINT32_MAX, 0, -1 },
    { 0x80000004u, 5, INT32_MAX },
    { 10, 0xFFFFFFF6u, 20 },
};

ZR_TEST(serial_numbers_keep_their_distance_across_the_wrap)
{
    for (size_t i = 0; i < ZR_LEN(distances); i++) {
        CHECK_EQ(zr_seq_diff(distances[i].a, distances[i].b), distances[i].apart);
        CHECK_EQ(zr_seq_before(distances[i].a, distances[i].b), distances[i].apart < 0);
    }
}

ZR_TEST(sixteen_bit_distances_are_right_for_every_pair_around_every_wrap)
{
    for (uint32_t a = 0; a <= UINT16_MAX; a += 13)
        for (int32_t by = -300; by <= 300; by++)
            CHECK_EQ(zr_seq16_diff((uint16_t)(a + (uint32_t)by), (uint16_t)a), by);
    CHECK_EQ(zr_seq16_diff(0x7FFF, 0), 0x7FFF);
    CHECK_EQ(zr_seq16_diff(0x8000, 0), -0x8000);
}

static const struct {
    uint64_t near;
    uint32_t low;
    uint64_t want;
} unwraps[] = {
    { 0, 0, 0 },
    { 0, 100, 100 },
    { 0xFFFFFFFFu, 0, 0x100000000u },
    { 0x100000000u, 0xFFFFFFFFu, 0xFFFFFFFFu },
    { 0x1FFFFFFF0u, 5, 0x200000005u },
    { 0x200000005u, 0xFFFFFFF0u, 0x1FFFFFFF0u },
    { 7, 0xFFFFFFFFu, 0xFFFFFFFFu }, /* the nearest would be below 0 */
};

ZR_TEST(a_number_is_unwrapped_to_the_one_nearest_to_what_is_known)
{
    for (size_t i = 0; i < ZR_LEN(unwraps); i++)
        CHECK_EQ(zr_seq_unwrap(unwraps[i].near, unwraps[i].low), unwraps[i].want);
}
