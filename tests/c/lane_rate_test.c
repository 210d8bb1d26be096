/* max_rate: what a session's bucket lets out of a lane, whatever the peer acknowledges. On the virtual clock. */
#include "lane_end.h"

enum { MBIT = 1000000, STEP_US = 500 };

typedef struct flow {
    end a, b;
    int conv;
    uint64_t sent; /* bytes of datagrams from a */
    uint64_t sent_before;
    uint32_t numbers, refused, datagrams;
    zr_ns_t now;
} flow;

static void flow_open(flow *f, uint64_t bps)
{
    memset(f, 0, sizeof *f);
    pair_open(&f->a, &f->b, 0, BATCH);
    f->conv = open_media(&f->a, 10, 0, 1);
    open_media(&f->b, 10, 0, 1);
    f->now = ZR_SEC(2);
    CHECK_EQ(zr_lane_session_set_rate(f->a.lane, 1, bps, f->now), ZR_OK);
}

static void flow_close(flow *f)
{
    end_close(&f->a);
    end_close(&f->b);
}

static void offer(flow *f, size_t len)
{
    uint8_t head[16] = { 0 };
    zr_pkt *pkt = zr_pool_take(&f->a.pool);

    if (pkt == NULL || zr_lane_conv_fill(f->a.lane, (uint32_t)f->conv) >= 12) {
        f->refused++;
        zr_pkt_drop(pkt);
        return;
    }
    zr_put32(head + 4, f->numbers++);
    pkt->len = (uint16_t)len;
    zr_slice body = { pkt, pkt->off, pkt->len };
    (void)zr_lane_send(f->a.lane, (uint32_t)f->conv, head, sizeof head, &body, f->now);
    zr_pkt_drop(pkt);
}

static void carry(flow *f, end *from, end *to)
{
    int rc;

    do {
        zr_batch_reset(&from->batch);
        rc = zr_lane_output(from->lane, &from->batch, f->now);
        for (uint32_t i = 0; i < from->batch.count; i++) {
            if (from == &f->a) {
                f->sent += from->batch.tx[i].len;
                f->datagrams++;
            }
            CHECK_EQ(give(to, &from->addr, from->batch.tx[i].data, from->batch.tx[i].len, f->now), ZR_OK);
        }
    } while (rc == ZR_E_full);
    CHECK_EQ(rc, ZR_OK);
}

/* Both lanes until `until`; b acknowledges at once, and `packets` are offered every step. */
static void run(flow *f, zr_ns_t until, uint32_t packets, size_t len)
{
    zr_lane_msg msg;

    for (; f->now < until; f->now += ZR_US(STEP_US)) {
        for (uint32_t i = 0; i < packets; i++)
            offer(f, len);
        zr_lane_on_deadline(f->a.lane, f->now);
        zr_lane_on_deadline(f->b.lane, f->now);
        carry(f, &f->a, &f->b);
        while (zr_lane_recv(f->b.lane, &msg) == ZR_OK)
            for (int i = 0; i < msg.view_count; i++)
                zr_pkt_drop(msg.views[i].pkt);
        carry(f, &f->b, &f->a);
    }
}

ZR_TEST(a_peer_that_acknowledges_everything_at_once_gets_the_rate_and_at_most_2_percent_more)
{
    static const uint64_t rates[] = { MBIT, 10 * MBIT, 37 * MBIT };

    for (size_t i = 0; i < ZR_LEN(rates); i++) {
        flow f;
        flow_open(&f, rates[i]);
        run(&f, ZR_SEC(4), 3, 1200); /* 57.6 Mbit/s are offered for 2 s */
        uint64_t fair = rates[i] * 2 / 8;
        CHECK(f.sent <= fair * 102 / 100);
        CHECK(f.sent >= fair * 97 / 100);
        CHECK(stat(&f.a, ZR_STAT_link_rate_held) > 0);
        CHECK(f.refused > 0); /* the queue says so to who offers */
        flow_close(&f);
    }
}

ZR_TEST(without_a_rate_nothing_is_held)
{
    flow f;

    flow_open(&f, 0);
    run(&f, ZR_SEC(3), 3, 1200);
    CHECK_EQ(stat(&f.a, ZR_STAT_link_rate_held), 0);
    CHECK_EQ(f.refused, 0);
    CHECK_EQ(f.numbers, 6000);
    CHECK(f.sent >= 6000ull * 1200);
    flow_close(&f);
}

ZR_TEST(what_waits_for_the_rate_waits_a_tenth_of_a_second_and_not_until_its_deadline)
{
    flow f;

    flow_open(&f, 10 * MBIT);
    run(&f, ZR_SEC(3), 3, 1200);
    CHECK_EQ(stat(&f.a, ZR_STAT_kcp_expired), 0);
    run(&f, f.now + ZR_MS(110), 0, 0); /* nothing more is offered: what is queued leaves */
    f.sent_before = f.sent;
    run(&f, f.now + ZR_MS(100), 0, 0);
    CHECK_EQ(f.sent, f.sent_before);
    flow_close(&f);
}

ZR_TEST(acknowledgements_do_not_wait_for_the_rate_of_what_is_sent)
{
    flow f;

    flow_open(&f, MBIT);
    int back = zr_lane_conv_open(f.b.lane, 1, 20, 0, ZR_CONV_MEDIA, 2, f.now);
    open_media(&f.a, 20, 0, 2);
    int own = f.conv;
    uint64_t before = 0;
    for (int round = 0; round < 100; round++) {
        uint8_t head[16] = { 0 };
        run(&f, f.now + ZR_MS(10), 3, 1200); /* far more than a may send */
        CHECK_EQ(zr_lane_send_bytes(f.b.lane, (uint32_t)back, head, sizeof head, f.now), ZR_OK);
    }
    before = stat(&f.b, ZR_STAT_kcp_retrans_timeout);
    CHECK_EQ(before, 0); /* each was acknowledged before its timer */
    CHECK(f.conv == own && f.sent <= MBIT / 8 * 103 / 100);
    flow_close(&f);
}

ZR_TEST(a_rate_may_change_or_end_while_something_waits_and_a_session_may_go)
{
    flow f;

    flow_open(&f, MBIT);
    run(&f, ZR_SEC(2) + ZR_MS(100), 3, 1200);
    CHECK_EQ(zr_lane_session_set_rate(f.a.lane, 1, 0, f.now), ZR_OK);
    uint64_t before = f.sent;
    run(&f, f.now + ZR_MS(100), 3, 1200);
    CHECK(f.sent - before > 200 * 3 * 1200 * 9 / 10);
    CHECK_EQ(zr_lane_session_set_rate(f.a.lane, 1, MBIT, f.now), ZR_OK);
    run(&f, f.now + ZR_MS(100), 3, 1200);
    CHECK_EQ(zr_lane_session_drop(f.a.lane, 1), ZR_OK);
    zr_lane_on_deadline(f.a.lane, f.now + ZR_SEC(1));
    zr_batch_reset(&f.a.batch);
    CHECK_EQ(zr_lane_output(f.a.lane, &f.a.batch, f.now + ZR_SEC(1)), ZR_OK);
    CHECK_EQ(f.a.batch.count, 0);
    CHECK_EQ(zr_lane_session_set_rate(f.a.lane, 1, MBIT, f.now), ZR_E_missing);
    CHECK_EQ(zr_lane_session_set_rate(f.b.lane, 1, ZR_LANE_RATE_MIN - 1, f.now), ZR_E_inval);
    CHECK_EQ(zr_lane_session_set_rate(f.b.lane, 1, ZR_LANE_RATE_MAX + 1, f.now), ZR_E_inval);
    flow_close(&f);
}
