#include "time/zr_wheel.h"

#include "time/zr_clock.h"
#include "zr_test.h"

#define TICK  ((zr_ns_t)1 << ZR_WHEEL_TICK_SHIFT)
#define START (ZR_SEC(1000) + 12345)

static uint32_t expire(zr_wheel *wheel, zr_ns_t now)
{
    uint32_t count = 0;

    zr_wheel_advance(wheel, now);
    CHECK(zr_wheel_check(wheel));
    for (zr_timer *t; (t = zr_wheel_expired(wheel)) != NULL; count++)
        CHECK(t->deadline <= now);
    return count;
}

static const zr_ns_t delays[] = {
    1,           ZR_US(1),         TICK - 1,         TICK,          TICK + 1,          ZR_MS(5),   ZR_MS(33),
    64 * TICK,   65 * TICK,        ZR_MS(200),       ZR_SEC(2),     64 * 64 * TICK,    ZR_SEC(60), ZR_SEC(137),
    ZR_SEC(600), ZR_SEC(3600 * 2), ZR_SEC(3600 * 3), ZR_SEC(86400), ZR_SEC(86400 * 7),
};

ZR_TEST(a_timer_fires_not_early_and_at_most_a_tick_late_on_every_level)
{
    for (size_t i = 0; i < ZR_LEN(delays); i++) {
        zr_wheel wheel;
        zr_timer timer;

        zr_wheel_init(&wheel, START);
        zr_timer_init(&timer, 7, 42);
        zr_timer_arm(&wheel, &timer, START + delays[i]);
        CHECK_EQ(expire(&wheel, START + delays[i] - 1), 0);
        CHECK(zr_timer_armed(&timer));
        zr_wheel_advance(&wheel, START + delays[i] + TICK);
        CHECK(zr_wheel_expired(&wheel) == &timer);
        CHECK(!zr_timer_armed(&timer));
        CHECK_EQ(timer.kind, 7);
        CHECK_EQ(timer.ref, 42);
        CHECK_EQ(wheel.count, 0);
    }
}

ZR_TEST(who_sleeps_until_the_wheels_deadline_meets_every_timer_in_time_without_spinning)
{
    for (size_t i = 0; i < ZR_LEN(delays); i++) {
        zr_wheel wheel;
        zr_timer timer;
        zr_ns_t now = START;
        uint32_t turns = 0;

        zr_wheel_init(&wheel, now);
        zr_timer_init(&timer, 0, 0);
        zr_timer_arm(&wheel, &timer, START + delays[i]);
        for (; zr_timer_armed(&timer); turns++) {
            zr_ns_t until = zr_wheel_deadline(&wheel);
            CHECK(until > now);
            CHECK(until <= timer.deadline + TICK);
            now = until;
            zr_wheel_advance(&wheel, now);
            zr_wheel_expired(&wheel);
        }
        CHECK(now >= START + delays[i] && now <= START + delays[i] + TICK);
        /* One turn a level, and one for each 2.4 hours that it waited in the last one. */
        CHECK(turns <= 4 + delays[i] / ZR_SEC(8000));
        CHECK_EQ(zr_wheel_deadline(&wheel), ZR_NEVER);
    }
}

ZR_TEST(a_deadline_in_the_past_waits_for_the_next_advance_and_no_longer)
{
    zr_wheel wheel;
    zr_timer timer;

    zr_wheel_init(&wheel, START);
    zr_timer_init(&timer, 0, 0);
    zr_timer_arm(&wheel, &timer, START - ZR_SEC(5));
    CHECK(zr_wheel_expired(&wheel) == NULL); /* else re-arming in the expiry loop would never end */
    CHECK(zr_wheel_deadline(&wheel) <= START);
    CHECK_EQ(expire(&wheel, START), 1); /* within the same tick */
    zr_timer_arm(&wheel, &timer, -1);
    CHECK_EQ(expire(&wheel, START), 1);
}

ZR_TEST(a_clock_that_steps_back_does_nothing)
{
    zr_wheel wheel;
    zr_timer timer;

    zr_wheel_init(&wheel, START);
    zr_timer_init(&timer, 0, 0);
    zr_timer_arm(&wheel, &timer, START + ZR_MS(10));
    CHECK_EQ(expire(&wheel, START - ZR_SEC(900)), 0);
    CHECK_EQ(expire(&wheel, START + ZR_MS(11)), 1);
}

ZR_TEST(rearming_moves_and_never_cancels)
{
    zr_wheel wheel;
    zr_timer timer;

    zr_wheel_init(&wheel, START);
    zr_timer_init(&timer, 0, 0);
    zr_timer_cancel(&wheel, &timer);
    zr_timer_arm(&wheel, &timer, START + ZR_MS(1));
    zr_timer_arm(&wheel, &timer, START + ZR_SEC(9));
    CHECK_EQ(wheel.count, 1);
    CHECK_EQ(expire(&wheel, START + ZR_SEC(8)), 0);
    zr_timer_arm(&wheel, &timer, ZR_NEVER);
    CHECK(!zr_timer_armed(&timer));
    CHECK_EQ(zr_wheel_deadline(&wheel), ZR_NEVER);
    CHECK_EQ(expire(&wheel, START + ZR_SEC(20)), 0);
}

ZR_TEST(an_expired_timer_that_was_not_taken_yet_can_be_cancelled_or_armed_again)
{
    zr_wheel wheel;
    zr_timer timers[3];

    zr_wheel_init(&wheel, START);
    for (uint32_t i = 0; i < 3; i++) {
        zr_timer_init(&timers[i], 0, i);
        zr_timer_arm(&wheel, &timers[i], START + ZR_MS(1));
    }
    zr_wheel_advance(&wheel, START + ZR_MS(2));
    zr_timer_cancel(&wheel, &timers[0]);
    zr_timer_arm(&wheel, &timers[1], START + ZR_MS(9));
    CHECK(zr_wheel_deadline(&wheel) <= START + ZR_MS(2)); /* one still lies there */
    CHECK(zr_wheel_expired(&wheel) == &timers[2]);
    CHECK(zr_wheel_expired(&wheel) == NULL);
    CHECK(zr_wheel_check(&wheel));
    CHECK_EQ(expire(&wheel, START + ZR_MS(10)), 1);
}

ZR_TEST(timers_of_one_tick_fire_in_the_order_of_arming)
{
    zr_wheel wheel;
    zr_timer timers[8];

    zr_wheel_init(&wheel, START);
    for (uint32_t i = 0; i < 8; i++) {
        zr_timer_init(&timers[i], 0, i);
        zr_timer_arm(&wheel, &timers[i], START + ZR_SEC(3));
    }
    zr_wheel_advance(&wheel, START + ZR_SEC(4));
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(zr_wheel_expired(&wheel)->ref, i);
}

ZR_TEST(a_jump_of_a_year_is_made_in_few_steps)
{
    enum { COUNT = 1000 };
    static zr_timer timers[COUNT];
    zr_wheel wheel;

    zr_wheel_init(&wheel, START);
    for (uint32_t i = 0; i < COUNT; i++) {
        zr_timer_init(&timers[i], 0, i);
        zr_timer_arm(&wheel, &timers[i], START + ZR_SEC(i));
    }
    zr_ns_t before = zr_clock_now();
    CHECK_EQ(expire(&wheel, START + ZR_SEC(86400) * 365), COUNT);
    CHECK(zr_clock_now() - before < ZR_MS(200)); /* tick by tick would be 60 000 000 000 of them */
}

/* What a retransmission timer does: each acknowledgement moves it, and it fires once the last one is long ago. */
ZR_TEST(a_timer_that_is_moved_on_and_on_expires_at_its_last_deadline)
{
    zr_ns_t now = START, moved = 0;
    zr_wheel wheel;
    zr_timer timer, other;

    zr_wheel_init(&wheel, now);
    zr_timer_init(&timer, 0, 0);
    zr_timer_init(&other, 0, 1);
    for (int i = 0; i < 1000; i++, now += ZR_MS(7)) {
        moved = now + ZR_MS(110);
        zr_timer_arm(&wheel, &timer, moved);
        zr_timer_arm(&wheel, &other, ZR_NEVER);
        zr_timer_arm(&wheel, &other, now + ZR_SEC(5));
        zr_wheel_advance(&wheel, now);
        CHECK(zr_wheel_expired(&wheel) == NULL && zr_wheel_check(&wheel));
    }
    while (zr_timer_armed(&timer)) {
        now = ZR_MAX(now, zr_wheel_deadline(&wheel));
        zr_wheel_advance(&wheel, now);
        zr_timer *expired = zr_wheel_expired(&wheel);
        CHECK(expired == NULL || expired == &timer);
    }
    CHECK(now >= moved && now - moved < ZR_MS(1));
}

static void bit_lost(zr_wheel *wheel)
{
    for (uint32_t level = 0; level < ZR_WHEEL_LEVELS; level++)
        wheel->used[level] = 0;
}
static void bit_extra(zr_wheel *wheel)
{
    wheel->used[3] |= 1;
}
static void count_wrong(zr_wheel *wheel)
{
    wheel->count++;
}
static void tick_skipped(zr_wheel *wheel)
{
    wheel->tick += 4096;
}
static void link_broken(zr_wheel *wheel)
{
    wheel->expired.next = &wheel->slots[0][0];
}

static void (*const damages[])(zr_wheel *) = { bit_lost, bit_extra, count_wrong, tick_skipped, link_broken };

ZR_TEST(the_wheel_check_sees_every_kind_of_damage)
{
    for (size_t i = 0; i < ZR_LEN(damages) + 2; i++) {
        zr_wheel wheel;
        zr_timer timer;

        zr_wheel_init(&wheel, START);
        zr_timer_init(&timer, 0, 0);
        zr_timer_arm(&wheel, &timer, START + ZR_MS(4));
        CHECK(zr_wheel_check(&wheel));
        if (i < ZR_LEN(damages))
            damages[i](&wheel);
        else if (i == ZR_LEN(damages))
            timer.where++;
        else
            timer.deadline -= ZR_MS(3);
        CHECK(!zr_wheel_check(&wheel));
    }
}

ZR_TEST(the_clock_does_not_run_backwards)
{
    zr_ns_t last = zr_clock_now();

    for (int i = 0; i < 1000; i++) {
        zr_ns_t now = zr_clock_now();
        CHECK(now >= last);
        last = now;
    }
    CHECK(last > 0);
}
