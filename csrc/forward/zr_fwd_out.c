/* Packets on their way out. Pairs (packet, subscriber) are counted due when they are formed and judged once. */
#include "forward/zr_fwd_priv.h"

#include "coll/zr_seq.h"
#include "wire/zr_rtp.h"

static void sent(zr_fwd *fwd, zr_stream *stream)
{
    zr_stat_add(fwd->page, ZR_STAT_fan_sent, 1);
    zr_stat_bump(&stream->row->fan_sent, 1);
}

bool zr_fwd_to_child(zr_fwd *fwd, zr_sub *sub, const zr_item *item, uint8_t flags, zr_ns_t now)
{
    uint8_t head[ZR_MEDIA_HEAD];
    zr_media media = item->media;
    uint64_t age = media.age_us + (uint64_t)(now - item->arrival) / 1000;

    zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
    if (!zr_sub_wants(sub, item)) {
        zr_drop_add(fwd->page, ZR_DROP_filtered);
        return false;
    }
    media.flags |= flags;
    media.hops++;
    media.hop_us = (uint32_t)((uint64_t)now / 1000);
    media.age_us = (uint32_t)ZR_MIN(age, (uint64_t)UINT32_MAX);
    zr_media_put(head, &media);
    if (zr_lane_send_within(fwd->lane, sub->conv, head, sizeof head, &item->slice,
                            fwd->conf.deadline_ms[zr_media_deadline(&media)], now) != ZR_OK) {
        zr_drop_add(fwd->page, ZR_DROP_window);
        return false;
    }
    sent(fwd, sub->stream);
    return true;
}

static void start_player(zr_fwd *fwd, zr_sub *sub)
{
    const zr_stream *stream = sub->stream;

    sub->pass = 0;
    sub->at = stream->out.head;
    sub->due = 0;
    for (const zr_item *item = sub->at; item != NULL; item = item->next)
        sub->due += item->ordinal >= sub->since;
    zr_stat_add(fwd->page, ZR_STAT_fan_due, sub->due);
}

int zr_fwd_fan_out(zr_fwd *fwd, zr_ns_t now)
{
    int packets = 0;

    fwd->replays_left = ZR_FWD_REPLAYS;
    if (!zr_list_empty(&fwd->mirrors.catching))
        zr_fwd_catch_up(fwd, now);
    for (zr_list *at = fwd->turning.next, *next; at != &fwd->turning; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, turning);
        next = at->next;
        if (stream->out.count > 0)
            continue; /* its last turn has not left yet: this one waits */
        packets += (int)stream->turn.count;
        stream->out = stream->turn;
        stream->turn = (zr_itemq){ .count = 0 };
        zr_list_remove(at);
        ZR_LIST_EACH(sub, &stream->children, zr_sub, in_stream)
        for (const zr_item *item = stream->out.head; item != NULL; item = item->next)
            if (item->ordinal >= sub->since)
                (void)zr_fwd_to_child(fwd, sub, item, 0, now);
        if (zr_list_empty(&stream->players)) {
            zr_itemq_clear(&stream->out, &fwd->items);
            continue;
        }
        ZR_LIST_EACH(sub, &stream->players, zr_sub, in_stream)
        start_player(fwd, sub);
        stream->serving = ZR_LIST_FIRST(&stream->players, zr_sub, in_stream);
        zr_list_append(&fwd->leaving, &stream->leaving);
    }
    return packets;
}

/* Judges one pair for a player and queues the packet: ZR_E_full when the batch has no entry left, nothing judged. */
static int to_player(zr_fwd *fwd, zr_sub *sub, const zr_item *item, zr_batch *batch, bool *went)
{
    const zr_addr *to = zr_sub_addr(sub, item->media.track);

    *went = false;
    if (!zr_sub_wants(sub, item)) {
        zr_drop_add(fwd->page, ZR_DROP_filtered);
    } else if (to == NULL) {
        zr_drop_add(fwd->page, ZR_DROP_noaddress);
    } else {
        if (zr_batch_hold(batch, to, ZR_SOCK_EGRESS, &item->slice) != ZR_OK)
            return ZR_E_full;
        sent(fwd, sub->stream);
        *went = true;
    }
    return ZR_OK;
}

/* The rest of what this player is due from its stream's output queue. */
static int serve(zr_fwd *fwd, zr_sub *sub, zr_batch *batch)
{
    bool went;

    while (sub->due > 0) {
        for (; sub->at != NULL; sub->at = sub->at->next) {
            if (sub->at->ordinal < sub->since || zr_sub_pass(sub, sub->at) != sub->pass)
                continue;
            if (to_player(fwd, sub, sub->at, batch, &went) != ZR_OK)
                return ZR_E_full;
            sub->due--;
        }
        ZR_CHECK(sub->pass <= ZR_TRACKS_MAX);
        uint32_t own = (uint32_t)sub->own >> sub->pass; /* the tracks whose pass is still to come */
        sub->pass = (uint8_t)(own == 0 ? ZR_TRACKS_MAX + 1 : sub->pass + 1u + (uint32_t)__builtin_ctz(own));
        sub->at = sub->stream->out.head;
    }
    return ZR_OK;
}

static int output_stream(zr_fwd *fwd, zr_stream *stream, zr_batch *batch)
{
    while (stream->serving != NULL) {
        zr_sub *sub = stream->serving;
        if (serve(fwd, sub, batch) != ZR_OK)
            return ZR_E_full;
        stream->serving =
            sub->in_stream.next == &stream->players ? NULL : ZR_CONTAINER(sub->in_stream.next, zr_sub, in_stream);
    }
    zr_itemq_clear(&stream->out, &fwd->items);
    zr_list_remove(&stream->leaving);
    return ZR_OK;
}

/* What the cache holds for a player that has just joined; what the turn has no budget for waits for the next. */
static int replay(zr_fwd *fwd, zr_sub *sub, zr_batch *batch, zr_ns_t now)
{
    const zr_item *item = zr_cache_first(&fwd->cache, sub->stream->slot, now);
    bool went;

    for (; item != NULL && item->ordinal < sub->since; item = item->next) {
        if (item->ordinal < sub->replay_at || zr_seq_before(item->media.number, sub->replay_number))
            continue;
        if (fwd->replays_left == 0)
            return ZR_OK;
        if (to_player(fwd, sub, item, batch, &went) != ZR_OK)
            return ZR_E_full;
        fwd->replays_left--;
        sub->replay_at = item->ordinal + 1;
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
        zr_stat_add(fwd->page, ZR_STAT_cache_replayed, went);
    }
    zr_list_remove(&sub->joining);
    return ZR_OK;
}

/* What a player asked for again. */
static int repeat(zr_fwd *fwd, zr_sub *sub, zr_batch *batch)
{
    bool went;

    for (zr_item *item; (item = sub->asked.head) != NULL;) {
        if (to_player(fwd, sub, item, batch, &went) != ZR_OK)
            return ZR_E_full;
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
        zr_items_give(&fwd->items, zr_itemq_pop(&sub->asked));
    }
    zr_list_remove(&sub->asking);
    return ZR_OK;
}

static int send_pli(zr_fwd *fwd, zr_stream *stream, zr_batch *batch)
{
    for (uint32_t i = 0; i < ZR_TRACKS_MAX; i++) {
        const zr_track *track = &stream->tracks[i];
        uint8_t *to;
        if ((stream->pli & 1u << i) == 0)
            continue;
        if (track->heard && stream->ingress != ZR_INGRESS_NONE) {
            to = zr_batch_reserve(batch, 32);
            if (to == NULL)
                return ZR_E_full;
            zr_batch_commit(batch, track->rtcp.family != 0 ? &track->rtcp : &track->source,
                            (uint16_t)(ZR_SOCK_INGRESS + stream->ingress),
                            zr_rtcp_put_pli(to, fwd->conf.rtcp_ssrc, track->ssrc));
        }
        stream->pli &= (uint16_t) ~(1u << i);
    }
    zr_list_remove(&stream->asking);
    return ZR_OK;
}

static void gauge(zr_fwd *fwd)
{
    zr_stat_set(fwd->page, ZR_STAT_pool_in_use, fwd->pool.in_use);
    zr_stat_set(fwd->page, ZR_STAT_pool_in_use_max, fwd->pool.in_use_max);
    zr_stat_set(fwd->page, ZR_STAT_pool_exhausted, fwd->pool.exhausted);
    zr_stat_set(fwd->page, ZR_STAT_cache_entries, fwd->cache.items.in_use);
    zr_stat_set(fwd->page, ZR_STAT_cache_evicted, fwd->cache.evicted);
}

int zr_fwd_output(zr_fwd *fwd, zr_batch *batch, zr_ns_t now)
{
    int rc = ZR_OK;

    while (rc == ZR_OK && !zr_list_empty(&fwd->pli))
        rc = send_pli(fwd, ZR_LIST_FIRST(&fwd->pli, zr_stream, asking), batch);
    while (rc == ZR_OK && !zr_list_empty(&fwd->joining) && fwd->replays_left > 0)
        rc = replay(fwd, ZR_LIST_FIRST(&fwd->joining, zr_sub, joining), batch, now);
    while (rc == ZR_OK && !zr_list_empty(&fwd->asking))
        rc = repeat(fwd, ZR_LIST_FIRST(&fwd->asking, zr_sub, asking), batch);
    while (rc == ZR_OK && !zr_list_empty(&fwd->leaving))
        rc = output_stream(fwd, ZR_LIST_FIRST(&fwd->leaving, zr_stream, leaving), batch);
    if (rc == ZR_OK)
        rc = zr_lane_output(fwd->lane, batch, now);
    gauge(fwd);
    return rc;
}
