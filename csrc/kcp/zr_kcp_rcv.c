#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"
#include "stat/zr_drop.h"

bool zr_kcp_may_answer(const zr_kcp *kcp, uint32_t *last, uint32_t ms)
{
    if (kcp->conf.harden && ms - *last < ZR_KCP_ANSWER_MS)
        return false;
    *last = ms;
    return true;
}

static void on_push(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms)
{
    enum zr_kcp_taken taken = ZR_KCP_REFUSED;

    kcp->counts.segs_received++;
    if (zr_seq_before(seg->sn, kcp->rcv_nxt + kcp->conf.rcv_wnd))
        taken = kcp->delivery->take(kcp, seg, pkt, ms);
    if (taken == ZR_KCP_REFUSED) {
        kcp->counts.window_drops++;
        return;
    }
    if (taken == ZR_KCP_KNOWN)
        kcp->counts.duplicates++;
    kcp->rules->arrived(kcp, seg, taken, ms);
}

/* After consuming: a window that was shut is announced as soon as it opens. */
static void reopen(zr_kcp *kcp)
{
    if (zr_kcp_queued(kcp) < kcp->conf.rcv_wnd)
        kcp->rules->reopened(kcp);
}

static bool is_shut(const zr_kcp *kcp)
{
    return zr_kcp_queued(kcp) >= kcp->conf.rcv_wnd;
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
    if (push ? seg->len == 0 || seg->len > kcp->conf.mtu - ZR_SEG_HEAD : seg->len != 0)
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
    uint32_t ms = zr_kcp_at(kcp, now);

    if (seg->cmd == ZR_SEG_ACK)
        zr_kcp_sample(kcp, seg->sn, seg->ts, ms);
    if (!kcp->in.open) {
        kcp->in.open = true;
        kcp->in.acked = false;
        kcp->in.una = kcp->snd_una;
    }
    /* Hardened, an older segment does not set the window back. Equal una: zr_kcp_input_overtaken, by who can tell. */
    if (!kcp->conf.harden || !zr_seq_before(seg->una, kcp->peer_una)) {
        kcp->rmt_wnd = seg->wnd;
        kcp->peer_una = seg->una;
    }
    if (zr_seq_before(kcp->snd_una, seg->una))
        zr_kcp_on_una(kcp, seg->una, ms);
    if (seg->cmd == ZR_SEG_PUSH)
        on_push(kcp, seg, pkt, ms);
    else if (seg->cmd == ZR_SEG_ACK)
        zr_kcp_on_ack(kcp, seg->sn, seg->ts, ms);
    else if (seg->cmd == ZR_SEG_WASK && zr_kcp_may_answer(kcp, &kcp->answered.wins, ms))
        kcp->probe |= ZR_KCP_TELL;
}

void zr_kcp_input_overtaken(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now)
{
    uint32_t wnd = kcp->rmt_wnd, una = kcp->peer_una;

    zr_kcp_input_seg(kcp, seg, pkt, now);
    kcp->rmt_wnd = wnd; /* nothing in between has looked at them */
    kcp->peer_una = una;
}

void zr_kcp_input_end(zr_kcp *kcp, zr_ns_t now)
{
    bool advanced = zr_seq_before(kcp->in.una, kcp->snd_una);
    uint32_t ms = zr_kcp_at(kcp, now);

    if (!kcp->in.open)
        return;
    kcp->rules->heard(kcp, kcp->in.acked || advanced, ms);
    if (advanced && kcp->cc != NULL)
        kcp->cc->on_advance(kcp);
    if ((kcp->rmt_wnd == 0 || kcp->probe_wait != 0) && kcp->conf.profile == ZR_KCP_MEDIA)
        zr_kcp_probe_step(kcp, ms);
    kcp->heard = now;
    kcp->in.open = false;
}

int zr_kcp_recv(zr_kcp *kcp, zr_slice *views, int max)
{
    bool was_shut = is_shut(kcp);
    int segs = kcp->delivery->recv(kcp, views, max);

    if (was_shut && segs > 0)
        reopen(kcp);
    return segs;
}

int zr_kcp_recv_bytes(zr_kcp *kcp, uint8_t *to, size_t size)
{
    size_t len;
    uint32_t segs = kcp->delivery->message(kcp, &len);

    if (segs == 0)
        return ZR_E_again;
    if (len > size)
        return ZR_E_oversize;
    bool was_shut = is_shut(kcp);
    for (uint32_t i = 0; i < segs; i++) {
        zr_slice view = kcp->delivery->consume(kcp);
        memcpy(to, zr_slice_data(&view), view.len);
        to += view.len;
        zr_pkt_drop(view.pkt);
    }
    if (was_shut)
        reopen(kcp);
    return (int)len;
}
