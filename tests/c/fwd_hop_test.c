/* What a relay does with the messages it pulls: hostile, late, overtaken, of a source that was replaced. */
#include "mesh_rig.h"

#include "zr_test.h"

ZR_TEST(a_hostile_media_message_is_dropped_by_its_word)
{
    static const struct {
        zr_media media;
        uint8_t first;
        uint16_t len; /* behind the media header */
        int drop;     /* -1: accepted */
    } rows[] = {
        { { .number = 20000 }, 0x80, 100, -1 },
        { { .number = 20000 }, 0x80, 100, ZR_DROP_duplicate },
        { { .number = 20000 - 8193 }, 0x80, 100, ZR_DROP_late },
        { { .number = 20001, .track = 2 }, 0x80, 100, ZR_DROP_track },
        { { .number = 20001, .track = 255 }, 0x80, 100, ZR_DROP_track },
        { { .number = 20001, .hops = 9 }, 0x80, 100, ZR_DROP_ttl },
        { { .number = 20001, .hops = 8, .cls = 15 }, 0x80, 100, -1 },
        { { .number = 20002 }, 0x80, 11, ZR_DROP_rtp_short },
        { { .number = 20002 }, 0x00, 100, ZR_DROP_rtp_version },
        { { .number = 20002 }, 0x8F, 20, ZR_DROP_rtp_csrc },
        { { .number = 20002 }, 0x90, 14, ZR_DROP_rtp_ext },
        { { .number = 20002, .flags = ZR_MEDIA_RTCP }, 0x80, 100, ZR_DROP_rtcp_bad },
        { { .number = 20002 }, 0x80, 1501, ZR_DROP_oversize },
        { { .number = 20002 }, 0x80, 100, -1 },
    };
    rig b;
    zr_pull *pull;

    rig_open(&b, 0, 64);
    rig_stream(&b, false, 0);
    mesh_know(&b, 0, 2, 1);
    DO(&b, .op = ZR_CMD_pull_start, .a = 0, .b = 0, .c = 5, .d = 0);
    pull = ZR_LIST_FIRST(&b.fwd->streams[0].pulls, zr_pull, in_stream);
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        uint64_t before = rig_stat(&b, ZR_STAT_media_accepted);
        uint64_t dropped = rows[i].drop < 0 ? 0 : rig_drops(&b, (enum zr_drop_id)rows[i].drop);
        zr_pkt *pkt = zr_pool_take(zr_fwd_pool(b.fwd));
        zr_lane_msg msg = { .user = pull->slot, .view_count = 1 };
        memset(pkt->buf + pkt->off, 0xFF, 1700);
        zr_media_put(pkt->buf + pkt->off, &rows[i].media);
        pkt->buf[pkt->off + ZR_MEDIA_HEAD] = rows[i].first;
        pkt->len = (uint16_t)(ZR_MEDIA_HEAD + rows[i].len);
        msg.views[0] = (zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len };
        zr_fwd_message(b.fwd, &msg, b.now);
        CHECK_EQ(rig_stat(&b, ZR_STAT_media_accepted) - before, rows[i].drop < 0);
        if (rows[i].drop >= 0)
            CHECK_EQ(rig_drops(&b, (enum zr_drop_id)rows[i].drop), dropped + 1);
    }
    rig_turn(&b, NULL, NULL);
    rig_close(&b);
}

/* A message on b's first pull that took `took_us` longer than the fastest one. */
static void hear(rig *b, zr_media media, uint32_t ssrc, uint32_t took_us, uint32_t srtt_us)
{
    zr_pull *pull = ZR_LIST_FIRST(&b->fwd->streams[0].pulls, zr_pull, in_stream);
    zr_pkt *pkt = zr_pool_take(zr_fwd_pool(b->fwd));
    zr_lane_msg msg = { .user = pull->slot, .srtt_us = srtt_us, .view_count = 1 };

    media.hop_us = (uint32_t)(b->now / 1000) - took_us;
    zr_media_put(pkt->buf + pkt->off, &media);
    if ((media.flags & ZR_MEDIA_RTCP) != 0) {
        static const uint8_t report[28] = { 0x80, 200, 0, 6 };
        memcpy(pkt->buf + pkt->off + ZR_MEDIA_HEAD, report, sizeof report);
        pkt->len = ZR_MEDIA_HEAD + sizeof report;
    } else {
        rig_rtp(pkt->buf + pkt->off + ZR_MEDIA_HEAD, media.track != 0, (uint16_t)media.number, media.number, false);
        zr_put32be(pkt->buf + pkt->off + ZR_MEDIA_HEAD + 8, ssrc);
        pkt->len = ZR_MEDIA_HEAD + 100;
    }
    msg.views[0] = (zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len };
    zr_fwd_message(b->fwd, &msg, b->now);
}

static void open_child(rig *b)
{
    rig_open(b, 0, 64);
    rig_stream(b, false, 0);
    mesh_know(b, 0, 2, 1);
    DO(b, .op = ZR_CMD_pull_start, .a = 0, .b = 0, .c = 5, .d = 0);
}

ZR_TEST(a_message_that_took_longer_over_its_hop_than_its_class_may_is_not_forwarded)
{
    enum { AUDIO_MS = 100, KEY_MS = 300, DELTA_MS = 200, SRTT_US = 40000 };
    static const struct {
        zr_media media;
        uint32_t limit_ms;
    } rows[] = {
        { { .flags = ZR_MEDIA_AUDIO, .track = 1, .cls = 1 }, AUDIO_MS },
        { { .flags = ZR_MEDIA_RTCP }, AUDIO_MS },
        { { .flags = ZR_MEDIA_KEY, .cls = 3 }, KEY_MS },
        { { .cls = 3 }, KEY_MS },
        { { .flags = ZR_MEDIA_REPLAYED, .cls = 3 }, KEY_MS },
        { { .cls = 4 }, DELTA_MS },
        { { .flags = ZR_MEDIA_REPLAYED, .cls = 4 }, DELTA_MS },
        { { .cls = 15 }, DELTA_MS },
    };
    uint32_t number = 0;
    rig b;

    open_child(&b);
    b.fwd->conf.deadline_ms[ZR_DEADLINE_AUDIO] = AUDIO_MS;
    b.fwd->conf.deadline_ms[ZR_DEADLINE_KEY] = KEY_MS;
    b.fwd->conf.deadline_ms[ZR_DEADLINE_DELTA] = DELTA_MS;
    hear(&b, (zr_media){ .number = number++, .cls = 4 }, VIDEO_SSRC, 0, SRTT_US); /* the best way: half the srtt */
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        uint32_t spare_us = rows[i].limit_ms * 1000 - SRTT_US / 2;
        uint64_t accepted = rig_stat(&b, ZR_STAT_media_accepted), dropped = rig_drops(&b, ZR_DROP_deadline);
        zr_media media = rows[i].media;
        media.number = number++;
        hear(&b, media, VIDEO_SSRC, spare_us + 1, SRTT_US);
        CHECK_EQ(rig_drops(&b, ZR_DROP_deadline), dropped + 1);
        CHECK_EQ(rig_stat(&b, ZR_STAT_media_accepted), accepted);
        hear(&b, media, VIDEO_SSRC, spare_us, SRTT_US); /* another parent's, in time */
        CHECK_EQ(rig_stat(&b, ZR_STAT_media_accepted), accepted + 1);
        hear(&b, media, VIDEO_SSRC, spare_us + 1, SRTT_US);
        CHECK_EQ(rig_drops(&b, ZR_DROP_duplicate), i + 1); /* what was forwarded is a duplicate, however old */
    }
    CHECK_EQ(rig_drops(&b, ZR_DROP_deadline), ZR_LEN(rows));
    CHECK_EQ(b.page->streams[0].drops, 2 * ZR_LEN(rows));
    rig_balanced(&b);
    rig_close(&b);
}

static void note_number(const zr_tx *tx, void *context)
{
    uint16_t **at = context;
    if (tx->sock == ZR_SOCK_EGRESS)
        *(*at)++ = zr_get16be(tx->data + 2);
}

ZR_TEST(packets_that_overtake_each_other_are_forwarded_as_they_come_and_none_is_skipped)
{
    static const uint32_t came[] = { 1, 2, 0, 5, 4, 7, 3, 6 }; /* the key frame is 3, 4: its start comes last */
    uint16_t live[16], joined[16], *at = live;
    uint64_t first;
    rig b;

    open_child(&b);
    DO(&b, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
    for (unsigned i = 0; i < ZR_LEN(came); i++)
        hear(&b,
             (zr_media){ .number = came[i],
                         .flags = came[i] == 3 ? ZR_MEDIA_KEY : 0,
                         .cls = came[i] == 3 || came[i] == 4 ? 3 : 4 },
             VIDEO_SSRC, 0, 0);
    CHECK_EQ(rig_turn(&b, note_number, &at), ZR_LEN(came));
    for (unsigned i = 0; i < ZR_LEN(came); i++)
        CHECK_EQ(live[i], came[i]);

    /* A joiner gets everything from the key frame's number on, whenever it came; nothing of before. */
    static const uint16_t wanted[] = { 5, 4, 7, 3, 6 };
    at = joined;
    DO(&b, .op = ZR_CMD_sub_add, .a = 1, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 7000));
    CHECK_EQ(rig_turn(&b, note_number, &at), ZR_LEN(wanted));
    CHECK(memcmp(joined, wanted, sizeof wanted) == 0);

    /* A child that resumes gets what it lacks, also what comes only now. */
    mesh_know(&b, 1, 2, 3);
    CHECK_EQ(rig_do(&b, (zr_cmd){ .op = ZR_CMD_child_add, .a = 9, .c = 1, .d = 6, .y = 6 }, &first), 0);
    CHECK_EQ(first, 6);
    CHECK_EQ(rig_stat(&b, ZR_STAT_cache_replayed), ZR_LEN(wanted) + 2);
    hear(&b, (zr_media){ .number = 9, .cls = 4 }, VIDEO_SSRC, 0, 0);
    hear(&b, (zr_media){ .number = 8, .cls = 4 }, VIDEO_SSRC, 0, 0);
    CHECK_EQ(b.page->streams[0].next_number, 10);
    CHECK_EQ(b.page->streams[0].resume_number, 10);
    uint64_t sent = rig_stat(&b, ZR_STAT_fan_sent);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 4);
    CHECK_EQ(rig_stat(&b, ZR_STAT_fan_sent) - sent, 6); /* two players and the child */
    rig_balanced(&b);
    rig_close(&b);
}

/* A sender report with a good-bye behind it, as a publisher that ends sends them. */
static void hear_bye(rig *b, uint32_t number)
{
    static const uint8_t words[36] = { 0x80, 200, 0, 6, [28] = 0x81, 203, 0, 1 };
    const zr_media media = { .number = number, .flags = ZR_MEDIA_RTCP, .hop_us = (uint32_t)(b->now / 1000) };
    zr_pull *pull = ZR_LIST_FIRST(&b->fwd->streams[0].pulls, zr_pull, in_stream);
    zr_pkt *pkt = zr_pool_take(zr_fwd_pool(b->fwd));
    zr_lane_msg msg = { .user = pull->slot, .view_count = 1 };

    zr_media_put(pkt->buf + pkt->off, &media);
    memcpy(pkt->buf + pkt->off + ZR_MEDIA_HEAD, words, sizeof words);
    pkt->len = ZR_MEDIA_HEAD + sizeof words;
    msg.views[0] = (zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len };
    zr_fwd_message(b->fwd, &msg, b->now);
}

ZR_TEST(a_good_bye_waits_for_media_that_it_has_overtaken)
{
    rig b;

    open_child(&b);
    DO(&b, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
    hear(&b, (zr_media){ .number = 0, .cls = 4 }, VIDEO_SSRC, 0, 0);
    hear_bye(&b, 1);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 2); /* nothing is missing: at once */

    hear(&b, (zr_media){ .number = 2, .cls = 4 }, VIDEO_SSRC, 0, 0);
    hear_bye(&b, 4);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    rig_balanced(&b);
    CHECK_EQ(zr_fwd_deadline(b.fwd), b.now + ZR_MS(400));
    b.now += ZR_MS(399);
    hear(&b, (zr_media){ .number = 3, .cls = 4 }, VIDEO_SSRC, 0, 0); /* sent again by the parent */
    zr_fwd_on_deadline(b.fwd, b.now);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    b.now += ZR_MS(1);
    zr_fwd_on_deadline(b.fwd, b.now);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    CHECK_EQ(rig_stat(&b, ZR_STAT_media_accepted), 5);
    CHECK_EQ(b.page->streams[0].packets, 5);

    hear_bye(&b, 6);
    rig_balanced(&b);
    DO(&b, .op = ZR_CMD_stream_epoch, .a = 0, .x = 2); /* with its stream it is forgotten */
    CHECK(zr_fwd_deadline(b.fwd) > b.now + ZR_MS(400));
    b.now += ZR_SEC(1);
    zr_fwd_on_deadline(b.fwd, b.now);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 0);
    rig_close(&b);
}

ZR_TEST(a_packet_of_a_replaced_source_that_comes_late_does_not_bring_the_source_back)
{
    rig b;

    open_child(&b);
    hear(&b, (zr_media){ .number = 0, .cls = 4 }, 0xAAAA, 0, 0);
    hear(&b, (zr_media){ .number = 2, .cls = 4 }, 0xBBBB, 0, 0);
    hear(&b, (zr_media){ .number = 1, .cls = 4 }, 0xAAAA, 0, 0);
    CHECK_EQ(b.fwd->streams[0].tracks[0].ssrc, 0xBBBB);
    hear(&b, (zr_media){ .number = 3, .cls = 4 }, 0xCCCC, 0, 0);
    CHECK_EQ(b.fwd->streams[0].tracks[0].ssrc, 0xCCCC);
    CHECK_EQ(b.page->streams[0].packets, 4);
    rig_turn(&b, NULL, NULL);
    rig_close(&b);
}
