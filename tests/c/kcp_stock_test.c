/* The stock rules, as a compat conversation has them: everything happens on the grid of flushes, each ACK goes once. */
#include "kcp_rig.h"

#include "zr_test.h"

ZR_TEST(a_stock_ack_is_sent_once_and_an_idle_conversation_wants_nothing)
{
    start_compat(256, UINT32_MAX - 50);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(send(&a, 10), ZR_OK);
        CHECK_EQ(turn(&a), ZR_OK);
        carry_all(&b);
        turn(&b);
        CHECK_EQ(batch.count, 1);
        CHECK_EQ(batch.tx[0].len, ZR_SEG_HEAD);
        carry_all(&a);
        CHECK_EQ(recv_len(&b), 10);
        CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
        CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
        CHECK_EQ(blocks.in_use, 0);
        now += ZR_MS(10);
    }
    CHECK_EQ(zr_kcp_counted(&b)->acks_sent, 100);
    finish();
}

ZR_TEST(a_stock_repeat_that_arrives_before_its_ack_went_out_is_acknowledged_once)
{
    start_compat(256, 0);
    CHECK_EQ(send(&a, 100), ZR_OK);
    CHECK(!zr_kcp_due(&a, now)); /* the grid, and nothing else */
    CHECK_EQ(turn(&a), ZR_OK);
    CHECK_EQ(batch.count, 1);
    carry(&b, 0);
    carry(&b, 0);
    CHECK_EQ(recv_len(&b), 100);
    CHECK_EQ(recv_len(&b), ZR_E_again);
    CHECK_EQ(zr_kcp_counted(&b)->duplicates, 1);
    now += ZR_MS(30);
    CHECK_EQ(turn(&b), ZR_OK);
    CHECK_EQ(zr_kcp_counted(&b)->acks_sent, 1);
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 0);
    CHECK_EQ(zr_kcp_srtt_ms(&a), 30);
    CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
    CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
    CHECK_EQ(blocks.in_use, 0); /* an idle conversation holds nothing */
    finish();
}

ZR_TEST(a_hole_is_resent_after_two_datagrams_that_acknowledge_later_ones_not_after_two_acks_in_one)
{
    start_compat(256, 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(send(&a, 1000), ZR_OK);
        now += ZR_MS(1);
        flush(&a);
        if (i > 0 && i < 4)
            carry_all(&b); /* the first is lost */
    }
    now += ZR_MS(5);
    flush(&b); /* three ACKs in one datagram */
    CHECK_EQ(batch.count, 1);
    CHECK_EQ(batch.tx[0].len, 3 * ZR_SEG_HEAD);
    carry_all(&a);
    flush(&a);
    CHECK_EQ(batch.count, 0);
    zr_seg ack = { .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 256, .sn = 4, .ts = zr_kcp_ms(now), .una = 0 };
    input_seg(&a, ack);
    flush(&a);
    CHECK_EQ(batch.count, 1);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_fast, 1);
    carry_all(&b);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(recv_len(&b), 1000);
    finish();
}

ZR_TEST(a_stock_time_out_backs_off_by_half_and_never_fires_early)
{
    static const zr_ns_t waits[] = { 200, 300, 450, 675, 1012, 1518, 2277 };

    start_compat(256, 0);
    now += 999999; /* nearly a millisecond off */
    CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(turn(&a), ZR_OK);
    CHECK_EQ(batch.count, 1);
    for (size_t i = 0; i < ZR_LEN(waits); i++) {
        zr_ns_t due = (now / ZR_MS(1) + waits[i]) * ZR_MS(1);
        do {
            zr_ns_t at = zr_kcp_deadline(&a);
            CHECK(at > now && at - now <= ZR_MS(10)); /* the grid goes on as long as something is in flight */
            now = at;
            CHECK_EQ(turn(&a), ZR_OK);
        } while (batch.count == 0);
        CHECK(now >= due && now < due + ZR_MS(10));
    }
    CHECK_EQ(zr_kcp_counted(&a)->retrans_timeout, ZR_LEN(waits));
    finish();
}

ZR_TEST(rtt_arithmetic_is_that_of_the_stock_engine)
{
    start_compat(256, 0);
    static const int rttvars[] = { 15, 11, 8 };
    for (int i = 0; i < 3; i++) {
        zr_kcp_on_rtt(&a, 30);
        CHECK_EQ(a.srtt, 30);
        CHECK_EQ(a.rttvar, rttvars[i]);
    }
    CHECK_EQ(a.rto, 62);
    zr_kcp_on_rtt(&b, 0); /* a sample of zero leaves it unsampled */
    CHECK_EQ(b.srtt, 0);
    CHECK_EQ(b.rto, 30);
    finish();
}

ZR_TEST(a_window_shut_to_a_stock_sender_is_probed_by_its_own_times_and_its_opening_is_told_once)
{
    static const zr_ns_t probes[] = { 9000, 19500, 35250, 58880 }; /* as published for a zero window seen at 2000 */

    start_compat(4, 0);
    now = ZR_MS(2000);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(turn(&a), ZR_OK);
    carry_all(&b);
    CHECK_EQ(turn(&b), ZR_OK); /* wnd 0 */
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 2);
    flush(&a); /* sees it */
    CHECK_EQ(batch.count, 0);
    for (size_t i = 0; i < ZR_LEN(probes); i++) {
        do {
            now = zr_kcp_deadline(&a);
            CHECK(now <= ZR_MS(probes[i]));
            CHECK_EQ(turn(&a), ZR_OK);
        } while (batch.count == 0);
        CHECK_EQ(now, ZR_MS(probes[i]));
        CHECK_EQ(batch.tx[0].data[4], ZR_SEG_WASK);
    }
    CHECK_EQ(recv_len(&b), 10);
    CHECK_EQ(turn(&b), ZR_OK); /* nobody asked */
    CHECK_EQ(batch.count, 1);
    CHECK_EQ(batch.tx[0].data[4], ZR_SEG_WINS);
    carry_all(&a);
    CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
    CHECK_EQ(flush(&a), ZR_OK);
    CHECK_EQ(batch.tx[0].data[4], ZR_SEG_PUSH);
    carry_all(&b);
    CHECK_EQ(recv_len(&b), 10);
    finish();
}

ZR_TEST(a_stock_flush_cut_short_by_a_full_batch_goes_on_without_sending_twice)
{
    zr_batch one;
    void *memory = zr_test_memory(zr_batch_bytes(1, MTU));
    int datagrams = 0;

    start_compat(256, 0);
    CHECK_EQ(zr_batch_init(&one, memory, 1, MTU), ZR_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(send(&a, 1000), ZR_OK);
    for (int round = 0; round < 2; round++, now += ZR_MS(200)) { /* first sends, then time-outs */
        zr_kcp_on_deadline(&a, now);
        for (int rc = ZR_E_full; rc != ZR_OK;) {
            rc = output_runs(&a, &one);
            datagrams += (int)one.count;
        }
    }
    CHECK_EQ(datagrams, 20);
    CHECK_EQ(zr_kcp_counted(&a)->segs_sent, 20);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_timeout, 10);
    free(memory);
    finish();
}
