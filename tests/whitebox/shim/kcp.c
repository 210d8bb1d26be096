#include <stdlib.h>

#include "base/zr_err.h"
#include "kcp/zr_kcp_heard.h"

typedef struct wb_kcp_words {
    uint32_t state, snd_una, snd_nxt, rcv_nxt, ssthresh, rmt_wnd, cwnd, incr, probe, ts_flush, ts_probe, probe_wait;
    uint32_t rto, nrcv_buf, nrcv_que, nsnd_que, timeouts;
    int32_t srtt, rttvar;
} wb_kcp_words;

typedef struct wb_kcp {
    zr_kcp kcp;
    zr_pool pool;
    zr_kcp_blocks blocks;
    zr_batch batch;
    zr_pack pack;
    void *pool_mem, *blocks_mem, *batch_mem;
} wb_kcp;

static wb_kcp *wb_kcp_new(const zr_kcp_conf *conf, uint32_t packets, uint32_t blocks, uint32_t datagrams, zr_ns_t now)
{
    wb_kcp *end = calloc(1, sizeof *end);
    uint32_t arena = datagrams * conf->mtu;

    ZR_CHECK(end != NULL);
    end->pool_mem = aligned_alloc(ZR_CACHELINE, zr_round_up(zr_pool_bytes(packets), ZR_CACHELINE));
    end->blocks_mem = aligned_alloc(ZR_CACHELINE, zr_round_up(zr_kcp_blocks_bytes(blocks), ZR_CACHELINE));
    end->batch_mem = aligned_alloc(ZR_CACHELINE, zr_round_up(zr_batch_bytes(datagrams, arena), ZR_CACHELINE));
    ZR_CHECK(zr_pool_init(&end->pool, end->pool_mem, packets) == ZR_OK);
    ZR_CHECK(zr_kcp_blocks_init(&end->blocks, end->blocks_mem, blocks) == ZR_OK);
    ZR_CHECK(zr_batch_init(&end->batch, end->batch_mem, datagrams, arena) == ZR_OK);
    ZR_CHECK(zr_kcp_init(&end->kcp, conf, &end->blocks, &end->pool, now) == ZR_OK);
    return end;
}

static int64_t wb_kcp_free(wb_kcp *end)
{
    zr_batch_reset(&end->batch);
    zr_kcp_fini(&end->kcp);
    int64_t left = (int64_t)end->pool.in_use + end->blocks.in_use;
    if (!zr_pool_check(&end->pool) || !zr_kcp_blocks_check(&end->blocks))
        left = -1;
    free(end->pool_mem);
    free(end->blocks_mem);
    free(end->batch_mem);
    free(end);
    return left;
}

static int wb_kcp_send(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now)
{
    return zr_kcp_send_bytes(&end->kcp, data, len, now);
}

static int wb_kcp_send_view(wb_kcp *end, const uint8_t *head, size_t head_len, const uint8_t *body, size_t len,
                            zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_copy(&end->pool, body, len);

    if (pkt == NULL)
        return ZR_E_nomem;
    zr_slice slice = { pkt, pkt->off, pkt->len };
    int rc = zr_kcp_send(&end->kcp, head, head_len, &slice, now);
    zr_pkt_drop(pkt);
    return rc;
}

static int wb_kcp_send_within(wb_kcp *end, const uint8_t *head, size_t head_len, const uint8_t *body, size_t len,
                              uint16_t deadline_ms, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_copy(&end->pool, body, len);

    if (pkt == NULL)
        return ZR_E_nomem;
    zr_slice slice = { pkt, pkt->off, pkt->len };
    int rc = zr_kcp_send_within(&end->kcp, head, head_len, &slice, deadline_ms, now);
    zr_pkt_drop(pkt);
    return rc;
}

static const zr_kcp_plan *wb_kcp_plan(void)
{
    static zr_kcp_plan plan;

    if (plan.residual == 0)
        zr_kcp_plan_init(&plan, 1e-6, 6);
    return &plan;
}

static int wb_kcp_input(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now, int *drop)
{
    zr_pkt *pkt = zr_pool_copy(&end->pool, data, len);
    zr_seg seg;
    size_t pos = 0;
    int rc;

    if (pkt == NULL)
        return ZR_E_nomem;
    *drop = -1;
    while ((rc = zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos)) == ZR_OK)
        if ((rc = zr_kcp_judge(&end->kcp, &seg, drop)) != ZR_OK)
            break;
    if (rc == ZR_E_again) {
        pos = 0;
        while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK)
            zr_kcp_input_seg(&end->kcp, &seg, pkt, now);
        zr_kcp_input_end(&end->kcp, now);
        rc = ZR_OK;
    }
    zr_pkt_drop(pkt);
    return rc;
}

static int wb_kcp_input_stock(wb_kcp *end, const uint8_t *data, size_t len, zr_ns_t now)
{
    zr_kcp *kcp = &end->kcp;
    zr_pkt *pkt = zr_pool_copy(&end->pool, data, len);
    zr_seg seg;
    size_t pos = 0;
    int rc, drop;

    if (pkt == NULL)
        return ZR_E_nomem;
    while ((rc = zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos)) == ZR_OK &&
           (rc = zr_kcp_judge(kcp, &seg, &drop)) == ZR_OK)
        zr_kcp_input_seg(kcp, &seg, pkt, now);
    if (rc != ZR_E_again) { /* nothing counts for fast resend, or for the congestion window */
        kcp->in.acked = false;
        kcp->in.una = kcp->snd_una;
    }
    zr_kcp_input_end(kcp, now);
    kcp->resend_any = kcp->snd_una != kcp->snd_nxt;
    zr_pkt_drop(pkt);
    return rc == ZR_E_again ? ZR_OK : rc;
}

static int wb_kcp_recv(wb_kcp *end, uint8_t *to, size_t size)
{
    return zr_kcp_recv_bytes(&end->kcp, to, size);
}

static void wb_kcp_on_deadline(wb_kcp *end, zr_ns_t now)
{
    zr_kcp_on_deadline(&end->kcp, now);
}

static void wb_kcp_flush(wb_kcp *end)
{
    zr_kcp_flush(&end->kcp);
}

static int wb_kcp_output(wb_kcp *end, bool runs, zr_ns_t now)
{
    zr_addr nowhere = { .family = 4 };

    zr_batch_reset(&end->batch);
    zr_pack_begin(&end->pack, &end->batch, &nowhere, ZR_SOCK_LINK, (uint16_t)end->kcp.conf.mtu, 0, 0, runs);
    int rc = zr_kcp_output(&end->kcp, &end->pack, now);
    zr_pack_finish(&end->pack);
    return rc;
}

static uint32_t wb_kcp_datagrams(const wb_kcp *end)
{
    return end->batch.count;
}

static const uint8_t *wb_kcp_datagram(const wb_kcp *end, uint32_t i, size_t *len)
{
    *len = end->batch.tx[i].len;
    return end->batch.tx[i].data;
}

static zr_ns_t wb_kcp_deadline(const wb_kcp *end)
{
    return zr_kcp_deadline(&end->kcp);
}

static bool wb_kcp_due(const wb_kcp *end, zr_ns_t now)
{
    return zr_kcp_due(&end->kcp, now);
}

static uint32_t wb_kcp_waiting(const wb_kcp *end)
{
    return zr_kcp_waiting(&end->kcp);
}

static bool wb_kcp_check(const wb_kcp *end)
{
    return zr_kcp_check(&end->kcp) && zr_pool_check(&end->pool) && zr_kcp_blocks_check(&end->blocks);
}

static uint32_t wb_kcp_packets(const wb_kcp *end)
{
    return end->pool.in_use;
}

static uint32_t wb_kcp_blocks(const wb_kcp *end)
{
    return end->blocks.in_use;
}

static wb_kcp_words wb_kcp_state(const wb_kcp *end)
{
    const zr_kcp *kcp = &end->kcp;
    return (wb_kcp_words){
        .state = kcp->state,
        .snd_una = kcp->snd_una,
        .snd_nxt = kcp->snd_nxt,
        .rcv_nxt = kcp->rcv_nxt,
        .ssthresh = kcp->ssthresh,
        .rmt_wnd = kcp->rmt_wnd,
        .cwnd = kcp->cwnd,
        .incr = kcp->incr,
        .probe = kcp->probe,
        .ts_flush = kcp->ts_flush,
        .ts_probe = kcp->ts_probe,
        .probe_wait = kcp->probe_wait,
        .rto = kcp->rto,
        .nrcv_buf = zr_kcp_slots_taken(kcp->blocks, &kcp->rcv, kcp->rcv_nxt, kcp->rcv_top),
        .nrcv_que = kcp->rcv_nxt - kcp->rcv_head,
        .nsnd_que = kcp->snd_end - kcp->snd_nxt,
        .timeouts = (uint32_t)kcp->counts.retrans_timeout,
        .srtt = kcp->srtt,
        .rttvar = kcp->rttvar,
    };
}

static zr_kcp_counts wb_kcp_counted(const wb_kcp *end)
{
    return *zr_kcp_counted(&end->kcp);
}

static zr_kcp_estimates wb_kcp_estimated(const wb_kcp *end)
{
    return zr_kcp_estimated(&end->kcp);
}

static uint32_t wb_kcp_timer_ms(const wb_kcp *end)
{
    return end->kcp.conf.profile == ZR_KCP_MEDIA ? zr_kcp_estimated(&end->kcp).timer_ms : end->kcp.rto;
}

static uint32_t wb_kcp_owed(const wb_kcp *end)
{
    const zr_kcp *kcp = &end->kcp;
    const zr_kcp_heard *heard = kcp->conf.profile == ZR_KCP_MEDIA ? zr_kcp_heard_of(kcp) : NULL;

    return kcp->acks.count - kcp->acks.next + (heard == NULL ? 0 : heard->end - heard->first);
}

static uint32_t wb_kcp_held(const wb_kcp *end)
{
    return zr_kcp_slots_anywhere(&end->blocks, &end->kcp.rcv) + zr_kcp_whole_count(&end->kcp);
}

static uint32_t wb_kcp_rcv_top(const wb_kcp *end)
{
    return end->kcp.rcv_top;
}
