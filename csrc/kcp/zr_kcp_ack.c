#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"

void zr_kcp_acks_init(zr_kcp_acks *acks, uint32_t max)
{
    acks->count = acks->next = 0;
    acks->max = ZR_MIN(max, ZR_KCP_ACKS_INLINE + ZR_KCP_ACK_BLOCKS * (uint32_t)ZR_KCP_ACKS_BLOCK);
    for (uint32_t i = 0; i < ZR_KCP_ACK_BLOCKS; i++)
        acks->block[i] = ZR_KCP_NONE;
}

void zr_kcp_acks_clear(zr_kcp_acks *acks, zr_kcp_blocks *blocks)
{
    for (uint32_t i = 0; i < ZR_KCP_ACK_BLOCKS && acks->block[i] != ZR_KCP_NONE; i++) {
        zr_kcp_block_give(blocks, acks->block[i]);
        acks->block[i] = ZR_KCP_NONE;
    }
    acks->count = acks->next = 0;
}

zr_kcp_ack *zr_kcp_acks_at(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t i)
{
    if (i < ZR_KCP_ACKS_INLINE)
        return (zr_kcp_ack *)&acks->first[i];
    i -= ZR_KCP_ACKS_INLINE;
    return (zr_kcp_ack *)zr_kcp_block_mem(blocks, acks->block[i / ZR_KCP_ACKS_BLOCK]) + i % ZR_KCP_ACKS_BLOCK;
}

bool zr_kcp_acks_add(zr_kcp_acks *acks, zr_kcp_blocks *blocks, uint32_t sn, uint32_t ts)
{
    if (acks->count == acks->max)
        return false;
    if (acks->count >= ZR_KCP_ACKS_INLINE) {
        uint16_t *block = &acks->block[(acks->count - ZR_KCP_ACKS_INLINE) / ZR_KCP_ACKS_BLOCK];
        if (*block == ZR_KCP_NONE)
            *block = (uint16_t)zr_kcp_block_take(blocks);
        if (*block == ZR_KCP_NONE)
            return false;
    }
    *zr_kcp_acks_at(acks, blocks, acks->count++) = (zr_kcp_ack){ sn, ts };
    return true;
}

/* Looks back over the last few only: enough against a repeated segment, and a flood of others is bounded by `max`. */
bool zr_kcp_acks_recent(const zr_kcp_acks *acks, const zr_kcp_blocks *blocks, uint32_t sn)
{
    uint32_t from = acks->count - ZR_MIN(acks->count - acks->next, 16u);

    for (uint32_t i = from; i < acks->count; i++)
        if (zr_kcp_acks_at(acks, blocks, i)->sn == sn)
            return true;
    return false;
}

/* Over the holes that single ACKs have left, to the first segment still in flight. */
static void shrink(zr_kcp *kcp)
{
    kcp->snd_una = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, kcp->snd_nxt);
}

void zr_kcp_on_una(zr_kcp *kcp, uint32_t una)
{
    if (zr_seq_before(kcp->snd_nxt, una))
        una = kcp->snd_nxt; /* only without hardening: zr_kcp_judge refuses it */
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, una); zr_seq_before(sn, una);
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, una))
        zr_kcp_snd_drop(kcp, sn);
    shrink(kcp);
}

/* Hardened, a sample counts only for a segment in flight and a time at which we sent it: a repeated ACK is none. */
void zr_kcp_sample(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms)
{
    int32_t rtt = zr_seq_diff(ms, ts);

    if (kcp->conf.harden) {
        bool in_flight = !zr_seq_before(sn, kcp->snd_una) && zr_seq_before(sn, kcp->snd_nxt);
        const zr_kcp_slot *slot = in_flight ? zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn) : NULL;
        if (slot == NULL || !zr_kcp_loss_sent_at(slot, ts) || rtt > ZR_KCP_RTT_SANE)
            return;
    }
    if (rtt >= 0)
        zr_kcp_on_rtt(kcp, rtt);
}

void zr_kcp_on_ack(zr_kcp *kcp, uint32_t sn, uint32_t ts)
{
    bool known = !zr_seq_before(sn, kcp->snd_una) && zr_seq_before(sn, kcp->snd_nxt) &&
                 zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn) != NULL;

    if (known) {
        zr_kcp_snd_drop(kcp, sn);
        shrink(kcp);
    } else if (kcp->conf.harden) {
        return; /* repeated: no second sign that something before it is missing */
    }
    /* Which ACK of the datagram counts for fast resend; the conservative rule also wants its ts to be later. */
    if (!kcp->in.acked ||
        (zr_seq_before(kcp->in.ack_sn, sn) && (!kcp->conf.conservative || zr_seq_before(kcp->in.ack_ts, ts)))) {
        kcp->in.ack_sn = sn;
        kcp->in.ack_ts = ts;
    }
    kcp->in.acked = true;
}

/* What was acknowledged before and una still does not cover, behind the new ones and as far as there is room. */
static void repeat_told(zr_kcp *kcp, zr_pack *pack, zr_seg ack)
{
    zr_kcp_told *told = &kcp->told;
    bool any = false;

    for (uint32_t i = 1; i <= ZR_MIN(told->count, ZR_KCP_TOLD); i++) {
        uint32_t at = (told->count - i) % ZR_KCP_TOLD;
        if (told->left[at] == 0 || zr_seq_before(told->ring[at].sn, kcp->rcv_nxt))
            continue;
        any = true;
        ack.sn = told->ring[at].sn;
        ack.ts = told->ring[at].ts;
        if (zr_pack_put(pack, &ack, NULL, 0, NULL, 0) != ZR_OK)
            return;
        told->left[at]--;
    }
    if (!any)
        told->count = 0;
}

static void note_told(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_told *told = &kcp->told;
    uint32_t from = kcp->acks.count - ZR_MIN(kcp->acks.count, ZR_KCP_TOLD);

    for (uint32_t i = from; i < kcp->acks.count; i++) {
        const zr_kcp_ack *ack = zr_kcp_acks_at(&kcp->acks, kcp->blocks, i);
        if (zr_seq_before(ack->sn, kcp->rcv_nxt))
            continue;
        told->left[told->count % ZR_KCP_TOLD] = ZR_KCP_TOLD_TIMES;
        told->ring[told->count++ % ZR_KCP_TOLD] = *ack;
    }
    told->again = kcp->now < told->lossy_until;
    told->again_at = ms + ZR_KCP_AGAIN_MS;
}

int zr_kcp_put_acks(zr_kcp *kcp, zr_pack *pack, zr_seg *last, uint32_t ms)
{
    while (kcp->acks.next < kcp->acks.count) {
        const zr_kcp_ack *ack = zr_kcp_acks_at(&kcp->acks, kcp->blocks, kcp->acks.next);
        last->sn = ack->sn;
        last->ts = ack->ts;
        if (zr_pack_put(pack, last, NULL, 0, NULL, 0) != ZR_OK)
            return ZR_E_full;
        kcp->acks.next++;
        kcp->counts.acks_sent++;
    }
    if (kcp->acks.count == 0)
        return ZR_OK;
    if (kcp->conf.flush_at_once) {
        repeat_told(kcp, pack, *last);
        note_told(kcp, ms);
    }
    zr_kcp_acks_clear(&kcp->acks, kcp->blocks);
    return ZR_OK;
}

bool zr_kcp_again_due(const zr_kcp *kcp, uint32_t ms)
{
    return kcp->told.again && !zr_seq_before(ms, kcp->told.again_at);
}

void zr_kcp_tell_again(zr_kcp *kcp, zr_pack *pack, const zr_seg *ack, uint32_t ms)
{
    if (!zr_kcp_again_due(kcp, ms))
        return;
    kcp->told.again = false;
    kcp->probe |= ZR_KCP_TELL;
    repeat_told(kcp, pack, *ack);
}
