/* Levels, and what a track has lost. */
#include "forward/zr_shed.h"

#include "zr_test.h"

static uint8_t level_of(uint8_t from, zr_load load)
{
    return zr_shed_level(from, &load, zr_shed_enter_default);
}

ZR_TEST(a_level_is_the_worst_that_any_signal_asks_for)
{
    static const struct {
        zr_load load;
        uint8_t level;
    } table[] = {
        { { .busy = 749, .ring = 499, .pool = 949, .lag = ZR_MS(19) }, 0 },
        { { .busy = 750 }, 1 },
        { { .busy = 850 }, 2 },
        { { .busy = 930 }, 3 },
        { { .busy = 980 }, 4 },
        { { .ring = 500 }, 1 },
        { { .ring = 650 }, 2 },
        { { .ring = 800 }, 3 },
        { { .ring = 1000 }, 3 },
        { { .lag = ZR_MS(20) }, 2 },
        { { .lag = ZR_MS(50) }, 3 },
        { { .lag = ZR_MS(200) }, 4 },
        { { .pool = 950 }, 4 },
        { { .busy = 760, .ring = 660, .pool = 940, .lag = ZR_MS(60) }, 3 },
    };

    for (size_t i = 0; i < ZR_LEN(table); i++)
        CHECK_EQ(level_of(0, table[i].load), table[i].level);
}

ZR_TEST(a_level_is_left_below_where_it_was_entered)
{
    CHECK_EQ(level_of(1, (zr_load){ .busy = 601 }), 1);
    CHECK_EQ(level_of(1, (zr_load){ .busy = 600 }), 0);
    CHECK_EQ(level_of(2, (zr_load){ .busy = 701 }), 2);
    CHECK_EQ(level_of(2, (zr_load){ .busy = 700 }), 1);
    CHECK_EQ(level_of(3, (zr_load){ .busy = 781 }), 3);
    CHECK_EQ(level_of(4, (zr_load){ .busy = 851 }), 4);
    CHECK_EQ(level_of(4, (zr_load){ .busy = 850 }), 3);
    CHECK_EQ(level_of(4, (zr_load){ .lag = ZR_MS(101) }), 4);
    CHECK_EQ(level_of(4, (zr_load){ .pool = 851 }), 4);
    CHECK_EQ(level_of(4, (zr_load){ .busy = 0 }), 0);
}

ZR_TEST(the_level_rises_at_once_and_falls_one_by_one_within_three_seconds)
{
    const zr_load full = { .busy = 1000 }, idle = { .busy = 0 };
    zr_ns_t now = ZR_SEC(50), fallen;
    zr_shed shed;

    zr_shed_init(&shed, zr_shed_enter_default, now);
    CHECK_EQ(shed.gate, ZR_SHED_NONE);
    CHECK(zr_shed_look(&shed, &full, now));
    CHECK_EQ(shed.level, 4);
    CHECK_EQ(shed.gate, ZR_SHED_BASE);
    for (fallen = now; shed.level > 0 && fallen < now + ZR_SEC(10);) {
        uint8_t before = shed.level;
        fallen += ZR_SHED_EVERY;
        zr_shed_look(&shed, &idle, fallen);
        CHECK(before - shed.level <= 1);
    }
    CHECK_EQ(fallen - now, ZR_MS(2500));
    CHECK_EQ(shed.gate, ZR_SHED_NONE);
}

ZR_TEST(a_load_that_swings_across_a_limit_changes_the_level_twice_a_second_at_most)
{
    zr_ns_t now = ZR_SEC(50);
    int changes = 0;
    zr_shed shed;

    zr_shed_init(&shed, zr_shed_enter_default, now);
    for (int i = 0; i < 100; i++, now += ZR_SHED_EVERY)
        changes += zr_shed_look(&shed, &(zr_load){ .busy = i % 2 == 0 ? 800u : 500u }, now);
    CHECK(changes > 0 && changes <= 20);
}

ZR_TEST(each_level_leaves_out_more_on_arrival_and_never_key_frames_audio_or_control)
{
    static const uint8_t gates[ZR_SHED_LEVELS] = { ZR_SHED_NONE, ZR_SHED_NONE, ZR_SHED_FEC, ZR_SHED_EXTRA,
                                                   ZR_SHED_BASE };

    for (uint8_t level = 0; level < ZR_SHED_LEVELS; level++)
        CHECK_EQ(zr_shed_gate(level), gates[level]);
}

static zr_shed_frame frame(uint8_t cls, uint32_t timestamp)
{
    return (zr_shed_frame){ .cls = cls, .heals = cls == ZR_SHED_KEY, .keyed = true, .timestamp = timestamp };
}

#define JUDGES(track, verdict, ...)                                                                                    \
    do {                                                                                                               \
        zr_shed_frame judged = __VA_ARGS__;                                                                            \
        CHECK_EQ(zr_shed_judge((track), &judged), (verdict));                                                          \
    } while (0)
#define CUTS(track, ...)                                                                                               \
    do {                                                                                                               \
        zr_shed_frame made = __VA_ARGS__;                                                                              \
        zr_shed_cut((track), &made);                                                                                   \
    } while (0)

/* From just below the wrap, so that timestamps are compared as serial numbers. */
static const uint32_t START = UINT32_MAX - 100;

ZR_TEST(a_cut_delta_frame_takes_its_rest_and_its_dependants_until_a_key_frame)
{
    zr_shed_track track = { .cut = 0 };
    uint32_t t = START;

    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, t));
    CUTS(&track, frame(ZR_SHED_BASE, t + 90));
    JUDGES(&track, ZR_SHED_CUT, frame(ZR_SHED_BASE, t + 90));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, t + 180));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_EXTRA, t + 180));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, t + 135)); /* a B frame */
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, t - 900));       /* overtaken: from before the cut */
    CHECK(!zr_shed_clean(&track));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, t + 270));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, t + 270));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, t + 180)); /* overtaken: from before the key frame */
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, t + 45));       /* and from before the cut */
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, t + 360));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, t + 450));
    CHECK(zr_shed_clean(&track));
}

ZR_TEST(a_cut_discardable_frame_takes_only_its_rest)
{
    zr_shed_track track = { .cut = 0 };
    zr_shed_frame extra = frame(ZR_SHED_EXTRA, START);

    extra.discardable = true;
    zr_shed_cut(&track, &extra);
    CHECK_EQ(zr_shed_judge(&track, &extra), ZR_SHED_CUT);
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, START + 90));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_EXTRA, START + 180));
}

ZR_TEST(a_cut_enhancement_frame_leaves_the_base_of_the_same_timestamp)
{
    zr_shed_track track = { .cut = 0 };

    CUTS(&track, frame(ZR_SHED_EXTRA, START));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, START));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_EXTRA, START + 90));
    CUTS(&track, frame(ZR_SHED_BASE, START + 180)); /* worse: now everything waits */
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, START + 270));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, START + 360));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_EXTRA, START + 450));
}

ZR_TEST(a_cut_key_frame_waits_for_the_next_one)
{
    zr_shed_track track = { .cut = 0 };

    CUTS(&track, frame(ZR_SHED_KEY, START));
    JUDGES(&track, ZR_SHED_CUT, frame(ZR_SHED_KEY, START));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, START + 90));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, START + 180));
    CUTS(&track, frame(ZR_SHED_KEY, START + 180)); /* it ended the wait, but there is no room for it */
    JUDGES(&track, ZR_SHED_CUT, frame(ZR_SHED_KEY, START + 180));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, START + 270));
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_KEY, START + 360));
}

ZR_TEST(a_switching_point_ends_the_wait_too)
{
    zr_shed_track track = { .cut = 0 };
    zr_shed_frame point = frame(ZR_SHED_BASE, START + 180);

    point.heals = true;
    CUTS(&track, frame(ZR_SHED_BASE, START));
    JUDGES(&track, ZR_SHED_DEPENDANT, frame(ZR_SHED_BASE, START + 90));
    CHECK_EQ(zr_shed_judge(&track, &point), ZR_SHED_PASS);
    JUDGES(&track, ZR_SHED_PASS, frame(ZR_SHED_BASE, START + 270));
}

ZR_TEST(without_known_key_frames_only_the_frame_goes_and_audio_and_fec_go_singly)
{
    zr_shed_track track = { .cut = 0 };
    zr_shed_frame data = frame(ZR_SHED_BASE, START);

    data.keyed = false;
    zr_shed_cut(&track, &data);
    CHECK_EQ(zr_shed_judge(&track, &data), ZR_SHED_CUT);
    data.timestamp++;
    CHECK_EQ(zr_shed_judge(&track, &data), ZR_SHED_PASS);
    track = (zr_shed_track){ .cut = 0 };
    CUTS(&track, frame(ZR_SHED_AUDIO, START));
    CUTS(&track, frame(ZR_SHED_FEC, START));
    CUTS(&track, frame(ZR_SHED_CONTROL, START));
    CHECK(zr_shed_clean(&track));
}

ZR_TEST(the_class_is_the_header_s_and_a_discardable_base_frame_ranks_as_enhancement)
{
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 4 }), ZR_SHED_BASE);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 4, .flags = ZR_MEDIA_DISCARDABLE }), ZR_SHED_EXTRA);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 3, .flags = ZR_MEDIA_DISCARDABLE }), ZR_SHED_KEY);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 6 }), ZR_SHED_FEC);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 1, .flags = ZR_MEDIA_AUDIO }), ZR_SHED_AUDIO);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 6, .flags = ZR_MEDIA_AUDIO }), ZR_SHED_AUDIO);
    CHECK_EQ(zr_shed_class_of(&(zr_media){ .cls = 6, .flags = ZR_MEDIA_RTCP }), ZR_SHED_CONTROL);
}
