/* What a lane counts of each session, by hand: datagrams, their bytes, and the messages in them. */
#include "kcp/zr_seg.h"
#include "lane_end.h"

enum { EMPTY = ZR_ENV_HEAD + ZR_ENV_TAG, HEAD = 16 };

typedef struct counts {
    uint64_t rx_datagrams, rx_bytes, rx_payload, tx_datagrams, tx_bytes, tx_payload;
} counts;

static void expect_row(const end *e, uint32_t slot, counts want)
{
    zr_link_row *row = &e->page->sessions[slot];

    CHECK_EQ(atomic_load(&row->rx_datagrams), want.rx_datagrams);
    CHECK_EQ(atomic_load(&row->rx_bytes), want.rx_bytes);
    CHECK_EQ(atomic_load(&row->rx_payload), want.rx_payload);
    CHECK_EQ(atomic_load(&row->tx_datagrams), want.tx_datagrams);
    CHECK_EQ(atomic_load(&row->tx_bytes), want.tx_bytes);
    CHECK_EQ(atomic_load(&row->tx_payload), want.tx_payload);
}

static void expect_others_empty(const end *e)
{
    for (uint32_t slot = 0; slot < ZR_STAT_SESSIONS; slot++)
        if (slot != 1)
            expect_row(e, slot, (counts){ 0 });
}

static void say(end *e, int conv, size_t len, zr_ns_t now)
{
    uint8_t head[HEAD] = { 0 };
    zr_pkt *pkt = zr_pool_take(&e->pool);

    CHECK(pkt != NULL);
    memset(pkt->buf + pkt->off, 7, len);
    pkt->len = (uint16_t)len;
    zr_slice body = { pkt, pkt->off, pkt->len };
    CHECK_EQ(zr_lane_send(e->lane, (uint32_t)conv, head, sizeof head, &body, now), ZR_OK);
    zr_pkt_drop(pkt);
}

/* What it has to say now, left in its batch; how many datagrams. */
static uint32_t put_out(end *e, zr_ns_t now)
{
    zr_lane_on_deadline(e->lane, now);
    zr_batch_reset(&e->batch);
    CHECK_EQ(zr_lane_output(e->lane, &e->batch, now), ZR_OK);
    return e->batch.count;
}

static void hear_message(end *e)
{
    zr_lane_msg msg;

    CHECK_EQ(zr_lane_recv(e->lane, &msg), ZR_OK);
    for (int i = 0; i < msg.view_count; i++)
        zr_pkt_drop(msg.views[i].pkt);
    expect_nothing(e);
}

ZR_TEST(a_session_counts_its_datagrams_and_bytes_exactly_and_each_message_once)
{
    const uint64_t first = EMPTY + ZR_SEG_HEAD + HEAD + 100, ack = EMPTY + ZR_SEG_HEAD;
    const zr_ns_t t = ZR_SEC(2);
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);

    say(&a, conv, 100, t);
    expect_row(&a, 1, (counts){ .tx_payload = HEAD + 100 }); /* taken, not put out */
    CHECK_EQ(put_out(&a, t), 1);                             /* and lost on the way */
    expect_row(&a, 1, (counts){ 0, 0, 0, 1, first, HEAD + 100 });
    expect_row(&b, 1, (counts){ 0 });

    zr_ns_t now = t; /* once more, by itself */
    while (put_out(&a, now += ZR_MS(1)) == 0)
        CHECK(now < t + ZR_SEC(2));
    const uint64_t again = a.batch.tx[0].len;
    CHECK(again >= first); /* with word of what was lost */
    CHECK_EQ(give(&b, &a.addr, a.batch.tx[0].data, again, now), ZR_OK);
    expect_row(&a, 1, (counts){ 0, 0, 0, 2, first + again, HEAD + 100 });
    expect_row(&b, 1, (counts){ 1, again, 0, 0, 0, 0 });
    hear_message(&b);
    expect_row(&b, 1, (counts){ 1, again, HEAD + 100, 0, 0, 0 });

    CHECK_EQ(give(&b, &a.addr, a.batch.tx[0].data, again, now),
             ZR_E_dropped);                                                 /* a replay is no traffic of the peer's */
    CHECK_EQ(give(&b, &a.addr, a.batch.tx[0].data, 20, now), ZR_E_dropped); /* nor is what is cut */
    expect_row(&b, 1, (counts){ 1, again, HEAD + 100, 0, 0, 0 });

    CHECK_EQ(put_out(&b, now + ZR_MS(20)), 1);
    CHECK_EQ(b.batch.tx[0].len, ack);
    CHECK_EQ(give(&a, &b.addr, b.batch.tx[0].data, ack, now + ZR_MS(20)), ZR_OK);
    expect_row(&b, 1, (counts){ 1, again, HEAD + 100, 1, ack, 0 });
    expect_row(&a, 1, (counts){ 1, ack, 0, 2, first + again, HEAD + 100 });
    expect_others_empty(&a);
    expect_others_empty(&b);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_message_of_two_segments_is_one_payload_and_a_heartbeat_is_bytes_without_payload)
{
    const zr_ns_t t = ZR_SEC(2);
    uint64_t bytes = 0;
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);
    say(&a, conv, 1500, t);
    CHECK_EQ(put_out(&a, t), 2);
    for (uint32_t i = 0; i < 2; i++) {
        bytes += a.batch.tx[i].len;
        CHECK_EQ(give(&b, &a.addr, a.batch.tx[i].data, a.batch.tx[i].len, t), ZR_OK);
    }
    CHECK_EQ(bytes, 2 * (EMPTY + ZR_SEG_HEAD) + HEAD + 1500);
    hear_message(&b);
    expect_row(&a, 1, (counts){ 0, 0, 0, 2, bytes, HEAD + 1500 });
    expect_row(&b, 1, (counts){ 2, bytes, HEAD + 1500, 0, 0, 0 });
    CHECK_EQ(put_out(&b, t + ZR_MS(20)), 1);
    CHECK_EQ(give(&a, &b.addr, b.batch.tx[0].data, b.batch.tx[0].len, t + ZR_MS(20)), ZR_OK);

    zr_ns_t now = t + ZR_MS(20); /* all is said: the next is empty */
    while (stat(&a, ZR_STAT_heartbeats_sent) == 0) {
        for (uint32_t put = put_out(&a, now += ZR_MS(1)); put > 0; put--)
            bytes += a.batch.tx[put - 1].len;
        CHECK(now < t + ZR_SEC(1));
    }
    CHECK_EQ(a.batch.tx[0].len, EMPTY);
    CHECK_EQ(atomic_load(&a.page->sessions[1].tx_bytes), bytes);
    CHECK_EQ(atomic_load(&a.page->sessions[1].tx_payload), HEAD + 1500);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_control_message_is_payload_when_it_is_said_and_when_it_is_taken)
{
    const zr_ns_t t = ZR_SEC(2);
    uint8_t said[300] = { 1 }, heard[400];
    zr_lane_msg msg;
    end a, b;

    pair_open(&a, &b, ZR_LANE_AGENT, BATCH);
    int conv = zr_lane_conv_open(a.lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 0, t);
    CHECK(conv >= 0 && zr_lane_conv_open(b.lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 0, t) >= 0);
    CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)conv, said, sizeof said, t), ZR_OK);
    CHECK_EQ(put_out(&a, t), 1);
    CHECK_EQ(give(&b, &a.addr, a.batch.tx[0].data, a.batch.tx[0].len, t), ZR_OK);
    CHECK_EQ(zr_lane_recv(b.lane, &msg), ZR_OK);
    CHECK_EQ(atomic_load(&b.page->sessions[1].rx_payload), 0);
    CHECK_EQ(zr_lane_recv_bytes(b.lane, msg.conv, heard, 100), ZR_E_oversize); /* not taken, not counted */
    CHECK_EQ(zr_lane_recv_bytes(b.lane, msg.conv, heard, sizeof heard), sizeof said);
    expect_row(&a, 1, (counts){ 0, 0, 0, 1, EMPTY + ZR_SEG_HEAD + sizeof said, sizeof said });
    expect_row(&b, 1, (counts){ 1, EMPTY + ZR_SEG_HEAD + sizeof said, sizeof said, 0, 0, 0 });
    end_close(&a);
    end_close(&b);
}
