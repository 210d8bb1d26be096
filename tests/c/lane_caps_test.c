/* T18: what one link may hold of a lane, each exceeded ten times by an authenticated peer, and what others notice. */
#include "lane_end.h"

enum { CONVS = 32, MANY_PKTS = 40000, HONEST = 2 };

typedef struct host {
    end e;
    uint64_t counters[3];
} host;

/* A lane with two sessions: 1 is hostile, 2 is honest. */
static void host_open(host *h)
{
    zr_lane_conf conf = conf_of(0);

    memset(h, 0, sizeof *h);
    conf.window = ZR_KCP_WND_MAX;
    conf.blocks_max = 4096;
    CHECK_EQ(zr_pool_init(&h->e.pool, h->e.mem[0] = zr_test_memory(zr_pool_bytes(MANY_PKTS)), MANY_PKTS), ZR_OK);
    CHECK_EQ(zr_batch_init(&h->e.batch, h->e.mem[1] = zr_test_memory(zr_batch_bytes(BATCH, BATCH * 1500)), BATCH,
                           BATCH * 1500),
             ZR_OK);
    CHECK_EQ(zr_stat_init(h->e.page = h->e.mem[2] = zr_test_memory(zr_stat_bytes(1)), 1), ZR_OK);
    h->e.mem[3] = zr_test_memory(zr_lane_bytes(&conf));
    CHECK((h->e.lane = zr_lane_init(h->e.mem[3], &conf, &h->e.pool, h->e.page, ZR_SEC(1))) != NULL);
    for (uint32_t slot = 1; slot <= HONEST; slot++) {
        zr_session_conf session = { .index = INDEX_A + slot,
                                    .peer_index = INDEX_B + slot,
                                    .agent = loopback((uint16_t)(PORT_B + 100 * slot)),
                                    .lanes = 2,
                                    .mtu = MTU,
                                    .rate_mhz = 5000 };
        CHECK_EQ(zr_lane_session_add(h->e.lane, slot, &session, ZR_SEC(1)), ZR_OK);
    }
}

static void throw_push(host *h, uint32_t slot, uint32_t conv, uint32_t sn, uint8_t frg, uint32_t len, zr_ns_t now)
{
    uint8_t data[ZR_ENV_HEAD + MTU + ZR_ENV_TAG] = { 0 };
    zr_env env = {
        .type = ZR_ENV_DATA, .lane = 0, .receiver = (uint32_t)(INDEX_A + slot) << 6, .counter = h->counters[slot]++
    };
    zr_addr from = loopback((uint16_t)(PORT_B + 100 * slot + 1));

    zr_env_put(data, &env);
    zr_seg_put(data + ZR_ENV_HEAD,
               &(zr_seg){ .conv = conv, .cmd = ZR_SEG_PUSH, .frg = frg, .wnd = 128, .sn = sn, .len = len });
    CHECK_EQ(give(&h->e, &from, data, ZR_ENV_HEAD + ZR_SEG_HEAD + len + ZR_ENV_TAG, now), ZR_OK);
}

static void output_all(host *h, zr_ns_t now)
{
    do
        zr_batch_reset(&h->e.batch);
    while (zr_lane_output(h->e.lane, &h->e.batch, now) == ZR_E_full);
    zr_batch_reset(&h->e.batch);
}

static void honest_message(host *h, uint32_t sn, zr_ns_t now)
{
    zr_lane_msg msg;

    throw_push(h, HONEST, 100, sn, 0, 200, now);
    CHECK_EQ(zr_lane_recv(h->e.lane, &msg), ZR_OK);
    CHECK_EQ(msg.session, HONEST);
    zr_pkt_drop(msg.views[0].pkt);
}

static void open_honest(host *h)
{
    CHECK(zr_lane_conv_open(h->e.lane, HONEST, 100, 0, ZR_CONV_MEDIA, 9, ZR_SEC(1)) >= 0);
}

ZR_TEST(halves_of_messages_ten_times_the_cap_of_a_link_are_refused_and_another_link_goes_on_T18)
{
    host h;

    host_open(&h);
    open_honest(&h);
    for (uint32_t conv = 1; conv <= CONVS; conv++)
        CHECK(zr_lane_conv_open(h.e.lane, 1, conv, 0, ZR_CONV_MEDIA, conv, ZR_SEC(1)) >= 0);
    uint32_t each = 10 * ZR_LANE_REORDER_MAX / CONVS;
    for (uint32_t sn = 0; sn < each; sn++)
        for (uint32_t conv = 1; conv <= CONVS; conv++)
            throw_push(&h, 1, conv, 2 * sn, 1, MTU - ZR_SEG_HEAD, ZR_SEC(2)); /* the other half never comes */
    CHECK_EQ(stat(&h.e, ZR_STAT_reorder_max), ZR_LANE_REORDER_MAX);
    CHECK_EQ(stat(&h.e, ZR_STAT_reorder_refused), 9 * ZR_LANE_REORDER_MAX);
    CHECK(h.e.pool.in_use <= ZR_LANE_REORDER_MAX);
    for (uint32_t sn = 0; sn < 100; sn++)
        honest_message(&h, sn, ZR_SEC(2));
    output_all(&h, ZR_SEC(2));
    CHECK_EQ(stat(&h.e, ZR_STAT_reorder_cap), ZR_LANE_REORDER_MAX);
    for (zr_ns_t now = ZR_SEC(2); now < ZR_SEC(4); now += ZR_MS(10)) { /* their deadline comes: there is room again */
        zr_lane_on_deadline(h.e.lane, now);
        output_all(&h, now);
    }
    CHECK_EQ(h.e.pool.in_use, 0);
    throw_push(&h, 1, 1, 2 * each, 1, MTU - ZR_SEG_HEAD, ZR_SEC(4));
    CHECK_EQ(stat(&h.e, ZR_STAT_reorder_refused), 9 * ZR_LANE_REORDER_MAX);
    end_close(&h.e);
}

ZR_TEST(numbers_ten_windows_ahead_of_a_gap_are_dropped_and_counted_and_another_link_goes_on_T18)
{
    host h;

    host_open(&h);
    open_honest(&h);
    CHECK(zr_lane_conv_open(h.e.lane, 1, 1, 0, ZR_CONV_CONTROL, 1, ZR_SEC(1)) >= 0);
    for (uint32_t sn = 1; sn < 10 * ZR_KCP_WND_MAX; sn++) /* 0 never comes */
        throw_push(&h, 1, 1, sn, 0, 10, ZR_SEC(2));
    CHECK(h.e.pool.in_use <= ZR_KCP_WND_MAX);
    CHECK(stat(&h.e, ZR_STAT_reorder_max) <= ZR_LANE_REORDER_MAX);
    for (uint32_t sn = 0; sn < 100; sn++)
        honest_message(&h, sn, ZR_SEC(2));
    output_all(&h, ZR_SEC(2));
    CHECK(stat(&h.e, ZR_STAT_kcp_window_drops) + stat(&h.e, ZR_STAT_reorder_refused) >= 9 * ZR_KCP_WND_MAX - 1);
    CHECK(stat(&h.e, ZR_STAT_kcp_blocks_in_use) <= ZR_KCP_WND_MAX / ZR_KCP_BLOCK + 2);
    end_close(&h.e);
}

ZR_TEST(a_queue_says_full_at_four_megabytes_of_one_link_and_another_links_is_empty_T18)
{
    host h;
    uint32_t offered = 0, taken = 0;
    int handles[CONVS];

    host_open(&h);
    int honest = zr_lane_conv_open(h.e.lane, HONEST, 100, 0, ZR_CONV_MEDIA, 9, ZR_SEC(1));
    for (uint32_t i = 0; i < CONVS; i++)
        CHECK((handles[i] = zr_lane_conv_open(h.e.lane, 1, 1 + i, 0, ZR_CONV_MEDIA, i, ZR_SEC(1))) >= 0);
    /* The peer acknowledges nothing; 40 MiB are offered, by an owner that heeds what the queue says. */
    for (; offered < 10 * ZR_LANE_QUEUE_MAX / MTU; offered++) {
        uint8_t head[16] = { 0 };
        int conv = handles[offered % CONVS];
        zr_pkt *pkt = zr_pool_take(&h.e.pool);
        CHECK(pkt != NULL);
        pkt->len = 1300;
        zr_slice body = { pkt, pkt->off, pkt->len };
        if (zr_lane_conv_fill(h.e.lane, (uint32_t)conv) < 16 &&
            zr_lane_send(h.e.lane, (uint32_t)conv, head, sizeof head, &body, ZR_SEC(2)) == ZR_OK)
            taken++;
        zr_pkt_drop(pkt);
        CHECK_EQ(zr_lane_conv_fill(h.e.lane, (uint32_t)honest), 0);
    }
    output_all(&h, ZR_SEC(2));
    CHECK(stat(&h.e, ZR_STAT_child_queue_max) <= ZR_LANE_QUEUE_MAX + MTU);
    CHECK_EQ(stat(&h.e, ZR_STAT_child_queue_cap), ZR_LANE_QUEUE_MAX);
    CHECK(taken <= ZR_LANE_QUEUE_MAX / MTU + 1 && taken > ZR_LANE_QUEUE_MAX / MTU / 2);
    CHECK(offered > 9 * taken);
    end_close(&h.e);
}
