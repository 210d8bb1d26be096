/* Two or three forwarders, joined by their datagrams: parent a, second parent c, child b. */
#include "mesh_rig.h"

#include "zr_test.h"

ZR_TEST(a_child_relay_gets_the_cache_then_every_packet_also_over_the_wrap)
{
    rig a, b;
    mesh_open_pair(&a, &b, UINT32_MAX - 4);
    rig_media(&a, false, 0, 0, false);
    rig_media(&a, false, 1, 1, true);
    rig_media(&a, false, 2, 2, false);
    CHECK_EQ(mesh_join(&a, 1, &b, 0, 5, 0, 0), UINT32_MAX - 3);
    for (uint16_t i = 3; i < 12; i++)
        rig_media(&a, i % 2, i, i, false);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 11);
    CHECK_EQ(b.page->streams[0].packets, 11);
    CHECK_EQ(b.page->streams[0].next_number, 7);
    CHECK_EQ(rig_stat(&a, ZR_STAT_fan_due), 11);
    rig_balanced(&a);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_child_that_resumes_gets_what_follows_its_last_number)
{
    rig a, b;
    mesh_open_pair(&a, &b, 0);
    for (uint16_t i = 0; i < 6; i++)
        rig_media(&a, false, i, i, i == 0);
    CHECK_EQ(mesh_join(&a, 1, &b, 0, 5, 0, 4), 4); /* has seen 0..3 */
    mesh_turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 2);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(two_parents_deliver_each_number_once)
{
    rig a, b, c;
    mesh_open_pair(&a, &b, 100);
    rig_open(&c, 0, 64);
    rig_publish(&c, 100);
    mesh_join(&a, 1, &b, 0, 5, 0, 0);
    mesh_join(&c, 3, &b, 1, 6, 0, 0);
    for (uint16_t i = 0; i < 10; i++) {
        rig_media(&a, false, i, i, false);
        rig_media(&c, false, i, i, false);
    }
    mesh_turn(&a, 1, &b);
    mesh_turn(&c, 3, &b);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 10);
    CHECK_EQ(rig_drops(&b, ZR_DROP_duplicate), 10);
    CHECK_EQ(b.page->streams[0].duplicates, 10);
    DO(&b, .op = ZR_CMD_session_drop, .a = 1);
    rig_media(&a, false, 10, 10, false);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    rig_close(&a);
    rig_close(&b);
    rig_close(&c);
}

ZR_TEST(a_packet_of_1500_bytes_crosses_as_two_segments)
{
    rig a, b;
    uint8_t data[1500] = { 0 };
    mesh_open_pair(&a, &b, 0);
    mesh_join(&a, 1, &b, 0, 5, 0, 0);
    rig_rtp(data, false, 1, 1, true);
    CHECK_EQ(rig_bytes(&a, data, sizeof data, rig_addr(1, 5000)), ZR_OK);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].bytes, 1500);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_warm_child_gets_audio_and_key_frames_until_it_wants_all)
{
    rig a, b;
    mesh_open_pair(&a, &b, 0);
    mesh_join(&a, 1, &b, 0, 5, 1, 0);
    rig_media(&a, false, 0, 0, true);
    rig_media(&a, false, 1, 0, false); /* of the key frame */
    rig_media(&a, false, 2, 1, false);
    rig_media(&a, true, 0, 1, false);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 3);
    CHECK_EQ(rig_drops(&a, ZR_DROP_filtered), 1);
    DO(&a, .op = ZR_CMD_child_want, .a = 9);
    rig_media(&a, false, 3, 2, false);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 4);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_child_is_sent_each_class_within_its_own_deadline)
{
    rig a, b;
    uint64_t expired;

    mesh_open_pair(&a, &b, 0);
    for (int i = 0; i < ZR_DEADLINES; i++)
        a.fwd->conf.deadline_ms[i] = 1000;
    a.fwd->conf.deadline_ms[ZR_DEADLINE_DELTA] = 50;
    mesh_join(&a, 1, &b, 0, 5, 0, 0);
    rig_media(&a, false, 0, 0, true);
    rig_media(&a, true, 0, 0, false);
    rig_media(&a, false, 1, 1, false);
    rig_turn(&a, NULL, NULL); /* all of it is lost */
    for (int ms = 0; ms < 600; ms += 5) {
        a.now += ZR_MS(5);
        zr_fwd_on_deadline(a.fwd, a.now);
        rig_turn(&a, NULL, NULL);
    }
    expired = rig_stat(&a, ZR_STAT_kcp_expired);
    CHECK_EQ(expired, 1); /* the delta; the key frame and the audio are still sent */
    CHECK(rig_stat(&a, ZR_STAT_kcp_retrans_timeout) > 0);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_key_frame_wanted_of_a_pulled_stream_becomes_one_event)
{
    rig b;
    int events = 0;

    rig_open(&b, 0, 64);
    rig_stream(&b, false, 0);
    for (int i = 0; i < 3; i++) {
        *(zr_cmd *)zr_spsc_claim(zr_chan_commands(b.chan)) = (zr_cmd){ .op = ZR_CMD_keyframe };
        zr_spsc_commit(zr_chan_commands(b.chan));
    }
    CHECK_EQ(zr_fwd_commands(b.fwd, 64, b.now), 3);
    for (zr_cmd event; (event = rig_event(&b)).op != ZR_EVT_COUNT;)
        events += event.op == ZR_EVT_keyframe;
    CHECK_EQ(events, 1);
    rig_close(&b);
}

ZR_TEST(a_silent_child_is_sent_video_up_to_a_bound_then_audio_and_then_nothing)
{
    rig a;
    rig_open_window(&a, 0, 64, 32);
    rig_publish(&a, 0);
    mesh_know(&a, 0, 1, 2);
    DO(&a, .op = ZR_CMD_child_add, .a = 9, .d = 5);
    CHECK_EQ(rig_do(&a, (zr_cmd){ .op = ZR_CMD_sub_add, .a = 0, .c = 3, .d = 0xFFFF, .addr = rig_addr(4, 6000) }, NULL),
             0);
    for (uint16_t i = 0; i < 100; i++) {
        rig_media(&a, false, i, i, i == 0);
        CHECK_EQ(rig_turn(&a, NULL, NULL), 1); /* the player has all of them */
    }
    CHECK_EQ(rig_drops(&a, ZR_DROP_fan_shed), 1); /* a delta frame begins below 13 sixteenths of 2 * 32 */
    CHECK_EQ(rig_drops(&a, ZR_DROP_fan_dependant), 100 - 52 - 1);
    CHECK_EQ(rig_stat(&a, ZR_STAT_fan_sent), 100 + 52);
    for (uint16_t i = 0; i < 20; i++) {
        rig_media(&a, true, i, i, false);
        rig_turn(&a, NULL, NULL);
    }
    CHECK_EQ(rig_drops(&a, ZR_DROP_fan_shed), 1 + 20 - 12);
    CHECK_EQ(rig_drops(&a, ZR_DROP_window), 0);
    CHECK_EQ(rig_stat(&a, ZR_STAT_fan_sent), 120 + 64);
    rig_balanced(&a);
    rig_close(&a);
}

ZR_TEST(a_sender_report_crosses_a_pull_as_it_came)
{
    static uint8_t report[52] = { 0x81, 200, 0, 12 };
    rig a, b;
    const zr_item *item;

    mesh_open_pair(&a, &b, 0);
    mesh_join(&a, 1, &b, 0, 5, 0, 0);
    rig_media(&a, false, 0, 0, true);
    zr_put32be(report + 4, VIDEO_SSRC);
    report[8] = 0xAB;
    CHECK_EQ(rig_bytes(&a, report, sizeof report, rig_addr(1, 5001)), ZR_OK);
    mesh_turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 2);
    item = b.fwd->streams[0].turn.tail;
    CHECK(zr_item_is_rtcp(item));
    CHECK_EQ(item->media.number, 1);
    CHECK_EQ(item->slice.len, sizeof report);
    CHECK(memcmp(zr_slice_data(&item->slice), report, sizeof report) == 0);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 2);
    rig_close(&a);
    rig_close(&b);
}

static int unknown_events(rig *r)
{
    int count = 0;

    for (zr_cmd event; (event = rig_event(r)).op != ZR_EVT_COUNT;)
        if (event.op == ZR_EVT_conv_unknown) {
            CHECK_EQ(event.a, 0);
            CHECK_EQ(event.b, 5);
            count++;
        }
    return count;
}

ZR_TEST(segments_of_a_conversation_that_is_not_open_are_told_at_most_once_in_100_ms)
{
    rig a, b;
    mesh_open_pair(&a, &b, 0);
    mesh_join(&a, 1, &b, 0, 5, 0, 0);
    DO(&b, .op = ZR_CMD_pull_stop, .a = 0, .b = 5);
    (void)unknown_events(&b);
    for (uint16_t i = 0; i < 50; i++) {
        rig_media(&a, false, i, i, false);
        mesh_turn(&a, 1, &b);
        a.now += ZR_MS(3);
        b.now += ZR_MS(3);
    }
    CHECK_EQ(unknown_events(&b), 2); /* in 147 ms */
    CHECK_EQ(rig_stat(&b, ZR_STAT_kcp_conv_unknown), 50);
    rig_close(&a);
    rig_close(&b);
}

static zr_addr host6(uint8_t host, uint16_t port)
{
    return (zr_addr){ .ip = { 0xFD, [15] = host }, .port = port, .family = 6 };
}

static void carry_six(const zr_tx *tx, void *context)
{
    wire *w = context;

    if (tx->sock == ZR_SOCK_EGRESS) {
        zr_addr player = host6(4, 6000);
        CHECK(zr_addr_eq(&tx->to, &player));
    }
    mesh_carry(tx, context);
    if (tx->sock == ZR_SOCK_LINK)
        CHECK(zr_addr_same_ip(&tx->to, &w->source) == false && tx->to.family == 6);
}

ZR_TEST(a_whole_relay_works_over_ipv6)
{
    uint8_t data[100], nack[16] = { 0x81, 205, 0, 3 };
    rig a, b;
    wire w = { .from = &a, .to = &b, .source = host6(1, 7001) };
    zr_addr player = host6(4, 6000);
    zr_pkt *pkt;

    rig_open(&a, 0, 64);
    rig_open(&b, 0, 64);
    rig_stream(&a, true, 0);
    rig_stream(&b, false, 0);
    DO(&a, .op = ZR_CMD_ingress_bind, .a = 0, .b = 0);
    DO(&a, .op = ZR_CMD_ingress_source, .a = 0, .addr = host6(3, 5000));
    DO(&a, .op = ZR_CMD_session_add, .b = 1, .c = 2, .d = 1, .y = 1420, .addr = host6(2, 7000));
    DO(&b, .op = ZR_CMD_session_add, .b = 2, .c = 1, .d = 1, .y = 1420, .addr = host6(1, 7000));
    DO(&b, .op = ZR_CMD_pull_start, .c = 5);
    DO(&b, .op = ZR_CMD_sub_add, .c = 3, .d = 0xFFFF, .addr = player);
    DO(&a, .op = ZR_CMD_child_add, .a = 9, .d = 5);
    for (uint16_t i = 0; i < 10; i++)
        CHECK_EQ(rig_bytes(&a, data, rig_rtp(data, false, i, i, i == 0), host6(3, 5000)), ZR_OK);
    CHECK_EQ(rig_bytes(&a, data, sizeof data, host6(5, 5000)), ZR_E_dropped);
    rig_turn(&a, carry_six, &w);
    CHECK_EQ(b.page->streams[0].packets, 10);
    CHECK_EQ(rig_turn(&b, carry_six, &(wire){ .from = &b, .to = &a, .source = host6(2, 7001) }), 10);
    CHECK_EQ(zr_kcp_waiting(&a.fwd->lane->convs[zr_lane_conv_find(a.fwd->lane, 0, 5)].kcp), 0);
    zr_put32be(nack + 8, VIDEO_SSRC);
    pkt = zr_pool_copy(zr_fwd_pool(b.fwd), nack, sizeof nack);
    CHECK_EQ(zr_fwd_egress_input(b.fwd, pkt, &player, b.now), ZR_OK);
    CHECK_EQ(rig_turn(&b, carry_six, &w), 1);
    rig_close(&a);
    rig_close(&b);
}
