#include "fwd_rig.h"

#include "zr_test.h"

static zr_cmd sub_to(uint32_t slot, uint16_t port)
{
    return (zr_cmd){ .op = ZR_CMD_sub_add, .a = slot, .b = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(2, port) };
}

ZR_TEST(every_subscriber_gets_every_packet_in_a_row_even_through_a_batch_of_three)
{
    rig r;
    rig_open(&r, 0, 3);
    rig_publish(&r, UINT32_MAX - 3);
    for (uint32_t i = 0; i < 4; i++)
        CHECK_EQ(rig_do(&r, sub_to(i, (uint16_t)(6000 + i)), NULL), 0);
    for (uint16_t i = 0; i < 10; i++)
        CHECK_EQ(rig_media(&r, false, i, i, i == 0), ZR_OK);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 40);
    CHECK_EQ(rig_stat(&r, ZR_STAT_fan_due), 40);
    CHECK_EQ(rig_stat(&r, ZR_STAT_fan_sent), 40);
    CHECK_EQ(r.page->streams[0].next_number, 6); /* the media number went through its wrap */
    CHECK_EQ(r.page->streams[0].packets, 10);
    rig_close(&r);
}

ZR_TEST(what_a_subscriber_does_not_want_or_has_no_address_for_is_counted)
{
    rig r;
    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    DO(&r, .op = ZR_CMD_sub_add, .a = 0, .c = 2, .d = 0xFFFF, .addr = rig_addr(2, 6000)); /* audio only */
    DO(&r, .op = ZR_CMD_sub_add, .a = 1, .c = 0xFFFF, .d = 0xFFFF);
    DO(&r, .op = ZR_CMD_sub_addr, .a = 1, .b = 1, .addr = rig_addr(2, 6002));
    rig_media(&r, false, 1, 1, true);
    rig_media(&r, true, 1, 1, false);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 2);
    CHECK_EQ(rig_drops(&r, ZR_DROP_filtered), 1);
    CHECK_EQ(rig_drops(&r, ZR_DROP_noaddress), 1);
    CHECK_EQ(rig_stat(&r, ZR_STAT_fan_due), 4);
    rig_close(&r);
}

ZR_TEST(a_player_that_joins_gets_the_packets_since_the_last_key_frame_once)
{
    rig r;
    rig_open(&r, 0, 2);
    rig_publish(&r, 0);
    rig_media(&r, false, 0, 1, false);
    rig_media(&r, false, 1, 2, true);
    rig_media(&r, false, 2, 2, true); /* the same frame: its start is seq 1 */
    rig_turn(&r, NULL, NULL);
    rig_media(&r, false, 3, 3, false); /* accepted, not yet fanned out */
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    rig_media(&r, false, 4, 4, false);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 4);
    CHECK_EQ(rig_stat(&r, ZR_STAT_cache_replayed), 3);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 0);
    CHECK_EQ(r.page->streams[0].keyframes, 1);
    rig_close(&r);
}

ZR_TEST(leaving_in_the_middle_of_an_output_leaves_nothing_behind)
{
    static const zr_cmd leave[] = {
        { .op = ZR_CMD_sub_drop, .a = 0 },
        { .op = ZR_CMD_sub_drop, .a = 1 },
        { .op = ZR_CMD_stream_close, .a = 0 },
        { .op = ZR_CMD_stream_epoch, .a = 0, .b = 1, .x = 2 },
        { .op = ZR_CMD_reset },
    };
    for (unsigned i = 0; i < ZR_LEN(leave); i++) {
        rig r;
        rig_open(&r, 0, 3);
        rig_publish(&r, 0);
        for (uint32_t s = 0; s < 3; s++)
            CHECK_EQ(rig_do(&r, sub_to(s, (uint16_t)(6000 + s)), NULL), 0);
        for (uint16_t n = 0; n < 5; n++)
            rig_media(&r, false, n, n, n == 0);
        zr_fwd_fan_out(r.fwd, r.now);
        CHECK_EQ(zr_fwd_output(r.fwd, &r.batch, r.now), ZR_E_full);
        rig_media(&r, false, 5, 5, false);
        DO(&r, .op = leave[i].op, .a = leave[i].a, .b = leave[i].b, .x = leave[i].x);
        zr_batch_reset(&r.batch);
        rig_turn(&r, NULL, NULL);
        rig_turn(&r, NULL, NULL);
        rig_balanced(&r);
        CHECK_EQ(r.fwd->items.in_use, 0);
        CHECK(rig_drops(&r, ZR_DROP_gone) > 0);
        CHECK(zr_fwd_deadline(r.fwd) > 0);
        rig_close(&r);
    }
}

ZR_TEST(only_the_locked_source_is_heard_until_two_seconds_of_silence)
{
    rig r;
    uint8_t data[100];
    size_t len = rig_rtp(data, false, 1, 1, true);
    zr_addr thief = rig_addr(1, 5001);

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    rig_media(&r, false, 0, 0, true);
    CHECK_EQ(rig_event(&r).op, ZR_EVT_source_locked);
    CHECK_EQ(rig_event(&r).op, ZR_EVT_stream_live);
    CHECK_EQ(rig_bytes(&r, data, len, thief), ZR_E_dropped);
    r.now += ZR_MS(1999);
    CHECK_EQ(rig_bytes(&r, data, len, thief), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_source), 2);
    rig_media(&r, false, 1, 1, false);
    r.now += ZR_MS(1999);
    CHECK_EQ(rig_bytes(&r, data, len, thief), ZR_E_dropped);
    r.now += ZR_MS(600);
    CHECK(zr_fwd_deadline(r.fwd) <= r.now);
    zr_fwd_on_deadline(r.fwd, r.now);
    CHECK_EQ(rig_event(&r).op, ZR_EVT_source_lost);
    rig_turn(&r, NULL, NULL);
    CHECK_EQ(zr_fwd_deadline(r.fwd), ZR_NEVER); /* an idle relay sleeps */
    CHECK_EQ(rig_bytes(&r, data, len, thief), ZR_OK);
    rig_close(&r);
}

ZR_TEST(a_listed_source_may_send_and_nobody_else)
{
    rig r;
    uint8_t data[100];
    size_t len = rig_rtp(data, false, 1, 1, true);

    rig_open(&r, 0, 64);
    rig_stream(&r, true, 0);
    DO(&r, .op = ZR_CMD_ingress_bind, .a = 0, .b = 0);
    CHECK_EQ(rig_bytes(&r, data, len, rig_addr(1, 5000)), ZR_E_dropped);
    DO(&r, .op = ZR_CMD_ingress_source, .a = 0, .addr = rig_addr(1, 5000));
    CHECK_EQ(rig_bytes(&r, data, len, rig_addr(1, 5001)), ZR_E_dropped);
    CHECK_EQ(rig_bytes(&r, data, len, rig_addr(3, 5000)), ZR_E_dropped);
    CHECK_EQ(rig_bytes(&r, data, len, rig_addr(1, 5000)), ZR_OK);
    CHECK_EQ(rig_drops(&r, ZR_DROP_source), 3);
    rig_close(&r);
}

ZR_TEST(broken_rtp_is_dropped_by_its_word_and_the_stream_goes_on)
{
    static const struct {
        uint8_t first, second;
        uint16_t len;
        enum zr_drop_id drop;
    } rows[] = {
        { 0x80, VIDEO_PT, 11, ZR_DROP_rtp_short },  { 0x40, VIDEO_PT, 100, ZR_DROP_rtp_version },
        { 0x8F, VIDEO_PT, 20, ZR_DROP_rtp_csrc },   { 0x90, VIDEO_PT, 14, ZR_DROP_rtp_ext },
        { 0xA0, VIDEO_PT, 13, ZR_DROP_rtp_pad },    { 0x80, 97, 100, ZR_DROP_track },
        { 0x80, VIDEO_PT, 1501, ZR_DROP_oversize },
    };
    rig r;
    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        uint8_t data[1501];
        memset(data, 0xFF, sizeof data);
        data[0] = rows[i].first;
        data[1] = rows[i].second;
        CHECK_EQ(rig_bytes(&r, data, rows[i].len, rig_addr(1, 5000)), ZR_E_dropped);
        CHECK_EQ(rig_drops(&r, rows[i].drop), 1);
        CHECK_EQ(rig_media(&r, false, (uint16_t)i, i, false), ZR_OK);
    }
    CHECK_EQ(r.page->streams[0].drops, ZR_LEN(rows));
    CHECK_EQ(r.page->streams[0].oversize, 1);
    rig_close(&r);
}

ZR_TEST(a_sender_report_is_forwarded_and_one_of_an_unknown_ssrc_is_not)
{
    uint8_t report[28] = { 0x80, 200, 0, 6 };
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    zr_put32be(report + 4, VIDEO_SSRC);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_E_dropped); /* nobody is locked yet */
    rig_media(&r, false, 0, 0, true);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_OK);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(9, 5001)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_rtcp_source), 2);
    zr_put32be(report + 4, 77);
    CHECK_EQ(rig_bytes(&r, report, sizeof report, rig_addr(1, 5001)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_rtcp_ssrc), 1);
    CHECK_EQ(rig_bytes(&r, report, 27, rig_addr(1, 5001)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_rtcp_bad), 1);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 2);
    rig_close(&r);
}

ZR_TEST(a_nack_is_served_from_the_cache_also_from_the_rtcp_port)
{
    uint8_t nack[16] = { 0x81, 205, 0, 3 };
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    for (uint16_t i = 0; i < 4; i++)
        rig_media(&r, false, (uint16_t)(0xFFFE + i), i, i == 0);
    rig_turn(&r, NULL, NULL);
    zr_put32be(nack + 8, VIDEO_SSRC);
    zr_put16be(nack + 12, 0xFFFF);
    zr_put16be(nack + 14, 0x8001); /* 0xFFFF, 0 and 15, which never was */
    CHECK_EQ(rig_rtcp(&r, nack, sizeof nack, rig_addr(2, 6001)), ZR_OK);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 2);
    CHECK_EQ(rig_stat(&r, ZR_STAT_nack_asked), 3);
    CHECK_EQ(rig_stat(&r, ZR_STAT_nack_served), 2);
    CHECK_EQ(rig_rtcp(&r, nack, sizeof nack, rig_addr(2, 6002)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_rtcp_source), 1);
    CHECK_EQ(rig_rtcp(&r, nack, 15, rig_addr(2, 6000)), ZR_E_dropped);
    CHECK_EQ(rig_drops(&r, ZR_DROP_rtcp_bad), 1);
    r.now += ZR_MS(2001); /* too old by now */
    CHECK_EQ(rig_rtcp(&r, nack, sizeof nack, rig_addr(2, 6000)), ZR_OK);
    CHECK_EQ(rig_turn(&r, NULL, NULL), 0);
    rig_close(&r);
}

static void see_pli(const zr_tx *tx, void *context)
{
    if (tx->sock >= ZR_SOCK_INGRESS && tx->to.port == 5000 && zr_get32be(tx->data + tx->len - 4) == VIDEO_SSRC)
        ++*(int *)context;
}

ZR_TEST(key_frame_requests_are_merged_to_one_in_half_a_second)
{
    uint8_t pli[12] = { 0x81, 206, 0, 2 };
    int seen = 0;
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    rig_media(&r, false, 0, 0, true);
    zr_put32be(pli + 8, VIDEO_SSRC);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(rig_rtcp(&r, pli, sizeof pli, rig_addr(2, 6000)), ZR_OK);
        DO(&r, .op = ZR_CMD_keyframe, .a = 0, .b = 0);
    }
    rig_turn(&r, see_pli, &seen);
    CHECK_EQ(seen, 1);
    r.now += ZR_MS(500);
    CHECK_EQ(rig_rtcp(&r, pli, sizeof pli, rig_addr(2, 6000)), ZR_OK);
    rig_turn(&r, see_pli, &seen);
    CHECK_EQ(seen, 2);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_asked), 11);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_sent), 2);
    rig_close(&r);
}

ZR_TEST(a_fir_asks_for_a_key_frame_of_the_track_it_names)
{
    uint8_t fir[20] = { 0x84, 206, 0, 4 };
    int seen = 0;
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    rig_media(&r, false, 0, 0, true);
    zr_put32be(fir + 12, 77);
    CHECK_EQ(rig_rtcp(&r, fir, sizeof fir, rig_addr(2, 6000)), ZR_OK);
    CHECK_EQ(rig_stat(&r, ZR_STAT_keyframe_asked), 0);
    zr_put32be(fir + 12, VIDEO_SSRC);
    CHECK_EQ(rig_rtcp(&r, fir, sizeof fir, rig_addr(2, 6000)), ZR_OK);
    rig_turn(&r, see_pli, &seen);
    CHECK_EQ(seen, 1);
    rig_close(&r);
}

ZR_TEST(wrong_commands_are_refused_and_change_nothing)
{
    rig r;
    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    CHECK_EQ(rig_do(&r, sub_to(0, 6000), NULL), 0);
    REFUSES(&r, ZR_E_exists, .op = ZR_CMD_stream_open, .a = 0, .b = 1);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_stream_open, .a = UINT32_MAX);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_stream_open, .a = 1, .b = 2);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_stream_track, .a = 0, .b = 16);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_stream_epoch, .a = 0, .b = 1, .x = 1);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_stream_close, .a = 3);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_ingress_bind, .a = 1u << 30, .b = 0);
    REFUSES(&r, ZR_E_exists, .op = ZR_CMD_ingress_bind, .a = 1, .b = 0);
    REFUSES(&r, ZR_E_inval, .op = ZR_CMD_sub_add, .a = 1, .b = 0, .addr = { .family = 5, .port = 1 });
    REFUSES(&r, ZR_E_exists, .op = ZR_CMD_sub_add, .a = 0, .b = 0);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_sub_drop, .a = UINT32_MAX);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_child_add, .a = 1, .b = 0, .c = 9, .d = 7);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_child_want, .a = 0);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_pull_start, .a = 0, .b = 0, .c = 1);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_pull_stop, .a = UINT32_MAX, .b = 1);
    REFUSES(&r, ZR_E_missing, .op = ZR_CMD_keyframe, .a = 0, .b = 2);
    REFUSES(&r, ZR_E_inval, .op = 999);
    CHECK_EQ(rig_stat(&r, ZR_STAT_commands_failed), 17);
    CHECK_EQ(rig_stat(&r, ZR_STAT_streams), 1);
    CHECK_EQ(rig_stat(&r, ZR_STAT_subs), 1);
    rig_close(&r);
}

ZR_TEST(a_full_event_ring_loses_events_by_count)
{
    rig r;
    rig_open(&r, 0, 64);
    for (uint32_t i = 0; i < 70; i++) {
        zr_cmd *slot = zr_spsc_claim(zr_chan_commands(r.chan));
        *slot = (zr_cmd){ .op = ZR_CMD_nop, .seq = i + 1 };
        zr_spsc_commit(zr_chan_commands(r.chan));
        CHECK_EQ(zr_fwd_commands(r.fwd, 1, r.now), 1);
    }
    CHECK_EQ(rig_stat(&r, ZR_STAT_events), 64);
    CHECK_EQ(rig_stat(&r, ZR_STAT_events_lost), 6);
    CHECK(zr_fwd_events_waiting(r.fwd));
    CHECK(!zr_fwd_events_waiting(r.fwd));
    rig_close(&r);
}
