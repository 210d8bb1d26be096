#include "kcp_rig.h"

#include "zr_test.h"

ZR_TEST(a_message_arrives_once_and_is_acknowledged_within_the_slack_and_then_all_is_idle)
{
    start(256, 0);
    CHECK(!zr_kcp_due(&a, now));
    CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
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
    CHECK_EQ(batch.tx[0].len, ZR_SEG_HEAD);
    carry_all(&a);
    CHECK_EQ(zr_kcp_waiting(&a), 0);
    CHECK_EQ(zr_kcp_srtt_ms(&a), 30);
    CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
    zr_ns_t from = now;
    while (zr_kcp_deadline(&b) != ZR_NEVER) { /* said again, for a sender that has not heard */
        now = zr_kcp_deadline(&b);
        CHECK_EQ(turn(&b), ZR_OK);
        CHECK(batch.count <= 1);
        carry_all(&a);
        CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
        CHECK(now <= from + ZR_MS(8));
    }
    CHECK(now > from);
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
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = ZR_KCP_WND_MAX, .una = UINT32_MAX - 5000 });
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
            rc = output_runs(&a, &one);
            CHECK_EQ(one.count, 1);
        }
        now = zr_kcp_deadline(&a);
    }
    CHECK_EQ(calls, 20);
    CHECK_EQ(zr_kcp_counted(&a)->segs_sent, 20);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_timeout, 10);
    free(memory);
    finish();
}

enum delivered { IN_ORDER, EACH_ONCE };

/* 3000 messages whose bytes say which they are; every seventh datagram is lost. */
static void cross(zr_kcp_conf conf, enum delivered how)
{
    enum { MESSAGES = 3000 };
    bool seen[MESSAGES] = { false };
    int sent = 0, got = 0, datagrams = 0;
    static uint8_t text[2000], heard[2000];

    start_wnd(conf, 128, UINT32_MAX - 1000);
    for (int step = 0; got < MESSAGES && step < 100000; step++) {
        for (; sent < MESSAGES; sent++) {
            zr_put32(text, (uint32_t)sent);
            memset(text + 4, sent, sizeof text - 4);
            if (zr_kcp_send_bytes(&a, text, 4 + (size_t)(sent % 900), now) != ZR_OK)
                break;
        }
        zr_kcp *from = step % 2 == 0 ? &a : &b, *to = step % 2 == 0 ? &b : &a;
        zr_kcp_on_deadline(from, now);
        int rc;
        do {
            rc = output(from);
            for (uint32_t i = 0; i < batch.count; i++)
                if (++datagrams % 7 != 0)
                    carry(to, i);
        } while (rc == ZR_E_full);
        for (int len; (len = zr_kcp_recv_bytes(&b, heard, sizeof heard)) >= 0; got++) {
            uint32_t number = zr_get32(heard);
            CHECK(number < MESSAGES && !seen[number] && (how != IN_ORDER || number == (uint32_t)got));
            CHECK_EQ(len, 4 + number % 900);
            CHECK(len == 4 || heard[len - 1] == (uint8_t)number);
            seen[number] = true;
        }
        now += ZR_MS(7);
    }
    CHECK_EQ(got, MESSAGES);
    CHECK(zr_kcp_counted(&a)->retrans_fast + zr_kcp_counted(&a)->retrans_timeout > 0);
    finish();
}

ZR_TEST(thousands_of_messages_cross_the_wrap_through_loss_both_ways_each_as_its_profile_promises)
{
    zr_kcp_conf patient = zr_kcp_conf_media(7);

    patient.deadline_ms = 0;
    cross(zr_kcp_conf_compat(7), IN_ORDER);
    cross(zr_kcp_conf_control(7), IN_ORDER);
    cross(patient, EACH_ONCE);
}
