#include "sim/zr_simlink.h"

#include "base/zr_err.h"
#include "zr_test.h"

static zr_simlink *open_link(zr_simlink_conf conf)
{
    if (conf.packets_max == 0)
        conf.packets_max = 1024;
    CHECK(zr_simlink_bytes(&conf) > 0);
    zr_simlink *link = zr_test_memory(zr_simlink_bytes(&conf));
    CHECK_EQ(zr_simlink_init(link, &conf), ZR_OK);
    return link;
}

/* A packet every `gap` ns; returns a hash of what came out, when and in which order. */
static uint64_t run(zr_simlink *link, int packets, zr_ns_t gap)
{
    uint64_t hash = 1469598103934665603u, tag;
    const uint8_t *data;

    for (int i = 0; i <= packets; i++) {
        zr_ns_t now = i == packets ? ZR_NEVER - 1 : i * gap;
        for (zr_ns_t due; (due = zr_simlink_deadline(link)) <= now;) {
            CHECK_EQ(zr_simlink_get(link, &data, &tag, due), 4);
            CHECK(memcmp(data, &tag, 4) == 0);
            hash = (hash ^ tag ^ (uint64_t)due << 20) * 1099511628211u;
        }
        if (i < packets)
            CHECK_EQ(zr_simlink_put(link, &i, 4, (uint64_t)i, now), ZR_OK);
        if (i % 1000 == 0)
            CHECK(zr_simlink_check(link));
    }
    CHECK(zr_simlink_check(link));
    return hash;
}

ZR_TEST(a_packet_comes_out_after_the_delay_and_not_before)
{
    zr_simlink *link = open_link((zr_simlink_conf){ .delay = ZR_MS(20) });
    const uint8_t *data;
    uint64_t tag;

    CHECK_EQ(zr_simlink_deadline(link), ZR_NEVER);
    CHECK_EQ(zr_simlink_get(link, &data, &tag, ZR_NEVER), ZR_E_again);
    CHECK_EQ(zr_simlink_put(link, "abc", 3, 7, 100), ZR_OK);
    CHECK_EQ(zr_simlink_deadline(link), 100 + ZR_MS(20));
    CHECK_EQ(zr_simlink_get(link, &data, &tag, 99 + ZR_MS(20)), ZR_E_again);
    CHECK_EQ(zr_simlink_get(link, &data, &tag, 100 + ZR_MS(20)), 3);
    CHECK_EQ(tag, 7);
    CHECK(memcmp(data, "abc", 3) == 0);
    free(link);
}

ZR_TEST(the_same_seed_gives_the_same_run_and_another_seed_another)
{
    zr_simlink_conf conf = { .delay = ZR_MS(5),
                             .jitter = ZR_MS(3),
                             .loss = 0.05,
                             .burst = 3,
                             .dup = 0.02,
                             .reorder = 0.1,
                             .rate_bps = 100000000,
                             .seed = 42 };
    uint64_t hashes[3];

    for (int i = 0; i < 3; i++) {
        conf.seed = i == 2 ? 43 : 42;
        zr_simlink *link = open_link(conf);
        hashes[i] = run(link, 5000, ZR_US(50));
        free(link);
    }
    CHECK(hashes[0] == hashes[1]);
    CHECK(hashes[0] != hashes[2]);
}

ZR_TEST(losses_duplicates_and_bursts_have_the_asked_means)
{
    static const struct {
        double loss, burst, dup;
    } cases[] = { { 0.05, 0, 0.02 }, { 0.05, 4, 0.02 }, { 0.3, 10, 0 }, { 0.9, 2, 0 }, { 0, 5, 0.5 } };

    for (size_t i = 0; i < ZR_LEN(cases); i++) {
        zr_simlink *link = open_link(
            (zr_simlink_conf){ .loss = cases[i].loss, .burst = cases[i].burst, .dup = cases[i].dup, .seed = i });
        const zr_simlink_counts *counts = zr_simlink_counted(link);
        const int packets = 200000;
        uint64_t bursts = 0, lost = 0;
        bool in_burst = false;
        for (int n = 0; n < packets; n++) {
            const uint8_t *data;
            uint64_t tag;
            CHECK_EQ(zr_simlink_put(link, &n, 4, 0, n), ZR_OK);
            while (zr_simlink_get(link, &data, &tag, n) >= 0)
                continue;
            bursts += counts->lost > lost && !in_burst;
            in_burst = counts->lost > lost;
            lost = counts->lost;
        }
        double loss = (double)counts->lost / packets,
               dup = (double)counts->duplicated / (packets - (double)counts->lost);
        CHECK(loss >= cases[i].loss * 0.9 && loss <= cases[i].loss * 1.1);
        CHECK(dup >= cases[i].dup * 0.9 && dup <= cases[i].dup * 1.1);
        if (i == 1 || i == 2) {
            double burst = (double)counts->lost / (double)bursts;
            CHECK(burst > cases[i].burst * 0.85 && burst < cases[i].burst * 1.15);
        }
        CHECK(zr_simlink_check(link));
        free(link);
    }
}

ZR_TEST(jitter_keeps_the_order_and_reorder_breaks_it)
{
    for (int reorder = 0; reorder < 2; reorder++) {
        zr_simlink *link =
            open_link((zr_simlink_conf){ .delay = ZR_MS(10), .jitter = ZR_MS(8), .reorder = reorder * 0.2 });
        uint64_t last = 0, tag, backwards = 0;
        const uint8_t *data;
        for (int i = 0; i < 500; i++)
            CHECK_EQ(zr_simlink_put(link, &i, 4, (uint64_t)i, i * ZR_US(100)), ZR_OK);
        while (zr_simlink_get(link, &data, &tag, ZR_NEVER - 1) >= 0) {
            backwards += tag < last;
            last = tag;
        }
        CHECK_EQ(backwards > 0, reorder);
        CHECK_EQ(zr_simlink_counted(link)->reordered > 0, reorder);
        free(link);
    }
}

ZR_TEST(the_bottleneck_sends_at_its_rate_and_drops_what_its_queue_cannot_hold)
{
    /* 8 Mbit/s: 1 000 bytes a millisecond; the queue holds ten of them. */
    zr_simlink *link = open_link((zr_simlink_conf){ .rate_bps = 8000000, .queue_bytes = 10000 });
    uint8_t packet[1000] = { 0 };
    const uint8_t *data;
    uint64_t tag;

    for (uint64_t i = 0; i < 15; i++)
        CHECK_EQ(zr_simlink_put(link, packet, sizeof packet, i, 0), ZR_OK);
    CHECK_EQ(zr_simlink_counted(link)->queue_dropped, 5);
    for (int i = 1; i <= 10; i++) {
        CHECK_EQ(zr_simlink_deadline(link), ZR_MS(i));
        CHECK_EQ(zr_simlink_get(link, &data, &tag, ZR_MS(i)), 1000);
    }
    free(link);
}

ZR_TEST(a_full_link_counts_overflow_and_a_long_packet_is_refused_uncounted)
{
    zr_simlink *link = open_link((zr_simlink_conf){ .delay = 1, .packets_max = 2 });
    uint8_t packet[ZR_SIMLINK_LEN_MAX + 1] = { 0 };

    CHECK_EQ(zr_simlink_put(link, packet, sizeof packet, 0, 0), ZR_E_oversize);
    CHECK_EQ(zr_simlink_counted(link)->in, 0);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(zr_simlink_put(link, packet, sizeof packet - 1, 0, 0), ZR_OK);
    CHECK_EQ(zr_simlink_counted(link)->overflow, 1);
    CHECK(zr_simlink_check(link));
    free(link);
}

ZR_TEST(a_conf_out_of_range_has_no_size)
{
    static const zr_simlink_conf confs[] = {
        { .packets_max = 0 },
        { .packets_max = ZR_SIMLINK_PACKETS_MAX + 1 },
        { .packets_max = 1, .loss = 1.01 },
        { .packets_max = 1, .dup = -0.1 },
        { .packets_max = 1, .reorder = __builtin_nan("") },
        { .packets_max = 1, .delay = -1 },
    };
    for (size_t i = 0; i < ZR_LEN(confs); i++) {
        CHECK_EQ(zr_simlink_bytes(&confs[i]), 0);
    }
}
