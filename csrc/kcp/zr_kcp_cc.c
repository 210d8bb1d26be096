#include "kcp/zr_kcp_priv.h"

static void on_advance(zr_kcp *kcp)
{
    uint32_t mss = kcp->mss;

    if (kcp->cwnd >= kcp->rmt_wnd)
        return;
    if (kcp->cwnd < kcp->ssthresh) {
        kcp->cwnd++;
        kcp->incr += mss;
    } else {
        kcp->incr = ZR_MAX(kcp->incr, mss);
        kcp->incr += mss * mss / kcp->incr + mss / 16;
        if ((kcp->cwnd + 1) * mss <= kcp->incr)
            kcp->cwnd = (kcp->incr + mss - 1) / mss;
    }
    if (kcp->cwnd > kcp->rmt_wnd) {
        kcp->cwnd = kcp->rmt_wnd;
        kcp->incr = kcp->rmt_wnd * mss;
    }
}

static void on_flushed(zr_kcp *kcp, uint32_t limit)
{
    if (kcp->saw_fast) {
        kcp->ssthresh = ZR_MAX((kcp->snd_nxt - kcp->snd_una) / 2, 2u);
        kcp->cwnd = kcp->ssthresh + kcp->conf.resend;
        kcp->incr = kcp->cwnd * kcp->mss;
    }
    if (kcp->saw_timeout) {
        kcp->ssthresh = ZR_MAX(limit / 2, 2u);
        kcp->cwnd = 1;
        kcp->incr = kcp->mss;
    }
    if (kcp->cwnd < 1) {
        kcp->cwnd = 1;
        kcp->incr = kcp->mss;
    }
}

static uint32_t window_stock(const zr_kcp *kcp)
{
    return kcp->cwnd;
}

static uint32_t window_open(const zr_kcp *kcp)
{
    (void)kcp;
    return UINT32_MAX;
}

const zr_kcp_cc zr_kcp_cc_stock = { "stock", on_advance, on_flushed, window_stock };
const zr_kcp_cc zr_kcp_cc_open = { "open", on_advance, on_flushed, window_open };
