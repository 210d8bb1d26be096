/* First-arrival delivery: what a media conversation hands on, when, and what it never does. */
#include "kcp_said.h"

#include "zr_test.h"

enum { TAIL = 1021, MSS = MTU - ZR_SEG_HEAD };

typedef struct arrival {
    int sn; /* counted from the first number; NEVER marks the deadline */
    uint8_t frg;
    size_t len;
    int delivered; /* messages handed on then */
} arrival;

enum { OVER = -1 };

static int take_all(zr_kcp *kcp)
{
    zr_slice views[2];
    int messages = 0;

    for (int n; (n = zr_kcp_recv(kcp, views, 2)) > 0; messages++)
        for (int i = 0; i < n; i++)
            zr_pkt_drop(views[i].pkt);
    return messages;
}

/* Else a sender whose window is full of them, and has no deadline, and this end would wait for each other. */
ZR_TEST(a_window_full_of_halves_takes_the_other_half_of_one_of_them)
{
    static const arrival arrivals[] = { { 0, 1, MSS, 0 }, { 2, 1, MSS, 0 }, { 1, 0, TAIL, 1 }, { 3, 0, TAIL, 1 } };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        zr_kcp_conf conf = zr_kcp_conf_media(7);
        conf.deadline_ms = 0;
        conf.rcv_wnd = 2;
        start_at(&origins[o], conf);
        for (size_t i = 0; i < ZR_LEN(arrivals); i++) {
            input_push(&b, sn0 + (uint32_t)arrivals[i].sn, arrivals[i].frg, zr_kcp_ms(now), arrivals[i].len);
            CHECK_EQ(take_all(&b), arrivals[i].delivered);
        }
        finish();
    }
}

ZR_TEST(a_message_is_delivered_when_it_is_complete_and_never_again_whatever_is_missing_before_it)
{
    static const struct {
        const char *name;
        arrival arrivals[8];
    } rows[] = {
        { "singles in any order",
          { { 2, 0, 10, 1 }, { 0, 0, 10, 1 }, { 2, 0, 10, 0 }, { 1, 0, 10, 1 }, { 0, 0, 10, 0 } } },
        { "two halves in order", { { 0, 1, MSS, 0 }, { 1, 0, TAIL, 1 }, { 0, 1, MSS, 0 }, { 1, 0, TAIL, 0 } } },
        { "two halves turned round", { { 1, 0, TAIL, 0 }, { 0, 1, 400, 1 }, { 1, 0, TAIL, 0 } } },
        { "halves of two messages", { { 3, 0, TAIL, 0 }, { 1, 0, TAIL, 0 }, { 2, 1, 9, 1 }, { 0, 1, 9, 1 } } },
        { "a first half for good alone", { { 0, 1, 400, 0 }, { 2, 0, 10, 1 }, { OVER, 0, 0, 0 }, { 1, 0, TAIL, 0 } } },
        { "a second half for good alone", { { 1, 0, TAIL, 0 }, { 2, 0, 10, 1 }, { OVER, 0, 0, 0 }, { 0, 1, 400, 0 } } },
        { "a second half at the end, alone",
          { { 1, 0, TAIL, 0 }, { OVER, 0, 0, 0 }, { 0, 1, 400, 0 }, { 2, 0, 9, 1 } } },
        { "a tail that comes after its hole",
          { { 0, 1, 9, 0 }, { 3, 0, 9, 1 }, { OVER, 0, 0, 0 }, { 1, 0, TAIL, 0 } } },
        { "a single of the tail's length in order", { { 0, 0, 10, 1 }, { 1, 0, TAIL, 1 }, { 2, 0, TAIL, 1 } } },
        { "the very first has the tail's length", { { 0, 0, TAIL, 1 }, { 1, 0, 10, 1 } } },
        { "a single of the tail's length overtakes a single",
          { { 1, 0, TAIL, 0 }, { 0, 0, 10, 2 }, { 1, 0, TAIL, 0 } } },
        { "three of the tail's length turned round", { { 2, 0, TAIL, 0 }, { 1, 0, TAIL, 1 }, { 0, 0, TAIL, 2 } } },
        { "a single of the tail's length overtakes a message of two",
          { { 2, 0, TAIL, 0 }, { 1, 0, TAIL, 1 }, { 0, 1, 400, 1 } } },
        { "one less or more than the tail's length waits for nothing",
          { { 5, 0, TAIL - 1, 1 }, { 3, 0, TAIL + 1, 1 }, { 1, 0, 1, 1 } } },
    };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            start_at(&origins[o], zr_kcp_conf_media(7));
            for (const arrival *at = rows[i].arrivals; at->len > 0 || at->sn == OVER; at++) {
                if (at->sn == OVER) {
                    now += ZR_MS(430);
                    say(&b);
                } else {
                    now += ZR_MS(1);
                    input_push(&b, sn0 + (uint32_t)at->sn, at->frg, zr_kcp_ms(now), at->len);
                }
                int got = take_all(&b);
                if (got != at->delivered)
                    fprintf(stderr, "  %s, arrival %d:\n", rows[i].name, (int)(at - rows[i].arrivals));
                CHECK_EQ(got, at->delivered);
                CHECK(zr_kcp_check(&b));
            }
            finish();
        }
    }
}

ZR_TEST(a_hole_is_passed_over_at_its_deadline_and_what_comes_for_it_later_is_told_dropped_and_counted)
{
    static const uint16_t deadlines[] = { 50, 400, 2000 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(deadlines); i++) {
            zr_kcp_conf conf = zr_kcp_conf_media(7);
            conf.deadline_ms = deadlines[i];
            start_at(&origins[o], conf);
            uint32_t late_most = deadlines[i] / 16u + 2; /* one slice of the deadline */
            for (uint32_t n = 1; n < 10; n++)
                if (n % 3 != 0)
                    input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
            zr_ns_t from = now;
            say(&b);
            CHECK_EQ(said[0].una, sn0);
            while (said[0].una == sn0 || said_count == 0)
                CHECK(sleep_and_say(&b, from + ZR_SEC(3)));
            CHECK(now - from >= ZR_MS(deadlines[i]) && now - from <= ZR_MS((zr_ns_t)(deadlines[i] + late_most)));
            CHECK_EQ(said[0].una, sn0 + 9); /* all three holes, and nothing behind them */
            CHECK_EQ(zr_kcp_counted(&b)->holes, 3);
            CHECK_EQ(take_all(&b), 6);
            for (uint32_t n = 0; n < 9; n++) {
                now += ZR_MS(20);
                input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
                say(&b);
                CHECK_EQ(said_cmd(ZR_SEG_ACK), 1);
                CHECK_EQ(said[0].una, sn0 + 9);
            }
            CHECK_EQ(take_all(&b), 0);
            CHECK_EQ(zr_kcp_counted(&b)->late, 3); /* of nine that were repeated three had been given up */
            while (sleep_and_say(&b, from + ZR_SEC(6)))
                ;
            CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
            CHECK_EQ(blocks.in_use, 0);
            finish();
        }
    }
}

ZR_TEST(each_hole_has_its_own_deadline)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        uint32_t una = sn0;
        zr_ns_t from = now;
        for (uint32_t n = 1; n < 20; n += 2, now += ZR_MS(40)) {
            input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
            say(&b);
            CHECK_EQ(take_all(&b), 1);
        }
        for (uint32_t hole = 0; hole < 10; hole++) {
            while (zr_seq_before(una, sn0 + 2 * hole + 2)) {
                CHECK(sleep_and_say(&b, from + ZR_SEC(2)));
                una = said_count > 0 ? said[0].una : una;
            }
            CHECK_EQ(una, sn0 + 2 * hole + 2);
            CHECK(now - from >= ZR_MS((zr_ns_t)hole * 40 + 400) && now - from <= ZR_MS((zr_ns_t)hole * 40 + 430));
        }
        finish();
    }
}

ZR_TEST(other_bytes_under_the_same_number_are_counted_and_the_first_stand)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], zr_kcp_conf_media(7));
        input_push(&b, sn0 + 1, 0, zr_kcp_ms(now), 10);
        bytes[3] ^= 1;
        input_push(&b, sn0 + 1, 0, zr_kcp_ms(now), 10);
        bytes[3] ^= 1;
        CHECK_EQ(zr_kcp_counted(&b)->conflict, 1);
        CHECK_EQ(recv_len(&b), 10);
        CHECK_EQ(recv_len(&b), ZR_E_again);
        finish();
    }
}

ZR_TEST(first_halves_without_a_second_hold_no_more_packets_than_the_window)
{
    enum { WINDOW = 32 };
    zr_kcp_conf conf = zr_kcp_conf_media(7);
    conf.rcv_wnd = WINDOW;

    start_at(&origins[0], conf);
    for (uint32_t n = 0; n < 2000; n++, now += ZR_MS(5)) {
        input_push(&b, n, 1, zr_kcp_ms(now), 10);
        say(&b);
        CHECK(pool.in_use <= WINDOW);
    }
    CHECK_EQ(take_all(&b), 0);
    finish();
}

ZR_TEST(a_recv_that_is_not_called_shuts_the_window_and_loses_nothing_that_was_acknowledged)
{
    enum { WINDOW = 16 };
    zr_kcp_conf conf = zr_kcp_conf_media(7);
    conf.rcv_wnd = WINDOW;

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_at(&origins[o], conf);
        for (uint32_t n = 0; n < 2 * WINDOW; n++)
            input_push(&b, sn0 + n, 0, zr_kcp_ms(now), 10);
        say(&b);
        CHECK_EQ(said[0].wnd, 0);
        CHECK_EQ(said[0].una, sn0 + WINDOW);
        CHECK_EQ(zr_kcp_counted(&b)->window_drops, WINDOW);
        CHECK_EQ(take_all(&b), WINDOW);
        finish();
    }
}

ZR_TEST(what_is_acknowledged_is_delivered_though_the_datagrams_were_turned_round)
{
    static const size_t lens[] = { 1, TAIL - 1, TAIL, TAIL + 1, MSS };

    for (size_t i = 0; i < ZR_LEN(lens); i++) {
        start_at(&origins[1], zr_kcp_conf_media(7));
        CHECK_EQ(send(&a, 1000), ZR_OK);
        say(&a);
        uint8_t first[MTU];
        size_t first_len = batch.tx[0].len;
        memcpy(first, batch.tx[0].data, first_len);
        CHECK_EQ(send(&a, lens[i]), ZR_OK);
        say(&a);
        carry_all(&b);
        input_bytes(&b, first, first_len);
        say(&b);
        carry_all(&a);
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        CHECK_EQ(take_all(&b), 2);
        finish();
    }
}

ZR_TEST(messages_that_two_segments_cannot_carry_are_refused_and_no_segment_is_longer_than_the_mtu)
{
    static const uint32_t mtus[] = { 100, 600, 1044, 1046, 1420 };

    for (size_t i = 0; i < ZR_LEN(mtus); i++) {
        zr_kcp_conf conf = zr_kcp_conf_media(7);
        conf.mtu = mtus[i];
        for (size_t len = 17; len <= 2 * (size_t)mtus[i]; len++) {
            zr_slice views[2];
            size_t got = 0;
            start_at(&origins[0], conf);
            zr_pkt *pkt = zr_pool_take(&pool);
            size_t body_len = ZR_MIN(len - 16, 1800u);
            memcpy(pkt->buf + pkt->off, bytes, body_len);
            zr_slice body = { pkt, pkt->off, (uint16_t)body_len };
            int rc = zr_kcp_send(&a, bytes, 16, &body, now);
            CHECK(rc == ZR_OK || (rc == ZR_E_oversize && body_len + 16 > mtus[i] - ZR_SEG_HEAD));
            zr_pkt_drop(pkt);
            say(&a);
            for (uint32_t n = 0; n < said_count; n++)
                CHECK(said[n].len > 0 && said[n].len + ZR_SEG_HEAD <= mtus[i]);
            carry_all(&b);
            int n = zr_kcp_recv(&b, views, 2);
            CHECK_EQ(n, rc == ZR_OK ? (int)said_count : 0);
            for (int v = 0; v < n; v++) {
                got += views[v].len;
                zr_pkt_drop(views[v].pkt);
            }
            CHECK_EQ(got, rc == ZR_OK ? body_len + 16 : 0);
            finish();
        }
    }
}

ZR_TEST(of_plain_bytes_too_no_segment_is_longer_than_the_mtu)
{
    static uint8_t text[2 * MSS];

    for (size_t len = MSS; len <= sizeof text; len += 4) {
        start_at(&origins[0], zr_kcp_conf_media(7));
        int rc = zr_kcp_send_bytes(&a, text, len, now);
        CHECK(rc == ZR_OK || (rc == ZR_E_oversize && len > MSS + TAIL));
        say(&a);
        for (uint32_t n = 0; n < said_count; n++)
            CHECK(said[n].len > 0 && said[n].len <= MSS);
        finish();
    }
}
