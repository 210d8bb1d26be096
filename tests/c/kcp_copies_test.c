/* Copies and pace: how often a media conversation sends the same, how densely, and when it stops. */
#include "kcp_link.h"
#include "zr_test.h"

enum { NUMBERS = 8192, EARLY = 6 /* ms that jitter of the estimate may make the last call later than the truth */ };

/* Of each segment: when it was sent first and last, and how often within the first moments. */
static struct {
    zr_ns_t first, last;
    uint32_t times, soon;
} pushes[NUMBERS];
static uint32_t dense, late; /* transmissions closer than 5 ms to the one before; after their last call */
static uint64_t copies_so_far;
static uint32_t while_full; /* turns with copies though the link was known to be full */

static void forget_pushes(void)
{
    memset(pushes, 0, sizeof pushes);
    dense = late = while_full = 0;
    copies_so_far = 0;
}

static void note_push(const zr_seg *seg)
{
    if (seg->cmd != ZR_SEG_PUSH)
        return;
    while_full += zr_kcp_estimated(&a).full && zr_kcp_counted(&a)->copies > copies_so_far;
    copies_so_far = zr_kcp_counted(&a)->copies;
    uint32_t i = (seg->sn - sn0) % NUMBERS, half = zr_kcp_srtt_ms(&a) / 2;
    if (pushes[i].times++ == 0)
        pushes[i].first = now;
    zr_ns_t call = pushes[i].first + ZR_MS(400) - ZR_MS((zr_ns_t)half);
    if (pushes[i].times > 1) {
        CHECK(now > pushes[i].last); /* never two at once */
        /* Squeezed only when the last of up to ten would miss the last call. */
        dense += now - pushes[i].last < ZR_MS(5) && now + ZR_MS(50 + EARLY) < call;
        late += now > call;
    }
    pushes[i].soon += now - pushes[i].first < ZR_MS(60);
    pushes[i].last = now;
}

/* `ms` of a stream of 200 packets a second of `len` bytes. */
static void stream(uint32_t ms, size_t len)
{
    for (uint32_t i = 0; i < ms; i++) {
        if (i % 5 == 0) {
            int rc = send(&a, len);
            CHECK(rc == ZR_OK || rc == ZR_E_full);
        }
        step(note_push, NULL);
        for (int got; (got = recv_len(&b)) >= 0;)
            CHECK_EQ(got, len);
    }
}

ZR_TEST(without_loss_nothing_is_sent_twice)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_link(&origins[o], zr_kcp_conf_media(7), 50, 0);
        forget_pushes();
        stream(5000, 500);
        CHECK_EQ(ab.pushed, 1000);
        CHECK_EQ(zr_kcp_counted(&a)->copies, 0);
        CHECK_EQ(zr_kcp_counted(&a)->spurious, 0);
        finish();
    }
}

ZR_TEST(what_is_given_up_before_its_ack_could_be_here_is_no_loss)
{
    static const uint16_t deadlines[] = { 400, 60 }; /* by turns, on a round trip of 80 ms */

    start_link(&origins[0], zr_kcp_conf_media(7), 40, 0);
    for (uint32_t ms = 0; ms < 4000; ms++) {
        if (ms % 5 == 0) {
            zr_pkt *pkt = zr_pool_copy(&pool, bytes, 1000);
            zr_slice body = { pkt, pkt->off, pkt->len };
            CHECK_EQ(zr_kcp_send_within(&a, NULL, 0, &body, deadlines[ms / 5 % 2], now), ZR_OK);
            zr_pkt_drop(pkt);
        }
        step(NULL, NULL);
        while (recv_len(&b) > 0)
            ;
    }
    CHECK(zr_kcp_estimated(&a).loss_ppm < 20000);
    CHECK_EQ(zr_kcp_counted(&a)->copies, 0);
    CHECK_EQ(zr_kcp_counted(&a)->retrans_timeout, 0);
    finish();
}

ZR_TEST(copies_are_5_ms_apart_unless_the_last_call_is_near_and_none_follows_it)
{
    static const double losses[] = { 0.3, 0.5, 0.7 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(losses); i++) {
            start_link(&origins[o], zr_kcp_conf_media(7), 50, losses[i]);
            forget_pushes();
            stream(10000, 500);
            CHECK(zr_kcp_counted(&a)->copies > 500);
            CHECK_EQ(dense, 0);
            CHECK_EQ(late, 0);
            finish();
        }
    }
}

ZR_TEST(first_transmissions_get_copies_when_the_loss_asks_for_them)
{
    start_link(&origins[0], zr_kcp_conf_media(7), 50, 0.7);
    forget_pushes();
    stream(8000, 500);
    uint32_t several = 0, all = 0;
    for (uint32_t i = 800; i < 1500; i++, all++)
        several += pushes[i].soon > 1;
    CHECK(several * 10 > all * 7);
    finish();
}

/* The last call is near when the message is sent: its copies are squeezed in before it. */
ZR_TEST(copies_before_a_short_deadline_are_squeezed_in_before_the_last_call)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        uint32_t densely = 0;
        start_link(&origins[o], zr_kcp_conf_media(7), 50, 0.7);
        forget_pushes();
        stream(6000, 500);
        for (uint32_t n = 0; n < 50; n++) {
            uint32_t half = zr_kcp_srtt_ms(&a) / 2;
            uint64_t copies = zr_kcp_counted(&a)->copies;
            zr_ns_t from = now;
            CHECK_EQ(zr_kcp_send_within(&a, bytes, 16, NULL, (uint16_t)(half + 8), now), ZR_OK);
            uint32_t sn = 1200 + n;
            for (int ms = 0; ms < 120; ms++)
                step(note_push, NULL);
            while (recv_len(&b) >= 0)
                ;
            CHECK_EQ(pushes[sn].first, from + ZR_MS(1));
            CHECK(pushes[sn].last <= from + ZR_MS(8 + EARLY));
            densely += zr_kcp_counted(&a)->copies > copies + 1;
        }
        CHECK(densely > 25);
        finish();
    }
}

ZR_TEST(copies_are_withdrawn_while_a_standing_queue_is_seen)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        start_link(&origins[o], zr_kcp_conf_media(7), 50, 0.5);
        forget_pushes();
        stream(4000, 500);
        uint64_t copies = zr_kcp_counted(&a)->copies;
        CHECK(copies > 200);
        CHECK(!zr_kcp_estimated(&a).full);
        ab.delay_ms += 80;
        stream(600, 500);
        CHECK(zr_kcp_estimated(&a).full);
        CHECK(zr_kcp_estimated(&a).queue_ms >= 60 && zr_kcp_estimated(&a).queue_ms <= 110);
        copies = zr_kcp_counted(&a)->copies;
        uint64_t pushed = ab.pushed;
        stream(2000, 500);
        CHECK_EQ(zr_kcp_counted(&a)->copies, copies);
        CHECK_EQ(while_full, 0);                      /* those under way included */
        CHECK(ab.pushed - pushed <= 400 * 115 / 100); /* repeats, too, are but a few */
        ab.delay_ms -= 80;
        stream(600, 500);
        CHECK(!zr_kcp_estimated(&a).full);
        copies = zr_kcp_counted(&a)->copies;
        stream(1000, 500);
        CHECK(zr_kcp_counted(&a)->copies > copies + 50);
        finish();
    }
}

ZR_TEST(through_heavy_loss_nearly_all_arrives_before_its_deadline_and_at_most_once)
{
    static const struct {
        double loss;
        uint32_t missing; /* of 4000 */
        double overhead;
    } rows[] = { { 0, 0, 1 }, { 0.01, 0, 1.06 }, { 0.1, 1, 1.3 }, { 0.3, 3, 2.0 }, { 0.5, 20, 3.2 } };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            static uint8_t seen[4000];
            uint32_t sent = 0, got = 0;
            memset(seen, 0, sizeof seen);
            start_link(&origins[o], zr_kcp_conf_media(7), 50, rows[i].loss);
            for (uint32_t ms = 0; ms < 21000; ms++) {
                for (uint32_t n = 0; ms % 40 == 0 && n < 8 && sent < 4000; n++)
                    CHECK_EQ(send_number(sent++, 1200), ZR_OK);
                step(NULL, NULL);
                got += take_numbers(seen, sent);
            }
            if (4000 - got > rows[i].missing || (double)ab.pushed > 4000 * rows[i].overhead)
                fprintf(stderr, "  loss %.2f: %u missing, overhead %.2f\n", rows[i].loss, 4000 - got,
                        (double)ab.pushed / 4000);
            CHECK(4000 - got <= rows[i].missing);
            CHECK((double)ab.pushed <= 4000 * rows[i].overhead);
            CHECK_EQ(zr_kcp_deadline(&a), ZR_NEVER);
            CHECK_EQ(zr_kcp_deadline(&b), ZR_NEVER);
            CHECK_EQ(blocks.in_use, 0);
            finish();
        }
    }
}

/* PUSHes in each millisecond from `from` on. */
static uint32_t per_ms[4096];
static zr_ns_t per_ms_from;

static void note_pace(const zr_seg *seg)
{
    if (seg->cmd == ZR_SEG_PUSH)
        per_ms[(size_t)((now - per_ms_from) / ZR_MS(1)) % ZR_LEN(per_ms)]++;
}

ZR_TEST(a_burst_that_was_lost_is_repeated_at_sixteen_packets_in_2_ms_while_its_first_copies_were_not_held_back)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        uint32_t all = 0, turns = 0;
        zr_kcp_conf conf = zr_kcp_conf_media(7);
        start_at(&origins[o], conf);
        for (uint32_t n = 0; n < 40; n++) {
            uint32_t at = zr_kcp_ms(now);
            CHECK_EQ(send(&a, 500), ZR_OK);
            say(&a);
            now += ZR_MS(50);
            input_ack(&a, sn0 + n, at, sn0 + n + 1);
        }
        memset(per_ms, 0, sizeof per_ms);
        per_ms_from = now;
        for (int i = 0; i < 200; i++)
            CHECK_EQ(send(&a, 1000), ZR_OK);
        ab.cut = true;
        speak(&a, &ab, note_pace);
        CHECK_EQ(per_ms[0], 200);
        for (; zr_kcp_deadline(&a) < per_ms_from + ZR_MS(320); turns++) {
            now = ZR_MAX(now, zr_kcp_deadline(&a));
            speak(&a, &ab, note_pace);
        }
        for (size_t ms = 1; ms < 320; ms++) {
            all += per_ms[ms];
            CHECK(per_ms[ms] + per_ms[ms + 1] <= 16);
        }
        CHECK(all >= 800);                /* four attempts follow in the time there is */
        CHECK(turns <= 2 * all / 16 + 8); /* and it is not called for nothing */
        finish();
    }
}

ZR_TEST(first_copies_of_a_fast_stream_are_paced_and_those_of_a_slow_one_are_not)
{
    static const struct {
        uint32_t each_ms; /* packets of 1000 bytes */
        bool paced;
    } rows[] = { { 1, false }, { 2, false }, { 4, true } };

    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        uint32_t most = 0;
        start_link(&origins[1], zr_kcp_conf_media(7), 10, 0);
        for (int ms = 0; ms < 1000; ms++) {
            for (uint32_t n = 0; n < rows[i].each_ms; n++)
                CHECK_EQ(send(&a, 1000), ZR_OK);
            step(NULL, NULL);
            while (recv_len(&b) >= 0)
                ;
        }
        memset(per_ms, 0, sizeof per_ms);
        per_ms_from = now;
        for (int n = 0; n < 200; n++)
            CHECK_EQ(send(&a, 1000), ZR_OK);
        for (int ms = 0; ms < 60; ms++)
            step(note_pace, NULL);
        for (size_t ms = 1; ms < 60; ms++) { /* of any 6 ms, which touch four slices of 2 ms */
            uint32_t sum = 0;
            for (size_t n = ms; n < ms + 6; n++)
                sum += per_ms[n];
            most = ZR_MAX(most, sum);
        }
        CHECK(rows[i].paced ? most <= 4 * 16 : per_ms[1] == 200);
        CHECK_EQ(zr_kcp_waiting(&a), 0);
        finish();
    }
}

ZR_TEST(a_stream_faster_than_the_pace_is_soon_not_held_back_by_it)
{
    start_link(&origins[1], zr_kcp_conf_media(7), 10, 0);
    for (int ms = 0; ms < 2000; ms++) {
        for (int n = 0; n < 24; n++) /* 192 Mbit/s; 16 packets in 2 ms are 64 */
            CHECK_EQ(send(&a, 1000), ZR_OK);
        step(NULL, NULL);
        while (recv_len(&b) >= 0)
            ;
    }
    CHECK(zr_kcp_waiting(&a) <= 24 * 40); /* what is on its way, and nothing else */
    finish();
}
