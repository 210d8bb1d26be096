/* Streams that other workers of this relay have subscribers of, and streams of theirs that we have subscribers of. */
#include "forward/zr_fwd_priv.h"

#include "coll/zr_seq.h"

#define CATCH_EVERY ZR_MS(1)

#define EACH_BIT(bit, bits)                                                                                            \
    for (uint64_t left_ = (bits), bit; left_ != 0 && ((bit = low(left_)), true); left_ &= left_ - 1)

static uint32_t low(uint64_t bits)
{
    return (uint32_t)__builtin_ctzll(bits);
}

int zr_fwd_meet(zr_fwd *fwd, uint32_t worker, const zr_inbox *inbox)
{
    int rc = zr_mirrors_meet(&fwd->mirrors, worker, inbox);

    if (rc == ZR_E_version)
        zr_stat_add(fwd->page, ZR_STAT_ring_corrupt, 1);
    return rc == ZR_E_inval ? rc : ZR_OK;
}

/* -- at the owner ---------------------------------------------------------------------------------------------------
 */

static void gauge(zr_fwd *fwd)
{
    zr_stat_set(fwd->page, ZR_STAT_mirrors, fwd->mirrors.count);
}

int zr_fwd_mirror_add(zr_fwd *fwd, zr_stream *stream, uint32_t worker, uint32_t slot, uint32_t feed, bool whole,
                      zr_ns_t now)
{
    uint64_t bit = (uint64_t)1 << (worker % 64);
    zr_mirror *mirror;

    if (stream->from != ZR_STREAM_OURS || !zr_mirrors_known(&fwd->mirrors, worker))
        return ZR_E_inval;
    mirror = zr_mirrors_at(&fwd->mirrors, stream->slot, worker);
    if ((stream->mirrors & bit) != 0) /* asked twice when the answer died with a worker */
        return mirror->slot == slot && mirror->feed == feed ? ZR_OK : ZR_E_exists;
    *mirror = (zr_mirror){ .slot = slot, .feed = feed };
    stream->mirrors |= bit;
    fwd->mirrors.count++;
    gauge(fwd);
    const zr_item *oldest = zr_cache_first(&fwd->cache, stream->slot, now);
    if (oldest == NULL || (!whole && !zr_cache_key(&fwd->cache, stream->slot, &mirror->replay_number, now)))
        return ZR_OK;
    if (whole)
        mirror->replay_number = oldest->media.number;
    stream->catching |= bit;
    if (!zr_list_linked(&stream->catchers))
        zr_list_append(&fwd->mirrors.catching, &stream->catchers);
    return ZR_OK;
}

void zr_fwd_mirrors_drop(zr_fwd *fwd, zr_stream *stream, uint64_t workers)
{
    fwd->mirrors.count -= (uint32_t)__builtin_popcountll(stream->mirrors & workers);
    stream->mirrors &= ~workers;
    stream->catching &= ~workers;
    if (stream->catching == 0)
        zr_list_remove(&stream->catchers);
    if (zr_list_empty(&fwd->mirrors.catching)) /* nobody else would: the worker never slept again */
        fwd->mirrors.catch_at = ZR_NEVER;
    gauge(fwd);
}

/* One pair (packet, worker), judged at once. */
static void put(zr_fwd *fwd, zr_stream *stream, uint32_t worker, const zr_item *item, uint8_t flags)
{
    const zr_mirror *mirror = zr_mirrors_at(&fwd->mirrors, stream->slot, worker);

    zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
    if (zr_mirrors_put_media(&fwd->mirrors, worker, mirror->slot, mirror->feed, item, flags) != ZR_OK) {
        zr_drop_add(fwd->page, ZR_DROP_queue);
        return;
    }
    zr_stat_add(fwd->page, ZR_STAT_mirror_sent, 1);
    zr_stat_add(fwd->page, ZR_STAT_fan_sent, 1);
    zr_stat_bump(&stream->row->fan_sent, 1);
}

void zr_fwd_to_mirrors(zr_fwd *fwd, zr_stream *stream, const zr_item *item)
{
    EACH_BIT(worker, stream->mirrors & ~stream->catching)
    put(fwd, stream, (uint32_t)worker, item, 0);
}

/* From where it begins to the newest packet, but never more than half the ring: the rest is for what is live. */
static bool caught_up(zr_fwd *fwd, zr_stream *stream, uint32_t worker, zr_ns_t now)
{
    zr_mirror *mirror = zr_mirrors_at(&fwd->mirrors, stream->slot, worker);
    zr_inbox_end *out = &fwd->mirrors.out[worker];
    const zr_item *item = zr_cache_first(&fwd->cache, stream->slot, now);

    for (; item != NULL; item = item->next) {
        if (item->ordinal < mirror->replay_at || zr_seq_before(item->media.number, mirror->replay_number))
            continue;
        if (zr_inbox_room(out) <= out->slots / 2)
            return false;
        put(fwd, stream, worker, item, ZR_MEDIA_REPLAYED);
        mirror->replay_at = item->ordinal + 1;
        zr_stat_add(fwd->page, ZR_STAT_cache_replayed, 1);
    }
    return true;
}

void zr_fwd_catch_up(zr_fwd *fwd, zr_ns_t now)
{
    zr_list *list = &fwd->mirrors.catching;

    for (zr_list *at = list->next, *next; at != list; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, catchers);
        next = at->next;
        EACH_BIT(worker, stream->catching)
        if (caught_up(fwd, stream, (uint32_t)worker, now))
            stream->catching &= ~((uint64_t)1 << worker);
        if (stream->catching == 0)
            zr_list_remove(at);
    }
    fwd->mirrors.catch_at = zr_list_empty(list) ? ZR_NEVER : now + CATCH_EVERY;
}

int zr_fwd_wake_next(zr_fwd *fwd)
{
    zr_mirrors *mirrors = &fwd->mirrors;

    while (mirrors->written != 0) {
        uint32_t worker = low(mirrors->written);
        mirrors->written &= mirrors->written - 1;
        if (zr_chan_wake_needed(mirrors->asleep[worker]))
            return (int)worker;
    }
    return ZR_E_again;
}

/* -- at the target --------------------------------------------------------------------------------------------------
 */

bool zr_fwd_ask_owner(zr_fwd *fwd, const zr_stream *stream, uint32_t track)
{
    return zr_mirrors_put_keyframe(&fwd->mirrors, stream->from, stream->from_slot, stream->feed, track) == ZR_OK;
}

static void refuse(zr_fwd *fwd, zr_stream *stream, enum zr_drop_id drop)
{
    (void)zr_fwd_drop(fwd, stream, NULL, drop);
}

/* A mirror fed from `worker` asks for a key frame of our stream. */
static void take_keyframe(zr_fwd *fwd, uint32_t worker, const zr_record *record, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, record->stream);

    if (stream == NULL || (stream->mirrors & (uint64_t)1 << worker) == 0 ||
        zr_mirrors_at(&fwd->mirrors, stream->slot, worker)->feed != record->feed) {
        refuse(fwd, NULL, ZR_DROP_stream);
    } else if (record->track >= stream->track_count || !stream->tracks[record->track].used) {
        refuse(fwd, NULL, ZR_DROP_track);
    } else {
        zr_fwd_want_key(fwd, stream, record->track, now);
        zr_stat_add(fwd->page, ZR_STAT_media_accepted, 1);
    }
}

static void take_media(zr_fwd *fwd, uint32_t worker, const zr_record *record, const uint8_t *data, zr_ns_t now)
{
    zr_stream *stream = zr_fwd_stream(fwd, record->stream);
    zr_media media;
    zr_pkt *pkt;

    if (record->len == 0 || record->len > ZR_RTP_MAX) {
        refuse(fwd, NULL, ZR_DROP_record);
        return;
    }
    zr_stat_add(fwd->page, ZR_STAT_rx_media_bytes, record->len);
    if (stream == NULL || stream->from != worker || stream->feed != record->feed) {
        refuse(fwd, NULL, ZR_DROP_stream);
        return;
    }
    pkt = zr_pool_copy(&fwd->pool, data, record->len);
    if (pkt == NULL) {
        refuse(fwd, stream, ZR_DROP_pool);
        return;
    }
    (void)zr_media_parse(&media, record->media, sizeof record->media);
    zr_fwd_mirrored(fwd, stream, &media, pkt, record->arrival, now);
}

static void take(zr_fwd *fwd, uint32_t worker, const zr_record *record, const uint8_t *data, zr_ns_t now)
{
    zr_stat_add(fwd->page, ZR_STAT_mirror_received, 1);
    zr_stat_add(fwd->page, ZR_STAT_rx_media, 1);
    switch (record->kind) {
    case ZR_RECORD_MEDIA:
        take_media(fwd, worker, record, data, now);
        break;
    case ZR_RECORD_KEYFRAME:
        take_keyframe(fwd, worker, record, now);
        break;
    default:
        refuse(fwd, NULL, ZR_DROP_record);
    }
}

static int read_ring(zr_fwd *fwd, uint32_t worker, int budget, zr_ns_t now)
{
    zr_inbox_end *in = &fwd->mirrors.in[worker];
    bool was_corrupt = in->corrupt;
    const uint8_t *data;
    zr_record record;
    int count = 0;

    zr_stat_max(fwd->page, ZR_STAT_inbox_fill_max, zr_inbox_waiting(in));
    for (; count < budget && (data = zr_mirrors_take(&fwd->mirrors, worker, &record)) != NULL; count++) {
        take(fwd, worker, &record, data, now);
        zr_inbox_release(in);
    }
    zr_stat_add(fwd->page, ZR_STAT_ring_corrupt, in->corrupt && !was_corrupt);
    return count;
}

int zr_fwd_mirror_input(zr_fwd *fwd, int budget, zr_ns_t now)
{
    zr_mirrors *mirrors = &fwd->mirrors;
    int count = 0;

    mirrors->left = false;
    if (mirrors->inbox.page == NULL)
        return 0;
    for (uint32_t i = 0; i < mirrors->workers; i++) {
        uint32_t worker = (mirrors->first + i) % mirrors->workers;
        int got = mirrors->in[worker].ring == NULL ? 0 : read_ring(fwd, worker, budget, now);
        mirrors->left |= got == budget;
        count += got;
    }
    mirrors->first = (mirrors->first + 1) % mirrors->workers;
    return count;
}

zr_mirrors *zr_fwd_mirrors(zr_fwd *fwd)
{
    return &fwd->mirrors;
}

bool zr_fwd_mirrors_check(const zr_fwd *fwd)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < fwd->conf.streams_max; i++) {
        const zr_stream *stream = &fwd->streams[i];
        if (stream->row == NULL) /* never opened */
            continue;
        count += (uint32_t)__builtin_popcountll(stream->mirrors);
        if ((stream->catching & ~stream->mirrors) != 0 || zr_list_linked(&stream->catchers) != (stream->catching != 0))
            return false;
        if (stream->mirrors != 0 && (!stream->open || stream->from != ZR_STREAM_OURS))
            return false;
    }
    return count == fwd->mirrors.count;
}
