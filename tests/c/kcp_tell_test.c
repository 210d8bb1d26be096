/* Acknowledgements told again, windows told again, and the end of all telling. */
#include "kcp_link.h"
#include "zr_test.h"

/* When b says an ACK for `sn`, and with what ts. */
static struct {
    zr_ns_t at;
    uint32_t ts, una;
} told[256];
static uint32_t told_count, told_sn;

static void note_told(void)
{
    for (uint32_t i = 0; i < said_count; i++) {
        if (said[i].cmd != ZR_SEG_ACK || said[i].sn != told_sn)
            continue;
        CHECK(told_count < ZR_LEN(told));
        told[told_count].at = now;
        told[told_count].ts = said[i].ts;
        told[told_count++].una = said[i].una;
    }
}

static void watch(uint32_t sn)
{
    told_sn = sn;
    told_count = 0;
}

/* b by its own deadlines until `end`; every segment for `told_sn` is noted. How often it was called. */
static uint32_t run(zr_ns_t end)
{
    uint32_t turns = 0;

    for (; zr_kcp_deadline(&b) <= end; turns++) {
        CHECK(turns < 1000);
        now = ZR_MAX(now, zr_kcp_deadline(&b));
        say(&b);
        note_told();
    }
    now = end;
    return turns;
}

ZR_TEST(an_arrival_behind_a_gap_is_told_at_once_and_again_within_the_slack)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (uint32_t clean = 0; clean < 3; clean++) { /* the more of the path was clean, the fewer times */
            static const uint32_t least[] = { 3, 2, 2 };
            start_at(&origins[o], zr_kcp_conf_media(7));
            uint32_t sn = sn0;
            for (uint32_t n = 0; n < clean * 300; n++, now += ZR_MS(5)) {
                input_push(&b, sn++, 0, zr_kcp_ms(now), 10);
                run(now + ZR_MS(4));
                CHECK_EQ(recv_len(&b), 10);
            }
            watch(sn + 1);
            zr_ns_t from = now;
            input_push(&b, sn + 1, 0, 77, 10);
            CHECK(zr_kcp_due(&b, now));
            CHECK_EQ(zr_kcp_deadline(&b), now);
            uint32_t turns = run(now + ZR_MS(350));
            CHECK(told_count >= least[clean] && told_count <= 7);
            CHECK(turns <= told_count + 1);
            CHECK_EQ(told[0].at, from);
            CHECK(told[1].at >= from + ZR_MS(2) && told[1].at <= from + ZR_MS(8));
            CHECK(told[told_count - 1].at <= from + ZR_MS(8));
            for (uint32_t i = 0; i < told_count; i++) {
                CHECK_EQ(told[i].ts, 77);
                CHECK_EQ(told[i].una, sn);
            }
            finish();
        }
    }
}

ZR_TEST(what_came_in_order_is_told_by_una_at_once_and_again_within_the_slack_whatever_came_together)
{
    static const uint32_t bursts[] = { 1, 2, 8, 200 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(bursts); i++) {
            uint32_t segments = 0, last = 0;
            start_at(&origins[o], zr_kcp_conf_media(7));
            for (uint32_t n = 0; n < bursts[i]; n++)
                input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
            zr_ns_t from = now, first = 0, second = 0;
            while (zr_kcp_deadline(&b) != ZR_NEVER) {
                now = zr_kcp_deadline(&b);
                say(&b);
                segments += said_count;
                last += said_count > 0;
                for (uint32_t n = 0; n < said_count; n++)
                    CHECK_EQ(said[n].una, sn0 + bursts[i]);
                if (last == 1)
                    first = now;
                else if (last == 2 && second == 0)
                    second = now;
            }
            CHECK_EQ(first, from);
            CHECK(second >= from + ZR_MS(2) && second <= from + ZR_MS(8));
            CHECK(now <= from + ZR_MS(8));
            CHECK(segments >= 2 && segments <= 7);                 /* not each of the burst */
            CHECK_EQ(blocks.in_use > 0, bursts[i] > ZR_KCP_WHOLE); /* what waits for recv, nothing else */
            while (recv_len(&b) >= 0)
                ;
            CHECK_EQ(blocks.in_use, 0);
            finish();
        }
    }
}

ZR_TEST(later_datagrams_tell_it_again_each_time_with_the_ts_of_the_newest_copy)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        uint32_t ts = zr_kcp_ms(now), extra = 0;
        watch(sn0 + 1);
        input_push(&b, sn0 + 1, 0, ts, 10);
        run(now + ZR_MS(9));
        uint32_t quick = told_count;
        for (uint32_t n = 2; n < 40; n++) { /* another arrival every 4 ms makes a datagram go anyway */
            input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
            run(now + ZR_MS(4));
        }
        extra = told_count - quick;
        CHECK(extra >= 3 && extra <= 6); /* about 16, 32, 64, 128 ms after it */
        for (uint32_t i = 0; i < told_count; i++)
            CHECK_EQ(told[i].ts, ts);
        input_push(&b, sn0 + 1, 0, ts + 150, 10); /* a later copy */
        input_push(&b, sn0 + 1, 0, ts + 100, 10); /* an older one, overtaken */
        told_count = 0;
        run(now + ZR_MS(100));
        CHECK(told_count >= 2);
        for (uint32_t i = 0; i < told_count; i++)
            CHECK_EQ(told[i].ts, ts + 150);
        finish();
    }
}

ZR_TEST(a_later_datagram_has_room_for_a_few_old_acknowledgements_only)
{
    start_at(&origins[0], zr_kcp_conf_media(7));
    for (uint32_t n = 1; n <= 200; n++)
        input_push(&b, n, 0, zr_kcp_ms(now), 10);
    run(now + ZR_MS(12));
    now += ZR_MS(20);
    input_push(&b, 300, 0, zr_kcp_ms(now), 10);
    say(&b);
    CHECK(said_cmd(ZR_SEG_ACK) >= 2 && said_cmd(ZR_SEG_ACK) <= 1 + 8);
    CHECK_EQ(said_sn(ZR_SEG_ACK, 300), 1);
    finish();
}

ZR_TEST(a_repeated_acknowledgement_saves_the_repeat_when_the_first_was_lost)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_link(&origins[o], zr_kcp_conf_media(7), 30, 0);
        for (uint32_t n = 0; n < 400; n++) {
            if (n % 4 == 0)
                CHECK_EQ(send(&a, 500), ZR_OK);
            step(NULL, NULL);
            while (recv_len(&b) >= 0)
                ;
        }
        for (uint32_t n = 0; n < 100; n++)
            step(NULL, NULL);
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        uint64_t before = ab.pushed;
        CHECK_EQ(send(&a, 500), ZR_OK);
        for (uint32_t ms = 0; ms < 500; ms++) {
            uint64_t said_before = ba.datagrams;
            ba.cut = true;
            if (ba.datagrams == said_before && ms > 31)
                ba.cut = false; /* the first answer is gone, the next gets through */
            step(NULL, NULL);
        }
        CHECK_EQ(ab.pushed, before + 1);
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        finish();
    }
}

ZR_TEST(a_window_that_opens_again_is_told_at_once_and_again_on_a_clean_path_too)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (uint32_t before = 0; before <= 300; before += 300) { /* segments that came without loss */
            zr_kcp_conf conf = zr_kcp_conf_media(7);
            uint32_t wins = 0, sn = sn0;
            conf.rcv_wnd = 4;
            start_at(&origins[o], conf);
            for (sn = sn0; sn != sn0 + before; sn++) {
                input_push(&b, sn, 0, zr_kcp_ms(now), 10);
                run(now + ZR_MS(5));
                CHECK_EQ(recv_len(&b), 10);
            }
            for (uint32_t n = 0; n < 4; n++)
                input_push(&b, sn++, 0, zr_kcp_ms(now), 10);
            run(now + ZR_MS(20));
            CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
            CHECK_EQ(recv_len(&b), 10);
            zr_ns_t from = now;
            CHECK(zr_kcp_deadline(&b) <= now);
            while (zr_kcp_deadline(&b) != ZR_NEVER) {
                now = ZR_MAX(now, zr_kcp_deadline(&b));
                say(&b);
                for (uint32_t i = 0; i < said_count; i++)
                    CHECK(said[i].wnd == 1 && said[i].una == sn);
                wins += said_cmd(ZR_SEG_WINS);
            }
            CHECK(wins >= 2 && wins <= 7);
            CHECK(now >= from + ZR_MS(2) && now <= from + ZR_MS(8));
            finish();
        }
    }
}

ZR_TEST(a_shut_window_is_probed_after_50_ms_and_then_ever_more_slowly_up_to_a_second)
{
    static const zr_ns_t probes[] = { 50, 100, 200, 400, 800, 1000, 1000 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        zr_kcp_conf conf = zr_kcp_conf_control(7);
        conf.rcv_wnd = conf.snd_wnd = 4;
        start_at(&origins[o], conf);
        for (int i = 0; i < 6; i++)
            CHECK_EQ(send(&a, 10), ZR_OK);
        say(&a);
        CHECK_EQ(said_cmd(ZR_SEG_PUSH), 4);
        carry_all(&b);
        say(&b); /* wnd 0 */
        carry_all(&a);
        CHECK_EQ(zr_kcp_waiting(&a), 2);
        CHECK(!zr_kcp_due(&a, now));
        for (size_t i = 0; i < ZR_LEN(probes); i++) {
            CHECK_EQ(zr_kcp_deadline(&a), now + ZR_MS(probes[i]));
            now = zr_kcp_deadline(&a);
            say(&a);
            CHECK_EQ(said_count, 1);
            CHECK_EQ(said_cmd(ZR_SEG_WASK), 1);
        }
        carry_all(&b);
        say(&b); /* it answers: still shut */
        CHECK_EQ(said_cmd(ZR_SEG_WINS), 1);
        CHECK_EQ(recv_len(&b), 10);
        say(&b); /* nobody asked */
        CHECK_EQ(said_cmd(ZR_SEG_WINS), 1);
        carry_all(&a);
        CHECK(zr_kcp_due(&a, now)); /* at once: nothing waits for a timer */
        say(&a);
        CHECK_EQ(said_cmd(ZR_SEG_PUSH), 1);
        CHECK_EQ(said_cmd(ZR_SEG_WASK), 0);
        carry_all(&b);
        while (recv_len(&b) == 10)
            ;
        finish();
    }
}

ZR_TEST(a_conversation_that_has_told_all_is_idle_holds_nothing_and_wants_no_call)
{
    static const double losses[] = { 0, 0.1, 0.5 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(losses); i++) {
            start_link(&origins[o], zr_kcp_conf_media(7), 20, losses[i]);
            for (int round = 0; round < 3; round++) {
                for (uint32_t ms = 0; ms < 1500; ms++) {
                    if (ms < 500 && ms % 3 == 0)
                        CHECK_EQ(send(&a, 700), ZR_OK);
                    step(NULL, NULL);
                    while (recv_len(&b) >= 0)
                        ;
                }
                CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
                CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
                CHECK(!zr_kcp_due(&a, now) && !zr_kcp_due(&b, now));
                CHECK_EQ(blocks.in_use, 0);
                zr_batch_reset(&batch);
                CHECK_EQ(pool.in_use, 0);
            }
            finish();
        }
    }
}
