#include "worker_rig.h"

/* Run under a tracer that makes sendmmsg fail now and then: tests/py/test_send_errors.py. */
ZR_TEST(whatever_the_kernel_refuses_is_counted_and_the_rest_arrives_once_and_in_order)
{
    rig r = rig_open();
    int player = zr_udp_open(&loopback, 0, 0, 0), last = -1;
    zr_addr to = bound(player);
    uint8_t got[2000];
    uint64_t played = 0, dropped = 0;

    open_stream(&r, &to);
    for (uint16_t i = 0; i < 40; i++) {
        publish(&r, i, 100);
        for (zr_ns_t until = zr_clock_now() + ZR_MS(2); i % 4 == 3 && zr_clock_now() < until;)
            turns(&r); /* longer than a refused address is left out */
    }
    for (zr_ns_t until = zr_clock_now() + ZR_SEC(2); stat_of(&r, ZR_STAT_tx_waiting) > 0 && zr_clock_now() < until;)
        turns(&r);
    for (; recv(player, got, sizeof got, MSG_DONTWAIT) == 112; played++) {
        CHECK(zr_get16be(got + 2) > last);
        last = zr_get16be(got + 2);
    }
    for (enum zr_drop_id why = 0; why < ZR_DROP_COUNT; why++)
        dropped += drops_of(&r, why);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_waiting), 0);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), played);
    CHECK_EQ(stat_of(&r, ZR_STAT_media_accepted), 40);
    CHECK_EQ(played + dropped, 40);
    CHECK(played > 0);
    close(player);
    rig_close(&r);
}
