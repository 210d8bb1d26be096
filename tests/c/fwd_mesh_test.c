/* Two or three forwarders, joined by their datagrams: parent a, second parent c, child b. */
#include "forward/zr_lane_priv.h"
#include "fwd_rig.h"

#include "zr_test.h"

typedef struct wire {
    rig *from, *to;
    zr_addr source;
} wire;

static void carry(const zr_tx *tx, void *context)
{
    wire *w = context;
    zr_pkt *pkt;

    if (tx->sock != ZR_SOCK_LINK)
        return;
    pkt = zr_pool_copy(zr_fwd_pool(w->to->fwd), tx->data, tx->len);
    CHECK(pkt != NULL);
    zr_fwd_link_input(w->to->fwd, pkt, &w->source, w->to->now);
}

/* Relay at host `mine`: session 0 with the relay at host `theirs`. */
static void know(rig *r, uint32_t session, uint8_t mine, uint8_t theirs)
{
    DO(r, .op = ZR_CMD_session_add, .a = session, .b = mine * 16u + theirs, .c = theirs * 16u + mine, .d = 1, .y = 1420,
       .addr = rig_addr(theirs, 7000));
}

/* Both ends of one pull: parent p (host ph) sends stream 0 to child b (host 2) on conversation `conv`. */
static uint32_t join(rig *p, uint8_t ph, rig *b, uint32_t session, uint32_t conv, uint64_t want, uint64_t from)
{
    uint64_t first = 0;

    know(p, 0, ph, 2);
    know(b, session, 2, ph);
    DO(b, .op = ZR_CMD_pull_start, .a = 0, .b = session, .c = conv, .d = 0);
    CHECK_EQ(rig_do(p, (zr_cmd){ .op = ZR_CMD_child_add, .a = 9, .d = conv, .x = want << 8, .y = from }, &first), 0);
    return (uint32_t)first;
}

static void turn(rig *p, uint8_t ph, rig *b)
{
    wire w = { .from = p, .to = b, .source = rig_addr(ph, 7001) };
    rig_turn(p, carry, &w);
}

static void open_pair(rig *a, rig *b, uint32_t number)
{
    rig_open(a, 0, 64);
    rig_open(b, 0, 64);
    rig_publish(a, number);
    rig_stream(b, false, 0);
    DO(b, .op = ZR_CMD_sub_add, .a = 0, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
}

ZR_TEST(a_child_relay_gets_the_cache_then_every_packet_also_over_the_wrap)
{
    rig a, b;
    open_pair(&a, &b, UINT32_MAX - 4);
    rig_media(&a, false, 0, 0, false);
    rig_media(&a, false, 1, 1, true);
    rig_media(&a, false, 2, 2, false);
    CHECK_EQ(join(&a, 1, &b, 0, 5, 0, 0), UINT32_MAX - 3);
    for (uint16_t i = 3; i < 12; i++)
        rig_media(&a, i % 2, i, i, false);
    turn(&a, 1, &b);
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
    open_pair(&a, &b, 0);
    for (uint16_t i = 0; i < 6; i++)
        rig_media(&a, false, i, i, i == 0);
    CHECK_EQ(join(&a, 1, &b, 0, 5, 0, 4), 4); /* has seen 0..3 */
    turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 2);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(two_parents_deliver_each_number_once)
{
    rig a, b, c;
    open_pair(&a, &b, 100);
    rig_open(&c, 0, 64);
    rig_publish(&c, 100);
    join(&a, 1, &b, 0, 5, 0, 0);
    join(&c, 3, &b, 1, 6, 0, 0);
    for (uint16_t i = 0; i < 10; i++) {
        rig_media(&a, false, i, i, false);
        rig_media(&c, false, i, i, false);
    }
    turn(&a, 1, &b);
    turn(&c, 3, &b);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 10);
    CHECK_EQ(rig_drops(&b, ZR_DROP_duplicate), 10);
    CHECK_EQ(b.page->streams[0].duplicates, 10);
    DO(&b, .op = ZR_CMD_session_drop, .a = 1);
    rig_media(&a, false, 10, 10, false);
    turn(&a, 1, &b);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    rig_close(&a);
    rig_close(&b);
    rig_close(&c);
}

ZR_TEST(a_packet_of_1500_bytes_crosses_as_two_segments)
{
    rig a, b;
    uint8_t data[1500] = { 0 };
    open_pair(&a, &b, 0);
    join(&a, 1, &b, 0, 5, 0, 0);
    rig_rtp(data, false, 1, 1, true);
    CHECK_EQ(rig_bytes(&a, data, sizeof data, rig_addr(1, 5000)), ZR_OK);
    turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].bytes, 1500);
    CHECK_EQ(rig_turn(&b, NULL, NULL), 1);
    rig_close(&a);
    rig_close(&b);
}

ZR_TEST(a_warm_child_gets_audio_and_key_frames_until_it_wants_all)
{
    rig a, b;
    open_pair(&a, &b, 0);
    join(&a, 1, &b, 0, 5, 1, 0);
    rig_media(&a, false, 0, 0, true);
    rig_media(&a, false, 1, 0, false); /* of the key frame */
    rig_media(&a, false, 2, 1, false);
    rig_media(&a, true, 0, 1, false);
    turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 3);
    CHECK_EQ(rig_drops(&a, ZR_DROP_filtered), 1);
    DO(&a, .op = ZR_CMD_child_want, .a = 9);
    rig_media(&a, false, 3, 2, false);
    turn(&a, 1, &b);
    CHECK_EQ(b.page->streams[0].packets, 4);
    rig_close(&a);
    rig_close(&b);
}

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
    know(&b, 0, 2, 1);
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
    know(b, 0, 2, 1);
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
    know(&b, 1, 2, 3);
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

ZR_TEST(a_child_is_sent_each_class_within_its_own_deadline)
{
    rig a, b;
    uint64_t expired;

    open_pair(&a, &b, 0);
    for (int i = 0; i < ZR_DEADLINES; i++)
        a.fwd->conf.deadline_ms[i] = 1000;
    a.fwd->conf.deadline_ms[ZR_DEADLINE_DELTA] = 50;
    join(&a, 1, &b, 0, 5, 0, 0);
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
    know(&a, 0, 1, 2);
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

    open_pair(&a, &b, 0);
    join(&a, 1, &b, 0, 5, 0, 0);
    rig_media(&a, false, 0, 0, true);
    zr_put32be(report + 4, VIDEO_SSRC);
    report[8] = 0xAB;
    CHECK_EQ(rig_bytes(&a, report, sizeof report, rig_addr(1, 5001)), ZR_OK);
    turn(&a, 1, &b);
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
    open_pair(&a, &b, 0);
    join(&a, 1, &b, 0, 5, 0, 0);
    DO(&b, .op = ZR_CMD_pull_stop, .a = 0, .b = 5);
    (void)unknown_events(&b);
    for (uint16_t i = 0; i < 50; i++) {
        rig_media(&a, false, i, i, false);
        turn(&a, 1, &b);
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
    carry(tx, context);
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
