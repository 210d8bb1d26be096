#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"
#include "stat/zr_drop.h"

static uint32_t queued(const zr_kcp *kcp)
{
    return kcp->rcv_nxt - kcp->rcv_head;
}

/* Passes what now stands in order on to recv, as far as its queue reaches. */
static void drain(zr_kcp *kcp)
{
    while (queued(kcp) < kcp->conf.rcv_wnd && zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_nxt) != NULL)
        kcp->rcv_nxt++;
}

static bool keep(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt)
{
    zr_kcp_slot *slot = zr_kcp_slot_take(kcp->blocks, &kcp->rcv, seg->sn);
    if (slot == NULL)
        return false;
    zr_pkt_hold(pkt);
    slot->pkt = pkt;
    slot->off = (uint16_t)(seg->data - pkt->buf);
    slot->len = (uint16_t)seg->len;
    slot->frg = seg->frg;
    return true;
}

/* Hardened, at most once in a while. A question left out is asked again, or was answered meanwhile. */
static bool may_answer(const zr_kcp *kcp, uint32_t *last, uint32_t ms)
{
    if (kcp->conf.harden && ms - *last < ZR_KCP_ANSWER_MS)
        return false;
    *last = ms;
    return true;
}

static void on_push(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms)
{
    bool old = zr_seq_before(seg->sn, kcp->rcv_nxt);

    kcp->counts.segs_received++;
    if (seg->sn != kcp->rcv_nxt)
        kcp->told.lossy_until = kcp->now + ZR_KCP_LOSSY;
    /* Beyond the window: no ACK. Neither beyond the table, which a window of 8192 with a stalled recv could reach. */
    if (!zr_seq_before(seg->sn, kcp->rcv_nxt + kcp->conf.rcv_wnd) ||
        (!old && seg->sn - kcp->rcv_head >= ZR_KCP_WND_MAX)) {
        kcp->counts.window_drops++;
        return;
    }
    if (old || zr_kcp_slot_at(kcp->blocks, &kcp->rcv, seg->sn) != NULL) {
        kcp->counts.duplicates++;
        if (kcp->conf.harden && zr_kcp_acks_recent(&kcp->acks, kcp->blocks, seg->sn))
            return;
        if (old && !may_answer(kcp, &kcp->answered.stale, ms))
            return; /* the una of any answer covers it */
    } else if (!keep(kcp, seg, pkt)) {
        kcp->counts.window_drops++; /* out of blocks: not taken, so not acknowledged */
        return;
    }
    (void)zr_kcp_acks_add(&kcp->acks, kcp->blocks, seg->sn, seg->ts);
    drain(kcp);
}

/* How many segments the next complete message has; 0: none is complete. */
static uint32_t message_segs(const zr_kcp *kcp)
{
    uint32_t have = queued(kcp), n = 0;

    if (have == 0)
        return 0;
    uint32_t segs = zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_head)->frg + 1u;
    if (segs == 1)
        return 1;
    if (have < segs)
        return 0;
    if (kcp->conf.harden)
        return segs; /* bounded by what judge let in, whatever the later frg say */
    while (n < have && zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_head + n)->frg != 0)
        n++;
    return ZR_MIN(n + 1, have);
}

static zr_slice consume(zr_kcp *kcp)
{
    const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_head);
    zr_slice view = { slot->pkt, slot->off, slot->len };
    zr_kcp_slot_give(kcp->blocks, &kcp->rcv, kcp->rcv_head++);
    return view;
}

/* After consuming. A window that was shut is announced as soon as it opens. */
static void reopen(zr_kcp *kcp, bool was_shut)
{
    drain(kcp);
    if (was_shut && queued(kcp) < kcp->conf.rcv_wnd)
        kcp->probe |= ZR_KCP_TELL;
}

int zr_kcp_judge(const zr_kcp *kcp, const zr_seg *seg, int *drop)
{
    if (seg->cmd < ZR_SEG_PUSH || seg->cmd > ZR_SEG_WINS) {
        *drop = ZR_DROP_kcp_cmd;
        return ZR_E_malformed;
    }
    if (!kcp->conf.harden)
        return ZR_OK;
    bool push = seg->cmd == ZR_SEG_PUSH;
    if (push ? seg->len == 0 || seg->len > kcp->mss : seg->len != 0)
        *drop = ZR_DROP_kcp_len;
    else if (push && seg->frg >= kcp->conf.fragments_max)
        *drop = ZR_DROP_kcp_frg;
    else if (zr_seq_before(kcp->snd_nxt, seg->una))
        *drop = ZR_DROP_kcp_una;
    else if (seg->cmd == ZR_SEG_ACK && !zr_seq_before(seg->sn, kcp->snd_nxt))
        *drop = ZR_DROP_kcp_ack;
    else
        return ZR_OK;
    return ZR_E_malformed;
}

void zr_kcp_input_seg(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now)
{
    uint32_t ms = zr_kcp_ms(now);

    kcp->now = now;
    if (seg->cmd == ZR_SEG_ACK)
        zr_kcp_sample(kcp, seg->sn, seg->ts, ms);
    if (!kcp->in.open) {
        kcp->in.open = true;
        kcp->in.acked = false;
        kcp->in.una = kcp->snd_una;
    }
    /* Hardened, an overtaken segment does not set the window back. */
    if (!kcp->conf.harden || !zr_seq_before(seg->una, kcp->snd_una))
        kcp->rmt_wnd = seg->wnd;
    zr_kcp_on_una(kcp, seg->una);
    switch (seg->cmd) {
    case ZR_SEG_PUSH:
        on_push(kcp, seg, pkt, ms);
        break;
    case ZR_SEG_ACK:
        zr_kcp_on_ack(kcp, seg->sn, seg->ts);
        break;
    case ZR_SEG_WASK:
        if (may_answer(kcp, &kcp->answered.wins, ms))
            kcp->probe |= ZR_KCP_TELL;
        break;
    default:
        break;
    }
}

void zr_kcp_input_end(zr_kcp *kcp, zr_ns_t now)
{
    bool advanced = zr_seq_before(kcp->in.una, kcp->snd_una);

    kcp->now = now;
    if (!kcp->in.open)
        return;
    if (kcp->in.acked || advanced)
        zr_kcp_loss_acked(kcp);
    if (advanced)
        kcp->cc->on_advance(kcp);
    if (kcp->conf.flush_at_once)
        zr_kcp_probe_step(kcp, zr_kcp_ms(now));
    kcp->in.open = false;
}

int zr_kcp_recv(zr_kcp *kcp, zr_slice *views, int max)
{
    uint32_t segs = message_segs(kcp);
    bool was_shut = queued(kcp) >= kcp->conf.rcv_wnd;

    if (segs == 0)
        return 0;
    if (max < 0 || segs > (uint32_t)max)
        return ZR_E_full;
    for (uint32_t i = 0; i < segs; i++)
        views[i] = consume(kcp);
    reopen(kcp, was_shut);
    return (int)segs;
}

int zr_kcp_recv_bytes(zr_kcp *kcp, uint8_t *to, size_t size)
{
    uint32_t segs = message_segs(kcp);
    bool was_shut = queued(kcp) >= kcp->conf.rcv_wnd;
    size_t len = 0;

    if (segs == 0)
        return ZR_E_again;
    for (uint32_t i = 0; i < segs; i++)
        len += zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_head + i)->len;
    if (len > size)
        return ZR_E_oversize;
    for (uint32_t i = 0; i < segs; i++) {
        zr_slice view = consume(kcp);
        memcpy(to, zr_slice_data(&view), view.len);
        to += view.len;
        zr_pkt_drop(view.pkt);
    }
    reopen(kcp, was_shut);
    return (int)len;
}
