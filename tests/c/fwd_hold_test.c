/* Egress that takes nothing, children that take nothing, workers with too much to do: what goes, and what stays. */
#include "fwd_rig.h"

#define CAP 64u

static void open_held(rig *r, uint32_t all)
{
    zr_fwd_conf conf = rig_conf(0);

    conf.hold_pkts = CAP;
    conf.hold_pkts_all = all;
    rig_open_conf(r, conf, 64);
    rig_publish(r, 0);
    DO(r, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, 6000));
    DO(r, .op = ZR_CMD_sub_add, .a = 1, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(3, 6000));
}

/* Fills the output queue with one audio packet and lets nothing out. */
static void block(rig *r)
{
    rig_media(r, true, 1000, 1, false);
    (void)zr_fwd_fan_out(r->fwd, r->now);
    CHECK_EQ(r->fwd->streams[0].out.count, 1);
}

static uint64_t shed_pairs(const rig *r)
{
    return rig_drops(r, ZR_DROP_fan_shed) + rig_drops(r, ZR_DROP_fan_dependant);
}

typedef struct seen {
    uint32_t count, audio;
    uint16_t video[512];
} seen;

static void see(const zr_tx *tx, void *context)
{
    seen *s = context;

    if (tx->sock != ZR_SOCK_EGRESS || tx->to.ip[3] != 2)
        return;
    if ((tx->data[1] & 127) == AUDIO_PT)
        s->audio++;
    else
        s->video[s->count++] = zr_get16be(tx->data + 2);
}

static void drain(rig *r, seen *s)
{
    *s = (seen){ .count = 0 };
    for (int i = 0; i < 100; i++)
        rig_turn(r, see, s);
    CHECK_EQ(r->fwd->held, 0);
}

ZR_TEST(a_stream_s_queue_holds_its_cap_and_one_more_sheds_the_oldest_delta_frames)
{
    rig r;
    seen s;

    open_held(&r, 256);
    block(&r);
    for (uint16_t i = 0; i < CAP; i++)
        rig_media(&r, false, i, 90u * i, i == 0 || i == 50);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets), CAP);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets_cap), 256);
    CHECK_EQ(shed_pairs(&r), 0);
    rig_media(&r, false, CAP, 90 * CAP, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    /* 1..49 depend on each other: the first is cut, the rest cannot be used. */
    CHECK_EQ(rig_drops(&r, ZR_DROP_fan_shed), 2);
    CHECK_EQ(rig_drops(&r, ZR_DROP_fan_dependant), 2 * 48);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets), CAP + 1 - 49);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets_max), CAP);
    rig_balanced(&r);
    drain(&r, &s);
    CHECK_EQ(s.count, CAP + 1 - 49);
    CHECK_EQ(s.video[0], 0);
    for (uint32_t i = 1; i < s.count; i++)
        CHECK_EQ(s.video[i], 49 + i);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets), 0);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_bytes), 0);
    rig_close(&r);
}

ZR_TEST(what_comes_after_a_cut_waits_for_a_key_frame_that_the_publisher_is_asked_for)
{
    rig r;
    seen s;

    open_held(&r, 256);
    rig_media(&r, false, 65535, 0, true); /* now its SSRC is known */
    rig_turn(&r, NULL, NULL);
    block(&r);
    for (uint16_t i = 0; i <= CAP; i++)
        rig_media(&r, false, i, 90u * (i + 1u), false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(shed_pairs(&r), 2 * (CAP + 1)); /* all depend on the first */
    drain(&r, &s);
    CHECK_EQ(s.count, 0);
    rig_media(&r, false, 100, 9000, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->streams[0].pli, 1);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_sent), 1);
    drain(&r, &s);
    CHECK_EQ(s.count, 0);
    rig_media(&r, false, 101, 9090, true);
    rig_media(&r, false, 102, 9180, false);
    drain(&r, &s);
    CHECK_EQ(s.count, 2);
    rig_media(&r, false, 103, 9270, true); /* the next key frame ends it all */
    drain(&r, &s);
    CHECK_EQ(r.fwd->streams[0].cut, 0);
    rig_close(&r);
}

static void see_order(const zr_tx *tx, void *context)
{
    seen *s = context;

    if ((tx->data[1] & 127) == AUDIO_PT)
        CHECK_EQ(s->count, 2); /* of 40, for each of two players: what was in the batch */
    see(tx, context);
}

ZR_TEST(audio_and_reports_leave_before_video_that_waits_longer_also_before_what_had_begun_to_leave)
{
    seen s = { .count = 0 };
    rig r;

    open_held(&r, 256);
    for (uint16_t i = 0; i < 40; i++)
        rig_media(&r, false, i, 90u * i, i == 0);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    r.fwd->give = 2; /* the batch that egress has not taken yet */
    CHECK_EQ(zr_fwd_output(r.fwd, &r.batch, r.now), ZR_E_full);
    for (uint32_t i = 0; i < r.batch.count; i++)
        see(&r.batch.tx[i], &s);
    zr_batch_reset(&r.batch);
    CHECK_EQ(s.count, 2);
    rig_media(&r, true, 1001, 2, false);
    rig_turn(&r, see_order, &s);
    CHECK_EQ(s.audio, 1);
    CHECK_EQ(s.count, 40);
    CHECK_EQ(shed_pairs(&r), 0);
    rig_close(&r);
}

ZR_TEST(an_audio_packet_passes_no_earlier_one)
{
    seen s = { .count = 0 };
    rig r;

    open_held(&r, 256);
    block(&r);
    rig_media(&r, true, 1001, 2, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->streams[0].urgent.count, 1);
    CHECK_EQ(r.fwd->streams[0].rush.count, 0);
    rig_turn(&r, NULL, NULL);
    drain(&r, &s);
    CHECK_EQ(s.audio, 1);
    rig_close(&r);
}

ZR_TEST(a_player_that_goes_while_audio_rushes_takes_its_part_with_it)
{
    seen s = { .count = 0 };
    rig r;

    open_held(&r, 256);
    rig_media(&r, false, 0, 0, true);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    for (uint16_t i = 0; i < 3; i++)
        rig_media(&r, true, i, 960u * i, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->streams[0].rush.count, 3);
    r.fwd->give = 1; /* the first player has one of them */
    CHECK_EQ(zr_fwd_output(r.fwd, &r.batch, r.now), ZR_E_full);
    zr_batch_reset(&r.batch);
    DO(&r, .op = ZR_CMD_sub_drop, .a = 0);
    rig_balanced(&r);
    DO(&r, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, 6000));
    CHECK_EQ(rig_turn(&r, see, &s), 3 + 1 + 4); /* the other player; what the cache holds for the one that comes */
    CHECK_EQ(s.audio, 3);
    drain(&r, &s);
    rig_close(&r);
}

ZR_TEST(audio_goes_last_and_control_never_while_there_is_audio)
{
    static uint8_t report[28] = { 0x80, 200, 0, 6 };
    rig r;

    open_held(&r, 256);
    block(&r);
    zr_put32be(report + 4, AUDIO_SSRC);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_OK);
    for (uint16_t i = 0; i < 40; i++)
        rig_media(&r, false, i, 90u * i, i == 0);
    for (uint16_t i = 0; i < CAP; i++)
        rig_media(&r, true, i, 100u * i, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->streams[0].wait.count, 0); /* not one video packet is left */
    CHECK_EQ(r.fwd->streams[0].urgent.count, CAP / 4 * 3);
    CHECK(zr_item_is_rtcp(r.fwd->streams[0].urgent.head));
    CHECK_EQ(shed_pairs(&r), 2 * (40 + CAP + 1 - CAP / 4 * 3));
    for (uint16_t i = 0; i <= CAP; i++)
        CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_OK);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->streams[0].urgent.count, CAP / 4 * 3); /* even control has a bound */
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(what_waits_longer_than_its_time_goes_also_what_had_begun_to_leave)
{
    rig r;
    seen s;

    open_held(&r, 256);
    rig_media(&r, false, 0, 0, true);
    (void)zr_fwd_fan_out(r.fwd, r.now); /* in the output queue */
    rig_media(&r, false, 1, 90, false);
    rig_media(&r, true, 0, 1, false);
    (void)zr_fwd_fan_out(r.fwd, r.now); /* behind it */
    CHECK_EQ(r.fwd->held, 1);           /* and the audio packet before it */
    CHECK_EQ(r.fwd->streams[0].rush.count, 1);
    r.now += ZR_MS(299);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(shed_pairs(&r), 0);
    r.now += ZR_MS(11);
    rig_media(&r, true, 1, 2, false);
    (void)zr_fwd_fan_out(r.fwd, r.now); /* the delta frame goes first */
    CHECK_EQ(shed_pairs(&r), 2);
    r.now += ZR_MS(89);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(shed_pairs(&r), 2);
    r.now += ZR_MS(11); /* its age is looked at each 10 ms */
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(rig_drops(&r, ZR_DROP_fan_dependant), 0);
    CHECK_EQ(rig_drops(&r, ZR_DROP_fan_shed), 6);
    rig_balanced(&r);
    drain(&r, &s);
    CHECK_EQ(s.audio, 1);
    CHECK_EQ(s.count, 0);
    rig_close(&r);
}

ZR_TEST(delta_frames_that_a_key_frame_waits_behind_go_at_half_their_time)
{
    rig r;
    seen s;

    open_held(&r, 256);
    block(&r);
    for (uint16_t i = 0; i < 10; i++) {
        r.now += ZR_MS(1);
        rig_media(&r, false, i, 90u * (i + 1u), i == 6 || i == 8);
    }
    (void)zr_fwd_fan_out(r.fwd, r.now);
    r.now += ZR_MS(189);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(shed_pairs(&r), 0);
    r.now += ZR_MS(12); /* its age is looked at each 10 ms */
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(rig_drops(&r, ZR_DROP_fan_shed), 2);
    CHECK_EQ(shed_pairs(&r), 2 * 6);
    r.now += ZR_MS(20);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(shed_pairs(&r), 2 * 6); /* 7 waits behind a key frame, but a key frame is the oldest */
    rig_balanced(&r);
    drain(&r, &s);
    CHECK_EQ(s.count, 4);
    for (uint32_t i = 0; i < s.count; i++)
        CHECK_EQ(s.video[i], 6 + i);
    CHECK_EQ(r.fwd->streams[0].cut, 0);
    rig_close(&r);
}

ZR_TEST(of_all_streams_together_the_one_with_the_longest_queue_gives)
{
    static uint8_t data[100];
    zr_addr from = rig_addr(1, 5010);
    rig r;

    open_held(&r, 60);
    DO(&r, .op = ZR_CMD_stream_open, .a = 1, .b = 1, .x = 1);
    DO(&r, .op = ZR_CMD_stream_track, .a = 1, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    DO(&r, .op = ZR_CMD_ingress_bind, .a = 1, .b = 1, .c = 1);
    DO(&r, .op = ZR_CMD_sub_add, .a = 2, .b = 1, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
    block(&r);
    for (uint16_t i = 0; i < 55; i++)
        rig_media(&r, false, i, 90u * i, i % 5 == 0);
    for (uint16_t i = 0; i < 5; i++) {
        zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(r.fwd), data, rig_rtp(data, false, i, 90u * i, i == 0));
        CHECK_EQ(zr_fwd_ingress_input(r.fwd, 1, pkt, &from, r.now), ZR_OK);
    }
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(rig_stat(&r, ZR_STAT_held_packets), 60);
    CHECK_EQ(shed_pairs(&r), 0);
    rig_media(&r, false, 55, 90 * 55, true);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK(r.fwd->held <= 45);
    CHECK_EQ(r.fwd->streams[1].wait.count, 5);
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(children_are_sent_to_while_players_wait)
{
    const zr_addr peer = rig_addr(9, 7000);
    rig r;

    open_held(&r, 256);
    DO(&r, .op = ZR_CMD_session_add, .a = 0, .b = 1, .c = 2, .d = 1, .y = 1420, .addr = peer);
    DO(&r, .op = ZR_CMD_child_add, .a = 2, .b = 0, .c = 0, .d = 7);
    block(&r);
    for (uint16_t i = 0; i < 10; i++) {
        rig_media(&r, false, i, 90u * i, i == 0);
        (void)zr_fwd_fan_out(r.fwd, r.now);
        CHECK_EQ(rig_stat(&r, ZR_STAT_fan_sent), i + 2u); /* the child has it and the first audio packet */
    }
    CHECK_EQ(r.fwd->streams[0].wait.count, 10);
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(a_stream_that_goes_takes_what_waits_with_it)
{
    rig r;

    open_held(&r, 256);
    block(&r);
    for (uint16_t i = 0; i < 10; i++)
        rig_media(&r, false, i, 90u * i, i == 0);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    DO(&r, .op = ZR_CMD_sub_drop, .a = 0);
    DO(&r, .op = ZR_CMD_sub_drop, .a = 1);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 0);
    CHECK_EQ(r.fwd->held, 0);
    DO(&r, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, 6000));
    rig_turn(&r, NULL, NULL);
    block(&r);
    rig_media(&r, true, 5, 5, false);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->held, 1);
    DO(&r, .op = ZR_CMD_stream_close, .a = 0);
    CHECK_EQ(r.fwd->held, 0);
    rig_balanced(&r);
    rig_close(&r);
}

static void load(rig *r, uint32_t busy)
{
    r->now += ZR_SEC(2);
    zr_fwd_load(r->fwd, &(zr_load){ .busy = busy }, r->now);
}

ZR_TEST(at_level_4_delta_frames_are_left_out_on_arrival_and_take_no_number)
{
    rig r;
    zr_cmd event;

    open_held(&r, 256);
    rig_media(&r, false, 0, 0, true);
    load(&r, 990);
    CHECK_EQ(rig_stat(&r, ZR_STAT_overload_level), 4);
    for (event = rig_event(&r); event.op != ZR_EVT_overload; event = rig_event(&r))
        CHECK(event.op != ZR_EVT_COUNT);
    CHECK_EQ(event.a, 4);
    CHECK_EQ(rig_media(&r, false, 1, 0, false), ZR_OK); /* the key frame's rest */
    CHECK_EQ(rig_media(&r, false, 2, 90, false), ZR_E_dropped);
    CHECK_EQ(rig_media(&r, false, 3, 90, false), ZR_E_dropped);
    CHECK_EQ(rig_media(&r, false, 4, 180, false), ZR_E_dropped);
    CHECK_EQ(rig_media(&r, true, 0, 0, false), ZR_OK);
    CHECK_EQ(rig_drops(&r, ZR_DROP_shed), 2);
    CHECK_EQ(rig_drops(&r, ZR_DROP_dependant), 1);
    CHECK_EQ(r.page->streams[0].next_number, 3);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_asked), 0); /* nobody could use more of them now */
    for (int i = 0; i < 4; i++)
        load(&r, 0);
    CHECK_EQ(rig_stat(&r, ZR_STAT_overload_level), 0);
    CHECK_EQ(rig_media(&r, false, 5, 270, false), ZR_E_dropped);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_sent), 1);
    CHECK_EQ(rig_media(&r, false, 6, 360, true), ZR_OK);
    CHECK_EQ(rig_media(&r, false, 7, 450, false), ZR_OK);
    rig_turn(&r, NULL, NULL);
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(at_level_3_only_frames_that_nothing_depends_on_are_left_out)
{
    uint8_t data[100];
    rig r;

    open_held(&r, 256);
    load(&r, 940);
    CHECK_EQ(rig_media(&r, false, 0, 100, true), ZR_OK);
    rig_rtp(data, false, 1, 190, false);
    data[12] = 0x01; /* nal_ref_idc 0 */
    CHECK_EQ(rig_bytes(&r, data, sizeof data, rig_addr(1, 5000)), ZR_E_dropped);
    CHECK_EQ(rig_media(&r, false, 2, 280, false), ZR_OK);
    CHECK_EQ(rig_drops(&r, ZR_DROP_shed), 1);
    rig_turn(&r, NULL, NULL);
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(nacked_packets_that_wait_for_a_player_have_a_bound_and_a_time)
{
    uint8_t nack[12 + 64 * 4] = { 0x81, 205, 0, 2 + 64 };
    rig r;

    open_held(&r, 256);
    for (uint16_t i = 0; i < 100; i++)
        rig_media(&r, false, i, 90u * i, i == 0);
    rig_turn(&r, NULL, NULL);
    zr_put32be(nack + 8, VIDEO_SSRC);
    for (int i = 0; i < 64; i++)
        zr_put32be(nack + 12 + i * 4, (uint32_t)(i % 5 * 17) << 16 | 0xFFFF);
    block(&r);
    for (int i = 0; i < 2000 && r.fwd->asked < 200; i++)
        rig_rtcp(&r, nack, sizeof nack, rig_addr(2, 6000));
    CHECK(r.fwd->asked >= 150); /* half of all items: what is live goes first */
    CHECK(rig_stat(&r, ZR_STAT_asked_refused) > 0 || r.fwd->asked <= ZR_FWD_ASKED);
    r.now += ZR_MS(401);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    CHECK_EQ(r.fwd->asked, 0);
    rig_balanced(&r);
    rig_close(&r);
}

ZR_TEST(a_child_that_acknowledges_nothing_is_reported_once_after_30_s)
{
    rig r;
    int told = 0;

    open_held(&r, 256);
    DO(&r, .op = ZR_CMD_session_add, .a = 0, .b = 1, .c = 2, .d = 1, .y = 1420, .addr = rig_addr(9, 7000));
    DO(&r, .op = ZR_CMD_child_add, .a = 2, .b = 0, .c = 0, .d = 7, .x = 0);
    for (uint16_t i = 0; i < 400; i++) {
        zr_fwd_on_deadline(r.fwd, r.now);
        rig_media(&r, false, i, 9000u * i, i % 10 == 0);
        rig_turn(&r, NULL, NULL);
        zr_fwd_load(r.fwd, &(zr_load){ .busy = 0 }, r.now);
        for (zr_cmd event; (event = rig_event(&r)).op != ZR_EVT_COUNT;) {
            if (event.op != ZR_EVT_child_stuck)
                continue;
            told++;
            CHECK_EQ(event.a, 2);
            CHECK(i >= 300 && i <= 320);
        }
        r.now += ZR_MS(100);
    }
    CHECK_EQ(told, 1);
    CHECK_EQ(rig_stat(&r, ZR_STAT_children_stuck), 1);
    rig_close(&r);
}
