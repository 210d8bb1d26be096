/* Probes inside lanes: what passes on lane 63 alone, what a forged one costs, and the sizes that follow from them. */
#include "kcp/zr_seg.h"
#include "lane_end.h"

static void probing_open(end *e, uint32_t index, uint16_t port, uint32_t peer_index, uint16_t peer_port)
{
    zr_lane_conf conf = conf_of(ZR_LANE_AGENT);
    zr_session_conf session = {
        .index = index, .peer_index = peer_index, .agent = loopback(peer_port), .lanes = 2, .mtu = MTU, .rate_mhz = 4000
    };

    conf.probe = (zr_probe_conf){ .rate_idle = 25, .rate_active = 100, .seed = index };
    end_make(e, &conf, BATCH, port, &session);
    CHECK(zr_lane_conv_open(e->lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 0, ZR_SEC(1)) >= 0);
}

/* What `from` has to say now goes to `to`, unless it is longer than `largest` bytes; the longest that was not a pad. */
static size_t pass(end *from, end *to, size_t largest, zr_ns_t now)
{
    size_t longest = 0;
    int rc;

    zr_lane_on_deadline(from->lane, now);
    do {
        zr_batch_reset(&from->batch);
        rc = zr_lane_output(from->lane, &from->batch, now);
        for (uint32_t i = 0; i < from->batch.count; i++) {
            const zr_tx *tx = &from->batch.tx[i];
            if (tx->len <= ZR_ENV_HEAD + ZR_ENV_TAG || tx->data[ZR_ENV_HEAD + 4] != ZR_PROBE_PAD)
                longest = ZR_MAX(longest, (size_t)tx->len);
            if (tx->len <= largest)
                CHECK_EQ(give(to, &from->addr, tx->data, tx->len, now), ZR_OK);
        }
    } while (rc == ZR_E_full);
    return longest;
}

static void probing_pair(end *a, end *b)
{
    probing_open(a, INDEX_A, PORT_A, INDEX_B, PORT_B);
    probing_open(b, INDEX_B, PORT_B, INDEX_A, PORT_A);
}

ZR_TEST(two_agents_lanes_measure_each_other_and_say_what_changed)
{
    end a, b;
    zr_ns_t now = ZR_SEC(1);
    uint32_t slot;
    int changes = 0;

    probing_pair(&a, &b);
    CHECK_EQ(zr_lane_probed(a.lane, &slot), ZR_OK); /* it is new */
    CHECK_EQ(slot, 1);
    for (; now < ZR_SEC(12); now += ZR_MS(1)) {
        (void)pass(&a, &b, 2000, now);
        (void)pass(&b, &a, now < ZR_SEC(6) ? 2000 : 0, now); /* then b is not heard any more */
        changes += zr_lane_probed(a.lane, &slot) == ZR_OK;
        if (now == ZR_SEC(5)) {
            CHECK_EQ(zr_mtu_size(&zr_lane_session_probe(a.lane, 1)->mtu), MTU + 80);
            CHECK(zr_lane_session_probe(a.lane, 1)->path.samples >= 10);
        }
    }
    CHECK(changes >= 5); /* first words, three sizes, silence */
    CHECK(!zr_alive_up(&zr_lane_session_probe(a.lane, 1)->alive));
    CHECK(!zr_alive_up(&zr_lane_session_probe(b.lane, 1)->alive));
    CHECK_EQ(stat(&a, ZR_STAT_link_deaths), 1);
    CHECK_EQ(drops(&a) + drops(&b), 0);
    end_close(&a);
    end_close(&b);
}

static size_t enveloped(uint8_t *to, uint8_t lane, uint32_t receiver, uint64_t counter, const zr_seg *seg)
{
    zr_env env = { .type = ZR_ENV_DATA, .lane = lane, .receiver = receiver, .counter = counter };

    memset(to, 0, 1500);
    zr_env_put(to, &env);
    zr_seg_put(to + ZR_ENV_HEAD, seg);
    return ZR_ENV_HEAD + ZR_SEG_HEAD + seg->len + ZR_ENV_TAG;
}

ZR_TEST(a_forged_answer_to_a_probe_is_dropped_and_no_violation_and_probes_belong_to_lane_63)
{
    end a, b;
    uint8_t dgram[1500];
    zr_seg pong = { .cmd = ZR_PROBE_PONG, .ts = 1, .sn = 2, .una = 3, .len = 16 };
    zr_seg padded = { .cmd = ZR_PROBE_PADDED, .ts = 1, .sn = 2, .una = 3 };
    zr_seg ping = { .cmd = ZR_PROBE_PING, .len = 23 };
    zr_addr from = loopback(PORT_B);

    probing_pair(&a, &b);
    const zr_seg *forged[] = { &pong, &padded, &ping };
    for (uint32_t i = 0; i < ZR_LEN(forged); i++) { /* K37 */
        size_t len = enveloped(dgram, ZR_LANE_AGENT, INDEX_A << 6 | ZR_LANE_AGENT, 100 + i, forged[i]);
        CHECK_EQ(give(&a, &from, dgram, len, ZR_SEC(2)), ZR_E_dropped);
        CHECK_EQ(atomic_load(&a.page->drop[ZR_DROP_probe]), i + 1);
    }
    CHECK_EQ(drops(&a), 3);
    CHECK_EQ(zr_lane_session_probe(a.lane, 1)->path.samples, 0);
    end_close(&a);
    end_close(&b);

    pair_open(&a, &b, 0, BATCH);
    from = loopback(PORT_B + 1);
    ping.len = ZR_PROBE_STATE;
    size_t len = enveloped(dgram, 0, INDEX_A << 6 | 0, 100, &ping);
    CHECK_EQ(give(&a, &from, dgram, len, ZR_SEC(2)), ZR_E_dropped);
    CHECK_EQ(atomic_load(&a.page->drop[ZR_DROP_kcp_cmd]), 1);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(conversation_0_never_needs_more_than_the_size_that_every_path_takes)
{
    static uint8_t said[60000], got[60000];
    end a, b;
    zr_ns_t now = ZR_SEC(1);
    size_t longest = 0;
    int len = ZR_E_again;

    probing_pair(&a, &b);
    int conv = zr_lane_conv_find(b.lane, 1, 0);
    CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)zr_lane_conv_find(a.lane, 1, 0), said, sizeof said, now), ZR_OK);
    for (; now < ZR_SEC(8) && len < 0; now += ZR_MS(1)) {
        size_t most = pass(&a, &b, 1200 - 48, now);
        longest = ZR_MAX(longest, most);
        (void)pass(&b, &a, 2000, now);
        len = zr_lane_recv_bytes(b.lane, (uint32_t)conv, got, sizeof got);
    }
    CHECK_EQ(len, sizeof said);
    CHECK_EQ(longest, 1200 - 48);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_smaller_path_cuts_new_messages_in_two_and_takes_old_sizes_still)
{
    end a, b;
    uint8_t head[16] = { 0 };
    zr_lane_msg msg;

    pair_open(&a, &b, 0, BATCH);
    int from = open_media(&a, 9, 0, 1), to = open_media(&b, 9, 0, 2);
    CHECK_EQ(zr_lane_session_set_mtu(a.lane, 1, MTU + 1), ZR_E_inval);
    CHECK_EQ(zr_lane_session_set_mtu(a.lane, 2, 1200), ZR_E_missing);
    for (uint32_t mtu = MTU; mtu >= 1120; mtu -= 100) {
        zr_pkt *pkt = zr_pool_take(&a.pool);
        size_t longest = 0, total = 0;
        memset(pkt->buf + pkt->off, 7, pkt->len = 1370);
        zr_slice body = { pkt, pkt->off, pkt->len };
        CHECK_EQ(zr_lane_session_set_mtu(a.lane, 1, (uint16_t)mtu), ZR_OK);
        CHECK_EQ(zr_lane_send(a.lane, (uint32_t)from, head, sizeof head, &body, ZR_SEC(1)), ZR_OK);
        zr_pkt_drop(pkt);
        longest = pass(&a, &b, 2000, ZR_SEC(1));
        CHECK(longest <= mtu + ZR_ENV_HEAD + ZR_ENV_TAG);
        CHECK_EQ(zr_lane_recv(b.lane, &msg), ZR_OK);
        CHECK_EQ(msg.view_count, mtu == MTU ? 1 : 2);
        for (int i = 0; i < msg.view_count; i++) {
            total += msg.views[i].len;
            zr_pkt_drop(msg.views[i].pkt);
        }
        CHECK_EQ(total, 16 + 1370);
        (void)pass(&b, &a, 2000, ZR_SEC(1));
    }
    (void)to;
    end_close(&a);
    end_close(&b);
}
