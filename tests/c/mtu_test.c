/* The path's size: found, lost and found again by two probes over link models. */
#include "probe_rig.h"

static uint16_t size_of(const rig *r, int i)
{
    return zr_mtu_size(&r->end[i].probe.mtu);
}

ZR_TEST(the_size_climbs_to_what_the_path_takes)
{
    static const struct {
        uint32_t path;
        uint16_t found;
    } cases[] = { { 1500, 1500 }, { 1499, 1400 }, { 1400, 1400 }, { 1399, 1280 }, { 1280, 1280 }, { 1279, 1200 } };

    for (size_t i = 0; i < ZR_LEN(cases); i++) {
        rig r = rig_plain(0.01, 1, 40 + i);
        r.end[0].largest = cases[i].path;
        CHECK_EQ(size_of(&r, 0), 1200);
        rig_run(&r, ZR_SEC(20));
        CHECK_EQ(size_of(&r, 0), cases[i].found);
        CHECK_EQ(size_of(&r, 1), 1500);
        rig_close(&r);
    }
}

ZR_TEST(a_black_hole_is_left_within_300_ms_and_the_size_comes_back_within_10_s)
{
    for (int i = 0; i < 10; i++) {
        rig r = rig_plain(0.01, 1, 60 + (uint64_t)i);
        zr_probe_set_active(&r.end[0].probe, true, rig_local(&r.end[0], r.now));
        rig_run(&r, ZR_SEC(10) + ZR_MS(17) * i);
        CHECK_EQ(size_of(&r, 0), 1500);
        r.end[0].largest = 1300;
        zr_ns_t shrunk = r.now;
        while (size_of(&r, 0) > 1300 && r.now - shrunk <= ZR_SEC(20))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - shrunk <= ZR_MS(300));
        rig_run(&r, r.now + ZR_SEC(1));
        CHECK_EQ(size_of(&r, 0), 1280);
        CHECK(zr_alive_up(&r.end[0].probe.alive));
        r.end[0].largest = 1500;
        zr_ns_t grown = r.now;
        while (size_of(&r, 0) < 1500 && r.now - grown < ZR_SEC(20))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - grown <= ZR_SEC(10));
        CHECK_EQ(r.end[0].downs, 0);
        rig_close(&r);
    }
}

/* The number that tells chance from a black hole falls with the loss: it may be passed without ever being met. */
ZR_TEST(a_size_falls_also_when_fewer_probes_are_enough_than_a_moment_before)
{
    zr_mtu mtu;
    zr_ns_t now = ZR_SEC(1);

    zr_mtu_init(&mtu, 1280, now);
    zr_mtu_sent(&mtu, 0, 7, true, ZR_MS(10), 0, now);
    CHECK(zr_mtu_on_answer(&mtu, 0, 7, now));
    CHECK_EQ(zr_mtu_size(&mtu), 1280);
    for (uint32_t id = 1; id <= 4; id++)
        zr_mtu_sent(&mtu, id, 7, true, ZR_MS(10), id < 4 ? 0.10 : 0, now += ZR_MTU_ACTIVE);
    CHECK(zr_mtu_on_deadline(&mtu, now + ZR_MS(100)));
    CHECK_EQ(zr_mtu_size(&mtu), 1200);
}

/* A young session's loss is mostly the black hole's own. */
ZR_TEST(what_a_black_hole_swallows_makes_nobody_wait_longer_for_its_proof)
{
    static const double loss[] = { 0.01, 0.25, 0.5 };
    zr_ns_t now = ZR_SEC(1), began;
    zr_mtu mtu;

    zr_mtu_init(&mtu, 1280, now);
    zr_mtu_sent(&mtu, 0, 7, true, ZR_MS(10), 0, now);
    CHECK(zr_mtu_on_answer(&mtu, 0, 7, now));
    began = now;
    for (uint32_t id = 1; id <= ZR_LEN(loss); id++)
        zr_mtu_sent(&mtu, id, 7, true, ZR_MS(10), loss[id - 1], now += ZR_MTU_ACTIVE);
    while (zr_mtu_size(&mtu) == 1280 && now - began < ZR_SEC(1))
        (void)zr_mtu_on_deadline(&mtu, now += ZR_MS(1));
    CHECK(now - began <= ZR_MS(300));
    CHECK_EQ(zr_mtu_size(&mtu), 1200);
}

/* EMSGSIZE: nobody waits for answers to what has not left. */
ZR_TEST(a_size_that_our_interface_refuses_is_left_at_the_next_probe_and_comes_back_within_10_s)
{
    for (int i = 0; i < 10; i++) {
        rig r = rig_plain(0.01, 1, 360 + (uint64_t)i);
        rig_end *e = &r.end[0];
        zr_probe_set_active(&e->probe, true, rig_local(e, r.now));
        rig_run(&r, ZR_SEC(10) + ZR_MS(17) * i);
        CHECK_EQ(size_of(&r, 0), 1500);
        e->largest = 1300;
        e->told = true;
        zr_ns_t shrunk = r.now;
        while (size_of(&r, 0) > 1300 && r.now - shrunk <= ZR_SEC(20))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - shrunk <= ZR_MTU_ACTIVE + ZR_MS(2));
        rig_run(&r, r.now + ZR_SEC(1));
        CHECK_EQ(size_of(&r, 0), 1280);
        CHECK_EQ(e->too_long, 2); /* 1500, which was in use; 1400, which was tried: once */
        e->largest = 1500;
        zr_ns_t grown = r.now;
        while (size_of(&r, 0) < 1500 && r.now - grown < ZR_SEC(20))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - grown <= ZR_SEC(10));
        CHECK_EQ(e->downs, 0);
        rig_close(&r);
    }
}

ZR_TEST(what_is_refused_lowers_the_size_only_when_it_is_no_longer_than_that)
{
    zr_mtu mtu;
    zr_ns_t now = ZR_SEC(1);

    zr_mtu_init(&mtu, 1500, now);
    for (uint32_t id = 0; id < 2; id++) {
        zr_mtu_sent(&mtu, id, 7, true, ZR_MS(10), 0, now);
        CHECK(zr_mtu_on_answer(&mtu, id, 7, now));
    }
    CHECK_EQ(zr_mtu_size(&mtu), 1400);
    CHECK(!zr_mtu_on_refused(&mtu, 1501, now)); /* a segment of earlier times */
    CHECK_EQ(zr_mtu_due(&mtu, now), 1500);
    CHECK(!zr_mtu_on_refused(&mtu, 1500, now)); /* the probe: it is not tried again soon */
    CHECK_EQ(zr_mtu_size(&mtu), 1400);
    CHECK_EQ(zr_mtu_due(&mtu, now), 1400);
    zr_mtu_sent(&mtu, 2, 7, true, ZR_MS(10), 0, now);
    CHECK(zr_mtu_on_refused(&mtu, 1330, now));
    CHECK_EQ(zr_mtu_size(&mtu), 1200);
    CHECK(!zr_mtu_on_answer(&mtu, 2, 7, now)); /* of before */
    CHECK_EQ(zr_mtu_due(&mtu, now), 1280);
    CHECK(!zr_mtu_on_refused(&mtu, 1100, now)); /* there is nothing below */
    CHECK_EQ(zr_mtu_size(&mtu), 1200);
    CHECK_EQ(zr_mtu_deadline(&mtu), now + ZR_MTU_AGAIN);
}

ZR_TEST(loss_alone_takes_no_size_away)
{
    rig r = rig_plain(0.30, 1, 8);
    int small = 0;

    zr_probe_set_active(&r.end[0].probe, true, rig_local(&r.end[0], r.now));
    rig_run(&r, ZR_SEC(120));
    CHECK_EQ(size_of(&r, 0), 1500);
    for (int i = 0; i < 600; i++) {
        rig_run(&r, r.now + ZR_SEC(1));
        small += size_of(&r, 0) < 1500;
    }
    CHECK(small < 6);
    rig_close(&r);
}

ZR_TEST(an_outage_takes_no_size_away)
{
    rig r = rig_plain(0, 1, 9);

    rig_run(&r, ZR_SEC(10));
    r.end[0].silent = r.end[1].silent = true;
    rig_run(&r, ZR_SEC(40));
    CHECK(!zr_alive_up(&r.end[0].probe.alive));
    CHECK_EQ(size_of(&r, 0), 1500);
    r.end[0].silent = r.end[1].silent = false;
    rig_run(&r, ZR_SEC(41));
    CHECK(zr_alive_up(&r.end[0].probe.alive));
    CHECK_EQ(size_of(&r, 0), 1500);
    CHECK_EQ(zr_path_longest(&r.end[0].probe.path, rig_local(&r.end[0], r.now)), 0);
    rig_close(&r);
}

/* Nothing of an idle session is longer than 1200 bytes, so nothing suffers before a stream comes. */
ZR_TEST(a_size_that_was_lost_while_idle_is_left_within_300_ms_of_the_first_stream)
{
    for (int i = 0; i < 10; i++) {
        rig r = rig_plain(0.01, 1, 160 + (uint64_t)i);
        rig_run(&r, ZR_SEC(20) + ZR_MS(17) * i);
        CHECK_EQ(size_of(&r, 0), 1500);
        r.end[0].largest = 1300;
        rig_run(&r, r.now + ZR_MS(5) + ZR_MS(950) * i); /* at any moment between two of its probes */
        zr_ns_t began = r.now;
        zr_probe_set_active(&r.end[0].probe, true, rig_local(&r.end[0], r.now));
        while (size_of(&r, 0) > 1300 && r.now - began <= ZR_SEC(1))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - began <= ZR_MS(300));
        rig_run(&r, r.now + ZR_SEC(1));
        CHECK_EQ(size_of(&r, 0), 1280);
        CHECK_EQ(r.end[0].downs, 0);
        rig_close(&r);
    }
}

ZR_TEST(a_size_that_was_lost_while_idle_is_known_to_be_within_11_s_without_any_stream)
{
    for (int i = 0; i < 5; i++) {
        rig r = rig_plain(0.01, 1, 260 + (uint64_t)i);
        rig_run(&r, ZR_SEC(20) + ZR_MS(1900) * i);
        r.end[0].largest = 1300;
        zr_ns_t shrunk = r.now;
        while (size_of(&r, 0) > 1300 && r.now - shrunk <= ZR_SEC(20))
            rig_run(&r, r.now + ZR_MS(1));
        CHECK(r.now - shrunk <= ZR_SEC(11));
        rig_close(&r);
    }
}
