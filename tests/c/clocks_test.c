/* The peer's clock is known to a millisecond wherever it is said to be known: round trips over symmetric ways. */
#include "probe/zr_clocks.h"
#include "sim/zr_rng.h"
#include "zr_test.h"

#include <math.h>

#define SEEDS 50
#define AHEAD ZR_SEC(12345)
#define EVERY ZR_MS(300) /* ZR_PROBE_EVERY */

/* A peer whose clock is AHEAD of ours and runs fast by ppm, and the way to it. */
typedef struct way {
    zr_rng rng;
    zr_ns_t jitter;
    double loss, ppm;
} way;

static double truth(const way *w, zr_ns_t now)
{
    return (double)AHEAD + (double)now * w->ppm / 1e6;
}

static zr_ns_t one_way(way *w)
{
    return ZR_MS(40) + (zr_ns_t)zr_rng_below(&w->rng, (uint64_t)w->jitter + 1);
}

/* Our ping of `sent`, answered at once. */
static void ask(way *w, zr_clocks *clocks, zr_ns_t sent)
{
    zr_ns_t came = sent + one_way(w), now = came + one_way(w);
    zr_ns_t theirs = came + (zr_ns_t)truth(w, came);
    bool lost = zr_rng_chance(&w->rng, w->loss) | zr_rng_chance(&w->rng, w->loss);

    if (!lost)
        zr_clocks_put(clocks, sent, theirs - sent, now - theirs, now);
}

/* The least and the most seconds until it was known, and the most that was wrong then, in milliseconds. */
typedef struct result {
    double wrong;
    int soon, late;
} result;

static void run(way *w, result *all)
{
    bool each = getenv("ZR_FULL") != NULL;
    zr_ns_t sent = ZR_MS(100), end = each ? ZR_SEC(300) : ZR_SEC(200);
    zr_clocks clocks;
    zr_clocks_view view;
    int known = 0;

    zr_clocks_init(&clocks);
    for (zr_ns_t now = ZR_SEC(1); now <= end; now += each ? ZR_SEC(1) : ZR_SEC(3)) {
        for (; sent + ZR_MS(120) <= now; sent += EVERY)
            ask(w, &clocks, sent);
        if (!zr_clocks_look(&clocks, now, &view))
            continue;
        known = known == 0 ? (int)(now / ZR_SEC(1)) : known;
        all->wrong = ZR_MAX(all->wrong, fabs(view.offset_ns - truth(w, now)) / 1e6);
    }
    all->soon = ZR_MIN(all->soon, known);
    all->late = ZR_MAX(all->late, known == 0 ? 1000 : known);
    CHECK(fabs(view.drift * 1e6 - w->ppm) <= 10);
}

ZR_TEST(a_clock_that_is_known_is_known_to_a_millisecond)
{
    static const struct {
        zr_ns_t jitter;
        double loss;
        int late; /* seconds */
    } cases[] = {
        { 0, 0, 4 },
        { 0, 0.3, 12 },
        { ZR_US(200), 0, 4 },
        { ZR_US(200), 0.3, 12 },
        { ZR_MS(1), 0, 6 },
        { ZR_MS(1), 0.3, 20 },
        { ZR_MS(5), 0, 50 },
        { ZR_MS(5), 0.3, 100 },
        { ZR_MS(10), 0, 90 },
        { ZR_MS(10), 0.1, 110 },
        { ZR_MS(10), 0.3, 150 },
        { ZR_MS(20), 0, 140 },
        { ZR_MS(20), 0.05, 140 },
        { ZR_MS(20), 0.3, 180 },
    };
    static const double ppm[] = { 0, 50, -50 };

    for (size_t i = 0; i < ZR_LEN(cases); i++) {
        result all = { .soon = 1000 };
        for (size_t k = 0; k < ZR_LEN(ppm); k++) {
            for (uint64_t seed = 0; seed < SEEDS; seed++) {
                way w = { .jitter = cases[i].jitter, .loss = cases[i].loss, .ppm = ppm[k] };
                zr_rng_seed(&w.rng, 1000 * i + 100 * k + seed);
                run(&w, &all);
            }
        }
        printf("clocks: %4.1f ms of jitter, %2.0f %% loss: off by %.2f ms at most, known after %d to %d s\n",
               (double)cases[i].jitter / 1e6, cases[i].loss * 100, all.wrong, all.soon, all.late);
        CHECK(all.wrong <= 1.0);
        CHECK(all.late <= cases[i].late);
    }
}

ZR_TEST(a_clock_is_not_known_from_a_few_round_trips_nor_from_a_noisy_few)
{
    way w = { .jitter = ZR_MS(20), .ppm = 50 };
    zr_clocks clocks;
    zr_clocks_view view;

    zr_rng_seed(&w.rng, 7);
    zr_clocks_init(&clocks);
    CHECK(!zr_clocks_look(&clocks, ZR_SEC(1), &view));
    for (uint32_t i = 1; i < ZR_CLOCKS_TRIPS; i++)
        zr_clocks_put(&clocks, ZR_SEC(i), 0, 0, ZR_SEC(i));
    CHECK(!zr_clocks_look(&clocks, ZR_SEC(9), &view));
    zr_clocks_put(&clocks, ZR_SEC(9), 0, 0, ZR_SEC(9));
    CHECK(zr_clocks_look(&clocks, ZR_SEC(9), &view));
    zr_clocks_init(&clocks);
    for (zr_ns_t sent = 0; sent < ZR_SEC(10); sent += EVERY)
        ask(&w, &clocks, sent);
    CHECK(!zr_clocks_look(&clocks, ZR_SEC(10), &view));
}

ZR_TEST(what_is_remembered_grows_stale_and_is_said_to_be_unknown)
{
    way w = { .jitter = ZR_MS(20) };
    zr_clocks clocks;
    zr_clocks_view view;

    zr_rng_seed(&w.rng, 8);
    zr_clocks_init(&clocks);
    for (zr_ns_t sent = 0; sent < ZR_SEC(200); sent += EVERY)
        ask(&w, &clocks, sent);
    CHECK(zr_clocks_look(&clocks, ZR_SEC(201), &view));
    CHECK(!zr_clocks_look(&clocks, ZR_SEC(7200), &view)); /* its drift is not known to so few millionths */
}

ZR_TEST(a_peer_may_say_any_time)
{
    zr_rng rng;
    zr_clocks clocks;
    zr_clocks_view view;

    zr_rng_seed(&rng, 9);
    for (int round = 0; round < 200; round++) {
        zr_ns_t now = ZR_SEC(1);
        zr_clocks_init(&clocks);
        for (int i = 0; i < 300; i++) {
            zr_ns_t trip = (zr_ns_t)zr_rng_below(&rng, ZR_SEC(1)), sent = now;
            uint64_t out = round % 2 == 0 ? zr_rng_next(&rng) : UINT64_MAX / 2 + zr_rng_below(&rng, 2);
            now += (zr_ns_t)zr_rng_below(&rng, ZR_SEC(1));
            zr_clocks_put(&clocks, sent, (int64_t)out, (int64_t)((uint64_t)trip - out), now);
        }
        if (zr_clocks_look(&clocks, now, &view)) {
            CHECK(fabs(view.offset_ns) <= 9e18);
            CHECK(fabs(view.drift) <= 500e-6 * 1.001);
        }
    }
}
