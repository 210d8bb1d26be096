/*
 * zr_kcp_stock.c - the stock rules (kcp.md 6.4, 8): a segment is sent again at its own time-out, or after enough
 * datagrams that acknowledged later ones; every ACK is sent once, with the next flush of the grid.
 */
#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"

enum verdict { WAIT, FIRST, TIMEOUT, FAST };

static bool fast_resend(const zr_kcp *kcp, const zr_kcp_slot *slot)
{
    return kcp->conf.resend > 0 && slot->stock.fastack >= kcp->conf.resend && slot->stock.xmit <= ZR_KCP_FAST_LIMIT;
}

static void arm(zr_kcp *kcp, const zr_kcp_slot *slot)
{
    if (!kcp->resend_any || zr_seq_before(slot->stock.resend_at, kcp->resend_at))
        kcp->resend_at = slot->stock.resend_at;
    kcp->resend_any = true;
}

static uint32_t backed_off(const zr_kcp *kcp, uint32_t rto)
{
    uint32_t more = rto / 2; /* nodelay 1 */
    if (kcp->conf.nodelay == 0)
        more = ZR_MAX(rto, kcp->rto);
    else if (kcp->conf.nodelay >= 2)
        more = kcp->rto / 2;
    return rto + more;
}

static enum verdict judge(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    if (slot->stock.xmit == 0)
        return FIRST;
    if (!zr_seq_before(ms, slot->stock.resend_at))
        return TIMEOUT;
    return fast_resend(kcp, slot) ? FAST : WAIT;
}

static void note_sent(zr_kcp *kcp, zr_kcp_slot *slot, enum verdict verdict, uint32_t ms)
{
    slot->stock.xmit++;
    switch (verdict) {
    case FIRST:
        slot->stock.rto = kcp->rto;
        slot->stock.fastack = 0;
        slot->stock.resend_at = ms + slot->stock.rto + (kcp->conf.nodelay == 0 ? kcp->rto / 8 : 0);
        break;
    case TIMEOUT:
        slot->stock.rto = backed_off(kcp, slot->stock.rto);
        slot->stock.resend_at = ms + slot->stock.rto;
        kcp->saw_timeout = true;
        kcp->counts.retrans_timeout++;
        break;
    case FAST:
        slot->stock.fastack = 0;
        slot->stock.resend_at = ms + slot->stock.rto;
        kcp->saw_fast = true;
        kcp->counts.retrans_fast++;
        break;
    case WAIT:
        break;
    }
    if (slot->stock.xmit >= ZR_KCP_DEAD_LINK)
        kcp->state = UINT32_MAX;
    arm(kcp, slot);
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
            slot->stock.fastack++;
        kcp->fast_due |= fast_resend(kcp, slot);
    }
}

/* The cached due time anew, by a walk over the window. */
static void rearm(zr_kcp *kcp)
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

/* A flush looks at each segment once, also when a full batch cuts it short: after a time-out the count for fast
 * resend still stands, and would send the segment again. */
static int cut_at(zr_kcp *kcp, uint32_t sn)
{
    kcp->cut = true;
    kcp->scanned = sn;
    return ZR_E_full;
}

static int send_again(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    uint32_t end = kcp->snd_nxt;
    uint32_t from = kcp->cut && zr_seq_before(kcp->snd_una, kcp->scanned) ? kcp->scanned : kcp->snd_una;

    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, from, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        enum verdict verdict = judge(kcp, slot, ms);
        if (verdict == WAIT)
            continue;
        if (zr_kcp_put_push(kcp, pack, sn, slot, ms) != ZR_OK)
            return cut_at(kcp, sn);
        note_sent(kcp, slot, verdict, ms);
    }
    rearm(kcp);
    return ZR_OK;
}

static void init(zr_kcp *kcp, uint32_t ms)
{
    (void)ms;
    kcp->resend_any = kcp->fast_due = false;
}

static void fini(zr_kcp *kcp)
{
    kcp->resend_any = kcp->fast_due = false;
}

static uint32_t base(const zr_kcp *kcp)
{
    return kcp->snd_una;
}

static void reopened(zr_kcp *kcp)
{
    kcp->probe |= ZR_KCP_TELL;
}

static void queued(zr_kcp *kcp, zr_kcp_slot *slot, uint32_t deadline_ms, uint32_t ms)
{
    (void)kcp;
    (void)deadline_ms;
    (void)ms;
    slot->stock.xmit = slot->stock.fastack = 0;
}

static void purge(zr_kcp *kcp, uint32_t ms)
{
    (void)kcp;
    (void)ms;
}

static int acknowledge(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms)
{
    (void)ms;
    return zr_kcp_put_acks(kcp, pack, ack);
}

static int send(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    if ((kcp->fast_due || (kcp->resend_any && !zr_seq_before(ms, kcp->resend_at))) &&
        send_again(kcp, pack, ms) != ZR_OK)
        return ZR_E_full;
    while (zr_kcp_snd_admissible(kcp)) {
        zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_nxt);
        if (zr_kcp_put_push(kcp, pack, kcp->snd_nxt, slot, ms) != ZR_OK)
            return cut_at(kcp, kcp->snd_nxt);
        note_sent(kcp, slot, FIRST, ms);
        kcp->snd_nxt++;
    }
    kcp->cut = false;
    return ZR_OK;
}

/* All is done on the grid. */
static int32_t wait(const zr_kcp *kcp, uint32_t ms)
{
    bool idle = kcp->snd_una == kcp->snd_end && kcp->acks.count == 0 && kcp->probe == 0 && kcp->rmt_wnd != 0;

    if (kcp->flush_due)
        return 0;
    if (idle)
        return ZR_KCP_NEVER;
    return kcp->updated ? zr_seq_diff(kcp->ts_flush, ms) : 0;
}

static void arrived(zr_kcp *kcp, const zr_seg *seg, enum zr_kcp_taken taken, uint32_t ms)
{
    bool old = zr_seq_before(seg->sn, kcp->rcv_nxt) && taken == ZR_KCP_KNOWN;

    if (taken == ZR_KCP_KNOWN && kcp->conf.harden && zr_kcp_acks_recent(&kcp->acks, kcp->blocks, seg->sn))
        return;
    if (old && !zr_kcp_may_answer(kcp, &kcp->answered.stale, ms))
        return; /* the una of any answer covers it */
    (void)zr_kcp_acks_add(&kcp->acks, kcp->blocks, seg->sn, seg->ts);
}

/* Stock keeps the last time only, so an earlier one is believed of a segment that was sent again. */
static bool sent_at(const zr_kcp_slot *slot, uint32_t ts)
{
    return ts == slot->ts || (slot->stock.xmit > 1 && zr_seq_before(ts, slot->ts));
}

static void rtt(zr_kcp *kcp, uint32_t ts, int32_t sample, uint32_t ms)
{
    (void)ts;
    (void)ms;
    zr_kcp_on_rtt(kcp, sample);
}

static void settled(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, const uint32_t *ts, uint32_t ms)
{
    (void)kcp;
    (void)sn;
    (void)slot;
    (void)ts;
    (void)ms;
}

static void heard(zr_kcp *kcp, bool acked, uint32_t ms)
{
    uint32_t in_flight = kcp->snd_nxt - kcp->snd_una;

    (void)ms;
    if (!acked)
        return;
    count_acks(kcp);
    /* Of a long window the cached due time is kept though its segment may be gone: a timer that finds nothing due now
     * and then costs less than a walk per ACK. */
    if (in_flight <= ZR_KCP_BLOCK)
        rearm(kcp);
    kcp->resend_any = in_flight > 0;
}

/* The cached due time is never late. */
static bool check(const zr_kcp *kcp)
{
    uint32_t end = kcp->snd_nxt;
    bool any = kcp->snd_una != end;

    if (any != kcp->resend_any)
        return false;
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        if (slot->stock.xmit == 0 || zr_seq_before(slot->stock.resend_at, kcp->resend_at) ||
            (fast_resend(kcp, slot) && !kcp->fast_due))
            return false;
    }
    return true;
}

const zr_kcp_rules zr_kcp_rules_stock = {
    .name = "stock",
    .init = init,
    .fini = fini,
    .base = base,
    .queued = queued,
    .reopened = reopened,
    .purge = purge,
    .acknowledge = acknowledge,
    .send = send,
    .wait = wait,
    .arrived = arrived,
    .sent_at = sent_at,
    .rtt = rtt,
    .settled = settled,
    .heard = heard,
    .check = check,
};
