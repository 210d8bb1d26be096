/* Recovery between our relays: when a media conversation sends again, and when it gives up. */
#include "kcp_link.h"
#include "zr_test.h"

/* PUSHes of a: when. */
static zr_ns_t sent_at[4096];
static uint32_t sent_count, only_sn;

static void note_push(const zr_seg *seg)
{
    if (seg->cmd != ZR_SEG_PUSH || seg->sn != only_sn)
        return;
    CHECK(sent_count < ZR_LEN(sent_at));
    sent_at[sent_count++] = now;
}

/* From now on all transmissions of `sn` are noted. */
static void watch(uint32_t sn)
{
    only_sn = sn;
    sent_count = 0;
}

/* Till nothing is left to do for a, by its own deadlines; nothing gets through. */
static void run_out(zr_ns_t limit)
{
    for (int turns = 0; zr_kcp_deadline(&a) <= limit; turns++) {
        CHECK(turns < 10000);
        now = ZR_MAX(now, zr_kcp_deadline(&a));
        speak(&a, &ab, note_push);
    }
}

/* Round trips of `rtt`, one segment each, so that a knows its path. Loss: none. */
static void warm_up(uint32_t count, uint32_t rtt)
{
    for (uint32_t n = 0; n < count; n++) {
        uint32_t at = zr_kcp_ms(now);
        CHECK_EQ(send(&a, 500), ZR_OK);
        say(&a);
        CHECK_EQ(said_cmd(ZR_SEG_PUSH), 1);
        now += ZR_MS((zr_ns_t)rtt);
        input_ack(&a, sn0 + n, at, sn0 + n + 1);
    }
    CHECK_EQ(zr_kcp_waiting(&a), 0);
}

ZR_TEST(the_sender_stops_at_the_deadline_of_the_message_and_frees_its_packet)
{
    static const uint16_t own[] = { 400, 60, 150, 1000 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t with_plan = 0; with_plan < 2; with_plan++) {
            for (size_t i = 0; i < ZR_LEN(own); i++) {
                start_link(&origins[o], zr_kcp_conf_media(7), 20, 0);
                if (!with_plan)
                    start_at(&origins[o], zr_kcp_conf_media(7));
                ab.cut = true;
                zr_pkt *pkt = zr_pool_copy(&pool, bytes, 1000);
                zr_slice body = { pkt, pkt->off, pkt->len };
                zr_ns_t from = now;
                int rc = own[i] == 400 ? zr_kcp_send(&a, bytes, 16, &body, now)
                                       : zr_kcp_send_within(&a, bytes, 16, &body, own[i], now);
                CHECK_EQ(rc, ZR_OK);
                zr_pkt_drop(pkt);
                watch(sn0);
                while (zr_kcp_waiting(&a) > 0) {
                    CHECK(zr_kcp_deadline(&a) <= from + ZR_MS(own[i]));
                    now = ZR_MAX(now, zr_kcp_deadline(&a));
                    speak(&a, &ab, note_push);
                }
                CHECK_EQ(now, from + ZR_MS(own[i])); /* its ACK had all the time */
                CHECK(sent_count >= 1 && sent_at[sent_count - 1] < now);
                zr_batch_reset(&batch);
                CHECK_EQ(pool.in_use, 0);
                CHECK_EQ(blocks.in_use, 0);
                CHECK_EQ(zr_kcp_counted(&a)->expired, 1);
                CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
                CHECK(!zr_kcp_due(&a, now));
                finish();
            }
        }
    }
}

ZR_TEST(messages_with_deadlines_of_their_own_expire_each_at_its_own)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_link(&origins[o], zr_kcp_conf_media(7), 20, 0);
        ab.cut = true;
        zr_ns_t from = now;
        static const uint16_t within[] = { 900, 80, 400, 200, 600 };
        for (size_t i = 0; i < ZR_LEN(within); i++)
            CHECK_EQ(zr_kcp_send_within(&a, bytes, 16, NULL, within[i], now), ZR_OK);
        for (; zr_kcp_waiting(&a) > 0; now += ZR_MS(1)) {
            uint32_t alive = 0;
            speak(&a, &ab, NULL);
            for (size_t i = 0; i < ZR_LEN(within); i++)
                alive += now < from + ZR_MS(within[i]);
            CHECK(zr_kcp_waiting(&a) >= alive); /* none is dropped before its time */
            /* Those in line behind one that still waits may stay for its silence: one timer. */
            zr_ns_t slack = ZR_MS((zr_ns_t)zr_kcp_estimated(&a).timer_ms + 10);
            alive = 0;
            for (size_t i = 0; i < ZR_LEN(within); i++)
                alive += now < from + ZR_MS(within[i]) + slack;
            CHECK(zr_kcp_waiting(&a) <= alive);
        }
        CHECK_EQ(zr_kcp_counted(&a)->expired, ZR_LEN(within));
        finish();
    }
}

ZR_TEST(what_waits_for_the_window_beyond_its_deadline_is_never_sent_and_the_rest_goes_on)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = sn0 });
        for (int i = 0; i < 5; i++)
            CHECK_EQ(zr_kcp_send_within(&a, bytes, 16, NULL, 100, now), ZR_OK);
        say(&a);
        CHECK_EQ(said_cmd(ZR_SEG_PUSH), 0);
        now += ZR_MS(150);
        CHECK_EQ(zr_kcp_send_within(&a, bytes, 15, NULL, 100, now), ZR_OK);
        input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = sn0 });
        say(&a);
        CHECK_EQ(said_cmd(ZR_SEG_PUSH), 1);
        CHECK_EQ(said[said_count - 1].len, 15);
        CHECK_EQ(zr_kcp_counted(&a)->expired, 5);
        CHECK_EQ(zr_kcp_waiting(&a), 1);
        finish();
    }
}

ZR_TEST(what_waits_for_a_shut_window_holds_its_packet_no_longer_than_its_deadline)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 0, .una = sn0 });
        for (int i = 0; i < 100; i++)
            CHECK_EQ(send(&a, 1000), ZR_OK);
        for (zr_ns_t end = now + ZR_SEC(2); zr_kcp_deadline(&a) <= end;) {
            now = ZR_MAX(now, zr_kcp_deadline(&a));
            say(&a);
            CHECK_EQ(said_cmd(ZR_SEG_PUSH), 0);
        }
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        CHECK_EQ(pool.in_use, 0);
        CHECK_EQ(zr_kcp_counted(&a)->expired, 100);
        finish();
    }
}

ZR_TEST(a_message_whose_second_half_never_left_is_not_joined_to_the_next)
{
    static const size_t next[] = { 30, 1021, 1300 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(next); i++) {
            start_at(&origins[o], zr_kcp_conf_media(7));
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 1, .una = sn0 });
            CHECK_EQ(send(&a, 2000), ZR_OK);
            say(&a);
            CHECK_EQ(said_cmd(ZR_SEG_PUSH), 1);
            carry_all(&b);
            for (zr_ns_t end = now + ZR_MS(450); now < end; now += ZR_MS(1))
                say(&a); /* lost; b's answer, too */
            CHECK_EQ(send(&a, next[i]), ZR_OK);
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 128, .una = sn0 });
            say(&a);
            CHECK(said_cmd(ZR_SEG_PUSH) >= 1);
            carry_all(&b);
            for (zr_ns_t end = now + ZR_MS(450); now < end; now += ZR_MS(1))
                say(&b);
            /* 1021 bytes behind a number that never came may be half a message: not delivered, rather than wrongly. */
            CHECK_EQ(recv_len(&b), next[i] == 1021 ? ZR_E_again : (int)next[i]);
            CHECK_EQ(recv_len(&b), ZR_E_again);
            finish();
        }
    }
}

ZR_TEST(loss_is_declared_by_time_when_nothing_later_is_acknowledged)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        warm_up(40, 50);
        uint32_t timer = zr_kcp_estimated(&a).timer_ms;
        CHECK(timer >= 58 && timer <= 62);
        CHECK_EQ(send(&a, 500), ZR_OK);
        say(&a);
        zr_ns_t from = now;
        now = zr_kcp_deadline(&a);
        CHECK_EQ(now, from + ZR_MS((zr_ns_t)timer));
        CHECK(!zr_kcp_due(&a, now - 1) && zr_kcp_due(&a, now));
        say(&a);
        CHECK_EQ(said_sn(ZR_SEG_PUSH, sn0 + 40), 1);
        finish();
    }
}

ZR_TEST(a_later_acknowledgement_declares_a_loss_after_the_round_trip_and_the_slack_though_jitter_made_the_timer_long)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        for (uint32_t n = 0; n < 200; n++) { /* 40..100 ms */
            uint32_t at = zr_kcp_ms(now);
            CHECK_EQ(send(&a, 500), ZR_OK);
            say(&a);
            now += ZR_MS(40 + (zr_ns_t)(n * 37 % 61));
            input_ack(&a, sn0 + n, at, sn0 + n + 1);
        }
        uint32_t srtt = zr_kcp_srtt_ms(&a), timer = zr_kcp_estimated(&a).timer_ms;
        CHECK(timer > srtt + 15);
        zr_ns_t from = now;
        for (int i = 0; i < 2; i++, now += ZR_MS(2)) {
            CHECK_EQ(send(&a, 500), ZR_OK);
            say(&a);
        }
        now = from + ZR_MS((zr_ns_t)srtt);
        uint32_t later = zr_kcp_ms(from) + 2;
        input_ack(&a, sn0 + 201, later, sn0 + 200);
        CHECK(zr_kcp_deadline(&a) >
              from + ZR_MS((zr_ns_t)srtt) + ZR_MS(4)); /* no copy is so late: reordering is let be */
        CHECK(zr_kcp_deadline(&a) < from + ZR_MS((zr_ns_t)timer));
        now = zr_kcp_deadline(&a);
        say(&a);
        CHECK_EQ(said_sn(ZR_SEG_PUSH, sn0 + 200), 1);
        finish();
    }
}

ZR_TEST(no_segment_backs_off_each_attempt_comes_after_the_same_wait)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        zr_kcp_conf conf = zr_kcp_conf_media(7);
        conf.deadline_ms = 2000;
        start_at(&origins[o], conf);
        warm_up(40, 50);
        uint32_t timer = zr_kcp_estimated(&a).timer_ms;
        watch(sn0 + 40);
        CHECK_EQ(send(&a, 500), ZR_OK);
        run_out(now + ZR_MS(1900));
        CHECK(sent_count >= 25);
        for (uint32_t i = 1; i < sent_count; i++)
            CHECK_EQ(sent_at[i] - sent_at[i - 1], ZR_MS((zr_ns_t)timer));
        finish();
    }
}

ZR_TEST(media_without_a_deadline_is_delivered_in_order_and_never_given_up)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_link(&origins[o], zr_kcp_conf_control(7), 20, 0.3);
        uint32_t sent = 0, got = 0;
        for (int ms = 0; ms < 20000 && got < 500; ms++) {
            static uint8_t text[2000];
            ab.cut = ba.cut = ms >= 500 && ms < 8000; /* twenty deadlines long */
            if (sent < 500 && ms % 3 == 0 && send_number(sent, 100) == ZR_OK)
                sent++;
            step(NULL, NULL);
            for (; zr_kcp_recv_bytes(&b, text, sizeof text) == 100; got++)
                CHECK_EQ(zr_get32(text), got);
        }
        CHECK_EQ(got, 500);
        CHECK_EQ(zr_kcp_counted(&a)->expired, 0);
        CHECK_EQ(zr_kcp_counted(&b)->holes, 0);
        finish();
    }
}
