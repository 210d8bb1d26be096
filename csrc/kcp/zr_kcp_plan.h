/*
 * zr_kcp_plan.h - how many copies of a segment to send at each attempt before its deadline.
 *
 * An attempt costs a round trip, so few fit before a deadline: with 50 ms one way and 400 ms, four. Copies multiply:
 * N copies in all leave p^N undelivered. Copies sent late are cheap, because few segments get that far; so the plan
 * for `attempts` more attempts and `wanted` more copies minimises the expected number of copies
 *
 *     cost(m, r) = min over n of  n + g(n) * cost(m - 1, r - n)        g(n) = p^n + (1 - p^n) * a
 *
 * where g is the chance that the sender still knows of no arrival (a: all repeats of the ACK were lost too). From the
 * second attempt on a round trip of delay is valued like ZR_KCP_PLAN_HASTE copies. `wanted` is what reaches the
 * residual target, but no more than keeps the expected cost under the byte budget:
 *
 *     budget(p) = min(max_overhead, 1 + 1.8 p / (1 - p))    not quite twice what an ideal code would spend
 *
 * Tables for 30 levels of loss, made once per worker; a lookup is two loads.
 */
#ifndef ZR_KCP_PLAN_H
#define ZR_KCP_PLAN_H

#include "base/zr_base.h"

#define ZR_KCP_PLAN_LEVELS     30u
#define ZR_KCP_PLAN_ATTEMPTS   6u
#define ZR_KCP_PLAN_COPIES     40u
#define ZR_KCP_PLAN_LAST       10u /* copies that the last attempt has time for */
#define ZR_KCP_PLAN_REPAIR     1.8
#define ZR_KCP_PLAN_HASTE      6.0
#define ZR_KCP_PLAN_HASTE_LOSS 0.4

typedef struct zr_kcp_plan {
    double residual, max_overhead;
    /* [level][attempts left - 1] */
    uint8_t wanted[ZR_KCP_PLAN_LEVELS][ZR_KCP_PLAN_ATTEMPTS];
    /* [level][attempts left - 1][copies still wanted]: now */
    uint8_t now[ZR_KCP_PLAN_LEVELS][ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1];
    /* The same for the first transmission, where haste counts for nothing. */
    uint8_t first[ZR_KCP_PLAN_LEVELS][ZR_KCP_PLAN_ATTEMPTS][ZR_KCP_PLAN_COPIES + 1];
} zr_kcp_plan;

/* `residual`: the share of messages that may miss their deadline, > 0, usually 1e-6. `max_overhead`: transmissions per
 * segment that no loss may push the plan above, >= 1, usually 6. Values out of range are clamped. */
void zr_kcp_plan_init(zr_kcp_plan *plan, double residual, double max_overhead);
/* The lowest level whose loss is at least what makes `copies` copies fail together with chance `failed`. */
uint32_t zr_kcp_plan_level(double failed, uint32_t copies);
/* Loss of a level, 0..0.86. */
double zr_kcp_plan_loss(uint32_t level);
/* Chance that all ACKs an arrival gets within the sender's slack are lost, when the way back loses as much. */
double zr_kcp_plan_unheard(uint32_t level);
/* Transmissions per segment that the level may cost, >= 1. */
double zr_kcp_plan_budget(const zr_kcp_plan *plan, uint32_t level);
/* Copies a segment should have had in all, when `attempts` (>= 1) fit before its deadline. */
uint32_t zr_kcp_plan_wanted(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts);
/* Copies to send now, >= 1, when `attempts` are left, this one included, and `wanted` copies are still to go: of a
 * first transmission, and of a later one. */
uint32_t zr_kcp_plan_first(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts, uint32_t wanted);
uint32_t zr_kcp_plan_again(const zr_kcp_plan *plan, uint32_t level, uint32_t attempts, uint32_t wanted);

/* Of `wanted` copies, what is still to go when `copies` went: the next attempt sends at least one. */
static inline uint32_t zr_kcp_plan_rest(uint32_t wanted, uint32_t copies)
{
    return wanted > copies ? wanted - copies : 1;
}

#endif
