#include "kcp_rig.h"

#include "zr_test.h"

ZR_TEST(a_message_arrives_once_and_is_acknowledged)
{
    start(256, 0);
    CHECK(!zr_kcp_due(&a, now));
    CHECK_EQ(send(&a, 100), ZR_OK);
    CHECK(zr_kcp_due(&a, now));
    CHECK_EQ(output(&a), ZR_OK);
    CHECK_EQ(batch.count, 1);
    CHECK(!zr_kcp_due(&a, now));
    CHECK_EQ(zr_kcp_deadline(&a), now + ZR_MS(200)); /* the first time-out */
    carry(&b, 0);
    carry(&b, 0);
    CHECK_EQ(recv_len(&b), 100);
    CHECK_EQ(recv_len(&b), ZR_E_again);
    CHECK_EQ(zr_kcp_counted(&b)->duplicates, 1);
    now += ZR_MS(30);
    CHECK_EQ(output(&b), ZR_OK);
    CHECK_EQ(zr_kcp_counted(&b)->acks_sent, 1); /* the repeated one is merged */
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 0);
    CHECK_EQ(zr_kcp_srtt_ms(&a), 30);
    CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
    now = zr_kcp_deadline(&b); /* it saw a repeat, so the path loses: its ACK is backed up once */
    CHECK_EQ(output(&b), ZR_OK);
    carry_all(&a);
    CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
    CHECK_EQ(blocks.in_use, 0); /* an idle conversation holds nothing */
    finish();
}

ZR_TEST(only_the_first_segment_carries_the_head_and_bodies_are_views_of_one_packet)
{
    static const size_t lens[] = { 1, 1380, 1381, 1396, 1397, 1900 };

    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        zr_slice views[2];
        start(256, UINT32_MAX);
        zr_pkt *pkt = zr_pool_copy(&pool, bytes, lens[i]);
        zr_slice body = { pkt, pkt->off, pkt->len };
        int segs = lens[i] + 16 > 1396 ? 2 : 1;
        CHECK_EQ(zr_kcp_send(&a, (const uint8_t *)"0123456789abcdef", 16, &body, now), ZR_OK);
        CHECK_EQ(pkt->refs, 1 + segs);
        CHECK_EQ(zr_kcp_waiting(&a), segs);
        zr_pkt_drop(pkt);
        output(&a);
        carry_all(&b);
        CHECK_EQ(zr_kcp_recv(&b, views, segs - 1), ZR_E_full);
        CHECK_EQ(zr_kcp_recv(&b, views, 2), segs);
        CHECK(memcmp(zr_slice_data(&views[0]), "0123456789abcdef", 16) == 0);
        size_t first = views[0].len - 16u;
        CHECK(memcmp(zr_slice_data(&views[0]) + 16, bytes, first) == 0);
        if (segs == 2)
            CHECK(memcmp(zr_slice_data(&views[1]), bytes + first, views[1].len) == 0);
        CHECK_EQ(first + (segs == 2 ? views[1].len : 0u), lens[i]);
        for (int view = 0; view < segs; view++)
            zr_pkt_drop(views[view].pkt);
        finish();
    }
}

ZR_TEST(a_full_window_of_8192_goes_round_across_the_wrap)
{
    int got = 0;

    start(ZR_KCP_WND_MAX, UINT32_MAX - 5000);
    a.rmt_wnd = ZR_KCP_WND_MAX;
    for (uint32_t i = 0; i < ZR_KCP_WND_MAX; i++)
        CHECK_EQ(send(&a, 1), ZR_OK);
    CHECK_EQ(send(&a, 1), ZR_E_full);
    CHECK_EQ(zr_kcp_send_bytes(&a, bytes, 128 * 1396, now), ZR_E_oversize);
    for (int rc = ZR_E_full; rc != ZR_OK;) {
        rc = output(&a);
        carry_all(&b);
        while (recv_len(&b) == 1)
            got++;
    }
    CHECK_EQ(got, ZR_KCP_WND_MAX);
    CHECK_EQ(zr_kcp_counted(&a)->segs_sent, ZR_KCP_WND_MAX);
    for (int rc = ZR_E_full; rc != ZR_OK;) {
        rc = output(&b);
        carry_all(&a);
    }
    CHECK_EQ(zr_kcp_waiting(&a), 0);
    finish();
}

ZR_TEST(an_output_cut_short_by_a_full_batch_goes_on_without_sending_twice)
{
    zr_batch one;
    void *memory = zr_test_memory(zr_batch_bytes(1, MTU));
    int calls = 0;

    start(256, 0);
    CHECK_EQ(zr_batch_init(&one, memory, 1, MTU), ZR_OK);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(send(&a, 1000), ZR_OK);
    for (int round = 0; round < 2; round++) { /* first sends, then time-outs */
        for (int rc = ZR_E_full; rc != ZR_OK; calls++) {
            zr_pack pack;
            zr_batch_reset(&one);
            zr_pack_begin(&pack, &one, &(zr_addr){ .family = 4 }, 0, MTU, 0, 0, true);
            rc = zr_kcp_output(&a, &pack, now);
            zr_pack_finish(&pack);
            CHECK_EQ(one.count, 1);
            CHECK_EQ(zr_kcp_due(&a, now), rc == ZR_E_full);
            CHECK(zr_kcp_check(&a));
        }
        now = zr_kcp_deadline(&a);
    }
    CHECK_EQ(calls, 20);
    CHECK_EQ(zr_kcp_counted(&a)->segs_sent, 20);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_timeout, 10);
    free(memory);
    finish();
}

ZR_TEST(a_hole_is_resent_after_two_datagrams_that_acknowledge_later_ones_not_after_two_acks_in_one)
{
    start(256, 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(send(&a, 1000), ZR_OK);
        now += ZR_MS(1);
        output(&a);
        if (i > 0 && i < 4)
            carry_all(&b); /* the first is lost */
    }
    now += ZR_MS(5);
    output(&b); /* three ACKs in one datagram */
    CHECK_EQ(batch.count, 1);
    carry_all(&a);
    CHECK(!zr_kcp_due(&a, now));
    zr_seg ack = { .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 256, .sn = 4, .ts = zr_kcp_ms(now), .una = 0 };
    input_seg(&a, ack);
    CHECK(zr_kcp_due(&a, now));
    output(&a);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_fast, 1);
    carry_all(&b);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(recv_len(&b), 1000);
    finish();
}

ZR_TEST(the_time_out_backs_off_by_half_and_never_fires_early)
{
    static const zr_ns_t waits[] = { 200, 300, 450, 675, 1000, 1000 }; /* capped between our relays */

    start(256, 0);
    now += 999999; /* nearly a millisecond off the grid */
    CHECK_EQ(send(&a, 10), ZR_OK);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        output(&a);
        CHECK_EQ(batch.count, 1);
        zr_ns_t at = zr_kcp_deadline(&a);
        CHECK_EQ(at, (now / ZR_MS(1) + waits[i]) * ZR_MS(1));
        CHECK(!zr_kcp_due(&a, at - 1) && zr_kcp_due(&a, at));
        now = at;
    }
    finish();
}

ZR_TEST(rtt_arithmetic_is_that_of_the_stock_engine)
{
    start(256, 0);
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

ZR_TEST(a_shut_window_is_probed_and_its_opening_is_told)
{
    start(4, 0);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a);
    carry_all(&b);
    output(&b); /* wnd 0 */
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 2);
    CHECK(!zr_kcp_due(&a, now));
    static const zr_ns_t probes[] = { 50, 100, 200, 400, 800, 1000, 1000 };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        CHECK_EQ(zr_kcp_deadline(&a), now + ZR_MS(probes[i]));
        now = zr_kcp_deadline(&a);
        zr_kcp_on_deadline(&a, now);
        output(&a);
        CHECK_EQ(batch.tx[0].data[4], ZR_SEG_WASK);
    }
    CHECK_EQ(recv_len(&b), 10);
    output(&b); /* nobody asked */
    CHECK_EQ(batch.tx[0].data[4], ZR_SEG_WINS);
    carry_all(&a);
    CHECK(zr_kcp_due(&a, now));
    output(&a); /* at once: nothing waits for a timer */
    CHECK_EQ(batch.tx[0].data[4], ZR_SEG_PUSH);
    carry_all(&b);
    CHECK_EQ(recv_len(&b), 10);
    finish();
}

ZR_TEST(a_thousand_messages_cross_the_wrap_in_order_through_loss_both_ways)
{
    int sent = 0, got = 0, datagrams = 0;

    start(128, UINT32_MAX - 1000);
    for (int step = 0; got < 3000 && step < 100000; step++) {
        while (sent < 3000 && send(&a, 1 + (size_t)(sent % 900)) == ZR_OK)
            sent++;
        zr_kcp *from = step % 2 == 0 ? &a : &b, *to = step % 2 == 0 ? &b : &a;
        zr_kcp_on_deadline(from, now);
        int rc;
        do {
            rc = output(from);
            for (uint32_t i = 0; i < batch.count; i++)
                if (++datagrams % 7 != 0)
                    carry(to, i);
        } while (rc == ZR_E_full);
        for (int len; (len = recv_len(&b)) >= 0; got++)
            CHECK_EQ(len, 1 + got % 900);
        now += ZR_MS(7);
    }
    CHECK_EQ(got, 3000);
    CHECK(zr_kcp_counted(&a)->retrans_fast + zr_kcp_counted(&a)->retrans_timeout > 0);
    finish();
}

/* Five pushes, the first lost; b's answer to the last `told` of them is in the batch. */
static void leave_a_hole(int told)
{
    start(256, 0);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(send(&a, 10), ZR_OK);
        output(&a);
        if (i > 0)
            carry_all(&b);
        if (i == 4 - told)
            output(&b); /* lost */
    }
    now += ZR_MS(1);
    output(&b);
}

ZR_TEST(behind_a_hole_a_later_ack_datagram_repeats_what_a_lost_one_said)
{
    leave_a_hole(2);
    CHECK_EQ(batch.count, 1);
    CHECK_EQ(batch.tx[0].len, 4 * ZR_SEG_HEAD);
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 1);
    for (int i = 0; i < 3; i++) { /* each is repeated twice, however long the hole stays */
        CHECK_EQ(send(&a, 10), ZR_OK);
        output(&a);
        carry_all(&b);
        output(&b);
    }
    CHECK_EQ(batch.tx[0].len, 3 * ZR_SEG_HEAD);
    finish();
}

ZR_TEST(while_the_path_loses_the_last_ack_is_backed_up_by_one_wins)
{
    leave_a_hole(4);
    zr_seg seg;
    size_t pos = 0;
    zr_ns_t at = zr_kcp_deadline(&b);

    CHECK_EQ(at, now + ZR_MS(6));
    now = at - 1;
    CHECK(!zr_kcp_due(&b, now));
    now = at;
    output(&b);
    CHECK_EQ(batch.count, 1);
    int cmds[2] = { 0 }, acks = 0;
    while (zr_seg_next(&seg, batch.tx[0].data, batch.tx[0].len, &pos) == ZR_OK)
        if (seg.cmd == ZR_SEG_ACK)
            acks++;
        else
            cmds[seg.cmd == ZR_SEG_WINS]++;
    CHECK_EQ(acks, 4);
    CHECK_EQ(cmds[1], 1);
    CHECK_EQ(cmds[0], 0);
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 1);
    CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
    finish();
}

ZR_TEST(on_a_clean_path_an_ack_is_sent_once)
{
    start(256, 0);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(send(&a, 10), ZR_OK);
        output(&a);
        carry_all(&b);
        output(&b);
        CHECK_EQ(batch.tx[0].len, ZR_SEG_HEAD);
        carry_all(&a);
        CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
        CHECK_EQ(recv_len(&b), 10);
        now += ZR_MS(1);
    }
    finish();
}
