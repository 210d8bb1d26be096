/* Too much for this worker, or for one child: what is left out on arrival and on the way to a child. */
#include "forward/zr_fwd_priv.h"

/* A child's queue, in sixteenths, from which on no frame of a class begins, and none goes on: the last is audio's. */
static const uint8_t begin_below[ZR_SHED_NONE] = {
    [ZR_SHED_CONTROL] = UINT8_MAX, [ZR_SHED_AUDIO] = 16, [ZR_SHED_AGAIN] = 14, [ZR_SHED_KEY] = 14,
    [ZR_SHED_BASE] = 13,           [ZR_SHED_EXTRA] = 12, [ZR_SHED_FEC] = 12,
};
#define ANY_BEGINS_BELOW 12u
#define GOES_ON_BELOW    15u
#define ASKS_BELOW       8u /* a key frame is of use again */
#define MEND_MIN         ZR_MS(500)
#define MEND_MAX         ZR_SEC(8)

enum zr_drop_id zr_fwd_gate(zr_fwd *fwd, zr_stream *stream, const zr_item *item, zr_ns_t now)
{
    zr_shed_frame frame = zr_stream_frame(stream, item);
    zr_shed_track *gate = &stream->gates[item->media.track];
    uint16_t bit = (uint16_t)(1u << item->media.track);
    enum zr_shed_verdict verdict = ZR_SHED_PASS;

    if (frame.cls <= ZR_SHED_AUDIO)
        return ZR_DROP_COUNT;
    if ((stream->gated & bit) == 0)
        *gate = (zr_shed_track){ .cut = 0 };
    else
        verdict = zr_shed_judge(gate, &frame);
    if (verdict == ZR_SHED_PASS && frame.cls >= fwd->shed.gate && (item->begins || frame.cls == ZR_SHED_FEC)) {
        zr_shed_cut(gate, &frame);
        verdict = ZR_SHED_CUT;
    }
    stream->gated = (uint16_t)(zr_shed_clean(gate) ? stream->gated & ~bit : stream->gated | bit);
    if (verdict == ZR_SHED_DEPENDANT && frame.cls < fwd->shed.gate)
        zr_fwd_mend(fwd, stream, item->media.track, now);
    return verdict == ZR_SHED_PASS ? ZR_DROP_COUNT : verdict == ZR_SHED_CUT ? ZR_DROP_shed : ZR_DROP_dependant;
}

void zr_fwd_mend(zr_fwd *fwd, zr_stream *stream, uint32_t index, zr_ns_t now)
{
    zr_track *track = &stream->tracks[index];
    bool again = now - track->mend_at < 2 * track->mend_wait;

    if (now < track->mend_at)
        return;
    track->mend_wait = again ? ZR_MIN(2 * track->mend_wait, MEND_MAX) : MEND_MIN;
    track->mend_at = now + track->mend_wait;
    zr_fwd_want_key(fwd, stream, index, now);
}

static zr_shed_track *child_cut(const zr_fwd *fwd, const zr_sub *sub, uint32_t track)
{
    zr_shed_track *cut = &fwd->child_cuts[sub->conv * ZR_TRACKS_MAX + track];

    if ((sub->cut & 1u << track) == 0)
        *cut = (zr_shed_track){ .cut = 0 };
    return cut;
}

static void note_cut(zr_sub *sub, uint32_t track, const zr_shed_track *cut)
{
    uint16_t bit = (uint16_t)(1u << track);
    sub->cut = (uint16_t)(zr_shed_clean(cut) ? sub->cut & ~bit : sub->cut | bit);
}

enum zr_drop_id zr_fwd_child_sheds(zr_fwd *fwd, zr_sub *sub, const zr_item *item, zr_ns_t now)
{
    uint32_t fill = zr_lane_conv_fill(fwd->lane, sub->conv), track = item->media.track;
    enum zr_shed_verdict verdict = ZR_SHED_PASS;
    zr_shed_frame frame;
    zr_shed_track *cut;

    if (fill < ANY_BEGINS_BELOW && (sub->cut & 1u << track) == 0)
        return ZR_DROP_COUNT;
    frame = zr_stream_frame(sub->stream, item);
    if (frame.cls <= ZR_SHED_AUDIO)
        return fill < begin_below[frame.cls] ? ZR_DROP_COUNT : ZR_DROP_fan_shed;
    cut = child_cut(fwd, sub, track);
    if ((sub->cut & 1u << track) != 0)
        verdict = zr_shed_judge(cut, &frame);
    if (verdict == ZR_SHED_PASS && fill >= (item->begins ? begin_below[frame.cls] : GOES_ON_BELOW)) {
        zr_shed_cut(cut, &frame);
        verdict = ZR_SHED_CUT;
    }
    note_cut(sub, track, cut);
    if (verdict == ZR_SHED_DEPENDANT && fill < ASKS_BELOW)
        zr_fwd_mend(fwd, sub->stream, track, now);
    return verdict == ZR_SHED_PASS ? ZR_DROP_COUNT : verdict == ZR_SHED_CUT ? ZR_DROP_fan_shed : ZR_DROP_fan_dependant;
}

void zr_fwd_child_refused(zr_fwd *fwd, zr_sub *sub, const zr_item *item)
{
    zr_shed_frame frame = zr_stream_frame(sub->stream, item);
    zr_shed_track *cut = child_cut(fwd, sub, item->media.track);

    zr_shed_cut(cut, &frame);
    note_cut(sub, item->media.track, cut);
}

/* A tenth of the subscribers each time: a child that acknowledges nothing is found within 31 s. */
static void look_for_stuck(zr_fwd *fwd, zr_ns_t now)
{
    zr_kcp_estimates estimates;

    for (uint32_t left = fwd->subs.used / 10 + 1; left > 0; left--) {
        zr_sub *sub = zr_subs_get(&fwd->subs, fwd->looked_at);
        fwd->looked_at = fwd->looked_at + 1 < fwd->subs.used ? fwd->looked_at + 1 : 0;
        if (sub == NULL || !sub->child || sub->stuck ||
            zr_lane_conv_estimated(fwd->lane, sub->conv, &estimates) != ZR_OK || !estimates.dark ||
            now - ZR_MAX(estimates.heard, sub->added) < ZR_FWD_STUCK)
            continue;
        sub->stuck = true;
        zr_stat_add(fwd->page, ZR_STAT_children_stuck, 1);
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_child_stuck, .a = sub->slot, .b = sub->stream->slot });
    }
}

static uint32_t permille(uint32_t part, uint32_t whole)
{
    return (uint32_t)((uint64_t)part * 1000 / whole);
}

/* The fullest ring of our inbox. A mirror that catches up fills half of one now and then, and not for long: what counts
 * was there at the last look, too. */
static uint32_t inbox(zr_fwd *fwd)
{
    uint32_t fullest = 0, before = fwd->inbox_before;

    for (uint32_t from = 0; from < fwd->mirrors.workers; from++) {
        const zr_inbox_end *in = &fwd->mirrors.in[from];
        if (in->ring != NULL)
            fullest = ZR_MAX(fullest, permille(zr_inbox_depth(in), in->slots));
    }
    fwd->inbox_before = fullest;
    return ZR_MIN(fullest, before);
}

void zr_fwd_load(zr_fwd *fwd, const zr_load *load, zr_ns_t now)
{
    zr_load worst = *load;
    uint32_t events = zr_spsc_depth(fwd->events), records = inbox(fwd);

    worst.ring = ZR_MAX(worst.ring, permille(events, fwd->events->mask + 1));
    worst.ring = ZR_MAX(worst.ring, permille(zr_spsc_depth(fwd->commands), fwd->commands->mask + 1));
    worst.ring = ZR_MAX(worst.ring, records);
    worst.pool = ZR_MAX(worst.pool, permille(fwd->pool.in_use, fwd->conf.pkts_max));
    zr_stat_set(fwd->page, ZR_STAT_events_queued, events);
    zr_stat_set(fwd->page, ZR_STAT_byes_held, fwd->byes.count);
    if (zr_shed_look(&fwd->shed, &worst, now)) {
        zr_stat_set(fwd->page, ZR_STAT_overload_level, fwd->shed.level);
        zr_stat_add(fwd->page, ZR_STAT_overload_changes, 1);
        zr_fwd_event(fwd, &(zr_cmd){ .op = ZR_EVT_overload, .a = fwd->shed.level });
    }
    look_for_stuck(fwd, now);
}
