#include "kcp/zr_kcp_plan.h"

/* Finer where a per cent changes the plan, coarser where the estimate is coarse anyway. */
static const double losses[ZR_KCP_PLAN_LEVELS] = { 0,    0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.10,
                                                   0.12, 0.15,  0.18, 0.21, 0.25, 0.29, 0.33, 0.38, 0.43, 0.48,
                                                   0.53, 0.58,  0.62, 0.66, 0.69, 0.72, 0.75, 0.78, 0.82, 0.86 };

typedef struct table {
    double unknown[ZR_KCP_PLAN_COPIES + 1];                        /* g(n) */
    double hasty[ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1];    /* cost with haste: what is minimised */
    double expected[ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1]; /* copies alone, following the same plan */
} table;

static double power(double base, uint32_t n)
{
    double value = 1;
    while (n-- > 0)
        value *= base;
    return value;
}

/* The peer says each ACK again, the oftener the more is lost (zr_kcp_tell.c). */
static uint32_t ack_repeats(double loss)
{
    return loss < 0.12 ? 3 : loss < 0.25 ? 4 : loss < 0.4 ? 5 : 7;
}

static void fill(table *t, double haste, uint8_t now[ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1],
                 uint8_t first[ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1])
{
    for (uint32_t r = 0; r <= ZR_KCP_PLAN_COPIES; r++) {
        now[0][r] = first[0][r] = (uint8_t)ZR_MIN(ZR_MAX(r, 1u), ZR_KCP_PLAN_LAST);
        t->hasty[0][r] = t->expected[0][r] = r <= ZR_KCP_PLAN_LAST ? ZR_MAX(r, 1u) : 1e6;
    }
    for (uint32_t m = 1; m < ZR_KCP_PLAN_ATTEMPTS; m++) {
        for (uint32_t r = 0; r <= ZR_KCP_PLAN_COPIES; r++) {
            double hasty = 1e9, patient = 1e9;
            for (uint32_t n = 1; n <= ZR_MAX(r, 1u); n++) {
                double with_haste = n + t->unknown[n] * (haste + t->hasty[m - 1][zr_kcp_plan_rest(r, n)]);
                double without = n + t->unknown[n] * t->expected[m - 1][zr_kcp_plan_rest(r, n)];
                if (with_haste < hasty) {
                    hasty = with_haste;
                    now[m][r] = (uint8_t)n;
                    t->expected[m][r] = without;
                }
                if (without < patient) {
                    patient = without;
                    first[m][r] = (uint8_t)n;
                }
            }
            t->hasty[m][r] = hasty;
        }
    }
}

/* What a segment costs from its first transmission on. */
static double whole_cost(const table *t, uint8_t first[ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1], uint32_t m,
                         uint32_t wanted)
{
    uint32_t n = first[m][wanted];
    return m == 0 ? n : n + t->unknown[n] * t->expected[m - 1][zr_kcp_plan_rest(wanted, n)];
}

void zr_kcp_plan_init(zr_kcp_plan *plan, double residual, double max_overhead)
{
    static const double residual_min = 1e-12;
    table t;

    plan->residual = residual > residual_min ? ZR_MIN(residual, 1.0) : residual_min;
    plan->max_overhead = max_overhead > 1 ? max_overhead : 1;
    for (uint32_t level = 0; level < ZR_KCP_PLAN_LEVELS; level++) {
        double loss = losses[level], unheard = zr_kcp_plan_unheard(level);
        for (uint32_t n = 0; n <= ZR_KCP_PLAN_COPIES; n++)
            t.unknown[n] = power(loss, n) + (1 - power(loss, n)) * unheard;
        fill(&t, loss < ZR_KCP_PLAN_HASTE_LOSS ? ZR_KCP_PLAN_HASTE : 0, plan->now[level], plan->first[level]);

        uint32_t target = 1;
        while (target < ZR_KCP_PLAN_COPIES && power(loss, target) > plan->residual)
            target++;
        for (uint32_t m = 0; m < ZR_KCP_PLAN_ATTEMPTS; m++) {
            uint32_t wanted = ZR_MIN(target + 1, ZR_KCP_PLAN_COPIES); /* one more: the loss is an estimate */
            while (wanted > m + 1 && whole_cost(&t, plan->first[level], m, wanted) > zr_kcp_plan_budget(plan, level))
                wanted--;
            plan->wanted[level][m] = (uint8_t)wanted;
        }
    }
}

uint32_t zr_kcp_plan_level(double failed, uint32_t copies)
{
    uint32_t level = 0;
    while (level + 1 < ZR_KCP_PLAN_LEVELS && power(losses[level], copies) < failed)
        level++;
    return level;
}

double zr_kcp_plan_loss(uint32_t level)
{
    return losses[ZR_MIN(level, ZR_KCP_PLAN_LEVELS - 1)];
}

double zr_kcp_plan_unheard(uint32_t level)
{
    double loss = zr_kcp_plan_loss(level);
    return power(loss, ack_repeats(loss));
}

double zr_kcp_plan_budget(const zr_kcp_plan *plan, uint32_t level)
{
    double loss = zr_kcp_plan_loss(level), budget = 1 + ZR_KCP_PLAN_REPAIR * loss / (1 - loss);
    return ZR_MIN(budget, plan->max_overhead);
}

static uint32_t index_of(uint32_t attempts)
{
    return ZR_MIN(ZR_MAX(attempts, 1u), ZR_KCP_PLAN_ATTEMPTS) - 1;
}

uint32_t zr_kcp_plan_wanted(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts)
{
    return plan->wanted[level][index_of(attempts)];
}

uint32_t zr_kcp_plan_first(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts, uint32_t wanted)
{
    return plan->first[level][index_of(attempts)][ZR_MIN(wanted, ZR_KCP_PLAN_COPIES)];
}

uint32_t zr_kcp_plan_again(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts, uint32_t wanted)
{
    return plan->now[level][index_of(attempts)][ZR_MIN(wanted, ZR_KCP_PLAN_COPIES)];
}
