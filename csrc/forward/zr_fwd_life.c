/* What goes when a subscriber, a pull, a stream or a session goes: nothing stays behind, whatever the turn was doing.
 */
#include "forward/zr_fwd_priv.h"

#define HOT_BYTES (256u << 10) /* of an array that fills from its beginning */
#define HUGE_PAGE (2u << 20)

void zr_fwd_lose_due(zr_fwd *fwd, zr_sub *sub, enum zr_drop_id drop)
{
    zr_stat_add(fwd->page, ZR_STAT_fan_due, sub->due);
    zr_stat_bump(&fwd->page->drop[drop], sub->due);
    sub->due = 0;
}

void zr_fwd_sub_gone(zr_fwd *fwd, zr_sub *sub)
{
    zr_stream *stream = sub->stream;

    zr_fwd_lose_due(fwd, sub, ZR_DROP_gone);
    if (stream->serving == sub)
        stream->serving = zr_fwd_next_player(stream, sub);
    if (stream->rusher == sub)
        zr_fwd_rush_on(stream);
    if (sub->child)
        zr_lane_conv_close(fwd->lane, sub->conv);
    zr_list_remove(&sub->joining);
    zr_list_remove(&sub->asking);
    fwd->asked -= sub->asked.count;
    zr_itemq_clear(&sub->asked, &fwd->items);
    zr_subs_remove(&fwd->subs, sub);
    zr_stat_set(fwd->page, ZR_STAT_subs, fwd->subs.count);
}

void zr_fwd_pull_gone(zr_fwd *fwd, zr_pull *pull)
{
    zr_lane_conv_close(fwd->lane, pull->conv);
    zr_pulls_give(&fwd->pulls, pull);
}

void zr_fwd_out_lost(zr_fwd *fwd, zr_stream *stream, enum zr_drop_id drop)
{
    ZR_LIST_EACH(sub, &stream->players, zr_sub, in_stream)
    {
        zr_fwd_lose_due(fwd, sub, drop);
        sub->at = NULL;
    }
    stream->serving = NULL;
    zr_itemq_clear(&stream->out, &fwd->items);
    zr_list_remove(&stream->leaving);
}

void zr_fwd_stream_cleared(zr_fwd *fwd, zr_stream *stream)
{
    while (!zr_list_empty(&stream->children))
        zr_fwd_sub_gone(fwd, ZR_LIST_FIRST(&stream->children, zr_sub, in_stream));
    while (!zr_list_empty(&stream->pulls))
        zr_fwd_pull_gone(fwd, ZR_LIST_FIRST(&stream->pulls, zr_pull, in_stream));
    ZR_LIST_EACH(sub, &stream->players, zr_sub, in_stream)
    {
        zr_list_remove(&sub->joining);
        zr_list_remove(&sub->asking);
        fwd->asked -= sub->asked.count;
        zr_itemq_clear(&sub->asked, &fwd->items);
    }
    zr_fwd_out_lost(fwd, stream, ZR_DROP_gone);
    zr_fwd_rush_lost(fwd, stream, ZR_DROP_gone);
    zr_fwd_forget_held(fwd, stream);
    zr_fwd_mirrors_drop(fwd, stream, UINT64_MAX);
    stream->pli = 0;
    zr_fwd_forget_byes(fwd, stream);
    zr_itemq_clear(&stream->turn, &fwd->items);
    zr_list_remove(&stream->turning);
    zr_list_remove(&stream->asking);
    zr_cache_clear(&fwd->cache, stream->slot);
    if (stream->ingress != ZR_INGRESS_NONE)
        zr_ingress_forget(&fwd->ingresses[stream->ingress]);
}

void zr_fwd_stream_gone(zr_fwd *fwd, zr_stream *stream)
{
    while (!zr_list_empty(&stream->players))
        zr_fwd_sub_gone(fwd, ZR_LIST_FIRST(&stream->players, zr_sub, in_stream));
    zr_fwd_stream_cleared(fwd, stream);
    if (stream->ingress != ZR_INGRESS_NONE)
        zr_ingress_unbind(&fwd->ingresses[stream->ingress]);
    zr_stream_close(stream);
    fwd->stream_count--;
    zr_stat_set(fwd->page, ZR_STAT_streams, fwd->stream_count);
}

void zr_fwd_session_gone(zr_fwd *fwd, uint32_t session)
{
    /* Each round closes the first conversation, so the walk starts anew. */
    for (int conv; (conv = zr_lane_conv_next(fwd->lane, session, -1)) >= 0;) {
        uint32_t user = zr_lane_conv_user(fwd->lane, (uint32_t)conv);
        if ((user & ZR_FWD_CHILD) != 0)
            zr_fwd_sub_gone(fwd, &fwd->subs.all[user & ~ZR_FWD_CHILD]);
        else
            zr_fwd_pull_gone(fwd, &fwd->pulls.all[user]);
    }
    (void)zr_lane_session_drop(fwd->lane, session);
}

void zr_fwd_ingress_gone(zr_fwd *fwd, zr_ingress *ingress)
{
    zr_ingress_unbind(ingress);
    fwd->closing_from = fwd->closing_count == 0 ? ingress->slot : ZR_MIN(fwd->closing_from, ingress->slot);
    fwd->closing_count += !ingress->closing;
    ingress->closing = true;
}

void zr_fwd_all_gone(zr_fwd *fwd)
{
    for (uint32_t i = 0; i < fwd->conf.streams_max; i++)
        if (fwd->streams[i].open)
            zr_fwd_stream_gone(fwd, &fwd->streams[i]);
    for (uint32_t i = 0; i < fwd->conf.lane.sessions_max; i++)
        if (zr_lane_session_open(fwd->lane, i))
            zr_fwd_session_gone(fwd, i);
    for (uint32_t i = 0; i < fwd->conf.ingress_max; i++)
        zr_fwd_ingress_gone(fwd, &fwd->ingresses[i]); /* bound or not: the worker closes those that are open */
}

void zr_fwd_touch(const zr_fwd *fwd)
{
    const zr_fwd_conf *conf = &fwd->conf;
    const struct {
        void *at;
        size_t bytes;
    } hot[] = {
        { fwd->items.all, fwd->items.count * sizeof(zr_item) },
        { fwd->cache.items.all, fwd->cache.items.count * sizeof(zr_item) },
        { fwd->cache.lines, fwd->cache.streams_max * sizeof(zr_cache_line) },
        { fwd->subs.all, fwd->subs.max * sizeof(zr_sub) },
        { fwd->subs.dests, fwd->subs.max * sizeof(zr_dest) },
        { fwd->streams, conf->streams_max * sizeof(zr_stream) },
        { fwd->ingresses, conf->ingress_max * sizeof(zr_ingress) },
        { fwd->pool.pkts, fwd->pool.count * sizeof(zr_pkt) },
    };

    for (size_t i = 0; i < ZR_LEN(hot); i++)
        zr_touch(hot[i].at, ZR_MIN(hot[i].bytes, HOT_BYTES));
    /* Hashed: the first player may lie anywhere in it, and a huge page may take the kernel 8 ms. Small ones are quick.
     */
    const size_t buckets = (fwd->subs.bucket_mask + (size_t)1) * sizeof *fwd->subs.buckets;
    for (size_t off = 0; off < buckets; off += HUGE_PAGE)
        zr_touch((uint8_t *)fwd->subs.buckets + off, 1);
    zr_touch((uint8_t *)fwd->subs.buckets + buckets - 1, 1);
}
