#include "kcp/zr_kcp_media.h"

#define PACE_KBPS 20000u /* first copies of slower streams are never held back */

uint32_t zr_kcp_lost_at(const zr_kcp *kcp, const zr_kcp_slot *slot)
{
    const zr_kcp_media *media = &kcp->media;
    uint32_t wait = zr_kcp_path_timer(&media->path);
    uint32_t since = (slot->media.flags & ZR_KCP_LISTED) != 0 ? slot->media.due : slot->ts;

    if (media->any_acked && zr_seq_before(since, media->newest))
        wait = ZR_MIN(wait, zr_kcp_path_srtt(&media->path) + ZR_KCP_PATH_SLACK);
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
    if (media->path.rate_kbps > PACE_KBPS && !zr_kcp_has_pace(kcp, ms))
        return media->pace_from + ZR_KCP_PACE_MS;
    return ms;
}

static void sooner(bool any, const uint32_t *at, bool *have, uint32_t *ms)
{
    if (any && (!*have || zr_seq_before(*at, *ms)))
        *ms = *at;
    *have |= any;
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

/* When the heads of the lines, or the pace, want a call. */
static bool next_send(const zr_kcp *kcp, uint32_t *ms)
{
    const zr_kcp_media *media = &kcp->media;
    uint32_t at = 0;
    bool any = false;

    if (media->in_flight == 0)
        return false;
    if (media->copying.head != ZR_KCP_NONE)
        sooner(true, &zr_kcp_snd_slot(kcp, media->copying.head)->media.due, &any, ms);
    if (media->waiting.head != ZR_KCP_NONE) {
        at = head_at(kcp, zr_kcp_snd_sn(kcp, media->waiting.head));
        sooner(true, &at, &any, ms);
    }
    if (media->fresh != kcp->snd_nxt) {
        at = head_at(kcp, media->fresh);
        sooner(true, &at, &any, ms);
    }
    if (any && zr_seq_before(*ms, media->pace_from + ZR_KCP_PACE_MS) && !zr_kcp_has_pace(kcp, media->pace_from))
        *ms = media->pace_from + ZR_KCP_PACE_MS;
    return any;
}

static bool new_due(const zr_kcp *kcp, uint32_t ms)
{
    return zr_kcp_snd_admissible(kcp) && zr_kcp_new_at(kcp, ms) == ms;
}

bool zr_kcp_media_due(const zr_kcp *kcp, uint32_t ms)
{
    uint32_t at;

    if (kcp->probe != 0 || zr_kcp_tell_due(kcp, ms) || new_due(kcp, ms))
        return true;
    if (kcp->probe_wait != 0 && !zr_seq_before(ms, kcp->ts_probe))
        return true;
    return next_send(kcp, &at) && !zr_seq_before(ms, at);
}

bool zr_kcp_media_deadline(const zr_kcp *kcp, uint32_t *ms)
{
    uint32_t now = zr_kcp_ms(kcp->now), next = now, at = 0;
    bool have = false;

    if (kcp->probe != 0 || kcp->tell.owed || kcp->tell.cut) {
        *ms = now;
        return true;
    }
    if (zr_kcp_snd_admissible(kcp)) {
        next = zr_kcp_new_at(kcp, now);
        sooner(true, &next, &have, ms);
    }
    sooner(kcp->probe_wait != 0, &kcp->ts_probe, &have, ms);
    sooner(kcp->tell.armed, &kcp->tell.at, &have, ms);
    sooner(next_send(kcp, &at), &at, &have, ms);
    return have;
}
