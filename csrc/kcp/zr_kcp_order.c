/*
 * zr_kcp_order.c - delivery in order: what comes early is held until the gap before it is filled.
 */
#include "kcp/zr_kcp_priv.h"

/* Passes what now stands in order on to recv, as far as its queue reaches. */
static void drain(zr_kcp *kcp)
{
    while (zr_kcp_queued(kcp) < kcp->conf.rcv_wnd && zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_nxt) != NULL)
        kcp->rcv_nxt++;
}

static bool same_bytes(const zr_kcp_slot *slot, const zr_seg *seg)
{
    return slot->len == seg->len && slot->frg == seg->frg &&
           memcmp(slot->pkt->buf + slot->off, seg->data, seg->len) == 0;
}

static enum zr_kcp_taken take(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms)
{
    (void)ms;
    bool held = !zr_seq_before(seg->sn, kcp->rcv_head) && seg->sn - kcp->rcv_head < ZR_KCP_WND_MAX;
    const zr_kcp_slot *had = held ? zr_kcp_slot_at(kcp->blocks, &kcp->rcv, seg->sn) : NULL;

    if (had != NULL && !same_bytes(had, seg))
        kcp->counts.conflict++;
    if (had != NULL || zr_seq_before(seg->sn, kcp->rcv_nxt))
        return ZR_KCP_KNOWN;
    /* Beyond the table, which a window of 8192 with a stalled recv could reach; or out of blocks. */
    if (seg->sn - kcp->rcv_head >= ZR_KCP_WND_MAX || zr_kcp_rcv_keep(kcp, seg, pkt) == NULL)
        return ZR_KCP_REFUSED;
    if (!zr_seq_before(seg->sn, kcp->rcv_top))
        kcp->rcv_top = seg->sn + 1;
    drain(kcp);
    return ZR_KCP_NEW;
}

static const zr_kcp_slot *peek(const zr_kcp *kcp, uint32_t i)
{
    return zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_head + i);
}

static uint32_t segments(const zr_kcp *kcp)
{
    uint32_t have = zr_kcp_queued(kcp), n = 0;

    if (have == 0)
        return 0;
    uint32_t segs = peek(kcp, 0)->frg + 1u;
    if (segs == 1)
        return 1;
    if (have < segs)
        return 0;
    if (kcp->conf.harden)
        return segs; /* bounded by what judge let in, whatever the later frg say */
    while (n < have && peek(kcp, n)->frg != 0)
        n++;
    return ZR_MIN(n + 1, have);
}

static uint32_t message(const zr_kcp *kcp, size_t *len)
{
    uint32_t segs = segments(kcp);

    *len = 0;
    for (uint32_t i = 0; i < segs; i++)
        *len += peek(kcp, i)->len;
    return segs;
}

static zr_slice consume(zr_kcp *kcp)
{
    const zr_kcp_slot *slot = peek(kcp, 0);
    zr_slice view = { slot->pkt, slot->off, slot->len };
    zr_kcp_slot_give(kcp->blocks, &kcp->rcv, kcp->rcv_head++);
    drain(kcp);
    return view;
}

static int recv(zr_kcp *kcp, zr_slice *views, int max)
{
    uint32_t segs = segments(kcp);

    if (segs > (uint32_t)ZR_MAX(max, 0))
        return ZR_E_full;
    for (uint32_t i = 0; i < segs; i++)
        views[i] = consume(kcp);
    return (int)segs;
}

static void expire(zr_kcp *kcp, uint32_t ms)
{
    (void)kcp;
    (void)ms;
}

static bool deadline(const zr_kcp *kcp, uint32_t *ms)
{
    (void)kcp;
    (void)ms;
    return false;
}

static void fini(zr_kcp *kcp)
{
    uint32_t end = kcp->rcv_head + ZR_KCP_WND_MAX;

    for (uint32_t sn; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, kcp->rcv_head, end)) != end;) {
        zr_pkt_drop(zr_kcp_slot_at(kcp->blocks, &kcp->rcv, sn)->pkt);
        zr_kcp_slot_give(kcp->blocks, &kcp->rcv, sn);
    }
    kcp->rcv_nxt = kcp->rcv_top = kcp->rcv_head;
}

static bool check(const zr_kcp *kcp)
{
    uint32_t in_order = zr_kcp_slots_taken(kcp->blocks, &kcp->rcv, kcp->rcv_head, kcp->rcv_nxt);
    uint32_t held = zr_kcp_slots_taken(kcp->blocks, &kcp->rcv, kcp->rcv_nxt, kcp->rcv_head + ZR_KCP_WND_MAX);

    if (zr_kcp_queued(kcp) > kcp->conf.rcv_wnd || in_order != zr_kcp_queued(kcp) ||
        in_order + held != zr_kcp_slots_anywhere(kcp->blocks, &kcp->rcv))
        return false;
    /* What stands in order is in the queue, unless that is full. */
    return zr_kcp_queued(kcp) == kcp->conf.rcv_wnd || zr_kcp_slot_at(kcp->blocks, &kcp->rcv, kcp->rcv_nxt) == NULL;
}

const zr_kcp_delivery zr_kcp_in_order = {
    .name = "in order",
    .take = take,
    .message = message,
    .consume = consume,
    .recv = recv,
    .expire = expire,
    .deadline = deadline,
    .fini = fini,
    .check = check,
};
