#include "forward/zr_stream.h"

#include "coll/zr_seq.h"
#include "wire/zr_codec.h"
#include "wire/zr_rtp.h"

/* Numbers start one lap up, so that an early packet may lie below the first one seen without going negative. */
#define FIRST_LAP ((uint64_t)1 << 32)

void zr_stream_init(zr_stream *stream, uint32_t slot, zr_stream_row *row)
{
    stream->slot = slot;
    stream->row = row;
    stream->ingress = ZR_INGRESS_NONE;
    zr_list_init(&stream->turning);
    zr_list_init(&stream->leaving);
    zr_list_init(&stream->rushing);
    zr_list_init(&stream->asking);
    zr_list_init(&stream->holding);
    zr_list_init(&stream->players);
    zr_list_init(&stream->children);
    zr_list_init(&stream->pulls);
    zr_list_init(&stream->catchers);
    stream->from = ZR_STREAM_OURS;
}

static void put_row(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

void zr_stream_open(zr_stream *stream, bool local, uint64_t epoch, uint32_t number)
{
    _Atomic uint64_t *words = (_Atomic uint64_t *)(void *)stream->row;

    /* Which epoch, and how far it got, is the last word a successor and the agent have: never by way of 0. */
    for (size_t i = 0; i < sizeof *stream->row / sizeof *words; i++)
        if (&words[i] != &stream->row->epoch && &words[i] != &stream->row->next_number &&
            &words[i] != &stream->row->resume_number)
            put_row(&words[i], 0);
    stream->open = true;
    stream->ingress = ZR_INGRESS_NONE;
    stream->ordinal = 0;
    zr_stream_restart(stream, local, epoch, number);
    put_row(&stream->row->state, 1);
}

void zr_stream_restart(zr_stream *stream, bool local, uint64_t epoch, uint32_t number)
{
    stream->local = local;
    stream->live = false;
    stream->from = ZR_STREAM_OURS;
    stream->track_count = 0;
    stream->pli = stream->gated = stream->cut = 0;
    stream->epoch = epoch;
    stream->next = stream->whole = stream->waited = stream->waiting = FIRST_LAP + number;
    stream->looked_ns = 0;
    stream->last_ns = 0;
    for (unsigned i = 0; i < ZR_TRACKS_MAX; i++)
        stream->tracks[i] = (zr_track){ .used = false };
    zr_win_init(&stream->window);
    put_row(&stream->row->next_number, number);
    put_row(&stream->row->resume_number, number);
    /* Behind both: killed before it, or read by the agent just then, the new epoch never has the old one's numbers. */
    atomic_store_explicit(&stream->row->epoch, epoch, memory_order_release);
    put_row(&stream->row->first_ns, 0);
    put_row(&stream->row->last_ns, 0);
}

void zr_stream_close(zr_stream *stream)
{
    stream->open = false;
    put_row(&stream->row->state, 0);
}

int zr_stream_set_track(zr_stream *stream, uint32_t track, const zr_track_conf *conf)
{
    zr_track *at;

    if (track >= ZR_TRACKS_MAX || conf->kind >= ZR_TRACK_KINDS || conf->codec >= ZR_CODEC_COUNT ||
        conf->payload_type > 127)
        return ZR_E_inval;
    at = &stream->tracks[track];
    if (at->used && at->conf.kind == conf->kind && at->conf.codec == conf->codec && at->conf.ssrc == conf->ssrc &&
        at->conf.payload_type == conf->payload_type && at->conf.clock_rate == conf->clock_rate)
        return ZR_OK;
    *at = (zr_track){ .used = true, .conf = *conf };
    if (track >= stream->track_count)
        stream->track_count = (uint8_t)(track + 1);
    return ZR_OK;
}

int zr_stream_match(const zr_stream *stream, uint8_t payload_type, uint32_t ssrc, enum zr_drop_id *drop)
{
    *drop = ZR_DROP_track;
    for (int i = 0; i < stream->track_count; i++) {
        const zr_track *track = &stream->tracks[i];
        if (!track->used || track->conf.payload_type != payload_type)
            continue;
        if (track->conf.ssrc == 0 || track->conf.ssrc == ssrc)
            return i;
        *drop = ZR_DROP_source;
    }
    return ZR_E_missing;
}

int zr_stream_by_ssrc(const zr_stream *stream, uint32_t ssrc)
{
    for (int i = 0; i < stream->track_count; i++)
        if (stream->tracks[i].used && stream->tracks[i].heard && stream->tracks[i].ssrc == ssrc)
            return i;
    return ZR_E_missing;
}

uint32_t zr_stream_take_number(zr_stream *stream)
{
    return (uint32_t)stream->next++;
}

int zr_stream_look(const zr_stream *stream, uint32_t number, enum zr_drop_id *drop)
{
    switch (zr_win_look(&stream->window, zr_seq_unwrap(stream->next, number))) {
    case ZR_WIN_NEW:
        return ZR_OK;
    case ZR_WIN_SEEN:
        *drop = ZR_DROP_duplicate;
        return ZR_E_dropped;
    case ZR_WIN_OLD:
    default:
        *drop = ZR_DROP_late;
        return ZR_E_dropped;
    }
}

bool zr_stream_mark(zr_stream *stream, uint32_t number)
{
    uint64_t n = zr_seq_unwrap(stream->next, number);
    bool first = stream->window.top == 0, newest = first || n >= stream->next;

    if (first && n < stream->whole)
        stream->whole = stream->waited = stream->waiting = n;
    (void)zr_win_mark(&stream->window, n);
    if (newest)
        stream->next = n + 1;
    return newest;
}

bool zr_stream_lacks(const zr_stream *stream, uint32_t number)
{
    return stream->whole < zr_seq_unwrap(stream->next, number);
}

static bool taken(const zr_stream *stream, uint64_t n)
{
    return zr_win_look(&stream->window, n) == ZR_WIN_SEEN;
}

/* Gives up what is missing below `waited`: one gap for each stretch. */
static void pass_over(zr_stream *stream)
{
    if (stream->waited > stream->whole + ZR_WIN) /* the origin's numbers jumped; the window knows no more than this */
        stream->whole = stream->waited - ZR_WIN;
    while (stream->whole < stream->waited) {
        zr_stat_bump(&stream->row->gaps, !taken(stream, stream->whole));
        while (stream->whole < stream->waited && !taken(stream, stream->whole))
            stream->whole++;
        while (stream->whole < stream->waited && taken(stream, stream->whole))
            stream->whole++;
    }
}

/* From where a new parent is asked to go on: packets overtake each other, so what is missing below the newest number
 * may still have been on its way when the old parent went. */
static void look_for_holes(zr_stream *stream, zr_ns_t now)
{
    if (now - stream->looked_ns >= ZR_HOLE_WAIT) {
        stream->waited = stream->waiting;
        stream->waiting = stream->next;
        stream->looked_ns = now;
        pass_over(stream);
    }
    while (stream->whole < stream->next && taken(stream, stream->whole))
        stream->whole++;
}

void zr_stream_classify(zr_track *track, zr_item *item)
{
    zr_media *media = &item->media;
    bool same_frame = track->keyed && track->key_timestamp == item->timestamp;

    if ((media->flags & ZR_MEDIA_KEY) != 0 && same_frame)
        media->flags &= (uint8_t)~ZR_MEDIA_KEY; /* SPS, PPS and IDR of one frame may each look like its start */
    if ((media->flags & ZR_MEDIA_KEY) != 0) {
        track->keyed = same_frame = true;
        track->key_timestamp = item->timestamp;
    }
    if (track->conf.kind == ZR_TRACK_AUDIO) {
        media->flags |= ZR_MEDIA_AUDIO;
        media->cls = 1;
    } else {
        media->cls = same_frame ? 3 : 4;
    }
}

void zr_stream_note_frame(zr_stream *stream, zr_item *item)
{
    zr_track *track = &stream->tracks[item->media.track];

    item->begins = item->timestamp != track->timestamp;
    track->timestamp = item->timestamp;
}

zr_shed_frame zr_stream_frame(const zr_stream *stream, const zr_item *item)
{
    const zr_media *media = &item->media;
    const zr_track_conf *conf = &stream->tracks[media->track].conf;

    return (zr_shed_frame){
        .cls = zr_shed_class_of(media),
        .discardable = (media->flags & ZR_MEDIA_DISCARDABLE) != 0,
        .heals = media->cls == ZR_SHED_KEY || (media->flags & ZR_MEDIA_SWITCH) != 0,
        .keyed = conf->kind == ZR_TRACK_VIDEO && zr_codec_tells_keys((enum zr_codec)conf->codec),
        .timestamp = item->timestamp,
    };
}

void zr_stream_count(zr_stream *stream, const zr_item *item, zr_ns_t now)
{
    zr_stream_row *row = stream->row;

    zr_stat_bump(&row->packets, 1);
    zr_stat_bump(&row->bytes, item->slice.len);
    put_row(&row->next_number, (uint32_t)stream->next);
    if (stream->local)
        stream->whole = stream->next;
    else
        look_for_holes(stream, now);
    put_row(&row->resume_number, (uint32_t)stream->whole);
    if (zr_item_is_rtcp(item))
        return;
    if ((item->media.flags & ZR_MEDIA_KEY) != 0)
        zr_stat_bump(&row->keyframes, 1);
    if (stream->last_ns == 0)
        put_row(&row->first_ns, (uint64_t)now);
    else if (now - stream->last_ns >= ZR_STALL && stream->tracks[item->media.track].conf.kind != ZR_TRACK_DATA)
        zr_stat_bump(&row->stalls, 1);
    stream->last_ns = now;
    put_row(&row->last_ns, (uint64_t)now);
}

void zr_stream_count_drop(zr_stream *stream, enum zr_drop_id drop)
{
    zr_stat_bump(&stream->row->drops, 1);
    if (drop == ZR_DROP_duplicate)
        zr_stat_bump(&stream->row->duplicates, 1);
    if (drop == ZR_DROP_oversize)
        zr_stat_bump(&stream->row->oversize, 1);
}
