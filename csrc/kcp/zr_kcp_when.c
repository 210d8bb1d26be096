#include "kcp/zr_kcp_media.h"

uint32_t zr_kcp_lost_at(const zr_kcp *kcp, const zr_kcp_slot *slot)
{
    const zr_kcp_media *media = &kcp->media;
    uint32_t wait = zr_kcp_path_timer(&media->path);
    uint32_t since = (slot->media.flags & ZR_KCP_LISTED) != 0 ? slot->media.due : slot->ts;

    if (media->any_acked && zr_seq_before(since, media->newest))
        wait = ZR_MIN(wait, zr_kcp_path_patience(&media->path));
    uint32_t at = since + wait;
    if (zr_kcp_endless(slot) || zr_seq_before(at, slot->media.give_up))
        return at;
    /* Beyond its deadline it is only here because it is needed, as a probe. */
    return zr_seq_before(since, slot->media.give_up) ? slot->media.give_up : since + ZR_MAX(wait, ZR_KCP_PROBE_MIN);
}

bool zr_kcp_needed(const zr_kcp *kcp, uint32_t sn)
{
    return sn + 1 == kcp->snd_nxt && kcp->snd_nxt - kcp->peer_una >= ZR_MIN(kcp->conf.snd_wnd, kcp->rmt_wnd);
}

bool zr_kcp_trickles(const zr_kcp *kcp)
{
    return kcp->media.dark && kcp->snd_nxt - kcp->peer_una >= ZR_MIN(kcp->conf.snd_wnd, kcp->rmt_wnd) / 2;
}

uint32_t zr_kcp_new_at(const zr_kcp *kcp, uint32_t ms)
{
    const zr_kcp_media *media = &kcp->media;

    if (zr_kcp_trickles(kcp))
        return zr_seq_before(ms, media->trickle_at) ? media->trickle_at : ms;
    if (!zr_kcp_in_pace(kcp, ms))
        return media->pace_from + ZR_KCP_PACE_MS;
    return ms;
}

/* When the head of a line wants a call. In the dark that is the next probe, unless it is given up before. */
static uint32_t head_at(const zr_kcp *kcp, uint32_t sn)
{
    const zr_kcp_media *media = &kcp->media;
    const zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, sn);
    uint32_t at = zr_kcp_lost_at(kcp, slot);

    if (!media->dark || !zr_seq_before(at, media->probe_at))
        return at;
    if (!zr_kcp_endless(slot) && zr_seq_before(slot->media.give_up, media->probe_at) && !zr_kcp_needed(kcp, sn))
        return zr_seq_before(at, slot->media.give_up) ? slot->media.give_up : at;
    return media->probe_at;
}

/* Until the heads of the lines, or the pace, want a call. */
static int32_t send_wait(const zr_kcp *kcp, uint32_t ms)
{
    const zr_kcp_media *media = &kcp->media;
    int32_t wait = ZR_KCP_NEVER, pace;

    if (media->in_flight == 0)
        return ZR_KCP_NEVER;
    if (media->fresh != kcp->snd_nxt)
        wait = zr_seq_diff(head_at(kcp, media->fresh), ms);
    if (media->waiting.head != ZR_KCP_NONE)
        wait = ZR_MIN(wait, zr_seq_diff(head_at(kcp, zr_kcp_snd_sn(kcp, media->waiting.head)), ms));
    if (media->copying.head != ZR_KCP_NONE)
        wait = ZR_MIN(wait, zr_seq_diff(zr_kcp_snd_slot(kcp, media->copying.head)->media.due, ms));
    if (media->paced < media->slice)
        return wait;
    pace = zr_seq_diff(media->pace_from + ZR_KCP_PACE_MS, ms);
    return ZR_MAX(wait, pace);
}

int32_t zr_kcp_media_wait(const zr_kcp *kcp, uint32_t ms)
{
    int32_t wait = ZR_KCP_NEVER;

    if (kcp->probe != 0 || kcp->tell.owed || kcp->tell.cut || kcp->tell.first_una)
        return 0;
    if (zr_kcp_snd_admissible(kcp)) {
        wait = zr_seq_diff(zr_kcp_new_at(kcp, ms), ms);
        if (wait <= 0)
            return 0;
    }
    if (kcp->probe_wait != 0)
        wait = ZR_MIN(wait, zr_seq_diff(kcp->ts_probe, ms));
    if (kcp->tell.armed)
        wait = ZR_MIN(wait, zr_seq_diff(kcp->tell.at, ms));
    return ZR_MIN(wait, send_wait(kcp, ms));
}
