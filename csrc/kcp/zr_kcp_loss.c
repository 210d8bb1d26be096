/*
 * zr_kcp_loss.c - when is a segment sent again? The stock rules: its time-out, or enough datagrams that acknowledged
 * later segments. Nothing outside this file reads fastack, xmit, rto or resend_at of a slot, so that another strategy
 * can stand in its place.
 */
#include "kcp/zr_kcp_priv.h"

static bool fast_resend(const zr_kcp *kcp, const zr_kcp_slot *slot)
{
    return kcp->conf.resend > 0 && slot->fastack >= kcp->conf.resend && slot->xmit <= ZR_KCP_FAST_LIMIT;
}

static void arm(zr_kcp *kcp, const zr_kcp_slot *slot)
{
    if (!kcp->resend_any || zr_seq_before(slot->resend_at, kcp->resend_at))
        kcp->resend_at = slot->resend_at;
    kcp->resend_any = true;
}

static uint32_t backed_off(const zr_kcp *kcp, uint32_t rto)
{
    uint32_t more = rto / 2; /* nodelay 1 */
    if (kcp->conf.nodelay == 0)
        more = ZR_MAX(rto, kcp->rto);
    else if (kcp->conf.nodelay >= 2)
        more = kcp->rto / 2;
    return ZR_MIN(rto + more, ZR_MAX(kcp->backoff_max, kcp->rto));
}

enum zr_kcp_verdict zr_kcp_loss_verdict(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    if (slot->xmit == 0)
        return ZR_KCP_FIRST;
    if (!zr_seq_before(ms, slot->resend_at))
        return ZR_KCP_TIMEOUT;
    return fast_resend(kcp, slot) ? ZR_KCP_FAST : ZR_KCP_WAIT;
}

bool zr_kcp_loss_due(const zr_kcp *kcp, uint32_t ms)
{
    return kcp->fast_due || (kcp->resend_any && !zr_seq_before(ms, kcp->resend_at));
}

void zr_kcp_loss_sent(zr_kcp *kcp, zr_kcp_slot *slot, enum zr_kcp_verdict verdict, uint32_t ms)
{
    slot->ts = ms;
    slot->xmit++;
    switch (verdict) {
    case ZR_KCP_FIRST:
        slot->rto = kcp->rto;
        slot->fastack = 0;
        slot->resend_at = ms + slot->rto + (kcp->conf.nodelay == 0 ? kcp->rto / 8 : 0);
        break;
    case ZR_KCP_TIMEOUT:
        slot->rto = backed_off(kcp, slot->rto);
        slot->resend_at = ms + slot->rto;
        kcp->saw_timeout = true;
        kcp->counts.retrans_timeout++;
        break;
    case ZR_KCP_FAST:
        slot->fastack = 0;
        slot->resend_at = ms + slot->rto;
        kcp->saw_fast = true;
        kcp->counts.retrans_fast++;
        break;
    case ZR_KCP_WAIT:
        break;
    }
    if (slot->xmit >= ZR_KCP_DEAD_LINK)
        kcp->state = UINT32_MAX;
    arm(kcp, slot);
}

bool zr_kcp_loss_sent_at(const zr_kcp_slot *slot, uint32_t ts)
{
    return ts == slot->ts || (slot->xmit > 1 && zr_seq_before(ts, slot->ts));
}

/* What the datagram's ACK has passed over. */
static void count_acks(zr_kcp *kcp)
{
    uint32_t end = kcp->in.ack_sn;

    /* An ACK for what has left the window meanwhile says nothing about what is still in it. */
    if (!kcp->in.acked || zr_seq_before(end, kcp->snd_una) || !zr_seq_before(end, kcp->snd_nxt))
        return;
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        if (!kcp->conf.conservative || !zr_seq_before(kcp->in.ack_ts, slot->ts))
            slot->fastack++;
        kcp->fast_due |= fast_resend(kcp, slot);
    }
}

void zr_kcp_loss_acked(zr_kcp *kcp)
{
    uint32_t in_flight = kcp->snd_nxt - kcp->snd_una;

    count_acks(kcp);
    /* Of a long window the cached due time is kept though its segment may be gone: a timer that finds nothing due now
     * and then costs less than a walk per ACK. */
    if (in_flight <= ZR_KCP_BLOCK)
        zr_kcp_loss_rearm(kcp);
    kcp->resend_any = in_flight > 0;
}

void zr_kcp_loss_rearm(zr_kcp *kcp)
{
    uint32_t end = kcp->snd_nxt;

    kcp->resend_any = kcp->fast_due = false;
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        kcp->fast_due |= fast_resend(kcp, slot);
        arm(kcp, slot);
    }
}

/* The cached due time is never late. */
bool zr_kcp_loss_check(const zr_kcp *kcp)
{
    uint32_t end = kcp->snd_nxt;
    bool any = kcp->snd_una != end;

    if (any != kcp->resend_any)
        return false;
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        if (slot->xmit == 0 || zr_seq_before(slot->resend_at, kcp->resend_at) ||
            (fast_resend(kcp, slot) && !kcp->fast_due))
            return false;
    }
    return true;
}
