/* RTCP of subscribers, and the key frames they ask for. */
#include "forward/zr_fwd_priv.h"

#include "time/zr_rate.h"
#include "wire/zr_rtp.h"

#define KEY_EVERY ZR_MS(500)
#define NACK_MAX  1024 /* sequence numbers looked at per NACK packet */

/* What a subscriber may ask for: a thousand packets a second, and 512 at once. A datagram can name six thousand, so
 * that its answers would be five thousand times its size. */
#define ASK_EVERY ZR_MS(1)
#define ASK_BURST 512

void zr_fwd_want_key(zr_fwd *fwd, zr_stream *stream, uint32_t index, zr_ns_t now)
{
    zr_track *track = &stream->tracks[index];

    zr_stat_add(fwd->page, ZR_STAT_keyframe_asked, 1);
    if (track->asked_ns != 0 && now - track->asked_ns < KEY_EVERY)
        return; /* merged with the one under way */
    if (stream->local && (!track->heard || stream->ingress == ZR_INGRESS_NONE))
        return; /* nobody to ask yet */
    if (stream->from != ZR_STREAM_OURS && !zr_fwd_ask_owner(fwd, stream, index))
        return; /* the ring is full: asked again by who wants it */
    track->asked_ns = now;
    zr_stat_add(fwd->page, ZR_STAT_keyframe_sent, 1);
    if (stream->from != ZR_STREAM_OURS)
        return;
    if (!stream->local) {
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_keyframe, .a = stream->slot, .b = index });
        return;
    }
    stream->pli |= (uint16_t)(1u << index);
    if (!zr_list_linked(&stream->asking))
        zr_list_append(&fwd->pli, &stream->asking);
}

/* From the cache of any stream that goes to `at`, to the subscriber that has it there. */
static void serve_nack(zr_fwd *fwd, const zr_addr *at, uint32_t ssrc, uint16_t seq, zr_ns_t now)
{
    bool asked = false;

    zr_stat_add(fwd->page, ZR_STAT_nack_asked, 1);
    for (zr_dest *dest = zr_subs_at(&fwd->subs, at, NULL); dest != NULL; dest = zr_subs_at(&fwd->subs, at, dest)) {
        zr_sub *sub = dest->sub;
        const zr_item *found;
        zr_item *again;
        if (!zr_rate_take(&sub->asks, now, ASK_EVERY, ASK_BURST))
            return;
        found = zr_cache_find(&fwd->cache, sub->stream->slot, ssrc, seq, now);
        if (!asked && zr_stream_by_ssrc(sub->stream, ssrc) >= 0) {
            zr_stat_bump(&sub->stream->row->nack_asked, 1);
            asked = true;
        }
        if (found == NULL || !zr_sub_wants(sub, found))
            continue;
        if (fwd->items.in_use > fwd->items.count / 2 || sub->asked.count >= ZR_FWD_ASKED ||
            (fwd->shed.level >= 3 && found->media.cls > ZR_SHED_AUDIO)) {
            zr_stat_add(fwd->page, ZR_STAT_asked_refused, 1);
            return; /* what is live goes first */
        }
        again = zr_items_copy(&fwd->items, found);
        ZR_CHECK(again != NULL);
        again->arrival = now; /* since when it waits */
        zr_itemq_push(&sub->asked, again);
        fwd->asked++;
        if (!zr_list_linked(&sub->asking))
            zr_list_append(&fwd->asking, &sub->asking);
        zr_stat_add(fwd->page, ZR_STAT_nack_served, 1);
        zr_stat_bump(&sub->stream->row->nack_served, 1);
        return;
    }
}

static void serve_key(zr_fwd *fwd, const zr_addr *at, const zr_rtcp *rtcp, zr_ns_t now)
{
    for (zr_dest *dest = zr_subs_at(&fwd->subs, at, NULL); dest != NULL; dest = zr_subs_at(&fwd->subs, at, dest)) {
        zr_stream *stream = dest->sub->stream;
        for (uint32_t i = 0; i < stream->track_count; i++) {
            if (!stream->tracks[i].heard || !zr_rtcp_wants_keyframe(rtcp, stream->tracks[i].ssrc))
                continue;
            zr_fwd_want_key(fwd, stream, i, now);
            return;
        }
    }
}

/* A player without rtcp-mux sends RTCP from the port above its RTP port. */
static bool subscriber_at(const zr_fwd *fwd, const zr_addr *from, zr_addr *at)
{
    *at = *from;
    if (zr_subs_at(&fwd->subs, at, NULL) != NULL)
        return true;
    *at = zr_addr_shifted(from, -1);
    return from->port > 1 && zr_subs_at(&fwd->subs, at, NULL) != NULL;
}

int zr_fwd_egress_input(zr_fwd *fwd, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    const uint8_t *data = zr_pkt_data(pkt);
    uint16_t seqs[NACK_MAX];
    zr_rtcp rtcp;
    zr_addr at;

    zr_stat_add(fwd->page, ZR_STAT_rx_media, 1);
    zr_stat_add(fwd->page, ZR_STAT_rx_media_bytes, pkt->len);
    if (!subscriber_at(fwd, from, &at))
        return zr_fwd_drop(fwd, NULL, pkt, ZR_DROP_rtcp_source);
    if (!zr_rtp_is_rtcp(data, pkt->len) || zr_rtcp_check(data, pkt->len) != ZR_OK)
        return zr_fwd_drop(fwd, NULL, pkt, ZR_DROP_rtcp_bad);
    for (size_t pos = 0; zr_rtcp_next(&rtcp, data, pkt->len, &pos) == ZR_OK;) {
        if (rtcp.type == ZR_RTCP_RR)
            zr_stat_add(fwd->page, ZR_STAT_rtcp_reports, 1);
        if (rtcp.type == ZR_RTCP_RTPFB && rtcp.count == 1) {
            int count = zr_rtcp_nack(&rtcp, seqs, NACK_MAX);
            for (int i = 0; i < count; i++)
                serve_nack(fwd, &at, rtcp.media_ssrc, seqs[i], now);
        }
        if (rtcp.type == ZR_RTCP_PSFB)
            serve_key(fwd, &at, &rtcp, now);
    }
    zr_stat_add(fwd->page, ZR_STAT_media_accepted, 1);
    zr_pkt_drop(pkt);
    return ZR_OK;
}
