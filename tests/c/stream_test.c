#include "forward/zr_stream.h"

#include "forward/zr_pull.h"
#include "wire/zr_rtp.h"
#include "zr_test.h"

static zr_stream stream;
static zr_stream_row row;

static void fresh(uint32_t number)
{
    memset(&stream, 0, sizeof stream);
    zr_stream_init(&stream, 0, &row);
    zr_stream_open(&stream, false, 1, number);
}

ZR_TEST(a_media_number_is_let_in_once_over_the_wrap)
{
    static const struct {
        uint32_t number;
        int drop; /* -1: new */
    } rows[] = {
        { UINT32_MAX - 1, -1 },
        { 1, -1 },
        { UINT32_MAX, -1 },
        { UINT32_MAX, ZR_DROP_duplicate },
        { 0, -1 },
        { 1, ZR_DROP_duplicate },
        { 65537, -1 },
        { 2, ZR_DROP_late },
        { 65536, -1 },
    };
    static const uint32_t starts[] = { 0, UINT32_MAX - 1, 5 };

    for (unsigned s = 0; s < ZR_LEN(starts); s++) {
        fresh(starts[s]);
        for (unsigned i = 0; i < ZR_LEN(rows); i++) {
            enum zr_drop_id drop = ZR_DROP_stream;
            int rc = zr_stream_look(&stream, rows[i].number, &drop);
            CHECK_EQ(rc == ZR_OK ? -1 : (int)drop, rows[i].drop);
            if (rc == ZR_OK)
                zr_stream_mark(&stream, rows[i].number);
        }
        CHECK_EQ((uint32_t)stream.next, 65538);
    }
}

static void take(uint32_t number, zr_ns_t now)
{
    zr_item item = { .media.number = number, .ssrc = 1 };
    zr_stream_mark(&stream, number);
    zr_stream_count(&stream, &item, now);
}

ZR_TEST(what_is_missing_below_the_newest_is_asked_for_until_it_came_or_has_been_missing_for_long)
{
    static const struct {
        uint32_t number, ms;
        uint32_t resume;
        unsigned gaps;
    } rows[] = {
        { 0, 1000, 0u - 2, 0 }, /* 0xFFFFFFFE and 0xFFFFFFFF are on their way: that is where the pull begins */
        { 2, 1010, 0u - 2, 0 }, /* nothing is given up at once */
        { 0u - 2, 1020, 0u - 1, 0 }, { 0u - 1, 1030, 1, 0 }, /* 0 was here before */
        { 1, 1040, 3, 0 },           { 5, 1100, 3, 0 },
        { 4, 1200, 3, 0 },           { 6, 1600, 3, 0 }, /* 3 is looked for from here on */
        { 7, 2090, 3, 0 },           { 8, 2100, 9, 1 }, /* no longer */
        { 3, 2110, 9, 1 },                              /* late, but not lost */
        { 9 + 65536, 2120, 9, 1 },                      /* the ingress worker was replaced */
        { 9 + 65537, 2600, 9, 1 },   { 9 + 65538, 3100, 9 + 65539, 2 },
    };

    fresh(0u - 2);
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        take(rows[i].number, ZR_MS(rows[i].ms));
        CHECK_EQ(row.resume_number, rows[i].resume);
        CHECK_EQ(row.gaps, rows[i].gaps);
    }
    CHECK_EQ(row.next_number, 9 + 65539);
}

ZR_TEST(the_first_packet_may_lie_below_the_number_the_pull_was_said_to_begin_with)
{
    fresh(100);
    take(90, ZR_SEC(1));
    CHECK_EQ(row.resume_number, 91);
    take(92, ZR_SEC(3));
    CHECK_EQ(row.resume_number, 91);
    take(93, ZR_SEC(5));
    CHECK_EQ(row.resume_number, 94);
    CHECK_EQ(row.gaps, 1);
}

ZR_TEST(a_jump_of_the_numbers_by_half_their_range_costs_no_walk_through_it)
{
    fresh(0);
    take(0, ZR_SEC(1));
    take(0x7FFFFFF0, ZR_SEC(2));
    take(0x7FFFFFF1, ZR_SEC(3));
    take(0x7FFFFFF2, ZR_SEC(4));
    CHECK_EQ(row.resume_number, 0x7FFFFFF3);
    CHECK_EQ(row.gaps, 1);
}

ZR_TEST(tracks_are_matched_by_payload_type_and_declared_ssrc)
{
    zr_track_conf conf = { .kind = ZR_TRACK_VIDEO, .codec = ZR_CODEC_vp8, .payload_type = 96, .ssrc = 5 };
    enum zr_drop_id drop;

    fresh(0);
    CHECK_EQ(zr_stream_set_track(&stream, 3, &conf), ZR_OK);
    CHECK_EQ(zr_stream_match(&stream, 96, 5, &drop), 3);
    CHECK(zr_stream_match(&stream, 96, 6, &drop) < 0);
    CHECK_EQ(drop, ZR_DROP_source);
    CHECK(zr_stream_match(&stream, 97, 5, &drop) < 0);
    CHECK_EQ(drop, ZR_DROP_track);
    CHECK_EQ(zr_stream_set_track(&stream, ZR_TRACKS_MAX, &conf), ZR_E_inval);
}

ZR_TEST(a_gap_of_200_ms_in_a_live_stream_is_a_stall)
{
    zr_item item = { .ssrc = 1 };

    fresh(0);
    stream.tracks[0] = (zr_track){ .used = true, .conf.kind = ZR_TRACK_VIDEO };
    zr_stream_count(&stream, &item, ZR_SEC(1));
    zr_stream_count(&stream, &item, ZR_SEC(1) + ZR_MS(199));
    CHECK_EQ(row.stalls, 0);
    zr_stream_count(&stream, &item, ZR_SEC(1) + ZR_MS(399));
    CHECK_EQ(row.stalls, 1);
    CHECK_EQ(row.first_ns, ZR_SEC(1));
}

ZR_TEST(hop_delay_is_measured_against_the_best_of_ten_seconds)
{
    zr_hop hop = { .known = false };
    uint32_t offset = UINT32_MAX - 500; /* the other clock, its difference about to wrap */

#define AT(ms, us) zr_hop_delay_us(&hop, (uint32_t)((ms)*1000u) - offset - (us), 0, ZR_MS(ms))
    CHECK_EQ(AT(6000u, 1000u), 0);
    CHECK_EQ(AT(6001u, 1700u), 700);
    CHECK_EQ(AT(6002u, 400u), 0);
    CHECK_EQ(AT(12000u, 600u), 200); /* the bucket before still counts */
    CHECK_EQ(AT(18000u, 900u), 300); /* 400 is forgotten, 600 is not */
#undef AT
    CHECK_EQ(zr_hop_delay_us(&hop, (uint32_t)(18000u * 1000u) - offset - 900u, 1000, ZR_MS(18000)), 800);
}

ZR_TEST(hop_delay_survives_a_jump_of_the_peers_clock)
{
    static const struct {
        uint32_t jump;           /* of the peer's clock, us, mod 2^32 */
        uint32_t at_once, later; /* delay right behind it, and twelve seconds later */
    } rows[] = {
        { 5000000, 0, 0 },            /* ahead: a new best */
        { 0u - 3000000, 3000000, 0 }, /* back by less than we remember: looks like a delay, until forgotten */
        { 0u - 60000000, 0, 0 },      /* back by more */
        { 0x7FFFFFFF, 0, 0 },
        { 0x80000000, 0, 0 },
        { 0x80000001, 0, 0 },
    };
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        zr_hop hop = { .known = false };
        zr_ns_t now = ZR_SEC(1000);
        uint32_t peer = 0xFFFFF000u, delay = 0;
        for (int ms = 0; ms < 20000; ms += 10, now += ZR_MS(10)) {
            if (ms == 7000)
                peer += rows[i].jump;
            delay = zr_hop_delay_us(&hop, (uint32_t)(now / 1000) + peer, 0, now);
            if (ms == 7000)
                CHECK_EQ(delay, rows[i].at_once);
            CHECK(delay <= (ms < 7000 ? 0 : rows[i].at_once));
        }
        CHECK_EQ(delay, rows[i].later);
    }
}
