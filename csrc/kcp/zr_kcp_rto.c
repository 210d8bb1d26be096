#include "kcp/zr_kcp_priv.h"

/* Every division truncates toward zero and a sample of 0 leaves srtt "unsampled": as the stock engine counts. */
void zr_kcp_on_rtt(zr_kcp *kcp, int32_t rtt_ms)
{
    int64_t rtt = rtt_ms;

    if (kcp->srtt == 0) {
        kcp->srtt = rtt_ms;
        kcp->rttvar = rtt_ms / 2;
    } else {
        int64_t delta = rtt > kcp->srtt ? rtt - kcp->srtt : kcp->srtt - rtt;
        kcp->rttvar = (int32_t)((3 * (int64_t)kcp->rttvar + delta) / 4);
        kcp->srtt = (int32_t)((7 * (int64_t)kcp->srtt + rtt) / 8);
        kcp->srtt = ZR_MAX(kcp->srtt, 1);
    }
    int64_t slack = ZR_MAX(4 * (int64_t)kcp->rttvar, (int64_t)kcp->conf.interval_ms);
    int64_t rto = kcp->srtt + slack;
    rto = ZR_MAX(rto, (int64_t)kcp->rto_min);
    kcp->rto = (uint32_t)ZR_MIN(rto, (int64_t)ZR_KCP_RTO_MAX);
}
