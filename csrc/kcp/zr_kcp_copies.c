#include "kcp/zr_kcp_media.h"

#define TICK_MS      1u
#define CREDIT_RATE  1.25 /* the plan keeps the budget on average; this bounds how far chance may exceed it */
#define CREDIT_FULL  4    /* segments */
#define FULL_PERCENT 5    /* of the bytes sent that repair may take while the link is full */

/* Attempts that fit before the last call, this one included, when each sends `copies`. */
static uint32_t attempts_left(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t copies, uint32_t ms)
{
    if (zr_kcp_endless(slot))
        return ZR_KCP_PLAN_ATTEMPTS;
    int32_t left = zr_seq_diff(zr_kcp_last_call(kcp, slot), ms);
    uint32_t spread = ZR_KCP_COPY_GAP * (copies - 1), period = zr_kcp_path_timer(&kcp->media.path) + TICK_MS;
    uint32_t fit = left < 0 ? 1 : 1 + (uint32_t)left / (period + spread - ZR_MIN(spread, ZR_KCP_COPY_BACK));
    return ZR_MIN(fit, ZR_KCP_PLAN_ATTEMPTS);
}

void zr_kcp_spend(zr_kcp *kcp, int32_t bytes)
{
    int32_t most = (int32_t)kcp->mss * (kcp->media.path.full ? CREDIT_FULL : ZR_KCP_CREDIT_MAX);
    int32_t credit = kcp->media.credit - bytes;

    kcp->media.credit = ZR_MAX(ZR_MIN(credit, most), -most);
}

uint32_t zr_kcp_affordable(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t copies)
{
    int32_t more = kcp->media.credit / zr_kcp_wire_len(slot);

    if (kcp->media.path.full || more <= 0)
        return 1;
    return ZR_MIN(copies, 1 + (uint32_t)more);
}

const zr_kcp_start *zr_kcp_start_of(zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    zr_kcp_start *start = &kcp->media.start;
    const zr_kcp_plan *plan = kcp->conf.plan;
    zr_kcp_path *path = &kcp->media.path;
    uint32_t left = zr_kcp_endless(slot) ? UINT32_MAX : slot->media.give_up - ms;

    if (start->valid && start->left == left && start->version == path->version)
        return start;
    *start = (zr_kcp_start){ .valid = true, .version = path->version, .left = left, .copies = 1 };
    start->wanted = (uint8_t)attempts_left(kcp, slot, path->copies, ms);
    start->earn = path->full ? FULL_PERCENT * 1024 / 100 : 0;
    start->rest = (uint8_t)zr_kcp_plan_rest(start->wanted, 1);
    if (plan == NULL)
        return start;
    uint32_t attempts = start->wanted;
    start->wanted = (uint8_t)zr_kcp_plan_wanted(plan, path->level, attempts);
    start->copies = (uint8_t)zr_kcp_plan_first(plan, path->level, attempts, start->wanted);
    if (path->full)
        start->copies = 1;
    else
        start->earn = (int32_t)((zr_kcp_plan_budget(plan, path->level) - 1) * CREDIT_RATE * 1024);
    zr_kcp_path_set_copies(path, start->copies);
    start->rest = (uint8_t)zr_kcp_plan_rest(start->wanted, 1);
    return start;
}

uint32_t zr_kcp_copies_now(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    const zr_kcp_media *media = &kcp->media;
    const zr_kcp_plan *plan = kcp->conf.plan;
    uint32_t attempts = attempts_left(kcp, slot, 1, ms), copies = 1;

    if (plan == NULL || media->dark)
        return 1;
    for (; attempts > 0; attempts--) {
        copies = zr_kcp_plan_again(plan, media->path.level, attempts, slot->media.wanted);
        if (attempts_left(kcp, slot, copies, ms) >= attempts)
            break;
    }
    return zr_kcp_affordable(kcp, slot, copies);
}
