/* Silence: what a media conversation does while nothing that it sends arrives, and how it heals. */
#include "kcp_link.h"
#include "zr_test.h"

#include <signal.h>
#include <unistd.h>

static void no_end(int signal)
{
    (void)signal;
    zr_test_fail(__FILE__, __LINE__, "an output that does not end");
}

/* 60 round trips of 20 ms, the later half with `queue_ms` more. Then, for 3 s, the peer is heard but hears nothing:
 * its una stays. Datagrams sent in the last of them. */
static uint32_t deaf_peer(uint32_t queue_ms)
{
    zr_kcp_conf conf = zr_kcp_conf_media(7);
    uint32_t sent = 0;

    conf.snd_wnd = 64;
    start_at(&origins[0], conf);
    for (uint32_t n = 0; n < 60; n++) {
        uint32_t at = zr_kcp_ms(now);
        CHECK_EQ(send(&a, 500), ZR_OK);
        say(&a);
        now += ZR_MS(n < 30 ? 20 : 20 + queue_ms);
        say(&a);
        input_ack(&a, n, at, n + 1);
    }
    CHECK_EQ(zr_kcp_estimated(&a).full, queue_ms > 0);
    for (uint32_t ms = 0; ms < 3000; ms++, now += ZR_MS(1)) {
        int rc = send(&a, 500);
        CHECK(rc == ZR_OK || rc == ZR_E_full);
        CHECK_EQ(turn(&a), ZR_OK);
        sent += ms >= 2000 ? batch.count : 0;
        if (ms % 5 == 0)
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 1024, .una = 60 });
    }
    return sent;
}

ZR_TEST(a_window_used_up_towards_a_peer_that_is_heard_but_hears_nothing_is_probed_and_not_flooded)
{
    CHECK(deaf_peer(0) <= 50);
    finish();
}

ZR_TEST(the_same_ends_when_the_link_was_full_before)
{
    signal(SIGALRM, no_end);
    alarm(3);
    uint32_t sent = deaf_peer(100);
    alarm(0);
    CHECK(sent <= 50);
    finish();
}

/* When each segment of a was sent first and last. */
static struct {
    zr_ns_t first, last;
} pushes[8192];

static void note_push(const zr_seg *seg)
{
    if (seg->cmd != ZR_SEG_PUSH)
        return;
    uint32_t i = (seg->sn - sn0) % ZR_LEN(pushes);
    if (pushes[i].first == 0)
        pushes[i].first = now;
    pushes[i].last = now;
}

/* One segment every 5 ms; false once the window or the queue is full. */
static bool stream(uint32_t ms)
{
    bool room = true;

    for (uint32_t i = 0; i < ms; i++) {
        if (i % 5 == 0)
            room = send(&a, 500) == ZR_OK;
        step(note_push, NULL);
        while (recv_len(&b) >= 0)
            ;
    }
    return room;
}

static uint64_t repeats(void)
{
    const zr_kcp_counts *counts = zr_kcp_counted(&a);
    return counts->retrans_timeout + counts->copies;
}

/* A stream, then silence for its limit and 100 ms more. */
static void fall_dark(const origin *from, zr_kcp_conf conf, double loss, uint32_t limit)
{
    memset(pushes, 0, sizeof pushes);
    start_link(from, conf, 50, loss);
    CHECK(stream(2000));
    CHECK(!zr_kcp_estimated(&a).dark);
    ab.cut = ba.cut = true;
    stream(limit / 2);
    CHECK(!zr_kcp_estimated(&a).dark);
    stream(limit / 2 + 150);
    CHECK(zr_kcp_estimated(&a).dark);
}

ZR_TEST(after_a_deadline_of_silence_repeats_shrink_to_a_probe_every_50_ms_while_new_messages_go_out_once)
{
    static const double losses[] = { 0, 0.5 };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(losses); i++) {
            fall_dark(&origins[o], zr_kcp_conf_media(7), losses[i], 400);
            uint64_t before = repeats(), sent = zr_kcp_counted(&a)->segs_sent;
            stream(1000);
            CHECK(repeats() - before >= 10 && repeats() - before <= 21);
            CHECK_EQ(zr_kcp_counted(&a)->segs_sent - sent, 200 + repeats() - before);
            finish();
        }
    }
}

ZR_TEST(without_a_deadline_the_probes_of_the_dark_slow_down_to_one_a_second)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        fall_dark(&origins[o], zr_kcp_conf_control(7), 0, 1000);
        uint64_t before = repeats();
        stream(3000);
        CHECK(repeats() - before >= 3 && repeats() - before <= 8);
        before = repeats();
        stream(10000);
        CHECK(repeats() - before >= 8 && repeats() - before <= 11);
        finish();
    }
}

ZR_TEST(the_dark_costs_no_calls_but_for_what_is_sent_or_expires)
{
    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        fall_dark(&origins[o], zr_kcp_conf_control(7), 0, 1000);
        zr_ns_t end = now + ZR_SEC(60);
        uint32_t turns = 0;
        for (; zr_kcp_deadline(&a) < end; turns++) {
            CHECK(turns < 200);
            now = ZR_MAX(now, zr_kcp_deadline(&a));
            CHECK_EQ(turn(&a), ZR_OK);
        }
        CHECK(turns >= 50);
        finish();
    }
}

ZR_TEST(the_first_datagram_heard_sends_all_that_is_lost_and_not_expired_at_once)
{
    static const struct {
        bool control;
        uint32_t silence;
    } rows[] = { { false, 600 }, { false, 2000 }, { true, 1500 } };

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            uint32_t old = 0, again = 0, una = sn0 + 400;
            fall_dark(&origins[o], rows[i].control ? zr_kcp_conf_control(7) : zr_kcp_conf_media(7), 0,
                      rows[i].control ? 1000 : 400);
            stream(rows[i].silence);
            zr_ns_t timer = ZR_MS((zr_ns_t)zr_kcp_estimated(&a).timer_ms), kick = now;
            ab.first = ab.end; /* nothing of what was under way */
            input_seg(&a, (zr_seg){ .conv = 7, .cmd = ZR_SEG_WINS, .wnd = 1024, .una = una });
            CHECK(!zr_kcp_estimated(&a).dark);
            CHECK(zr_kcp_due(&a, now));
            for (zr_ns_t end = now + ZR_MS(60); now < end; now += ZR_MS(1))
                speak(&a, &ab, note_push);
            for (uint32_t n = 400; n < ZR_LEN(pushes) && pushes[n].first != 0; n++) {
                bool over = !rows[i].control && pushes[n].first + ZR_MS(400 - 50 - 40) < kick;
                if (over || pushes[n].first + timer > kick)
                    continue;
                old++;
                again += pushes[n].last >= kick && pushes[n].last <= kick + ZR_MS(40);
            }
            CHECK(old >= 30);
            CHECK_EQ(again, ZR_MIN(old, 21u * 16)); /* as fast as the pace allows */
            finish();
        }
    }
}

/* A stream in bursts every 40 ms that is cut off for a while. */
typedef struct blackout {
    uint32_t pps, ms;
    double loss;
    uint32_t healed_ms, old; /* the first new message is there within; delivered after their deadline, at most */
} blackout;

static bool heals(const blackout *row, const origin *from)
{
    enum { BEGIN = 2000, AFTER = 1500, LAST = 500 };
    static zr_ns_t sent_at[16000];
    static uint8_t text[2000];
    uint32_t end = BEGIN + row->ms, sent = 0, got = 0, first = 0, wanted = 0, old = 0;

    start_link(from, zr_kcp_conf_media(7), 50, row->loss);
    for (uint32_t ms = 0; ms < end + AFTER + LAST; ms++) {
        ab.cut = ba.cut = ms >= BEGIN && ms < end;
        for (uint32_t n = 0; ms % 40 == 0 && ms < end + AFTER && n < row->pps / 25; n++) {
            CHECK(sent < ZR_LEN(sent_at));
            sent_at[sent] = now;
            wanted += ms > end + row->healed_ms;
            sent += send_number(sent, 1200) == ZR_OK;
        }
        step(NULL, NULL);
        for (int len; (len = zr_kcp_recv_bytes(&b, text, sizeof text)) >= 0;) {
            uint32_t number = zr_get32(text);
            CHECK(number < sent);
            zr_ns_t age = now - sent_at[number], since = ZR_MS((zr_ns_t)ms - (zr_ns_t)end);
            old += age > ZR_MS(400);
            got += age <= since - ZR_MS((zr_ns_t)row->healed_ms);
            if (first == 0 && age <= since)
                first = ms - end;
        }
    }
    finish();
    bool good = first > 0 && first <= row->healed_ms && old <= row->old && got * 1000 >= wanted * 999;
    if (!good)
        fprintf(stderr, "  %u pps, dark for %u ms: first new message after %u ms, then %u of %u; %u too old\n",
                row->pps, row->ms, first, got, wanted, old);
    return good;
}

ZR_TEST(after_a_blackout_new_messages_arrive_at_once_and_none_that_is_older_than_its_deadline)
{
    static const blackout rows[] = { { 200, 2000, 0, 130, 0 }, { 200, 2000, 0.1, 130, 0 } };

    for (size_t o = 0; o < ZR_LEN(origins); o++)
        for (size_t i = 0; i < ZR_LEN(rows); i++)
            CHECK(heals(&rows[i], &origins[o]));
}

/* Then the peer has to pass over a hole first, by a message that is as old as the silence. */
ZR_TEST(a_blackout_that_uses_up_the_window_heals_within_a_deadline_and_two_round_trips)
{
    static const blackout rows[] = {
        { 500, 2000, 0, 680, 1 }, { 1000, 2000, 0, 680, 1 }, { 200, 12000, 0, 680, 1 }, { 200, 6000, 0.1, 680, 1 }
    };
    uint32_t bad = 0;

    for (size_t o = 0; o < ZR_LEN(origins); o++)
        for (size_t i = 0; i < ZR_LEN(rows); i++)
            bad += !heals(&rows[i], &origins[o]);
    CHECK_EQ(bad, 0);
}
