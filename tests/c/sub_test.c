#include "forward/zr_sub.h"

#include "zr_test.h"

static zr_addr at_port(uint16_t port)
{
    return (zr_addr){ .ip = { 0xFE, 0x80, [15] = 1 }, .port = port, .family = 6 };
}

ZR_TEST(subscribers_are_found_by_address_and_leave_no_destination_behind)
{
    static zr_stream stream;
    static zr_stream_row row;
    void *memory = zr_test_memory(zr_subs_bytes(4));
    zr_addr one = at_port(6000), two = at_port(6002);
    zr_subs subs;
    zr_sub *a, *b;
    int found = 0;

    memset(&stream, 0, sizeof stream);
    zr_stream_init(&stream, 0, &row);
    zr_stream_open(&stream, true, 1, 0);
    zr_subs_init(&subs, memory, 4);
    a = zr_subs_add(&subs, 0, &stream, false);
    b = zr_subs_add(&subs, 1, &stream, false);
    CHECK(a != NULL && b != NULL && zr_subs_add(&subs, 1, &stream, false) == NULL);
    CHECK(zr_subs_add(&subs, 4, &stream, false) == NULL);
    CHECK_EQ(zr_subs_set_addr(&subs, a, ZR_TRACK_DEFAULT, &one), ZR_OK);
    CHECK_EQ(zr_subs_set_addr(&subs, b, 1, &one), ZR_OK);
    for (zr_dest *d = zr_subs_at(&subs, &one, NULL); d != NULL; d = zr_subs_at(&subs, &one, d))
        found++;
    CHECK_EQ(found, 2);
    CHECK(zr_sub_addr(a, 1) != NULL && zr_sub_addr(b, 0) == NULL);
    for (int i = 0; i < 100; i++) /* replacing does not use the pool up */
        CHECK_EQ(zr_subs_set_addr(&subs, b, 1, i % 2 ? &one : &two), ZR_OK);
    CHECK(zr_subs_check(&subs));
    zr_subs_remove(&subs, a);
    zr_subs_remove(&subs, b);
    CHECK(zr_subs_at(&subs, &one, NULL) == NULL && zr_subs_get(&subs, 0) == NULL);
    CHECK(zr_subs_check(&subs));
    free(memory);
}
