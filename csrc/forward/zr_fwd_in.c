/* Packets on their way in: each ends in media_accepted or in one media drop. */
#include "forward/zr_fwd_priv.h"

#include "wire/zr_rtp.h"

#define LOCKS_EVERY ZR_MS(500)

static void count_rx(zr_fwd *fwd, size_t len)
{
    zr_stat_add(fwd->page, ZR_STAT_rx_media, 1);
    zr_stat_add(fwd->page, ZR_STAT_rx_media_bytes, len);
}

/* `item` is on its stream's side now: counters, row. */
static void admit(zr_fwd *fwd, zr_stream *stream, zr_item *item, zr_ns_t now)
{
    item->stream = stream->slot;
    item->arrival = now;
    zr_stat_add(fwd->page, ZR_STAT_media_accepted, 1);
    zr_stream_count(stream, item, now);
    if (!stream->live) {
        stream->live = true;
        zr_fwd_event(
            fwd, &(zr_cmd){ .op = ZR_EVT_stream_live, .a = stream->slot, .x = (uint64_t)now, .y = item->media.number });
    }
}

static void forward(zr_fwd *fwd, zr_stream *stream, zr_item *item, zr_ns_t now)
{
    item->ordinal = ++stream->ordinal;
    zr_cache_put(&fwd->cache, item, now);
    zr_itemq_push(&stream->turn, item);
    if (!zr_list_linked(&stream->turning))
        zr_list_append(&fwd->turning, &stream->turning);
    if (stream->mirrors != 0) /* at once: while the packet is warm, and whatever the egress socket does */
        zr_fwd_to_mirrors(fwd, stream, item);
}

static void accept(zr_fwd *fwd, zr_stream *stream, zr_item *item, zr_ns_t now)
{
    admit(fwd, stream, item, now);
    forward(fwd, stream, item, now);
}

static bool says_bye(const zr_item *item)
{
    const uint8_t *data = zr_slice_data(&item->slice);
    zr_rtcp rtcp;

    for (size_t pos = 0; zr_rtcp_next(&rtcp, data, item->slice.len, &pos) == ZR_OK;)
        if (rtcp.type == ZR_RTCP_BYE)
            return true;
    return false;
}

zr_ns_t zr_fwd_byes_deadline(const zr_fwd *fwd)
{
    return fwd->byes.count == 0 ? ZR_NEVER : fwd->byes.head->arrival + ZR_MS(fwd->conf.lane.deadline_ms);
}

void zr_fwd_say_byes(zr_fwd *fwd, zr_ns_t now)
{
    while (zr_fwd_byes_deadline(fwd) <= now || fwd->byes.count > ZR_FWD_BYES) {
        zr_item *item = zr_itemq_pop(&fwd->byes);
        zr_stat_add(fwd->page, ZR_STAT_byes_early, item->arrival + ZR_MS(fwd->conf.lane.deadline_ms) > now);
        uint64_t age = item->media.age_us + (uint64_t)(now - item->arrival) / 1000;
        item->media.age_us = (uint32_t)ZR_MIN(age, (uint64_t)UINT32_MAX);
        item->arrival = now;
        forward(fwd, &fwd->streams[item->stream], item, now);
    }
}

void zr_fwd_forget_byes(zr_fwd *fwd, const zr_stream *stream)
{
    for (uint32_t left = fwd->byes.count; left > 0; left--) {
        zr_item *item = zr_itemq_pop(&fwd->byes);
        if (item->stream == stream->slot)
            zr_items_give(&fwd->items, item);
        else
            zr_itemq_push(&fwd->byes, item);
    }
}

static zr_item *take_item(zr_fwd *fwd, const zr_slice *slice)
{
    zr_item *item = zr_items_take(&fwd->items);

    if (item != NULL)
        item->slice = *slice;
    return item;
}

/* Drops the packet when the worker's level, or what it has left out before, says so. */
static bool gated(zr_fwd *fwd, zr_stream *stream, zr_item *item, zr_ns_t now)
{
    enum zr_drop_id drop = zr_fwd_gate(fwd, stream, item, now);

    if (drop == ZR_DROP_COUNT)
        return false;
    zr_drop_add(fwd->page, drop);
    zr_stream_count_drop(stream, drop);
    zr_items_give(&fwd->items, item);
    return true;
}

static void set_rtp(zr_item *item, const zr_rtp *rtp)
{
    item->ssrc = rtp->ssrc;
    item->seq = rtp->seq;
    item->timestamp = rtp->timestamp;
}

/* RTCP of a publisher: sender reports and SDES cross the mesh as they came, the rest ends here. */
static int ingress_rtcp(zr_fwd *fwd, zr_ingress *ingress, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    zr_stream *stream = ingress->stream;
    const uint8_t *data = zr_pkt_data(pkt);
    bool crosses = false;
    int track = ZR_E_missing;
    zr_rtcp rtcp;
    zr_item *item;

    if (!zr_ingress_allows_rtcp(ingress, from))
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_rtcp_source);
    if (zr_rtcp_check(data, pkt->len) != ZR_OK)
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_rtcp_bad);
    for (size_t pos = 0; zr_rtcp_next(&rtcp, data, pkt->len, &pos) == ZR_OK;) {
        if (rtcp.type == ZR_RTCP_RR)
            zr_stat_add(fwd->page, ZR_STAT_rtcp_reports, 1);
        if (rtcp.type != ZR_RTCP_SR && rtcp.type != ZR_RTCP_SDES && rtcp.type != ZR_RTCP_BYE)
            continue;
        track = zr_stream_by_ssrc(stream, rtcp.sender_ssrc);
        if (track < 0 || (ingress->learn && !zr_addr_same_ip(&stream->tracks[track].source, from)))
            return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_rtcp_ssrc);
        crosses |= rtcp.type != ZR_RTCP_BYE;
    }
    if (track >= 0)
        stream->tracks[track].rtcp = *from;
    if (!crosses) {
        zr_stat_add(fwd->page, ZR_STAT_media_accepted, 1);
        zr_pkt_drop(pkt);
        return ZR_OK;
    }
    item = take_item(fwd, &(zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len });
    if (item == NULL)
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_pool);
    item->media = (zr_media){ .flags = ZR_MEDIA_RTCP, .track = (uint8_t)track };
    item->media.number = zr_stream_take_number(stream);
    accept(fwd, stream, item, now);
    return ZR_OK;
}

/* Whose lock is it, and what do we tell the control plane about it? */
static int hear(zr_fwd *fwd, zr_ingress *ingress, uint32_t track, const zr_addr *from, uint32_t ssrc, zr_ns_t now)
{
    int lock = zr_ingress_hear(ingress, &ingress->stream->tracks[track], from, ssrc, now);

    if (lock < 0)
        return lock;
    if ((lock & ZR_LOCK_LOST) != 0)
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_source_lost, .a = ingress->slot, .b = track });
    if ((lock & ZR_LOCK_NEW) != 0) {
        zr_fwd_event(fwd,
                     &(zr_cmd){ .op = ZR_EVT_source_locked, .a = ingress->slot, .b = track, .c = ssrc, .addr = *from });
        if (!zr_list_linked(&ingress->locking))
            zr_list_append(&fwd->locking, &ingress->locking);
        if (fwd->release_at == ZR_NEVER)
            fwd->release_at = now + LOCKS_EVERY;
    }
    return ZR_OK;
}

int zr_fwd_ingress_input(zr_fwd *fwd, uint32_t slot, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    zr_ingress *ingress = slot < fwd->conf.ingress_max ? &fwd->ingresses[slot] : NULL;
    const uint8_t *data = zr_pkt_data(pkt);
    enum zr_drop_id drop = ZR_DROP_stream;
    zr_stream *stream;
    zr_item *item;
    zr_rtp rtp;
    int track;

    count_rx(fwd, pkt->len);
    if (ingress == NULL || ingress->stream == NULL || !ingress->stream->local)
        return zr_fwd_drop(fwd, NULL, pkt, ZR_DROP_stream);
    stream = ingress->stream;
    if (pkt->len > ZR_RTP_MAX)
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_oversize);
    if (zr_rtp_is_rtcp(data, pkt->len))
        return ingress_rtcp(fwd, ingress, pkt, from, now);
    if (!zr_ingress_allows(ingress, from))
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_source);
    if (zr_rtp_parse(&rtp, data, pkt->len, &drop) != ZR_OK)
        return zr_fwd_drop(fwd, stream, pkt, drop);
    track = zr_stream_match(stream, rtp.payload_type, rtp.ssrc, &drop);
    if (track < 0)
        return zr_fwd_drop(fwd, stream, pkt, drop);
    if (hear(fwd, ingress, (uint32_t)track, from, rtp.ssrc, now) != ZR_OK)
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_source);
    item = take_item(fwd, &(zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len });
    if (item == NULL)
        return zr_fwd_drop(fwd, stream, pkt, ZR_DROP_pool);
    set_rtp(item, &rtp);
    item->media.track = (uint8_t)track;
    item->media.flags =
        zr_codec_flags((enum zr_codec)stream->tracks[track].conf.codec, data + rtp.payload_off, rtp.payload_len);
    if (rtp.marker)
        item->media.flags |= ZR_MEDIA_FRAME_END;
    zr_stream_classify(&stream->tracks[track], item);
    zr_stream_note_frame(stream, item);
    if (zr_fwd_gates(fwd, stream) && gated(fwd, stream, item, now))
        return ZR_E_dropped; /* it takes no number: nobody below misses it */
    item->media.number = zr_stream_take_number(stream);
    accept(fwd, stream, item, now);
    return ZR_OK;
}

/* One view of a whole message: of two views a fresh copy. False when there is no room for one. */
static bool join(zr_fwd *fwd, const zr_lane_msg *msg, size_t len, zr_slice *whole)
{
    const zr_slice *first = &msg->views[0], *second = &msg->views[1];
    zr_pkt *pkt;

    *whole = *first;
    if (msg->view_count == 1)
        return true;
    pkt = zr_pool_copy(&fwd->pool, zr_slice_data(first), first->len);
    if (pkt == NULL)
        return false;
    memcpy(pkt->buf + pkt->off + first->len, zr_slice_data(second), second->len);
    pkt->len = (uint16_t)len;
    *whole = (zr_slice){ .pkt = pkt, .off = pkt->off, .len = pkt->len };
    zr_pkt_drop(first->pkt);
    zr_pkt_drop(second->pkt);
    return true;
}

static void drop_message(zr_fwd *fwd, zr_stream *stream, zr_lane_msg *msg, enum zr_drop_id drop)
{
    for (int i = 1; i < msg->view_count; i++)
        zr_pkt_drop(msg->views[i].pkt);
    (void)zr_fwd_drop(fwd, stream, msg->views[0].pkt, drop);
}

/* Is what follows the media header what it says? */
static int judge(const zr_media *media, const zr_stream *stream, const uint8_t *data, size_t len, zr_rtp *rtp,
                 enum zr_drop_id *drop)
{
    if (media->track >= stream->track_count || !stream->tracks[media->track].used) {
        *drop = ZR_DROP_track;
        return ZR_E_dropped;
    }
    if (media->hops > ZR_MEDIA_HOPS_MAX) {
        *drop = ZR_DROP_ttl;
        return ZR_E_dropped;
    }
    if ((media->flags & ZR_MEDIA_RTCP) != 0) {
        *drop = ZR_DROP_rtcp_bad;
        if (zr_rtcp_check(data, len) != ZR_OK)
            return ZR_E_dropped;
    } else if (zr_rtp_parse(rtp, data, len, drop) != ZR_OK) {
        return ZR_E_dropped;
    }
    return ZR_OK;
}

static void hear_pulled(zr_stream *stream, const zr_item *item, bool newest)
{
    zr_track *track = &stream->tracks[item->media.track];

    /* Packets overtake each other: one of a source that has been replaced does not bring it back. */
    if (newest || !track->heard)
        track->ssrc = item->ssrc;
    track->heard = true;
}

/* What arrived on a pull. */
static void pulled(zr_fwd *fwd, zr_pull *pull, zr_lane_msg *msg, size_t len, zr_ns_t now)
{
    zr_stream *stream = pull->stream;
    enum zr_drop_id drop = ZR_DROP_stream;
    zr_rtp rtp = { .ssrc = 0 };
    uint32_t hop_delay;
    bool newest;
    zr_media media;
    zr_slice whole;
    zr_item *item;

    if (len > ZR_MEDIA_HEAD + ZR_RTP_MAX) {
        drop_message(fwd, stream, msg, ZR_DROP_oversize);
        return;
    }
    if (!join(fwd, msg, len, &whole)) {
        drop_message(fwd, stream, msg, ZR_DROP_pool);
        return;
    }
    if (zr_media_parse(&media, zr_slice_data(&whole), whole.len) != ZR_OK) {
        (void)zr_fwd_drop(fwd, stream, whole.pkt, ZR_DROP_media_short);
        return;
    }
    whole.off = (uint16_t)(whole.off + ZR_MEDIA_HEAD);
    whole.len = (uint16_t)(whole.len - ZR_MEDIA_HEAD);
    media.cls = ZR_MIN(media.cls, (uint8_t)ZR_MEDIA_CLASS_MAX);
    if (judge(&media, stream, zr_slice_data(&whole), whole.len, &rtp, &drop) != ZR_OK) {
        (void)zr_fwd_drop(fwd, stream, whole.pkt, drop);
        return;
    }
    /* A duplicate measures the way as well as any. */
    hop_delay = zr_hop_delay_us(&pull->hop, media.hop_us, msg->srtt_us, now);
    if (zr_stream_look(stream, media.number, &drop) != ZR_OK) {
        (void)zr_fwd_drop(fwd, stream, whole.pkt, drop);
        return;
    }
    if (hop_delay > fwd->conf.deadline_ms[zr_media_deadline(&media)] * 1000u) { /* another parent may be in time */
        (void)zr_fwd_drop(fwd, stream, whole.pkt, ZR_DROP_deadline);
        return;
    }
    item = take_item(fwd, &whole);
    if (item == NULL) {
        (void)zr_fwd_drop(fwd, stream, whole.pkt, ZR_DROP_pool);
        return;
    }
    newest = zr_stream_mark(stream, media.number);
    media.age_us = media.age_us > UINT32_MAX - hop_delay ? UINT32_MAX : media.age_us + hop_delay;
    zr_hist_add(fwd->page, ZR_HIST_hop_delay_us, hop_delay);
    zr_hist_add(fwd->page, ZR_HIST_age_us, media.age_us);
    item->media = media;
    if (!zr_item_is_rtcp(item)) {
        set_rtp(item, &rtp);
        hear_pulled(stream, item, newest);
        zr_stream_note_frame(stream, item);
        if (zr_fwd_gates(fwd, stream) && gated(fwd, stream, item, now))
            return;
    }
    admit(fwd, stream, item, now);
    if (zr_item_is_rtcp(item) && zr_stream_lacks(stream, media.number) && says_bye(item)) {
        zr_itemq_push(&fwd->byes, item);
        if (fwd->byes.count > ZR_FWD_BYES)
            zr_fwd_say_byes(fwd, now);
    } else {
        forward(fwd, stream, item, now);
    }
}

void zr_fwd_mirrored(zr_fwd *fwd, zr_stream *stream, const zr_media *media, zr_pkt *pkt, zr_ns_t arrival, zr_ns_t now)
{
    const zr_slice whole = { .pkt = pkt, .off = pkt->off, .len = pkt->len };
    /* The neighbour's word: any number at all. */
    uint64_t waited_us = arrival > 0 && arrival < now ? (uint64_t)(now - arrival) / 1000 : 0;
    zr_rtp rtp = { .ssrc = 0 };
    enum zr_drop_id drop;
    bool newest;
    zr_item *item;

    if (judge(media, stream, zr_slice_data(&whole), whole.len, &rtp, &drop) != ZR_OK ||
        zr_stream_look(stream, media->number, &drop) != ZR_OK) {
        (void)zr_fwd_drop(fwd, stream, pkt, drop);
        return;
    }
    item = take_item(fwd, &whole);
    if (item == NULL) {
        (void)zr_fwd_drop(fwd, stream, pkt, ZR_DROP_pool);
        return;
    }
    newest = zr_stream_mark(stream, media->number);
    item->media = *media;
    item->media.age_us = (uint32_t)ZR_MIN(media->age_us + waited_us, (uint64_t)UINT32_MAX);
    if (!zr_item_is_rtcp(item)) {
        set_rtp(item, &rtp);
        hear_pulled(stream, item, newest);
        zr_stream_note_frame(stream, item);
        if (zr_fwd_gates(fwd, stream) && gated(fwd, stream, item, now))
            return;
    }
    accept(fwd, stream, item, now);
}

void zr_fwd_message(zr_fwd *fwd, zr_lane_msg *msg, zr_ns_t now)
{
    size_t len = msg->views[0].len;
    zr_pull *pull;

    if (msg->view_count > 1)
        len += msg->views[1].len;
    count_rx(fwd, len);
    pull = (msg->user & ZR_FWD_CHILD) == 0 && msg->user < fwd->pulls.max ? &fwd->pulls.all[msg->user] : NULL;
    if (pull == NULL || pull->stream == NULL || pull->stream->local)
        drop_message(fwd, NULL, msg, ZR_DROP_stream); /* children have nothing to say on a media conversation */
    else
        pulled(fwd, pull, msg, len, now);
}

void zr_fwd_release_locks(zr_fwd *fwd, zr_ns_t now)
{
    for (zr_list *at = fwd->locking.next, *next; at != &fwd->locking; at = next) {
        zr_ingress *ingress = ZR_CONTAINER(at, zr_ingress, locking);
        next = at->next;
        for (uint32_t i = 0; i < ingress->stream->track_count; i++)
            if (zr_ingress_release(&ingress->stream->tracks[i], now))
                zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_source_lost, .a = ingress->slot, .b = i });
        if (!zr_ingress_locked(ingress))
            zr_list_remove(at);
    }
    fwd->release_at = zr_list_empty(&fwd->locking) ? ZR_NEVER : now + LOCKS_EVERY;
}
