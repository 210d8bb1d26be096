/* How many copies: what the plan promises, worked out again from the outside. */
#include "kcp/zr_kcp_plan.h"

#include "zr_test.h"

static double power(double base, uint32_t n)
{
    double value = 1;
    while (n-- > 0)
        value *= base;
    return value;
}

/* What following the plan leads to, on average, for a segment with `attempts` before its deadline. */
typedef struct outcome {
    double copies; /* sent */
    double missed; /* chance that none arrived */
} outcome;

static outcome follow(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts)
{
    double loss = zr_kcp_plan_loss(level), unheard = zr_kcp_plan_unheard(level), goes_on = 1;
    uint32_t wanted = zr_kcp_plan_wanted(plan, level, attempts), sent = 0;
    outcome all = { 0, 0 };

    for (uint32_t left = attempts; left > 0; left--) {
        uint32_t n = left == attempts ? zr_kcp_plan_first(plan, level, left, wanted)
                                      : zr_kcp_plan_again(plan, level, left, wanted);
        CHECK(n >= 1 && n <= ZR_KCP_PLAN_COPIES);
        all.copies += goes_on * n;
        sent += n;
        wanted = wanted > n ? wanted - n : 1;
        /* The next attempt is made when nothing arrived, or when all ACKs of this one were lost. */
        goes_on *= power(loss, n) + (1 - power(loss, n)) * unheard;
    }
    all.missed = power(loss, sent);
    return all;
}

static zr_kcp_plan plan;

ZR_TEST(the_planned_copies_grow_with_the_loss_as_long_as_the_budget_does_and_shrink_with_the_attempts)
{
    zr_kcp_plan_init(&plan, 1e-6, 6);
    for (uint32_t attempts = 1; attempts <= ZR_KCP_PLAN_ATTEMPTS; attempts++) {
        uint32_t most = 0, most_first = 0;
        for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS && zr_kcp_plan_budget(&plan, level) < 6; level++) {
            uint32_t wanted = zr_kcp_plan_wanted(&plan, level, attempts);
            uint32_t first = zr_kcp_plan_first(&plan, level, attempts, wanted);
            CHECK(3 * wanted >= 2 * most); /* the budget may give way a little where a round trip is worth a copy */
            CHECK(first >= most_first);
            most = ZR_MAX(most, wanted);
            most_first = first;
        }
        CHECK(most >= 4 * attempts);
    }
    for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++)
        for (uint32_t attempts = 2; attempts <= ZR_KCP_PLAN_ATTEMPTS; attempts++)
            CHECK(zr_kcp_plan_first(&plan, level, attempts, 20) <= zr_kcp_plan_first(&plan, level, attempts - 1, 20));
    CHECK_EQ(zr_kcp_plan_first(&plan, 0, 4, zr_kcp_plan_wanted(&plan, 0, 4)), 1); /* without loss nothing extra */
    CHECK(zr_kcp_plan_first(&plan, zr_kcp_plan_level(0.7, 1), 4, zr_kcp_plan_wanted(&plan, 24, 4)) > 1);
}

ZR_TEST(what_the_plan_costs_on_average_stays_under_the_budget_of_its_level)
{
    static const double most[] = { 1, 1.3, 2, 6, 100 };

    for (size_t i = 0; i < ZR_LEN(most); i++) {
        zr_kcp_plan_init(&plan, 1e-6, most[i]);
        for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++) {
            double loss = zr_kcp_plan_loss(level), budget = zr_kcp_plan_budget(&plan, level);
            CHECK(budget >= 1 && budget <= most[i] && budget <= 1 + 2 * loss / (1 - loss) + 1e-9);
            for (uint32_t attempts = 1; attempts <= ZR_KCP_PLAN_ATTEMPTS; attempts++) {
                /* A copy at each attempt is the least there is: its cost is the loss's own, not the plan's. */
                bool least = zr_kcp_plan_wanted(&plan, level, attempts) <= attempts;
                CHECK(least || follow(&plan, level, attempts).copies <= budget + 1e-9);
            }
        }
    }
}

ZR_TEST(what_the_plan_wants_reaches_the_residual_wherever_the_budget_lets_it)
{
    static const double residuals[] = { 1e-2, 1e-4, 1e-6, 1e-9 };

    for (size_t i = 0; i < ZR_LEN(residuals); i++) {
        uint32_t reached = 0;
        zr_kcp_plan_init(&plan, residuals[i], 6);
        for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++) {
            double loss = zr_kcp_plan_loss(level);
            for (uint32_t attempts = 1; attempts <= ZR_KCP_PLAN_ATTEMPTS; attempts++) {
                uint32_t wanted = zr_kcp_plan_wanted(&plan, level, attempts);
                bool enough = power(loss, wanted) <= residuals[i];
                reached += enough;
                if (enough || wanted >= ZR_KCP_PLAN_COPIES)
                    continue;
                /* One more would have been too dear: it never stops short for nothing. */
                outcome now = follow(&plan, level, attempts);
                zr_kcp_plan more = plan;
                more.wanted[level][attempts - 1]++;
                CHECK(wanted >= attempts);
                CHECK(follow(&more, level, attempts).copies > zr_kcp_plan_budget(&plan, level) - 1e-9);
                CHECK(follow(&more, level, attempts).copies >= now.copies);
            }
        }
        CHECK(reached > 0);
        /* What counts is reached where the deadline leaves four attempts: 10 % with a budget of 1.2. */
        uint32_t ten = zr_kcp_plan_level(0.1, 1);
        CHECK(residuals[i] < 1e-6 || follow(&plan, ten, 4).missed <= residuals[i]);
    }
}

ZR_TEST(with_unlimited_money_every_plan_reaches_its_residual)
{
    zr_kcp_plan_init(&plan, 1e-6, 1e9);
    for (uint32_t level = 0; zr_kcp_plan_loss(level) < 0.3; level++)
        for (uint32_t attempts = 3; attempts <= ZR_KCP_PLAN_ATTEMPTS; attempts++)
            CHECK(follow(&plan, level, attempts).missed <= 1e-4);
}

ZR_TEST(the_last_attempt_sends_what_is_wanted_as_far_as_there_is_time)
{
    zr_kcp_plan_init(&plan, 1e-6, 6);
    for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++) {
        for (uint32_t wanted = 0; wanted <= ZR_KCP_PLAN_COPIES + 5; wanted++) {
            uint32_t sent = ZR_MIN(ZR_MAX(wanted, 1u), ZR_KCP_PLAN_LAST);
            CHECK_EQ(zr_kcp_plan_first(&plan, level, 1, wanted), sent);
            CHECK_EQ(zr_kcp_plan_again(&plan, level, 1, wanted), sent);
        }
    }
}

ZR_TEST(absurd_arguments_of_a_plan_are_clamped)
{
    static const struct {
        double residual, max_overhead;
    } rows[] = { { 0, 6 }, { -1, 6 }, { 2, 6 }, { 1e-300, 6 }, { 1e-6, 0 }, { 1e-6, -5 }, { 1e-6, 1e300 }, { 1, 1 } };
    static const uint32_t attempts[] = { 0, 7, 1000, UINT32_MAX };

    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        zr_kcp_plan_init(&plan, rows[i].residual, rows[i].max_overhead);
        for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++) {
            CHECK(zr_kcp_plan_budget(&plan, level) >= 1);
            CHECK(rows[i].max_overhead < 1 || zr_kcp_plan_budget(&plan, level) <= rows[i].max_overhead);
            for (uint32_t n = 1; n <= ZR_KCP_PLAN_ATTEMPTS; n++)
                follow(&plan, level, n);
            for (size_t n = 0; n < ZR_LEN(attempts); n++) {
                uint32_t as = attempts[n] == 0 ? 1 : ZR_KCP_PLAN_ATTEMPTS;
                CHECK_EQ(zr_kcp_plan_wanted(&plan, level, attempts[n]), zr_kcp_plan_wanted(&plan, level, as));
                CHECK_EQ(zr_kcp_plan_first(&plan, level, attempts[n], 9), zr_kcp_plan_first(&plan, level, as, 9));
                CHECK_EQ(zr_kcp_plan_again(&plan, level, attempts[n], UINT32_MAX),
                         zr_kcp_plan_again(&plan, level, as, ZR_KCP_PLAN_COPIES));
            }
        }
    }
    CHECK(zr_kcp_plan_loss(UINT32_MAX) == zr_kcp_plan_loss(ZR_KCP_PLAN_LEVELS - 1));
}

ZR_TEST(the_level_of_a_loss_is_the_lowest_that_covers_it_whatever_the_copies)
{
    static const double absurd[] = { -1, 2, 1e300 };

    for (uint32_t copies = 1; copies <= 10; copies++) {
        uint32_t before = 0;
        for (double loss = 0; loss <= 0.86; loss += 0.001) {
            uint32_t level = zr_kcp_plan_level(power(loss, copies), copies);
            CHECK(level >= before && level < ZR_KCP_PLAN_LEVELS);
            CHECK(zr_kcp_plan_loss(level) >= loss - 1e-9);
            CHECK(level == 0 || zr_kcp_plan_loss(level - 1) < loss + 1e-9);
            before = level;
        }
        CHECK_EQ(zr_kcp_plan_level(1, copies), ZR_KCP_PLAN_LEVELS - 1);
        CHECK_EQ(zr_kcp_plan_level(0, copies), 0);
    }
    for (size_t i = 0; i < ZR_LEN(absurd); i++)
        CHECK_EQ(zr_kcp_plan_level(absurd[i], 1), absurd[i] < 0 ? 0 : ZR_KCP_PLAN_LEVELS - 1);
    for (uint32_t level = 1; level < ZR_KCP_PLAN_LEVELS; level++)
        CHECK(zr_kcp_plan_loss(level) > zr_kcp_plan_loss(level - 1));
}
