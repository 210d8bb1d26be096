#include "kcp/zr_kcp_media.h"

#define WALK 8 /* steps a copy may overtake others that are due later */

uint32_t zr_kcp_fresh_head(const zr_kcp *kcp)
{
    uint32_t sn = kcp->media.fresh, end = kcp->snd_nxt;

    for (; sn != end; sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        if (slot != NULL && (slot->media.flags & ZR_KCP_LISTED) == 0)
            break;
    }
    return sn;
}

static void insert_after(zr_kcp *kcp, zr_kcp_line *line, uint16_t at, uint16_t index)
{
    zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, index);

    slot->media.prev = at;
    slot->media.next = at == ZR_KCP_NONE ? line->head : zr_kcp_snd_slot(kcp, at)->media.next;
    if (slot->media.next == ZR_KCP_NONE)
        line->tail = index;
    else
        zr_kcp_snd_slot(kcp, slot->media.next)->media.prev = index;
    if (at == ZR_KCP_NONE)
        line->head = index;
    else
        zr_kcp_snd_slot(kcp, at)->media.next = index;
}

void zr_kcp_unlink(zr_kcp *kcp, zr_kcp_slot *slot)
{
    if ((slot->media.flags & ZR_KCP_LISTED) == 0)
        return;
    zr_kcp_line *line = slot->media.flags & ZR_KCP_COPYING ? &kcp->media.copying : &kcp->media.waiting;

    if (slot->media.prev == ZR_KCP_NONE)
        line->head = slot->media.next;
    else
        zr_kcp_snd_slot(kcp, slot->media.prev)->media.next = slot->media.next;
    if (slot->media.next == ZR_KCP_NONE)
        line->tail = slot->media.prev;
    else
        zr_kcp_snd_slot(kcp, slot->media.next)->media.prev = slot->media.prev;
}

void zr_kcp_line_up(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;
    uint16_t index = sn % ZR_KCP_WND_MAX, at;

    slot->media.flags |= ZR_KCP_LISTED;
    if (slot->media.left == 0) {
        slot->media.flags &= (uint8_t)~ZR_KCP_COPYING;
        slot->media.due = ms - ZR_MIN(slot->media.spread, ZR_KCP_COPY_BACK);
        insert_after(kcp, &media->waiting, media->waiting.tail, index);
        return;
    }
    uint32_t gap = ZR_KCP_COPY_GAP;
    int32_t room = zr_seq_diff(zr_kcp_last_call(kcp, slot), ms);
    if (!zr_kcp_endless(slot) && room < (int32_t)(ZR_KCP_COPY_GAP * slot->media.left))
        gap = room <= 0 ? 1 : ZR_MAX((uint32_t)room / slot->media.left, 1u);
    slot->media.flags |= ZR_KCP_COPYING;
    slot->media.due = ms + gap;
    at = media->copying.tail;
    for (int i = 0;
         i < WALK && at != ZR_KCP_NONE && zr_seq_before(slot->media.due, zr_kcp_snd_slot(kcp, at)->media.due); i++)
        at = zr_kcp_snd_slot(kcp, at)->media.prev;
    insert_after(kcp, &media->copying, at, index);
}

bool zr_kcp_lines_check(const zr_kcp *kcp)
{
    const zr_kcp_line *lines[] = { &kcp->media.waiting, &kcp->media.copying };
    uint32_t listed = 0, flagged = 0, in_flight = 0;

    for (size_t i = 0; i < ZR_LEN(lines); i++) {
        uint16_t before = ZR_KCP_NONE;
        for (uint16_t at = lines[i]->head; at != ZR_KCP_NONE; at = zr_kcp_snd_slot(kcp, at)->media.next) {
            const zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, at);
            if (slot == NULL || slot->media.prev != before || ++listed > kcp->snd_held ||
                (slot->media.flags & ZR_KCP_LISTED) == 0 || ((slot->media.flags & ZR_KCP_COPYING) != 0) != (i == 1))
                return false;
            before = at;
        }
        if (lines[i]->tail != before)
            return false;
    }
    for (uint32_t sn = kcp->snd_una; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn, kcp->snd_nxt)) != kcp->snd_nxt;
         sn++) {
        bool is_listed = (zr_kcp_snd_slot(kcp, sn)->media.flags & ZR_KCP_LISTED) != 0;
        if (!is_listed && zr_seq_before(sn, kcp->media.fresh))
            return false;
        flagged += is_listed;
        in_flight++;
    }
    return listed == flagged && in_flight == kcp->media.in_flight && kcp->media.fresh == zr_kcp_fresh_head(kcp);
}
