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

static void settle(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, const uint32_t *ts, uint32_t ms)
{
    kcp->rules->settled(kcp, sn, slot, ts, ms);
    zr_kcp_snd_drop(kcp, sn, slot);
}

/* What is there of [sn, end), which lies in one block: its word is read and written once. */
static void settle_block(zr_kcp *kcp, uint32_t sn, uint32_t end, uint32_t ms)
{
    uint32_t block = zr_kcp_block_of(&kcp->snd, sn);
    uint64_t gone = 0;

    if (block == ZR_KCP_NONE)
        return;
    uint64_t used = zr_kcp_block_infos(kcp->blocks)[block].used;
    for (uint32_t at = sn; at != end; at++) {
        zr_kcp_slot *slot = zr_kcp_slot_in(kcp->blocks, block, at);
        if ((used >> at % ZR_KCP_BLOCK & 1) == 0)
            continue;
        kcp->rules->settled(kcp, at, slot, NULL, ms);
        zr_pkt_drop(slot->pkt);
        gone |= (uint64_t)1 << at % ZR_KCP_BLOCK;
        kcp->snd_held--;
    }
    if (gone != 0)
        zr_kcp_slots_give(kcp->blocks, &kcp->snd, sn, gone);
}

void zr_kcp_on_una(zr_kcp *kcp, uint32_t una, uint32_t ms)
{
    if (zr_seq_before(kcp->snd_nxt, una))
        una = kcp->snd_nxt; /* only without hardening: zr_kcp_judge refuses it */

    for (uint32_t sn = kcp->snd_una, end; sn != una; sn = end) { /* no further than the window, and mostly there */
        end = sn + ZR_MIN(una - sn, ZR_KCP_BLOCK - sn % ZR_KCP_BLOCK);
        settle_block(kcp, sn, end, ms);
    }
    kcp->snd_una = una;
    zr_kcp_snd_shrink(kcp);
}

/* Hardened, a sample counts only for a segment in flight and a time at which we sent it: a repeated ACK is none. */
void zr_kcp_sample(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms)
{
    int32_t rtt = zr_seq_diff(ms, ts);

    if (kcp->conf.harden) {
        bool in_flight = !zr_seq_before(sn, kcp->snd_una) && zr_seq_before(sn, kcp->snd_nxt);
        const zr_kcp_slot *slot = in_flight ? zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn) : NULL;
        if (slot == NULL)
            return;
        if (rtt < 0 || rtt > ZR_KCP_RTT_SANE || !kcp->rules->sent_at(slot, ts)) {
            kcp->counts.ack_ts++;
            return;
        }
    }
    if (rtt >= 0)
        kcp->rules->rtt(kcp, ts, rtt, ms);
}

void zr_kcp_on_ack(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t ms)
{
    bool known = !zr_seq_before(sn, kcp->snd_una) && zr_seq_before(sn, kcp->snd_nxt);
    zr_kcp_slot *slot = known ? zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn) : NULL;

    if (slot != NULL) {
        settle(kcp, sn, slot, &ts, ms);
        if (sn == kcp->snd_una)
            zr_kcp_snd_shrink(kcp);
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

int zr_kcp_put_acks(zr_kcp *kcp, zr_pack *pack, zr_seg *last)
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
    if (kcp->acks.count > 0)
        zr_kcp_acks_clear(&kcp->acks, kcp->blocks);
    return ZR_OK;
}
