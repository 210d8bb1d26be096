/* Two lanes back to back: what one sends the other receives, once, and everything comes back to its pool. */
#include "lane_end.h"

/* One output call of `from`, its datagrams straight into `to`; what output returned. */
static int carry_once(end *from, end *to, zr_ns_t now)
{
    zr_batch_reset(&from->batch);
    int rc = zr_lane_output(from->lane, &from->batch, now);
    for (uint32_t i = 0; i < from->batch.count; i++) {
        const zr_tx *tx = &from->batch.tx[i];
        CHECK(zr_addr_eq(&tx->to, &to->addr));
        CHECK_EQ(give(to, &from->addr, tx->data, tx->len, now), ZR_OK);
    }
    return rc;
}

static int carry(end *from, end *to, zr_ns_t now)
{
    int calls = 1;
    while (carry_once(from, to, now) == ZR_E_full)
        CHECK(calls++ < 1000);
    return calls;
}

static int send_media(end *e, int conv, uint32_t number, size_t len, zr_ns_t now)
{
    uint8_t head[16] = { 0 };
    zr_pkt *pkt = zr_pool_take(&e->pool);

    CHECK(pkt != NULL);
    zr_put32(head + 4, number);
    memset(pkt->buf + pkt->off, (int)(number & 0xFF), len);
    pkt->len = (uint16_t)len;
    zr_slice body = { pkt, pkt->off, pkt->len };
    int rc = zr_lane_send(e->lane, (uint32_t)conv, head, sizeof head, &body, now);
    zr_pkt_drop(pkt);
    return rc;
}

/* Takes one message, checks its body, drops it. Its number, and in `len` the bytes of its body. */
static uint32_t take_media(end *e, uint32_t user, size_t *len)
{
    zr_lane_msg msg;
    size_t total = 0;

    CHECK_EQ(zr_lane_recv(e->lane, &msg), ZR_OK);
    CHECK_EQ(msg.user, user);
    CHECK_EQ(msg.session, 1);
    uint32_t number = zr_get32(zr_slice_data(&msg.views[0]) + 4);
    for (int i = 0; i < msg.view_count; i++) {
        total += msg.views[i].len;
        CHECK_EQ(zr_slice_data(&msg.views[i])[msg.views[i].len - 1], number & 0xFF);
        zr_pkt_drop(msg.views[i].pkt);
    }
    *len = total - 16;
    return number;
}

static void expect_media(end *e, uint32_t user, uint32_t number, size_t len)
{
    size_t got;

    CHECK_EQ(take_media(e, user, &got), number);
    CHECK_EQ(got, len);
}

ZR_TEST(messages_of_one_and_two_segments_cross_once_and_every_packet_comes_back)
{
    static const size_t sizes[] = { 1, 100, 1380, 1381, 1500, 160 };
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);
    for (uint32_t i = 0; i < ZR_LEN(sizes); i++)
        CHECK_EQ(send_media(&a, conv, i, sizes[i], ZR_SEC(2)), ZR_OK);
    carry(&a, &b, ZR_SEC(2));
    bool seen[ZR_LEN(sizes)] = { false };
    for (uint32_t i = 0; i < ZR_LEN(sizes); i++) { /* as they arrive: small ones follow the large */
        size_t len;
        uint32_t number = take_media(&b, 2, &len);
        CHECK(number < ZR_LEN(sizes) && !seen[number] && len == sizes[number]);
        seen[number] = true;
    }
    expect_nothing(&b);
    CHECK_EQ(b.pool.in_use, 0);
    carry(&b, &a, ZR_SEC(2) + ZR_MS(20)); /* the acknowledgements */
    zr_batch_reset(&a.batch);
    CHECK_EQ(a.pool.in_use, 0);
    CHECK_EQ(stat(&a, ZR_STAT_kcp_segs_sent), ZR_LEN(sizes) + 2);
    CHECK_EQ(stat(&b, ZR_STAT_kcp_segs_received), ZR_LEN(sizes) + 2);
    CHECK_EQ(stat(&b, ZR_STAT_kcp_acks_sent), 1); /* nothing is missing any more: its una tells of all */
    zr_lane_on_deadline(a.lane, ZR_SEC(2) + ZR_MS(40));
    carry(&a, &b, ZR_SEC(2) + ZR_MS(40));
    CHECK_EQ(stat(&a, ZR_STAT_kcp_blocks_in_use), 0);
    CHECK(zr_lane_deadline(a.lane) > ZR_SEC(2) + ZR_MS(100)); /* nothing but the heartbeat is left */
    end_close(&a);
    end_close(&b);
}

ZR_TEST(small_segments_of_many_conversations_share_a_datagram_and_large_ones_form_a_run)
{
    enum { CONVS = 20 };
    int handles[CONVS];
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    for (uint32_t i = 0; i < CONVS; i++) {
        handles[i] = open_media(&a, 100 + i, 0, i);
        open_media(&b, 100 + i, 0, i);
    }
    for (uint32_t i = 0; i < CONVS; i++)
        CHECK_EQ(send_media(&a, handles[i], i, i % 2 == 0 ? 1200 : 80, ZR_SEC(2)), ZR_OK);
    CHECK_EQ(carry_once(&a, &b, ZR_SEC(2)), ZR_OK);
    CHECK_EQ(a.batch.count, 10 + 1); /* ten of 1200 alone, ten of 80 in one */
    for (uint32_t i = 1; i < 10; i++) {
        CHECK_EQ(a.batch.tx[i].len, a.batch.tx[0].len);
        CHECK(a.batch.tx[i].data == a.batch.tx[i - 1].data + a.batch.tx[i - 1].len);
    }
    for (uint32_t i = 0; i < a.batch.count; i++) { /* one counter for all of them, from 0 */
        zr_env env;
        zr_env_parse(&env, a.batch.tx[i].data);
        CHECK_EQ(env.counter, i);
        CHECK_EQ(env.receiver, (uint32_t)INDEX_B << 6);
    }
    for (uint32_t n = 0; n < CONVS; n++) {
        zr_lane_msg msg;
        CHECK_EQ(zr_lane_recv(b.lane, &msg), ZR_OK);
        CHECK_EQ(zr_get32(zr_slice_data(&msg.views[0]) + 4), msg.user);
        zr_pkt_drop(msg.views[0].pkt);
    }
    expect_nothing(&b);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_batch_of_one_is_filled_again_and_again_until_all_is_out)
{
    end a, b;

    pair_open(&a, &b, 0, 1);
    int big = open_media(&a, 10, 0, 1), small = open_media(&a, 11, 0, 2);
    open_media(&b, 10, 0, 1);
    open_media(&b, 11, 0, 2);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(send_media(&a, big, i, 1300, ZR_SEC(2)), ZR_OK);
        CHECK_EQ(send_media(&a, small, i, 100, ZR_SEC(2)), ZR_OK);
    }
    zr_lane_on_deadline(a.lane, ZR_SEC(2));
    CHECK_EQ(zr_lane_deadline(a.lane), 0);
    CHECK(carry(&a, &b, ZR_SEC(2)) > 5);
    CHECK(zr_lane_deadline(a.lane) > ZR_SEC(2));
    for (uint32_t i = 0; i < 5; i++)
        expect_media(&b, 1, i, 1300);
    for (uint32_t i = 0; i < 5; i++)
        expect_media(&b, 2, i, 100);
    carry(&b, &a, ZR_SEC(2) + ZR_MS(20));
    CHECK_EQ(stat(&a, ZR_STAT_kcp_segs_sent), 10);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(control_messages_of_many_segments_cross_whole_and_are_announced_one_by_one)
{
    static uint8_t sent[2][20000], got[20000];
    zr_lane_msg msg;
    end a, b;

    pair_open(&a, &b, ZR_LANE_AGENT, BATCH);
    int from = zr_lane_conv_open(a.lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 5, ZR_SEC(1));
    int to = zr_lane_conv_open(b.lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 6, ZR_SEC(1));
    for (int i = 0; i < 2; i++) {
        memset(sent[i], 'a' + i, sizeof sent[i]);
        CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)from, sent[i], sizeof sent[i], ZR_SEC(2)), ZR_OK);
    }
    carry(&a, &b, ZR_SEC(2));
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(zr_lane_recv(b.lane, &msg), ZR_OK);
        CHECK_EQ(msg.view_count, 0);
        CHECK_EQ(msg.user, 6);
        expect_nothing(&b); /* told once */
        CHECK_EQ(zr_lane_recv_bytes(b.lane, (uint32_t)to, got, 100), ZR_E_oversize);
        CHECK_EQ(zr_lane_recv_bytes(b.lane, (uint32_t)to, got, sizeof got), sizeof got);
        CHECK(memcmp(got, sent[i], sizeof got) == 0);
    }
    expect_nothing(&b);
    CHECK_EQ(zr_lane_recv_bytes(b.lane, (uint32_t)to, got, sizeof got), ZR_E_again);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_quiet_peer_lane_with_conversations_gets_a_heartbeat_each_period_and_no_more)
{
    zr_ns_t now = ZR_SEC(1);
    end a, b;

    pair_open(&a, &b, 0, BATCH); /* 5 a second */
    int conv = open_media(&a, 10, 0, 1);
    for (; now < ZR_SEC(3); now += ZR_MS(1)) {
        zr_lane_on_deadline(a.lane, now);
        carry(&a, &b, now);
    }
    CHECK(stat(&a, ZR_STAT_heartbeats_sent) == 9 || stat(&a, ZR_STAT_heartbeats_sent) == 10);
    CHECK_EQ(stat(&b, ZR_STAT_link_empty), stat(&a, ZR_STAT_heartbeats_sent));
    CHECK(zr_lane_session_heard(b.lane, 1) > ZR_SEC(2) + ZR_MS(700));
    zr_lane_conv_close(a.lane, (uint32_t)conv);
    CHECK_EQ(zr_lane_deadline(a.lane), ZR_NEVER);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_peer_lane_that_is_sent_to_needs_no_heartbeat)
{
    zr_ns_t now = ZR_SEC(1);
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 1);
    for (uint32_t ms = 0; ms < 2000; ms++, now += ZR_MS(1)) {
        zr_lane_on_deadline(a.lane, now);
        zr_lane_on_deadline(b.lane, now);
        if (ms % 150 == 0) {
            CHECK_EQ(send_media(&a, conv, ms / 150, 500, now), ZR_OK);
            carry(&a, &b, now);
            expect_media(&b, 1, ms / 150, 500);
        }
        carry(&a, &b, now);
        carry(&b, &a, now);
    }
    CHECK_EQ(stat(&a, ZR_STAT_heartbeats_sent), 0);
    CHECK_EQ(stat(&b, ZR_STAT_heartbeats_sent), 0); /* it acknowledges */
    CHECK_EQ(stat(&a, ZR_STAT_kcp_segs_sent), 14);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(the_counters_towards_each_lane_are_dense_and_none_is_used_twice)
{
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    int convs[2] = { open_media(&a, 10, 0, 0), open_media(&a, 11, 1, 0) };
    for (uint32_t turn = 0; turn < 4; turn++) {
        zr_batch_reset(&a.batch);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(send_media(&a, convs[i], turn, 500, ZR_SEC(1)), ZR_OK);
        CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(1)), ZR_OK);
        CHECK_EQ(a.batch.count, 2);
        for (uint32_t i = 0; i < 2; i++) {
            zr_env env;
            zr_env_parse(&env, a.batch.tx[i].data);
            CHECK_EQ(env.counter, turn);
            CHECK_EQ(zr_env_lane(env.receiver), i);
            CHECK_EQ(a.batch.tx[i].to.port, PORT_B + 1 + zr_env_lane(env.receiver));
        }
    }
    end_close(&a);
}

ZR_TEST(what_is_closed_between_input_and_recv_is_forgotten_and_its_packets_come_back)
{
    end a, b;

    pair_open(&a, &b, 0, BATCH);
    int out[2] = { open_media(&a, 10, 0, 0), open_media(&a, 11, 0, 0) };
    int in[2] = { open_media(&b, 10, 0, 10), open_media(&b, 11, 0, 11) };
    for (int i = 0; i < 2; i++)
        CHECK_EQ(send_media(&a, out[i], 3, 900, ZR_SEC(2)), ZR_OK);
    carry(&a, &b, ZR_SEC(2));
    zr_lane_conv_close(b.lane, (uint32_t)in[0]);
    expect_media(&b, 11, 3, 900);
    expect_nothing(&b);
    CHECK_EQ(b.pool.in_use, 0);
    CHECK_EQ(zr_lane_session_drop(b.lane, 1), ZR_OK);
    CHECK_EQ(zr_lane_conv_user(b.lane, (uint32_t)in[1]), 0);
    CHECK_EQ(send_media(&b, in[1], 0, 10, ZR_SEC(2)), ZR_E_missing);
    CHECK_EQ(zr_lane_deadline(b.lane), ZR_NEVER);
    zr_lane_conv_close(b.lane, (uint32_t)in[1]); /* a second close is nothing */
    end_close(&a);
    end_close(&b);
}

ZR_TEST(sessions_and_conversations_refuse_what_is_out_of_range_or_taken)
{
    zr_session_conf ok = { .index = 1, .peer_index = 2, .agent = loopback(9000), .lanes = 2, .mtu = MTU };
    zr_session_conf bad[6] = { ok, ok, ok, ok, ok, ok };
    end a;

    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    bad[0].index = 1u << 26;
    bad[1].peer_index = 1u << 26;
    bad[2].lanes = 63;
    bad[3].mtu = 1501;
    bad[4].agent.port = 65534;
    bad[5].agent.family = 0;
    for (size_t i = 0; i < ZR_LEN(bad); i++)
        CHECK_EQ(zr_lane_session_add(a.lane, 0, &bad[i], 0), ZR_E_inval);
    CHECK_EQ(zr_lane_session_add(a.lane, 4, &ok, 0), ZR_E_inval);
    CHECK_EQ(zr_lane_session_add(a.lane, 1, &ok, 0), ZR_E_exists);
    ok.index = INDEX_A;
    CHECK_EQ(zr_lane_session_add(a.lane, 0, &ok, 0), ZR_E_exists);
    CHECK_EQ(zr_lane_session_drop(a.lane, 0), ZR_E_missing);

    int conv = open_media(&a, 7, 0, 42), other = open_media(&a, 8, 1, 43);
    CHECK_EQ(zr_lane_conv_open(a.lane, 1, 7, 0, ZR_CONV_MEDIA, 0, 0), ZR_E_exists);
    CHECK_EQ(zr_lane_conv_open(a.lane, 1, 9, 2, ZR_CONV_MEDIA, 0, 0), ZR_E_inval);
    CHECK_EQ(zr_lane_conv_open(a.lane, 1, 0, 0, ZR_CONV_MEDIA, 0, 0), ZR_E_inval);
    CHECK_EQ(zr_lane_conv_open(a.lane, 0, 9, 0, ZR_CONV_MEDIA, 0, 0), ZR_E_missing);
    CHECK_EQ(zr_lane_conv_find(a.lane, 1, 7), conv);
    CHECK_EQ(zr_lane_conv_user(a.lane, (uint32_t)conv), 42);
    CHECK_EQ(zr_lane_conv_next(a.lane, 1, -1), conv);
    CHECK_EQ(zr_lane_conv_next(a.lane, 1, conv), other);
    CHECK_EQ(zr_lane_conv_next(a.lane, 1, other), ZR_E_missing);
    for (uint32_t i = 2; i < 64; i++)
        open_media(&a, 100 + i, 0, 0);
    CHECK_EQ(zr_lane_conv_open(a.lane, 1, 99, 0, ZR_CONV_MEDIA, 0, 0), ZR_E_nomem);
    CHECK_EQ(stat(&a, ZR_STAT_convs), 64);
    end_close(&a);
}
