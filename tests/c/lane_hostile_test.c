/* H1 to H12: a peer with keys that lies. Its datagrams are sealed, so every check behind the tag is what answers. */
#include "lane_sealed.h"

typedef struct victim {
    end a;
    peer b;
    int conv;
    uint64_t counter, dropped; /* of b's datagrams; refused so far */
    zr_ns_t now;
} victim;

enum { CONV = 10, IN_FLIGHT = 3 };

static void send_one(victim *v, size_t len)
{
    uint8_t head[16] = { 0 };
    zr_pkt *pkt = zr_pool_take(&v->a.pool);

    CHECK(pkt != NULL);
    pkt->len = (uint16_t)len;
    zr_slice body = { pkt, pkt->off, pkt->len };
    CHECK_EQ(zr_lane_send(v->a.lane, (uint32_t)v->conv, head, sizeof head, &body, v->now), ZR_OK);
    zr_pkt_drop(pkt);
}

/* Datagrams that a sends now. */
static uint32_t output(victim *v)
{
    uint32_t count = 0;
    int rc;

    do {
        zr_batch_reset(&v->a.batch);
        rc = zr_lane_output(v->a.lane, &v->a.batch, v->now);
        count += v->a.batch.count;
    } while (rc == ZR_E_full);
    zr_batch_reset(&v->a.batch);
    return count;
}

static void victim_open(victim *v)
{
    memset(v, 0, sizeof *v);
    v->now = ZR_SEC(2);
    sealed_open(&v->a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, v->now);
    peer_open(&v->b, ZR_CIPHER_AES_128_GCM);
    v->conv = open_media(&v->a, CONV, 0, 1);
    for (int i = 0; i < IN_FLIGHT; i++)
        send_one(v, 200);
    output(v);
}

static void victim_close(victim *v)
{
    end_close(&v->a);
    peer_close(&v->b);
}

/* One sealed datagram with these segments; what became of it. */
static int say_at(victim *v, uint64_t counter, const zr_seg *segs, uint32_t count)
{
    uint8_t body[MTU] = { 0 }, data[ZR_PKT_ROOM];
    zr_env env = env_of(0, 0, 0, counter);
    zr_addr from = peer_addr(0);
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        zr_seg_put(body + len, &segs[i]);
        len += ZR_SEG_HEAD + ZR_MIN(segs[i].len, MTU - ZR_SEG_HEAD - len);
    }
    len = peer_seal(&v->b, data, 0, &env, body, len);
    return give(&v->a, &from, data, len, v->now);
}

static int say(victim *v, zr_seg seg)
{
    return say_at(v, v->counter++, &seg, 1);
}

static uint32_t waiting(const victim *v)
{
    return zr_kcp_waiting(&zr_lane_conv_at(v->a.lane, (uint32_t)v->conv)->kcp);
}

#define SEG(...) ((zr_seg){ .conv = CONV, .cmd = ZR_SEG_ACK, .wnd = 128, __VA_ARGS__ })

static void refused(victim *v, zr_seg seg, enum zr_drop_id why)
{
    uint64_t before = dropped(&v->a, why);

    CHECK_EQ(say(v, seg), ZR_E_dropped);
    CHECK_EQ(dropped(&v->a, why), before + 1);
    CHECK_EQ(waiting(v), IN_FLIGHT);
    v->dropped++;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"

ZR_TEST(H1_H2_H5_H6_lies_of_a_sealed_peer_are_violations_that_change_nothing)
{
    victim v;
    uint32_t session, count, told = 0;

    victim_open(&v);
    refused(&v, SEG(.una = IN_FLIGHT + 1), ZR_DROP_kcp_una);                      /* H1 */
    refused(&v, SEG(.una = INT32_MAX), ZR_DROP_kcp_una);                          /* H1 */
    refused(&v, SEG(.sn = IN_FLIGHT), ZR_DROP_kcp_ack);                           /* H2 */
    refused(&v, SEG(.sn = 1000000), ZR_DROP_kcp_ack);                             /* H2 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .frg = 2, .len = 10), ZR_DROP_kcp_frg);   /* H5 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .frg = 255, .len = 10), ZR_DROP_kcp_frg); /* H5 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .len = 0), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.len = 4), ZR_DROP_kcp_len);                                  /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_WASK, .len = 4), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_WINS, .len = 4), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .len = UINT32_MAX), ZR_DROP_kcp_len);     /* H6 */
    while (v.dropped < 16)
        refused(&v, SEG(.cmd = 255), ZR_DROP_kcp_cmd);
    for (; zr_lane_violations(v.a.lane, &session, &count); told += count)
        CHECK_EQ(session, 1);
    CHECK_EQ(told, 16);                               /* as many close a link: tests/sim/test_violations.py */
    CHECK_EQ(say(&v, SEG(.sn = 0, .una = 1)), ZR_OK); /* and the truth is heard as ever */
    CHECK_EQ(waiting(&v), IN_FLIGHT - 1);
    victim_close(&v);
}

ZR_TEST(H3_a_round_trip_comes_from_our_own_send_time_and_no_echo_we_did_not_send)
{
    victim v;
    zr_kcp_estimates before, after;

    victim_open(&v);
    CHECK_EQ(zr_lane_conv_estimated(v.a.lane, (uint32_t)v.conv, &before), ZR_OK);
    v.now += ZR_MS(20);
    CHECK_EQ(say(&v, SEG(.sn = 0, .ts = zr_kcp_ms(v.now) - 2000000000u)), ZR_OK);
    CHECK_EQ(say(&v, SEG(.sn = 1, .ts = zr_kcp_ms(v.now) + 5)), ZR_OK);
    CHECK_EQ(zr_lane_conv_estimated(v.a.lane, (uint32_t)v.conv, &after), ZR_OK);
    CHECK_EQ(after.timer_ms, before.timer_ms);
    CHECK_EQ(after.srtt_ms, before.srtt_ms);
    output(&v);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_ack_ts), 2);
    victim_close(&v);
}

ZR_TEST(H4_a_window_of_nothing_in_an_overtaken_datagram_stops_nothing)
{
    victim v;
    zr_seg older = SEG(.cmd = ZR_SEG_WINS, .wnd = 0, .una = 0);

    victim_open(&v);
    uint64_t overtaken = v.counter++;
    CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_WINS, .wnd = 128, .una = IN_FLIGHT)), ZR_OK);
    CHECK_EQ(say_at(&v, overtaken, &older, 1), ZR_OK);
    output(&v);
    uint64_t before = stat(&v.a, ZR_STAT_kcp_segs_sent);
    for (int i = 0; i < 20; i++)
        send_one(&v, 200);
    output(&v);
    CHECK(stat(&v.a, ZR_STAT_kcp_segs_sent) >= before + 20);
    victim_close(&v);
}

ZR_TEST(H7_of_a_datagram_with_one_bad_segment_none_is_applied)
{
    victim v;
    zr_seg segs[] = { SEG(.sn = 0, .una = 1), SEG(.cmd = ZR_SEG_PUSH, .sn = 0, .len = 10), SEG(.cmd = 0) };

    victim_open(&v);
    CHECK_EQ(say_at(&v, v.counter++, segs, ZR_LEN(segs)), ZR_E_dropped);
    CHECK_EQ(dropped(&v.a, ZR_DROP_kcp_cmd), 1);
    CHECK_EQ(waiting(&v), IN_FLIGHT);
    expect_nothing(&v.a);
    victim_close(&v);
}

ZR_TEST(H8_a_flood_of_stale_segments_is_answered_by_a_few_datagrams_and_holds_nothing)
{
    victim v;
    zr_lane_msg msg;
    uint32_t answers = 0;

    victim_open(&v);
    CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_PUSH, .sn = 0, .una = IN_FLIGHT, .len = 10)), ZR_OK);
    CHECK_EQ(zr_lane_recv(v.a.lane, &msg), ZR_OK);
    zr_pkt_drop(msg.views[0].pkt);
    output(&v);
    uint32_t held = v.a.pool.in_use;
    for (int i = 0; i < 10000; i++) { /* over 10 ms */
        CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_PUSH, .sn = 0, .una = IN_FLIGHT, .len = 10)), ZR_OK);
        v.now += ZR_US(1);
        if (i % 100 == 99)
            answers += output(&v);
    }
    CHECK(answers <= 10);
    CHECK(v.a.pool.in_use <= held);
    expect_nothing(&v.a);
    victim_close(&v);
}

ZR_TEST(H9_H10_a_peer_that_acknowledges_nothing_makes_send_say_full_and_its_session_lives_on)
{
    victim v;
    uint8_t byte[16] = { 0 };
    uint32_t taken = 0;

    victim_open(&v);
    while (taken < 100000 && zr_lane_send_bytes(v.a.lane, (uint32_t)v.conv, byte, sizeof byte, v.now) == ZR_OK)
        taken++;
    CHECK(taken > 0 && taken < PKTS);
    for (int i = 0; i < 600; i++) { /* a minute */
        v.now += ZR_MS(100);
        zr_lane_on_deadline(v.a.lane, v.now);
        output(&v);
    }
    CHECK(waiting(&v) <= 1); /* past their deadline both sides move on; one asks whether anybody is there */
    CHECK(zr_lane_session_open(v.a.lane, 1));
    CHECK_EQ(zr_lane_send_bytes(v.a.lane, (uint32_t)v.conv, byte, sizeof byte, v.now), ZR_OK);
    victim_close(&v);
}

ZR_TEST(H11_a_conversation_nobody_opened_is_named_at_most_ten_times_a_second_and_is_no_violation)
{
    victim v;
    uint32_t session, conv, count, named = 0;

    victim_open(&v);
    for (uint32_t i = 0; i < 10000; i++, v.now += ZR_US(100)) {
        CHECK_EQ(say(&v, SEG(.conv = 1000 + i, .cmd = ZR_SEG_PUSH, .len = 10)), ZR_OK);
        named += zr_lane_unknown(v.a.lane, &session, &conv);
    }
    CHECK(named >= 9 && named <= 11);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_conv_unknown), 10000);
    CHECK(!zr_lane_violations(v.a.lane, &session, &count));
    victim_close(&v);
}

ZR_TEST(H12_without_a_block_left_a_segment_is_not_taken_and_comes_again)
{
    victim v;
    int opened[60], count = 0;

    victim_open(&v);
    for (uint32_t i = 0; i < 60; i++) /* each holds a half, so a block: more than there are */
        opened[count++] = open_media(&v.a, 100 + i, 0, 2);
    for (uint32_t i = 0; i < 60; i++)
        for (uint32_t sn = 0; sn < 4 * ZR_KCP_BLOCK && sn < 127; sn += ZR_KCP_BLOCK / 2)
            CHECK_EQ(say(&v, SEG(.conv = 100 + i, .cmd = ZR_SEG_PUSH, .frg = 1, .sn = sn, .len = MTU - ZR_SEG_HEAD)),
                     ZR_OK);
    output(&v);
    CHECK(v.a.pool.in_use <= PKTS);
    CHECK(stat(&v.a, ZR_STAT_kcp_blocks_in_use) <= 128);
    for (int i = 0; i < count; i++)
        zr_lane_conv_close(v.a.lane, (uint32_t)opened[i]);
    CHECK_EQ(say(&v, SEG(.sn = 0, .una = 1)), ZR_OK);
    victim_close(&v);
}

#pragma GCC diagnostic pop
