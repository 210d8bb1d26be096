/* Packets on their way out. Each pair (packet, subscriber) is counted due when it is judged, once. */
#include "forward/zr_fwd_priv.h"

#include "coll/zr_seq.h"
#include "wire/zr_rtp.h"

#define GATHER_AT 3u /* fans of one stretch */
#define GIVE_PART 4u /* of what is let go at once, so much is in a batch: nothing passes that */
#define GIVE_MIN  4u

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

    enum zr_drop_id drop;

    zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
    if (!zr_sub_wants(sub, item)) {
        zr_drop_add(fwd->page, ZR_DROP_filtered);
        return false;
    }
    if ((drop = zr_fwd_child_sheds(fwd, sub, item, now)) != ZR_DROP_COUNT) {
        zr_drop_add(fwd->page, drop);
        return false;
    }
    media.flags |= flags;
    media.hops++;
    media.hop_us = (uint32_t)((uint64_t)now / 1000);
    media.age_us = (uint32_t)ZR_MIN(age, (uint64_t)UINT32_MAX);
    zr_media_put(head, &media);
    if (zr_lane_send_within(fwd->lane, sub->conv, head, sizeof head, &item->slice,
                            fwd->conf.deadline_ms[zr_media_deadline(&media)], now) != ZR_OK) {
        zr_fwd_child_refused(fwd, sub, item);
        zr_drop_add(fwd->page, ZR_DROP_window);
        return false;
    }
    sent(fwd, sub->stream);
    return true;
}

/* `oldest`: the lowest ordinal in the output queue; what was held does not lie there in order. */
static void start_player(zr_sub *sub, uint64_t oldest)
{
    const zr_stream *stream = sub->stream;

    sub->pass = 0;
    sub->at = stream->out.head;
    sub->due = 0;
    if (sub->since <= oldest) /* as a rule: it was here before the turn */
        sub->due = stream->out.count;
    else
        for (const zr_item *item = sub->at; item != NULL; item = item->next)
            sub->due += item->ordinal >= sub->since;
}

void zr_fwd_leave(zr_fwd *fwd, zr_stream *stream)
{
    uint64_t oldest = UINT64_MAX;

    stream->out_urgent = false;
    for (const zr_item *item = stream->out.head; item != NULL; item = item->next) {
        oldest = ZR_MIN(oldest, item->ordinal);
        stream->out_urgent |= zr_shed_class_of(&item->media) <= ZR_SHED_AUDIO;
    }
    ZR_LIST_EACH(sub, &stream->players, zr_sub, in_stream)
    start_player(sub, oldest);
    stream->serving = ZR_LIST_FIRST(&stream->players, zr_sub, in_stream);
    zr_list_append(&fwd->leaving, &stream->leaving);
}

void zr_fwd_rush(zr_fwd *fwd, zr_stream *stream)
{
    stream->rusher = ZR_LIST_FIRST(&stream->players, zr_sub, in_stream);
    stream->rush_at = stream->rush.head;
    zr_list_append(&fwd->rushing, &stream->rushing);
}

void zr_fwd_rush_on(zr_stream *stream)
{
    stream->rusher = zr_fwd_next_player(stream, stream->rusher);
    stream->rush_at = stream->rush.head;
}

static void end_rush(zr_fwd *fwd, zr_stream *stream)
{
    stream->rusher = NULL;
    stream->rush_at = NULL;
    zr_itemq_clear(&stream->rush, &fwd->items);
    zr_list_remove(&stream->rushing);
}

/* Stands at the next pair that is due, if it does not already; false when there is none left. */
static bool rush_due(zr_stream *stream)
{
    for (; stream->rusher != NULL; zr_fwd_rush_on(stream))
        for (; stream->rush_at != NULL; stream->rush_at = stream->rush_at->next)
            if (stream->rush_at->ordinal >= stream->rusher->since)
                return true;
    return false;
}

void zr_fwd_rush_lost(zr_fwd *fwd, zr_stream *stream, enum zr_drop_id drop)
{
    for (; rush_due(stream); stream->rush_at = stream->rush_at->next) {
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
        zr_drop_add(fwd->page, drop);
    }
    end_rush(fwd, stream);
}

int zr_fwd_fan_out(zr_fwd *fwd, zr_ns_t now)
{
    /* Players' packets that could not leave last turn go first; children's wait for nobody. */
    bool behind = !zr_list_empty(&fwd->leaving) || !zr_list_empty(&fwd->holding) || !zr_list_empty(&fwd->rushing);
    int packets = 0;

    fwd->replays_left = ZR_FWD_REPLAYS;
    if (!zr_list_empty(&fwd->mirrors.catching))
        zr_fwd_catch_up(fwd, now);
    for (zr_list *at = fwd->turning.next, *next; at != &fwd->turning; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, turning);
        next = at->next;
        packets += (int)stream->turn.count;
        zr_list_remove(at);
        ZR_LIST_EACH(sub, &stream->children, zr_sub, in_stream)
        for (const zr_item *item = stream->turn.head; item != NULL; item = item->next)
            if (item->ordinal >= sub->since)
                (void)zr_fwd_to_child(fwd, sub, item, 0, now);
        if (zr_list_empty(&stream->players)) {
            zr_itemq_clear(&stream->turn, &fwd->items);
        } else if (behind || stream->cut != 0) {
            zr_fwd_hold(fwd, stream, now);
        } else {
            stream->out = stream->turn;
            stream->turn = (zr_itemq){ .count = 0 };
            zr_fwd_leave(fwd, stream);
        }
    }
    if (behind || !zr_list_empty(&fwd->holding))
        zr_fwd_release(fwd, now);
    fwd->give = behind ? ZR_MAX(fwd->let_most / GIVE_PART, GIVE_MIN) : UINT32_MAX;
    return packets;
}

/* Judges one pair for a player and queues the packet: ZR_E_full when the batch has no entry left, nothing judged.
 * `fresh`: it comes from this turn or the last, so the time it spent here is of interest. */
static int to_player(zr_fwd *fwd, zr_sub *sub, const zr_item *item, zr_batch *batch, bool fresh, bool *went)
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
        zr_tx *tx = &batch->tx[batch->count - 1];
        tx->urgent = zr_media_deadline(&item->media) == ZR_DEADLINE_AUDIO;
        tx->came_us = fresh ? item->slice.pkt->came_us : 0;
        sent(fwd, sub->stream);
        *went = true;
    }
    return ZR_OK;
}

/* When egress is behind, a batch is full early. */
static bool is_full(const zr_fwd *fwd, const zr_batch *batch)
{
    return zr_batch_dgrams(batch) >= fwd->give;
}

static int output_rush(zr_fwd *fwd, zr_stream *stream, zr_batch *batch)
{
    bool went;

    for (; rush_due(stream); stream->rush_at = stream->rush_at->next) {
        if (is_full(fwd, batch) || to_player(fwd, stream->rusher, stream->rush_at, batch, true, &went) != ZR_OK)
            return ZR_E_full;
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
    }
    end_rush(fwd, stream);
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
            if (is_full(fwd, batch) || to_player(fwd, sub, sub->at, batch, true, &went) != ZR_OK)
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

/* What a player must want to get all that its stream's turn holds. */
typedef struct whole {
    uint16_t tracks;
    uint8_t spatial, temporal;
} whole;

static whole whole_of(const zr_stream *stream)
{
    whole all = { 0 };

    for (const zr_item *item = stream->out.head; item != NULL; item = item->next) {
        all.tracks |= (uint16_t)(1u << item->media.track);
        all.spatial = ZR_MAX(all.spatial, item->media.spatial);
        all.temporal = ZR_MAX(all.temporal, item->media.temporal);
    }
    return all;
}

/* Gets it all, at one address, and has got nothing yet: its entries are any other such player's. */
static bool takes_whole(const zr_sub *sub, const zr_stream *stream, const whole *all)
{
    return sub->due == stream->out.count && sub->at == stream->out.head && sub->pass == 0 && sub->own == 0 &&
           sub->dests != NULL && !sub->warm && (all->tracks & ~sub->tracks) == 0 && all->spatial <= sub->spatial &&
           all->temporal <= sub->temporal;
}

static int serve_alike(zr_fwd *fwd, zr_sub *sub, zr_batch *batch, uint32_t first)
{
    if (is_full(fwd, batch) || zr_batch_fan(batch, &sub->dests->addr, first, sub->due) != ZR_OK)
        return ZR_E_full;
    zr_stat_add(fwd->page, ZR_STAT_fan_sent, sub->due);
    zr_stat_bump(&sub->stream->row->fan_sent, sub->due);
    sub->due = 0;
    return ZR_OK;
}

static int output_stream(zr_fwd *fwd, zr_stream *stream, zr_batch *batch)
{
    const whole all = whole_of(stream);
    uint32_t first = UINT32_MAX; /* where in this batch the whole turn lies */
    uint32_t fans = 0;

    while (stream->serving != NULL) {
        zr_sub *sub = stream->serving;
        bool alike = batch->fan_cap > 0 && takes_whole(sub, stream, &all);
        uint32_t begin = batch->count, due = sub->due;
        int rc = alike && first != UINT32_MAX ? serve_alike(fwd, sub, batch, first) : serve(fwd, sub, batch);
        zr_stat_add(fwd->page, ZR_STAT_fan_due, due - sub->due); /* as they are judged: the rest may have to wait */
        if (rc != ZR_OK)
            return ZR_E_full;
        if (alike && first == UINT32_MAX)
            first = begin;
        else if (alike && ++fans == GATHER_AT && due > 1)
            zr_batch_gather(batch, first, due);
        stream->serving = zr_fwd_next_player(stream, sub);
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
        if (to_player(fwd, sub, item, batch, false, &went) != ZR_OK)
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
        if (to_player(fwd, sub, item, batch, false, &went) != ZR_OK)
            return ZR_E_full;
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
        zr_items_give(&fwd->items, zr_itemq_pop(&sub->asked));
        fwd->asked--;
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
    zr_stat_set(fwd->page, ZR_STAT_asked_packets, fwd->asked);
}

int zr_fwd_output_egress(zr_fwd *fwd, zr_batch *batch, zr_ns_t now)
{
    int rc = ZR_OK;

    while (rc == ZR_OK && !zr_list_empty(&fwd->pli))
        rc = send_pli(fwd, ZR_LIST_FIRST(&fwd->pli, zr_stream, asking), batch);
    while (rc == ZR_OK && !zr_list_empty(&fwd->joining) && fwd->replays_left > 0)
        rc = replay(fwd, ZR_LIST_FIRST(&fwd->joining, zr_sub, joining), batch, now);
    while (rc == ZR_OK && !zr_list_empty(&fwd->asking))
        rc = repeat(fwd, ZR_LIST_FIRST(&fwd->asking, zr_sub, asking), batch);
    while (rc == ZR_OK && !zr_list_empty(&fwd->rushing))
        rc = output_rush(fwd, ZR_LIST_FIRST(&fwd->rushing, zr_stream, rushing), batch);
    while (rc == ZR_OK && !zr_list_empty(&fwd->leaving))
        rc = output_stream(fwd, ZR_LIST_FIRST(&fwd->leaving, zr_stream, leaving), batch);
    gauge(fwd);
    return rc;
}

int zr_fwd_output_links(zr_fwd *fwd, zr_batch *batch, zr_ns_t now)
{
    int rc = zr_lane_output(fwd->lane, batch, now);

    zr_fwd_tell_rekeys(fwd); /* a count may have reached its limit */
    return rc;
}

int zr_fwd_output(zr_fwd *fwd, zr_batch *batch, zr_ns_t now)
{
    int rc = zr_fwd_output_egress(fwd, batch, now);
    return rc == ZR_OK ? zr_fwd_output_links(fwd, batch, now) : rc;
}
