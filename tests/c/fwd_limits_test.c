/* What the forwarder does when something runs out, is asked for without end, or makes no sense. */
#include "fwd_rig.h"

#include "sim/zr_rng.h"
#include "worker/zr_ingest.h"
#include "zr_test.h"

static void open_player(rig *r)
{
    rig_open(r, 0, 64);
    rig_publish(r, 0);
    DO(r, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, 6000));
}

ZR_TEST(without_packets_every_socket_drops_by_its_ledger_and_recovers)
{
    static zr_pkt *all[512];
    uint8_t data[100];
    size_t len = rig_rtp(data, false, 0, 0, true);
    zr_addr from = rig_addr(1, 5000);
    unsigned taken = 0;
    rig r;

    open_player(&r);
    for (zr_pkt *pkt; (pkt = zr_pool_take(zr_fwd_pool(r.fwd))) != NULL;)
        all[taken++] = pkt;
    CHECK_EQ(taken, 512);
    for (uint32_t sock = ZR_SOCK_LINK; sock <= ZR_SOCK_INGRESS; sock++)
        CHECK_EQ(zr_ingest(r.fwd, r.page, sock, data, len, false, &from, r.now, r.now), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_link_pool), 1);
    CHECK_EQ(rig_drops(&r, ZR_DROP_pool), 2);
    while (taken > 0)
        zr_pkt_drop(all[--taken]);
    CHECK_EQ(zr_ingest(r.fwd, r.page, ZR_SOCK_INGRESS, data, len, false, &from, r.now, r.now), ZR_OK);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 1);
    CHECK_EQ(rig_stat(&r, ZR_STAT_pool_exhausted), 4);
    rig_close(&r);
}

ZR_TEST(without_items_media_and_reports_are_dropped_as_pool_and_nothing_is_numbered)
{
    static zr_item *all[512];
    uint8_t report[28] = { 0x80, 200, 0, 6 };
    unsigned taken = 0;
    rig r;

    open_player(&r);
    rig_media(&r, false, 0, 0, true);
    rig_turn(&r, NULL, NULL);
    for (zr_item *item; (item = zr_items_take(&r.fwd->items)) != NULL;)
        all[taken++] = item;
    CHECK_EQ(taken, 512);
    CHECK_EQ(rig_media(&r, false, 1, 1, false), ZR_E_dropped);
    zr_put32be(report + 4, VIDEO_SSRC);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_pool), 2);
    while (taken > 0)
        zr_items_give(&r.fwd->items, all[--taken]);
    CHECK_EQ(rig_media(&r, false, 2, 2, false), ZR_OK);
    CHECK_EQ(r.page->streams[0].next_number, 2);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 1);
    rig_close(&r);
}

ZR_TEST(a_flood_of_nacks_is_served_512_packets_and_then_a_thousand_a_second)
{
    uint8_t nack[12 + 360 * 4] = { 0x81, 205 };
    int served = 0;
    rig r;

    open_player(&r);
    for (uint16_t i = 0; i < 100; i++)
        rig_media(&r, false, i, i, i == 0);
    rig_turn(&r, NULL, NULL);
    zr_put16be(nack + 2, 2 + 360);
    zr_put32be(nack + 8, VIDEO_SSRC);
    for (uint32_t turn = 0; turn < 1000; turn++, r.now += ZR_MS(1)) {
        int sent;
        for (int i = 0; i < 360; i++)
            zr_put32be(nack + 12 + i * 4, (turn + 80) << 16 | 0xFFFF); /* 17 packets, all of them there */
        CHECK_EQ(rig_rtcp(&r, nack, sizeof nack, rig_addr(2, 6000)), ZR_OK);
        CHECK(r.fwd->items.in_use <= r.fwd->items.count / 2 + 1);
        CHECK_EQ(rig_media(&r, false, (uint16_t)(100 + turn), 1, false), ZR_OK); /* what is live still finds room */
        sent = rig_turn(&r, NULL, NULL) - 1;
        CHECK(sent <= 512);
        served += sent;
    }
    CHECK(served > 1000 && served <= 512 + 1000);
    CHECK_EQ(rig_stat(&r, ZR_STAT_nack_served), served);
    rig_close(&r);
}

ZR_TEST(a_crowd_that_joins_is_served_over_several_turns_each_packet_once)
{
    uint64_t sent = 0;
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    for (uint16_t i = 0; i < 100; i++)
        rig_media(&r, false, i, i, i == 0);
    rig_turn(&r, NULL, NULL);
    for (uint32_t i = 0; i < 60; i++)
        DO(&r, .op = ZR_CMD_sub_add, .a = i, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, (uint16_t)(6000 + i)));
    for (int turn = 0; turn < 3; turn++) {
        CHECK_EQ(zr_fwd_deadline(r.fwd) == 0, sent < 6000);
        sent += (uint64_t)rig_turn(&r, NULL, NULL);
        CHECK_EQ(sent, turn == 0 ? ZR_FWD_REPLAYS : 6000);
    }
    CHECK_EQ(rig_stat(&r, ZR_STAT_cache_replayed), 6000);
    rig_close(&r);
}

ZR_TEST(every_closed_ingress_is_told_once)
{
    static const uint32_t slots[] = { 3, 1, 2, 1 };
    rig r;

    rig_open(&r, 0, 64);
    for (unsigned i = 0; i < ZR_LEN(slots); i++)
        DO(&r, .op = ZR_CMD_ingress_close, .a = slots[i]);
    CHECK_EQ(zr_fwd_ingress_closed(r.fwd), 1);
    DO(&r, .op = ZR_CMD_ingress_close, .a = 0);
    CHECK_EQ(zr_fwd_ingress_closed(r.fwd), 0);
    CHECK_EQ(zr_fwd_ingress_closed(r.fwd), 2);
    CHECK_EQ(zr_fwd_ingress_closed(r.fwd), 3);
    CHECK_EQ(zr_fwd_ingress_closed(r.fwd), ZR_E_again);
    rig_close(&r);
}

/* A field: mostly small, sometimes at an edge, sometimes anything. */
static uint64_t field(zr_rng *rng)
{
    static const uint64_t edges[] = { 16, 61, 255, 424, 1420, 65535, 1u << 26, UINT32_MAX, (uint64_t)UINT32_MAX + 1 };
    uint64_t draw = zr_rng_next(rng);

    if (draw % 8 == 0)
        return zr_rng_next(rng);
    return draw % 8 == 1 ? edges[draw / 8 % ZR_LEN(edges)] : draw / 8 % 4;
}

/* Every second time the fields that `op` needs to come through. */
static void make_plausible(zr_cmd *cmd, zr_rng *rng)
{
    if (zr_rng_next(rng) % 2 == 0)
        return;
    cmd->a %= 4;
    cmd->b %= 4;
    switch (cmd->op) {
    case ZR_CMD_session_add:
        cmd->c = cmd->b;
        cmd->d = 1;
        cmd->x = 5000;
        cmd->y = 1420;
        break;
    case ZR_CMD_stream_open:
        cmd->b %= 2;
        cmd->y %= 1000;
        break;
    case ZR_CMD_stream_track:
        cmd->b = 0;
        cmd->c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16;
        cmd->x = 0;
        break;
    case ZR_CMD_ingress_bind:
        cmd->c = 1;
        break;
    case ZR_CMD_sub_add:
        cmd->c = cmd->d = 0xFFFF;
        break;
    case ZR_CMD_child_add:
    case ZR_CMD_pull_start:
        cmd->c %= 4;
        cmd->d = cmd->op == ZR_CMD_child_add ? cmd->d % 8 : ZR_LANE_ANY;
        cmd->x = 0;
        cmd->y = 0;
        break;
    default:
        break;
    }
}

static zr_cmd random_command(zr_rng *rng)
{
    zr_cmd cmd;
    uint8_t *bytes = (uint8_t *)&cmd;

    for (size_t i = 0; i < sizeof cmd; i++)
        bytes[i] = (uint8_t)zr_rng_next(rng);
    if (zr_rng_next(rng) % 8 == 0)
        return cmd; /* noise */
    cmd.op = (uint16_t)(zr_rng_next(rng) % (ZR_CMD_COUNT + 1));
    if ((cmd.op == ZR_CMD_reset || cmd.op == ZR_CMD_stream_close || cmd.op == ZR_CMD_ingress_close) &&
        zr_rng_next(rng) % 16 != 0)
        cmd.op = ZR_CMD_stream_track; /* not so often that nothing is ever there */
    cmd.a = (uint32_t)field(rng);
    cmd.b = (uint32_t)field(rng);
    cmd.c = (uint32_t)field(rng);
    cmd.d = (uint32_t)field(rng);
    cmd.x = field(rng);
    cmd.y = field(rng);
    if (zr_rng_next(rng) % 8 != 0)
        cmd.addr = rig_addr((uint8_t)(1 + field(rng) % 4), (uint16_t)(7000 + field(rng) % 4));
    make_plausible(&cmd, rng);
    return cmd;
}

ZR_TEST(a_hundred_thousand_random_commands_break_nothing_and_leave_nothing)
{
    zr_rng rng;
    rig r;
    int good = 0;

    zr_rng_seed(&rng, 20240607);
    rig_open(&r, 0, 16);
    for (int i = 0; i < 100000; i++) {
        zr_cmd cmd = random_command(&rng);
        uint64_t before = rig_stat(&r, ZR_STAT_commands_failed);
        *(zr_cmd *)zr_spsc_claim(zr_chan_commands(r.chan)) = cmd;
        zr_spsc_commit(zr_chan_commands(r.chan));
        CHECK_EQ(zr_fwd_commands(r.fwd, 64, r.now), 1);
        good += rig_stat(&r, ZR_STAT_commands_failed) == before;
        while (rig_event(&r).op != ZR_EVT_COUNT)
            ;
        while (zr_fwd_ingress_closed(r.fwd) >= 0)
            ;
        for (uint32_t ingress = 0; ingress < 4; ingress++) {
            uint8_t data[100];
            size_t len = rig_rtp(data, false, (uint16_t)i, (uint32_t)i / 4, i % 16 == 0);
            zr_addr from = rig_addr(1, 7000);
            (void)zr_ingest(r.fwd, r.page, ZR_SOCK_INGRESS + ingress, data, len, false, &from, r.now, r.now);
        }
        if (i % 8 == 0) {
            if (zr_fwd_deadline(r.fwd) <= r.now)
                zr_fwd_on_deadline(r.fwd, r.now);
            (void)rig_turn(&r, NULL, NULL);
            r.now += ZR_MS(5);
        }
        if (i % 1000 == 0)
            rig_balanced(&r);
    }
    CHECK(good > 10000);
    CHECK(rig_stat(&r, ZR_STAT_media_accepted) > 10000);
    CHECK(rig_stat(&r, ZR_STAT_fan_sent) > 10000);
    rig_close(&r);
}
