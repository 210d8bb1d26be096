/* What a peer may send that it should not, and what runs out. ZR_FULL=1: the longest flood ten times as long. */
#include <stdlib.h>

#include "kcp_rig.h"
#include "zr_test.h"

/* What holds in both profiles is asked of both. */
static const uint8_t profiles[] = { ZR_KCP_COMPAT, ZR_KCP_MEDIA };

static void start_profile(uint8_t profile, uint32_t wnd, uint32_t start_sn)
{
    start_wnd(profile == ZR_KCP_COMPAT ? zr_kcp_conf_compat(7) : zr_kcp_conf_media(7), wnd, start_sn);
}

/* All that it has to say now: how many ACKs are in it, and in the batch the rest. */
static uint32_t acks_now(zr_kcp *kcp)
{
    uint64_t before = zr_kcp_counted(kcp)->acks_sent;
    CHECK_EQ(flush(kcp), ZR_OK);
    return (uint32_t)(zr_kcp_counted(kcp)->acks_sent - before);
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
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        for (size_t i = 0; i < ZR_LEN(cases); i++) {
            start_profile(profiles[p], 256, 0);
            uint8_t data[ZR_SEG_HEAD + 1] = { 0 };
            zr_seg_put(data, &(zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .sn = cases[i].sn, .len = 1 });
            CHECK_EQ(input_bytes(&b, data, sizeof data), -1);
            CHECK_EQ(pool.in_use, cases[i].kept);
            CHECK_EQ(acks_now(&b), cases[i].acked);
            CHECK_EQ(zr_kcp_counted(&b)->window_drops, !cases[i].kept && !cases[i].acked);
            finish();
        }
    }
}

ZR_TEST(violations_are_judged_by_their_words)
{
    start(256, UINT32_MAX - 1); /* at most two segments a message */
    CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(send(&a, 10), ZR_OK);
    CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a); /* in flight: 2^32-2, 2^32-1, 0 */
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
    static const uint32_t ages[] = { 0u - 1, 60001, 2000000000 };

    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        for (size_t i = 0; i < ZR_LEN(ages); i++) {
            start_profile(profiles[p], 256, 0);
            zr_ns_t timer = ZR_MS((zr_ns_t)zr_kcp_estimated(&a).timer_ms);
            CHECK_EQ(send(&a, 10), ZR_OK);
            flush(&a);
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 9, .ts = zr_kcp_ms(now) - ages[i] });
            CHECK_EQ(zr_kcp_srtt_ms(&a), 0);
            CHECK_EQ(zr_kcp_waiting(&a), 0); /* it arrived all the same */
            CHECK_EQ(zr_kcp_counted(&a)->ack_ts, 1);
            CHECK_EQ(ZR_MS((zr_ns_t)zr_kcp_estimated(&a).timer_ms), timer);
            CHECK_EQ(a.rto, 200);
            finish();
        }
    }
}

ZR_TEST(an_overtaken_segment_does_not_set_the_window_back)
{
    start(256, 0);
    CHECK_EQ(send(&a, 10), ZR_OK);
    output(&a);
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = 1 });
    input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = 0 });
    for (int i = 0; i < 200; i++)
        CHECK_EQ(send(&a, 10), ZR_OK);
    flush(&a);
    CHECK_EQ(zr_kcp_counted(&a)->segs_sent, 1 + 128);
    finish();
}

static void input_push(zr_kcp *kcp, uint32_t sn)
{
    uint8_t data[ZR_SEG_HEAD + 1] = { 0 };
    zr_seg_put(data, &(zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .sn = sn, .len = 1 });
    input_bytes(kcp, data, sizeof data);
}

ZR_TEST(a_flood_of_old_segments_grows_nothing_and_is_answered_once_in_ten_milliseconds)
{
    uint32_t count = getenv("ZR_FULL") != NULL ? 1000000 : 100000;

    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        start_profile(profiles[p], 128, 0);
        for (uint32_t i = 0; i < count; i++) {
            input_push(&b, 0u - 1 - i % 5000);
            CHECK_EQ(pool.in_use + blocks.in_use, 0);
            if (i % 10 == 0)
                CHECK(acks_now(&b) <= 1);
            now += ZR_SEC(1) / 100000;
        }
        CHECK_EQ(zr_kcp_counted(&b)->acks_sent, count / 1000);
        CHECK_EQ(zr_kcp_counted(&b)->duplicates, count);
        CHECK_EQ(pool.in_use, 0);
        CHECK_EQ(blocks.in_use, 0);
        finish();
    }
}

ZR_TEST(a_flood_of_repeats_behind_a_hole_is_kept_once)
{
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        start_profile(profiles[p], 128, 0);
        for (uint32_t i = 0; i < 100000; i++)
            input_push(&b, 1 + i % 127);
        CHECK_EQ(pool.in_use, 127);
        CHECK(acks_now(&b) <= 128); /* never more than the window */
        CHECK_EQ(recv_len(&b), profiles[p] == ZR_KCP_COMPAT ? ZR_E_again : 1);
        finish();
    }
}

ZR_TEST(a_media_flood_of_repeats_behind_a_hole_is_answered_as_often_as_the_segments_it_repeats)
{
    start(128, 0);
    for (uint32_t i = 0; i < 100000; i++) {
        input_push(&b, 1 + i % 127);
        if (i % 10 == 0) {
            zr_kcp_on_deadline(&b, now);
            flush(&b);
        }
        now += ZR_SEC(1) / 100000;
    }
    /* Till the hole is passed over each of 127 is told at most seven times in ten milliseconds, una from then on. */
    CHECK(zr_kcp_counted(&b)->acks_sent <= 7 * 127 * 42 + 100);
    zr_kcp_on_deadline(&b, now);
    CHECK_EQ(zr_kcp_counted(&b)->holes, 1);
    finish();
}

/* Hands a segment in as its datagram's only one, overtaken by what came before. */
static void input_overtaken(zr_kcp *kcp, zr_seg seg)
{
    uint8_t data[ZR_SEG_HEAD + 10] = { 0 };
    size_t pos = 0;

    zr_seg_put(data, &seg);
    zr_pkt *pkt = zr_pool_copy(&pool, data, ZR_SEG_HEAD + seg.len);
    CHECK(pkt != NULL && zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK);
    zr_kcp_input_overtaken(kcp, &seg, pkt, now);
    zr_kcp_input_end(kcp, now);
    zr_pkt_drop(pkt);
}

ZR_TEST(K18_of_an_overtaken_datagram_everything_counts_but_what_it_says_of_the_window)
{
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        start_profile(profiles[p], 256, 0);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(send(&a, 10), ZR_OK);
        flush(&a);
        input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = 1 });
        input_overtaken(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = 1 });
        CHECK_EQ(a.rmt_wnd, 128);
        input_overtaken(&a,
                        (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 0, .sn = 2, .ts = zr_kcp_ms(now), .una = 2 });
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        input_overtaken(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .wnd = 0, .una = 3, .len = 10 });
        CHECK_EQ(zr_kcp_counted(&a)->segs_received, 1);
        CHECK(a.rmt_wnd == 128 && a.peer_una == 1);
        zr_slice view;
        CHECK_EQ(zr_kcp_recv(&a, &view, 1), 1);
        zr_pkt_drop(view.pkt);
        input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = 3 });
        input_overtaken(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = 3 });
        CHECK(a.rmt_wnd == 0 && a.peer_una == 3);
        finish();
    }
}

ZR_TEST(an_ack_repeated_ten_thousand_times_resends_nothing)
{
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        start_profile(profiles[p], 256, 0);
        for (int i = 0; i < 3; i++)
            CHECK_EQ(send(&a, 10), ZR_OK);
        flush(&a);
        now += ZR_MS(5);
        zr_seg ack = { .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 256, .sn = 2, .ts = zr_kcp_ms(now) - 5 };
        for (int i = 0; i < 10000; i++)
            input_seg(&a, ack);
        flush(&a); /* one sign that something is missing, not ten thousand */
        CHECK_EQ(batch.count, 0);
        CHECK_EQ(zr_kcp_counted(&a)->segs_sent, 3);
        CHECK_EQ(zr_kcp_srtt_ms(&a), 5);
        CHECK_EQ(zr_kcp_waiting(&a), 2);
        finish();
    }
}

ZR_TEST(a_flood_of_window_questions_gets_one_answer_in_ten_milliseconds)
{
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        int answers = 0;
        start_profile(profiles[p], 256, 0);
        for (int i = 0; i < 10000; i++) {
            input_seg(&b, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WASK, .wnd = 256 });
            flush(&b);
            answers += (int)batch.count;
            now += ZR_MS(1) / 10;
        }
        CHECK_EQ(answers, 100);
        finish();
    }
}

ZR_TEST(a_datagram_of_58_segments_gets_one_datagram_of_answers)
{
    static const struct {
        uint8_t cmd;
        bool same;                          /* sn */
        uint32_t segs, first, stock, media; /* answers */
    } rows[] = {
        { ZR_SEG_WASK, true, 58, 1, 1, 1 }, { ZR_SEG_WINS, true, 58, 1, 0, 0 },    { ZR_SEG_ACK, true, 58, 0, 0, 0 },
        { ZR_SEG_PUSH, true, 56, 1, 1, 1 }, { ZR_SEG_PUSH, false, 56, 1, 56, 1 }, /* in order una tells of all */
        { ZR_SEG_PUSH, true, 56, 2, 1, 1 }, { ZR_SEG_PUSH, false, 56, 2, 56, 56 },
    };
    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            uint8_t data[MTU] = { 0 };
            uint32_t len = rows[i].cmd == ZR_SEG_PUSH, each = ZR_SEG_HEAD + len;
            uint32_t answers = profiles[p] == ZR_KCP_MEDIA ? rows[i].media : rows[i].stock;
            start_profile(profiles[p], 256, 1);
            for (uint32_t n = 0; n < rows[i].segs; n++)
                zr_seg_put(data + n * each, &(zr_seg){ .conv = 7,
                                                       .cmd = rows[i].cmd,
                                                       .wnd = 256,
                                                       .sn = rows[i].first + (rows[i].same ? 0 : n),
                                                       .una = 1,
                                                       .len = len });
            CHECK_EQ(input_bytes(&b, data, rows[i].segs * each), -1);
            flush(&b);
            CHECK_EQ(batch.count, answers > 0);
            CHECK_EQ(batch.count == 0 ? 0 : batch.tx[0].len, answers * ZR_SEG_HEAD);
            finish();
        }
    }
}

ZR_TEST(an_ack_with_a_time_at_which_nothing_was_sent_is_no_sample)
{
    static const struct {
        bool again; /* it was sent again 200 ms later, and 30 more are over */
        int ts;     /* relative to the first sending */
        int stock, media;
    } rows[] = {
        { true, 0, 230, 230 }, { false, 1, 0, 0 },  { false, -1, 0, 0 }, { true, 200, 30, 30 },
        { true, 201, 0, 0 },   { true, -1, 231, 0 } /* stock remembers the last time only: it may be an older copy's */
    };

    for (size_t p = 0; p < ZR_LEN(profiles); p++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            int srtt = profiles[p] == ZR_KCP_MEDIA ? rows[i].media : rows[i].stock;
            start_profile(profiles[p], 256, 0);
            uint32_t first = zr_kcp_ms(now);
            CHECK_EQ(send(&a, 10), ZR_OK);
            flush(&a);
            if (rows[i].again) {
                now += ZR_MS(200);
                flush(&a);
                CHECK_EQ(batch.count, 1);
                now += ZR_MS(30);
            }
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 256, .ts = first + (uint32_t)rows[i].ts });
            CHECK_EQ(zr_kcp_srtt_ms(&a), srtt);
            CHECK_EQ(zr_kcp_counted(&a)->ack_ts, srtt == 0);
            CHECK_EQ(zr_kcp_waiting(&a), 0);
            finish();
        }
    }
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
    for (int i = 1; i < PACKETS; i++)
        zr_pkt_drop(all[i]);
    CHECK_EQ(zr_kcp_send_bytes(&a, bytes, 0, now), ZR_E_inval);
    finish();
}

ZR_TEST(a_conf_out_of_range_is_refused)
{
    zr_kcp_conf conf = zr_kcp_conf_media(1);
    memories();
    conf.rcv_wnd = ZR_KCP_WND_MAX + 1;
    CHECK_EQ(zr_kcp_init(&a, &conf, &blocks, &pool, now), ZR_E_inval);
    conf = zr_kcp_conf_media(1);
    conf.mtu = 1501;
    CHECK_EQ(zr_kcp_init(&a, &conf, &blocks, &pool, now), ZR_E_inval);
}
