/* What is known of a path from acknowledgements, by series whose truth is known. */
#include "coll/zr_seq.h"
#include "kcp/zr_kcp_path.h"
#include "kcp/zr_kcp_plan.h"
#include "zr_test.h"

/* The plain clock, and one that wraps within each series. */
static const uint32_t starts[] = { 1000, UINT32_MAX - 700 };

static zr_kcp_path path;
static uint32_t seed;

static double chance(void)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 8) / 16777216.0;
}

static void begin(uint32_t ms)
{
    seed = 7;
    zr_kcp_path_init(&path, ms);
}

ZR_TEST(before_the_first_sample_the_round_trip_is_assumed)
{
    for (size_t i = 0; i < ZR_LEN(starts); i++) {
        begin(starts[i]);
        CHECK_EQ(zr_kcp_path_srtt(&path), ZR_KCP_PATH_RTT_START);
        CHECK_EQ(zr_kcp_path_timer(&path), ZR_KCP_PATH_RTT_START);
        CHECK_EQ(zr_kcp_path_queue(&path), 0);
        CHECK(!path.full);
    }
}

ZR_TEST(on_a_constant_path_the_timer_is_the_round_trip_and_the_slack)
{
    static const int32_t rtts[] = { 0, 1, 20, 100, 700, 5000 };

    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        for (size_t i = 0; i < ZR_LEN(rtts); i++) {
            begin(starts[s]);
            for (uint32_t n = 0; n < 2000; n++) {
                zr_kcp_path_rtt(&path, rtts[i], starts[s] + 5 * n);
                CHECK_EQ(zr_kcp_path_srtt(&path), ZR_MAX(rtts[i], 1));
                CHECK(zr_kcp_path_timer(&path) >= (uint32_t)rtts[i] + ZR_KCP_PATH_SLACK);
                CHECK_EQ(zr_kcp_path_queue(&path), 0);
            }
            CHECK(zr_kcp_path_timer(&path) <= (uint32_t)ZR_MAX(rtts[i], 1) + ZR_KCP_PATH_SLACK);
        }
    }
}

ZR_TEST(the_round_trip_follows_a_change_within_some_dozen_samples)
{
    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        uint32_t ms = starts[s];
        begin(ms);
        for (int n = 0; n < 100; n++, ms += 5)
            zr_kcp_path_rtt(&path, 40, ms);
        for (int n = 0; n < 40; n++, ms += 5)
            zr_kcp_path_rtt(&path, 140, ms);
        CHECK(zr_kcp_path_srtt(&path) >= 138 && zr_kcp_path_srtt(&path) <= 140);
        CHECK(zr_kcp_path_timer(&path) >= 140 + ZR_KCP_PATH_SLACK);
        for (int n = 0; n < 60; n++, ms += 5)
            zr_kcp_path_rtt(&path, 40, ms);
        CHECK(zr_kcp_path_srtt(&path) <= 42);
    }
}

ZR_TEST(on_a_jittery_path_the_timer_lies_above_nearly_all_samples_and_not_far_above_the_highest)
{
    static const struct {
        const char *name;
        int32_t least, jitter;
        int heavy; /* one sample in so many is up to five times as late */
        double above, beyond;
    } rows[] = {
        { "even, 10 ms", 100, 10, 0, 0.01, 10 },
        { "even, 40 ms", 30, 40, 0, 0.03, 12 },
        { "even, 150 ms", 50, 150, 0, 0.05, 12 },
        { "a heavy tail", 60, 15, 50, 0.04, 90 },
    };

    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        for (size_t i = 0; i < ZR_LEN(rows); i++) {
            uint32_t above = 0, counted = 0;
            begin(starts[s]);
            for (uint32_t n = 0; n < 20000; n++) {
                int32_t rtt = rows[i].least + (int32_t)(chance() * rows[i].jitter);
                if (rows[i].heavy > 0 && (int)(chance() * rows[i].heavy) == 0)
                    rtt += 4 * rows[i].jitter;
                if (n >= 1000) {
                    counted++;
                    above += (uint32_t)rtt > zr_kcp_path_timer(&path);
                    CHECK(zr_kcp_path_timer(&path) <= rows[i].least + rows[i].jitter + rows[i].beyond);
                }
                zr_kcp_path_rtt(&path, rtt, starts[s] + 5 * n);
            }
            if (above > rows[i].above * counted)
                fprintf(stderr, "  %s: %u of %u above\n", rows[i].name, above, counted);
            CHECK(above <= rows[i].above * counted);
        }
    }
}

ZR_TEST(a_standing_queue_is_found_within_200_ms_and_left_again)
{
    static const uint32_t queues[] = { 35, 60, 300 };

    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        for (size_t i = 0; i < ZR_LEN(queues); i++) {
            uint32_t ms = starts[s], from;
            begin(ms);
            for (; ms - starts[s] < 500; ms += 5) {
                zr_kcp_path_rtt(&path, 80 + (int32_t)(chance() * 10), ms);
                CHECK(!path.full);
            }
            for (from = ms; !path.full; ms += 5) {
                CHECK(ms - from <= 200);
                zr_kcp_path_rtt(&path, (int32_t)(80 + queues[i] + (uint32_t)(chance() * 10)), ms);
            }
            for (from = ms; ms - from < 5000; ms += 5) { /* as long as it stands */
                zr_kcp_path_rtt(&path, (int32_t)(80 + queues[i] + (uint32_t)(chance() * 10)), ms);
                CHECK(path.full);
                CHECK(zr_kcp_path_queue(&path) + 12 >= queues[i] && zr_kcp_path_queue(&path) <= queues[i] + 12);
            }
            for (from = ms; path.full; ms += 5) {
                CHECK(ms - from <= 200);
                zr_kcp_path_rtt(&path, 80 + (int32_t)(chance() * 10), ms);
            }
        }
    }
}

ZR_TEST(jitter_alone_is_no_standing_queue)
{
    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        begin(starts[s]);
        for (uint32_t n = 0; n < 20000; n++) {
            zr_kcp_path_rtt(&path, 50 + (int32_t)(chance() * 100), starts[s] + 5 * n);
            CHECK(!path.full);
        }
    }
}

ZR_TEST(a_longer_way_is_taken_for_a_queue_for_half_a_minute_at_most)
{
    uint32_t ms = starts[1];

    begin(ms);
    for (int n = 0; n < 200; n++, ms += 5)
        zr_kcp_path_rtt(&path, 50, ms);
    uint32_t from = ms;
    for (; ms - from < 300; ms += 5)
        zr_kcp_path_rtt(&path, 150, ms);
    for (; path.full; ms += 5) {
        zr_kcp_path_rtt(&path, 150, ms);
        CHECK(ms - from <= 30500);
    }
    CHECK(ms - from > 10000); /* a queue may stand for long */
}

/* What is sent again for nothing: one in `every`; the timer at the end. */
static uint32_t timer_after(int32_t jitter, uint32_t every)
{
    for (uint32_t n = 0; n < 4000; n++) {
        zr_kcp_path_rtt(&path, 100 + (int32_t)(chance() * jitter), 1000 + 5 * n);
        if (every > 0 && n % every == 0)
            zr_kcp_path_spurious(&path, 1000);
        else
            zr_kcp_path_in_time(&path, 1);
        CHECK(zr_kcp_path_patience(&path) <= zr_kcp_path_timer(&path));
        CHECK(zr_kcp_path_patience(&path) <= 2 * zr_kcp_path_srtt(&path) + ZR_KCP_PATH_SLACK);
    }
    return zr_kcp_path_timer(&path);
}

ZR_TEST(repeats_for_nothing_make_it_wait_longer_only_where_round_trips_vary_and_until_they_end)
{
    begin(1000);
    uint32_t before = timer_after(40, 0);
    CHECK(timer_after(40, 8) >= before + 30);
    CHECK(timer_after(40, 0) <= before + 2);

    begin(1000);
    CHECK_EQ(timer_after(0, 8), 100 + ZR_KCP_PATH_SLACK); /* lost ACKs do that: waiting would not help */
}

ZR_TEST(the_more_is_lost_the_more_repeats_for_nothing_are_borne_with)
{
    begin(1000);
    uint32_t clean = timer_after(40, 8);
    begin(1000);
    for (int n = 0; n < 1000; n++)
        zr_kcp_path_outcome(&path, chance() >= 0.3, 24);
    CHECK(timer_after(40, 8) + 20 <= clean);
}

ZR_TEST(the_loss_estimate_is_within_two_points_of_the_truth_for_one_copy_and_two)
{
    static const double losses[] = { 0.01, 0.10, 0.30, 0.70 };

    for (uint32_t copies = 1; copies <= 2; copies++) {
        for (size_t i = 0; i < ZR_LEN(losses); i++) {
            double sum = 0, squares = 0;
            uint32_t counted = 0;
            begin(1000);
            zr_kcp_path_set_copies(&path, copies);
            for (uint32_t n = 0; n < 60000; n++) {
                bool arrived = false;
                for (uint32_t copy = 0; copy < copies; copy++)
                    arrived |= chance() >= losses[i];
                zr_kcp_path_outcome(&path, arrived, 24);
                if (n < 2000)
                    continue;
                double off = zr_kcp_path_loss_ppm(&path) / 1e6 - losses[i];
                sum += off;
                squares += off * off;
                counted++;
            }
            CHECK(sum / counted < 0.02 && sum / counted > -0.02);
            /* At any one time the window of some hundreds of fates is what it is: at most five points off (rms). */
            CHECK(squares / counted < 0.05 * 0.05);
        }
    }
}

ZR_TEST(arrivals_counted_at_once_lead_to_the_same_loss_as_one_by_one)
{
    static const double losses[] = { 0, 0.01, 0.10, 0.30 };

    for (size_t i = 0; i < ZR_LEN(losses); i++) {
        double sum = 0;
        uint32_t counted = 0;
        begin(1000);
        for (uint32_t n = 0; n < 20000; n++) {
            uint32_t arrived = 0;
            for (int segment = 0; segment < 8; segment++) {
                if (chance() < losses[i])
                    zr_kcp_path_outcome(&path, false, 24);
                else
                    arrived++;
            }
            if (arrived > 0)
                zr_kcp_path_arrived(&path, arrived, 24);
            if (n >= 500) {
                sum += zr_kcp_path_loss_ppm(&path) / 1e6 - losses[i];
                counted++;
            }
        }
        CHECK(sum / counted < 0.02 && sum / counted > -0.02);
    }
}

ZR_TEST(the_level_follows_the_loss_up_within_a_second_and_down_again)
{
    begin(1000);
    for (int n = 0; n < 1000; n++)
        zr_kcp_path_outcome(&path, true, 24);
    CHECK(zr_kcp_plan_loss(path.level) <= 0.02);
    for (int n = 0; n < 300; n++)
        zr_kcp_path_outcome(&path, chance() >= 0.3, 24);
    CHECK(zr_kcp_plan_loss(path.level) >= 0.12);
    for (int n = 0; n < 2000; n++)
        zr_kcp_path_outcome(&path, true, 24);
    CHECK(zr_kcp_plan_loss(path.level) <= 0.02);
}

ZR_TEST(the_rate_is_what_was_acknowledged_and_wraps_with_no_clock)
{
    for (size_t s = 0; s < ZR_LEN(starts); s++) {
        begin(starts[s]);
        for (uint32_t ms = 0; ms < 2000; ms += 5) { /* 200 a second of 1250 bytes: 2 Mbit/s */
            zr_kcp_path_bytes(&path, 1250, starts[s] + ms);
            CHECK(ms < 100 || (path.rate_kbps >= 1800 && path.rate_kbps <= 2200));
        }
    }
}
