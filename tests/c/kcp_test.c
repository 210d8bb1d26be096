#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"
#include "stat/zr_drop.h"
#include "zr_test.h"

enum { PACKETS = 9000, BLOCKS = 600, DATAGRAMS = 64, MTU = 1420 };

/* Two conversations over one pool; what an output puts into the batch is carried to the other by hand. */
static zr_pool pool;
static zr_kcp_blocks blocks;
static zr_batch batch;
static zr_kcp a, b;
static zr_ns_t now;
static uint8_t bytes[2000];

static void memories(void)
{
    static void *packets, *slots, *datagrams;

    if (packets == NULL) {
        packets = zr_test_memory(zr_pool_bytes(PACKETS));
        slots = zr_test_memory(zr_kcp_blocks_bytes(BLOCKS));
        datagrams = zr_test_memory(zr_batch_bytes(DATAGRAMS, DATAGRAMS * MTU));
    }
    CHECK_EQ(zr_pool_init(&pool, packets, PACKETS), ZR_OK);
    CHECK_EQ(zr_kcp_blocks_init(&blocks, slots, BLOCKS), ZR_OK);
    CHECK_EQ(zr_batch_init(&batch, datagrams, DATAGRAMS, DATAGRAMS * MTU), ZR_OK);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    now = ZR_MS(1000);
}

static void start_conf(const zr_kcp_conf *conf)
{
    memories();
    CHECK_EQ(zr_kcp_init(&a, conf, &blocks, &pool, now), ZR_OK);
    CHECK_EQ(zr_kcp_init(&b, conf, &blocks, &pool, now), ZR_OK);
}

static void start(uint32_t wnd, uint32_t start_sn)
{
    zr_kcp_conf conf = zr_kcp_conf_turbo(7);
    conf.snd_wnd = conf.rcv_wnd = wnd;
    conf.start_sn = start_sn;
    start_conf(&conf);
}

/* Everything comes back: no packet, no block stays out. */
static void finish(void)
{
    CHECK(zr_kcp_check(&a) && zr_kcp_check(&b));
    zr_batch_reset(&batch);
    zr_kcp_fini(&a);
    zr_kcp_fini(&b);
    CHECK_EQ(pool.in_use, 0);
    CHECK_EQ(blocks.in_use, 0);
    CHECK(zr_pool_check(&pool) && zr_kcp_blocks_check(&blocks));
}

static int send(zr_kcp *kcp, size_t len)
{
    return zr_kcp_send_bytes(kcp, bytes, len, now);
}

static int output(zr_kcp *kcp)
{
    zr_pack pack;
    zr_addr to = { .family = 4 };

    zr_batch_reset(&batch);
    zr_pack_begin(&pack, &batch, &to, 0, (uint16_t)kcp->conf.mtu, 0, 0, false);
    int rc = zr_kcp_output(kcp, &pack, now);
    zr_pack_finish(&pack);
    return rc;
}

static int input_bytes(zr_kcp *kcp, const uint8_t *data, size_t len)
{
    zr_pkt *pkt = zr_pool_copy(&pool, data, len);
    zr_seg seg;
    size_t pos = 0;
    int drop = -1;

    CHECK(pkt != NULL);
    while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK)
        if (zr_kcp_judge(kcp, &seg, &drop) == ZR_OK)
            zr_kcp_input_seg(kcp, &seg, pkt, now);
    zr_kcp_input_end(kcp, now);
    zr_pkt_drop(pkt);
    return drop;
}

/* Hands datagram i of the batch to the other side. */
static void carry(zr_kcp *to, uint32_t i)
{
    CHECK_EQ(input_bytes(to, batch.tx[i].data, batch.tx[i].len), -1);
}

static void carry_all(zr_kcp *to)
{
    for (uint32_t i = 0; i < batch.count; i++)
        carry(to, i);
}

static int judge(const zr_kcp *kcp, zr_seg seg)
{
    int drop = -1;
    return zr_kcp_judge(kcp, &seg, &drop) == ZR_OK ? -1 : drop;
}

static void input_seg(zr_kcp *kcp, zr_seg seg)
{
    uint8_t data[ZR_SEG_HEAD];
    zr_seg_put(data, &seg);
    input_bytes(kcp, data, sizeof data);
}

static int recv_len(zr_kcp *kcp)
{
    uint8_t got[2000];
    int len = zr_kcp_recv_bytes(kcp, got, sizeof got);
    CHECK(len < 0 || memcmp(got, bytes, (size_t)len) == 0);
    return len;
}

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
    CHECK(zr_kcp_deadline(&a) == ZR_NEVER && zr_kcp_deadline(&b) == ZR_NEVER);
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

ZR_TEST(what_is_beyond_the_window_is_neither_kept_nor_acknowledged)
{
    static const struct {
        uint32_t sn;
        bool kept, acked;
    } cases[] = {
        { 255, true, true },
        { 256, false, false },
        { UINT32_MAX, false, true },
        { 0x7FFFFFFF, false, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start(256, 0);
        uint8_t data[ZR_SEG_HEAD + 1] = { 0 };
        zr_seg_put(data, &(zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .sn = cases[i].sn, .len = 1 });
        CHECK_EQ(input_bytes(&b, data, sizeof data), -1);
        CHECK_EQ(pool.in_use, cases[i].kept);
        CHECK_EQ(b.acks.count, cases[i].acked);
        CHECK_EQ(zr_kcp_counted(&b)->window_drops, !cases[i].kept && !cases[i].acked);
        finish();
    }
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
    finish();
}

ZR_TEST(violations_are_judged_by_their_words)
{
    start(256, UINT32_MAX - 1);
    CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a); /* in flight: 2^32-2, 2^32-1, 0 */
    a.conf.fragments_max = 2;
    zr_seg ok = { .conv = 7, .cmd = ZR_SEG_ACK, .sn = 0, .una = 1 };
    CHECK_EQ(judge(&a, ok), -1);
#define WITH(...) judge(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .sn = 0, .una = 1, __VA_ARGS__ })
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
    static const uint8_t cmds[] = { 0, 80, 85, 255 };
    for (size_t i = 0; i < sizeof cmds; i++)
        CHECK_EQ(WITH(.cmd = cmds[i]), ZR_DROP_kcp_cmd);
    CHECK_EQ(WITH(.una = 2), ZR_DROP_kcp_una);
    CHECK_EQ(WITH(.una = 0x80000000), ZR_DROP_kcp_una);
    CHECK_EQ(WITH(.una = UINT32_MAX - 9), -1); /* old */
    CHECK_EQ(WITH(.sn = 1), ZR_DROP_kcp_ack);
    CHECK_EQ(WITH(.sn = UINT32_MAX - 9), -1); /* old */
    CHECK_EQ(WITH(.len = 1), ZR_DROP_kcp_len);
    CHECK_EQ(WITH(.cmd = ZR_SEG_WASK, .len = 1), ZR_DROP_kcp_len);
    CHECK_EQ(WITH(.cmd = ZR_SEG_WINS, .len = 1), ZR_DROP_kcp_len);
    CHECK_EQ(WITH(.cmd = ZR_SEG_PUSH, .len = 0), ZR_DROP_kcp_len);
    CHECK_EQ(WITH(.cmd = ZR_SEG_PUSH, .len = 1396), -1);
    CHECK_EQ(WITH(.cmd = ZR_SEG_PUSH, .len = 1397), ZR_DROP_kcp_len);
    CHECK_EQ(WITH(.cmd = ZR_SEG_PUSH, .len = 1, .frg = 1), -1);
    CHECK_EQ(WITH(.cmd = ZR_SEG_PUSH, .len = 1, .frg = 2), ZR_DROP_kcp_frg);
#pragma GCC diagnostic pop
    finish();
}

ZR_TEST(an_insane_round_trip_is_no_sample)
{
    start(256, 0);
    CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a);
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 9, .ts = zr_kcp_ms(now) + 1 });
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 9, .ts = zr_kcp_ms(now) - 60001 });
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 9, .ts = zr_kcp_ms(now) - 2000000000 });
    CHECK_EQ(zr_kcp_srtt_ms(&a), 0);
    CHECK_EQ(a.rto, 200);
    finish();
}

ZR_TEST(an_overtaken_segment_does_not_set_the_window_back)
{
    start(256, 0);
    CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a);
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = 1 });
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = 0 });
    CHECK_EQ(a.rmt_wnd, 128);
    finish();
}

ZR_TEST(a_flood_of_old_segments_grows_nothing)
{
    uint8_t data[ZR_SEG_HEAD + 1] = { 0 };

    start(128, 0);
    for (uint32_t i = 0; i < 100000; i++) {
        zr_seg_put(data, &(zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .sn = 0u - 1 - i % 5000, .len = 1 });
        input_bytes(&b, data, sizeof data);
    }
    CHECK_EQ(b.acks.count, 128);
    CHECK_EQ(pool.in_use, 0);
    CHECK_EQ(blocks.in_use, 1);
    output(&b);
    CHECK_EQ(blocks.in_use, 0);
    finish();
}

ZR_TEST(without_blocks_or_packets_nothing_is_taken)
{
    start(256, 0);
    uint16_t held[BLOCKS];
    for (int i = 0; i < BLOCKS; i++)
        held[i] = (uint16_t)zr_kcp_block_take(&blocks);
    CHECK_EQ(send(&a, 1900), ZR_E_nomem);
    CHECK_EQ(pool.in_use, 0);
    CHECK_EQ(blocks.exhausted, 1);
    for (int i = 0; i < BLOCKS; i++)
        zr_kcp_block_give(&blocks, held[i]);
    static zr_pkt *all[PACKETS];
    for (int i = 1; i < PACKETS; i++)
        all[i] = zr_pool_take(&pool);
    CHECK_EQ(send(&a, 1900), ZR_E_nomem); /* one packet of the two it takes */
    CHECK_EQ(blocks.in_use, 0);
    CHECK_EQ(zr_kcp_waiting(&a), 0);
    for (int i = 1; i < PACKETS; i++)
        zr_pkt_drop(all[i]);
    CHECK_EQ(zr_kcp_send_bytes(&a, bytes, 0, now), ZR_E_inval);
    finish();
}

ZR_TEST(a_conf_out_of_range_is_refused)
{
    zr_kcp_conf conf = zr_kcp_conf_turbo(1);
    memories();
    conf.rcv_wnd = ZR_KCP_WND_MAX + 1;
    CHECK_EQ(zr_kcp_init(&a, &conf, &blocks, &pool, now), ZR_E_inval);
    conf = zr_kcp_conf_turbo(1);
    conf.mtu = 1501;
    CHECK_EQ(zr_kcp_init(&a, &conf, &blocks, &pool, now), ZR_E_inval);
}
