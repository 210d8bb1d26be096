/*
 * What waits for players while egress takes nothing, or takes less than comes.
 *
 *   turn ──▶ urgent (audio, control) ──▶ rush, before all that is in an `out`, and has not gone to the batch
 *      └───▶ wait (the rest)         ──▶ out, some frames of each stream in turn, once nothing is leaving
 *
 * Bounded: packets and bytes of a stream, packets of all, age. What is too much goes by class, whole frames, oldest
 * first, down to three quarters of the bound; with it goes what depends on it, up to the next key frame, be that still
 * waiting here or yet to come (`cuts`). A pair that goes is counted due and dropped at once.
 */
#include "forward/zr_fwd_priv.h"

#include "coll/zr_seq.h"

#define CHUNK      32u   /* packets of a stream that leave at once, */
#define LOOKS      40    /* at the age of what is held, while one packet may wait */
#define PAIRS_MIN  8u    /* and pairs of all streams, as many as egress takes in PAIRS_NS: */
#define PAIRS_MAX  1024u /* what audio may have to wait for */
#define PAIRS_NS   ZR_MS(5)
#define LOW(bound) ((bound) / 4 * 3)

/* What a pass over a queue takes out: everything older than `until`, and of `cls` what is above the two numbers. */
typedef struct shed_want {
    zr_ns_t until;
    uint32_t tracks; /* that `until` is for, bits */
    uint8_t cls;
    uint32_t count, bytes;
} shed_want;

static void drop_held(zr_fwd *fwd, const zr_stream *stream, zr_item *item, enum zr_shed_verdict verdict)
{
    enum zr_drop_id drop = verdict == ZR_SHED_DEPENDANT ? ZR_DROP_fan_dependant : ZR_DROP_fan_shed;

    ZR_LIST_EACH(sub, &stream->players, zr_sub, in_stream)
    {
        if (item->ordinal < sub->since)
            break; /* players stand in the order they joined */
        zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
        zr_drop_add(fwd->page, zr_sub_wants(sub, item) ? drop : ZR_DROP_filtered);
    }
    zr_items_give(&fwd->items, item);
}

static void note_held(zr_fwd *fwd, uint32_t count, uint32_t bytes, const zr_stream *stream)
{
    fwd->held += stream->urgent.count + stream->wait.count - count;
    fwd->held_bytes += stream->urgent.bytes + stream->wait.bytes - bytes;
}

static void keep_listed(zr_fwd *fwd, zr_stream *stream)
{
    bool holds = stream->urgent.count + stream->wait.count > 0;

    if (holds && !zr_list_linked(&stream->holding))
        zr_list_append(&fwd->holding, &stream->holding);
    if (!holds)
        zr_list_remove(&stream->holding);
}

/* Is a key frame of use: does what is held move? */
static bool moves(const zr_fwd *fwd, const zr_stream *stream, zr_ns_t now)
{
    const zr_item *oldest = stream->out.head != NULL ? stream->out.head : stream->wait.head;

    return oldest == NULL || now - oldest->arrival < fwd->conf.hold_age / 2;
}

void zr_fwd_hold(zr_fwd *fwd, zr_stream *stream, zr_ns_t now)
{
    uint32_t count = stream->urgent.count + stream->wait.count, bytes = stream->urgent.bytes + stream->wait.bytes;

    for (zr_item *item; (item = zr_itemq_pop(&stream->turn)) != NULL;) {
        uint32_t track = item->media.track;
        uint16_t bit = (uint16_t)(1u << track);
        zr_shed_frame frame = zr_stream_frame(stream, item);
        enum zr_shed_verdict verdict = ZR_SHED_PASS;
        if (frame.cls <= ZR_SHED_AUDIO) {
            zr_itemq_push(&stream->urgent, item);
            continue;
        }
        if ((stream->cut & bit) != 0) {
            verdict = zr_shed_judge(&stream->cuts[track], &frame);
            if (zr_shed_clean(&stream->cuts[track]))
                stream->cut &= (uint16_t)~bit;
        }
        if (verdict == ZR_SHED_PASS) {
            zr_itemq_push(&stream->wait, item);
            continue;
        }
        if (verdict == ZR_SHED_DEPENDANT && moves(fwd, stream, now))
            zr_fwd_mend(fwd, stream, track, now);
        drop_held(fwd, stream, item, verdict);
    }
    note_held(fwd, count, bytes, stream);
    keep_listed(fwd, stream);
}

/* The stream's players miss what a pass has cut, unless a key frame behind it in the queue has mended it. */
static void join_cuts(zr_stream *stream, uint32_t track, const zr_shed_track *cut)
{
    zr_shed_track *now = &stream->cuts[track];
    uint16_t bit = (uint16_t)(1u << track);

    if (zr_shed_clean(cut))
        return;
    if ((stream->cut & bit) == 0) {
        *now = *cut;
    } else if (cut->broken > 0) {
        bool later = now->broken == 0 || zr_seq_before(now->newest, cut->newest);
        uint32_t oldest = now->broken > 0 && zr_seq_before(now->oldest, cut->oldest) ? now->oldest : cut->oldest;
        uint8_t broken = now->broken > 0 ? ZR_MIN(now->broken, cut->broken) : cut->broken;
        if (later)
            *now = *cut;
        now->oldest = oldest;
        now->broken = broken;
        now->healing = 0;
    }
    stream->cut |= bit;
}

/* What is cut of each track; only those with a bit in `marked` mean something. */
typedef struct shed_cuts {
    uint32_t marked;
    zr_shed_track tracks[ZR_TRACKS_MAX];
} shed_cuts;

static void cut_one(shed_cuts *cuts, const zr_item *item, const zr_shed_frame *frame)
{
    uint32_t bit = 1u << item->media.track;

    if ((cuts->marked & bit) == 0)
        cuts->tracks[item->media.track] = (zr_shed_track){ .cut = 0 };
    cuts->marked |= bit;
    zr_shed_cut(&cuts->tracks[item->media.track], frame);
}

/* One pass over the queue; `cuts`: before its first packet, and then behind its last. */
static void shed_pass(zr_fwd *fwd, zr_stream *stream, zr_itemq *queue, const shed_want *want, shed_cuts *cuts)
{
    uint32_t before = stream->urgent.count + stream->wait.count, bytes = stream->urgent.bytes + stream->wait.bytes;
    uint32_t left = queue->count;

    for (uint32_t n = queue->count; n > 0; n--) {
        uint32_t size = queue->bytes;
        zr_item *item = zr_itemq_pop(queue);
        uint32_t track = item->media.track;
        zr_shed_frame frame = zr_stream_frame(stream, item);
        enum zr_shed_verdict verdict = ZR_SHED_PASS;
        bool more = frame.cls == want->cls && (left > want->count || size > want->bytes);
        if ((cuts->marked & 1u << track) != 0)
            verdict = zr_shed_judge(&cuts->tracks[track], &frame);
        bool old = item->arrival <= want->until && (want->tracks >> track & 1) != 0 && frame.cls != ZR_SHED_CONTROL;
        if (verdict == ZR_SHED_PASS && (more || old)) {
            cut_one(cuts, item, &frame);
            verdict = ZR_SHED_CUT;
        }
        if (verdict == ZR_SHED_PASS) {
            zr_itemq_push(queue, item);
            continue;
        }
        left--;
        drop_held(fwd, stream, item, verdict);
    }
    for (uint32_t track = 0; cuts->marked >> track != 0; track++)
        if ((cuts->marked & 1u << track) != 0)
            join_cuts(stream, track, &cuts->tracks[track]);
    note_held(fwd, before, bytes, stream);
}

static void shed_by(zr_fwd *fwd, zr_stream *stream, zr_itemq *queue, const shed_want *want)
{
    shed_cuts cuts = { .marked = 0 };
    shed_pass(fwd, stream, queue, want, &cuts);
}

/* By class, down to so much of this stream; control goes only when nothing else is left. */
static void shed_to(zr_fwd *fwd, zr_stream *stream, uint32_t count, uint32_t bytes)
{
    const zr_itemq *urgent = &stream->urgent;
    shed_want want = { .until = INT64_MIN,
                       .count = count - ZR_MIN(count, urgent->count),
                       .bytes = bytes - ZR_MIN(bytes, urgent->bytes) };

    for (want.cls = ZR_SHED_FEC; want.cls >= ZR_SHED_AGAIN; want.cls--)
        if (stream->wait.count > want.count || stream->wait.bytes > want.bytes)
            shed_by(fwd, stream, &stream->wait, &want);
    want.count = count;
    want.bytes = bytes;
    for (int cls = ZR_SHED_AUDIO; cls >= ZR_SHED_CONTROL; cls--) {
        want.cls = (uint8_t)cls;
        if (urgent->count > count || urgent->bytes > bytes)
            shed_by(fwd, stream, &stream->urgent, &want);
    }
}

/* What was already on its way and did not leave in time goes like the rest, and what is held and depends on it. */
static void give_up_out(zr_fwd *fwd, zr_stream *stream)
{
    const shed_want nothing = { .until = INT64_MIN, .cls = ZR_SHED_NONE, .count = UINT32_MAX, .bytes = UINT32_MAX };
    shed_cuts cuts = { .marked = 0 };

    for (const zr_item *item = stream->out.head; item != NULL; item = item->next) {
        zr_shed_frame frame = zr_stream_frame(stream, item);
        cut_one(&cuts, item, &frame);
    }
    zr_fwd_out_lost(fwd, stream, ZR_DROP_fan_shed);
    shed_pass(fwd, stream, &stream->wait, &nothing, &cuts);
    keep_listed(fwd, stream);
}

/* Delta frames that the oldest key frame here waits behind: it mends what they leave, and needs their time. Two
 * streams' key frames at once take twice as long as one. */
static void make_way_for_key(zr_fwd *fwd, zr_stream *stream)
{
    const zr_item *item = stream->wait.head;

    while (item != NULL && item->media.cls != ZR_SHED_KEY)
        item = item->next;
    if (item != NULL && item != stream->wait.head)
        shed_by(fwd, stream, &stream->wait,
                &(shed_want){ .until = item->arrival - 1, .tracks = 1u << item->media.track, .cls = ZR_SHED_NONE });
}

/* At half its time a queue loses what nothing depends on and what a key frame waits behind, at three quarters delta
 * frames, then what is too old. So it is the classes that give way, in their order, long before key frames and audio
 * come too late. */
static void shed_by_age(zr_fwd *fwd, zr_stream *stream, zr_ns_t now)
{
    zr_ns_t most = fwd->conf.hold_age, ages[] = { most / 2, most / 2, LOW(most) };

    stream->shed_at = now + most / LOOKS;
    for (uint8_t i = 0; i < ZR_LEN(ages); i++)
        if (stream->wait.count > 0 && now - stream->wait.head->arrival >= ages[i])
            shed_by(fwd, stream, &stream->wait, &(shed_want){ .until = INT64_MIN, .cls = (uint8_t)(ZR_SHED_FEC - i) });
    if (stream->wait.count > 0 && now - stream->wait.head->arrival >= most / 2)
        make_way_for_key(fwd, stream);
    for (int i = 0; i < 2; i++) {
        zr_itemq *queue = i == 0 ? &stream->wait : &stream->urgent;
        if (queue->count > 0 && now - queue->head->arrival >= most)
            shed_by(fwd, stream, queue,
                    &(shed_want){ .until = now - LOW(most), .tracks = UINT32_MAX, .cls = ZR_SHED_NONE });
    }
}

static void shed_old(zr_fwd *fwd, zr_ns_t now)
{
    zr_ns_t too_old = now - fwd->conf.hold_age;

    for (zr_list *at = fwd->leaving.next, *next; at != &fwd->leaving; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, leaving);
        next = at->next;
        if (stream->out.head->arrival <= too_old)
            give_up_out(fwd, stream);
    }
    for (zr_list *at = fwd->rushing.next, *next; at != &fwd->rushing; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, rushing);
        next = at->next;
        if (stream->rush.head->arrival <= too_old)
            zr_fwd_rush_lost(fwd, stream, ZR_DROP_fan_shed);
    }
    for (zr_list *at = fwd->holding.next, *next; at != &fwd->holding; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, holding);
        next = at->next;
        if (now >= stream->shed_at)
            shed_by_age(fwd, stream, now);
        if (stream->urgent.count + stream->wait.count > fwd->conf.hold_pkts ||
            stream->urgent.bytes + stream->wait.bytes > fwd->conf.hold_bytes)
            shed_to(fwd, stream, LOW(fwd->conf.hold_pkts), LOW(fwd->conf.hold_bytes));
        keep_listed(fwd, stream);
    }
    for (zr_list *at = fwd->asking.next, *next; at != &fwd->asking; at = next) {
        zr_sub *sub = ZR_CONTAINER(at, zr_sub, asking);
        next = at->next;
        for (const zr_item *item; (item = sub->asked.head) != NULL && item->arrival <= too_old; fwd->asked--) {
            zr_stat_add(fwd->page, ZR_STAT_fan_due, 1);
            zr_drop_add(fwd->page, ZR_DROP_fan_shed);
            zr_items_give(&fwd->items, zr_itemq_pop(&sub->asked));
        }
        if (sub->asked.count == 0)
            zr_list_remove(&sub->asking);
    }
}

/* Too much in all: who holds more than an equal part gives it, down to that part. */
static void shed_all(zr_fwd *fwd)
{
    uint32_t streams = 0, part;

    if (fwd->held <= fwd->conf.hold_pkts_all)
        return;
    for (const zr_list *at = fwd->holding.next; at != &fwd->holding; at = at->next)
        streams++;
    part = LOW(fwd->conf.hold_pkts_all) / streams;
    for (zr_list *at = fwd->holding.next, *next; at != &fwd->holding; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, holding);
        next = at->next;
        shed_to(fwd, stream, part, UINT32_MAX);
        keep_listed(fwd, stream);
    }
}

static bool same_frame(const zr_item *one, const zr_item *other)
{
    return one->media.track == other->media.track && one->timestamp == other->timestamp;
}

/* The next frames, to the end of the last one. */
static void take_chunk(zr_stream *stream, uint32_t budget)
{
    const zr_item *last = NULL;

    while (stream->wait.head != NULL && (budget > 0 || (last != NULL && same_frame(last, stream->wait.head)))) {
        zr_item *item = zr_itemq_pop(&stream->wait);
        zr_itemq_push(&stream->out, item);
        budget -= budget > 0;
        last = item;
    }
}

static uint32_t players(const zr_stream *stream)
{
    uint32_t count = 0;

    for (const zr_list *at = stream->players.next; at != &stream->players; at = at->next)
        count++;
    return count;
}

/* By how long the last ones took to leave; it grows twofold at most. */
static uint32_t pairs_at_once(const zr_fwd *fwd, zr_ns_t now)
{
    uint64_t took = (uint64_t)(now - fwd->let_at), most = 2 * (uint64_t)fwd->let_most;

    if (fwd->let_pairs == 0)
        return fwd->let_most;
    if (took > 0)
        most = ZR_MIN(most, fwd->let_pairs * (uint64_t)PAIRS_NS / took);
    return (uint32_t)ZR_MAX(ZR_MIN(most, (uint64_t)PAIRS_MAX), (uint64_t)PAIRS_MIN);
}

static void let_go(zr_fwd *fwd, zr_ns_t now)
{
    bool blocked = !zr_list_empty(&fwd->leaving);
    uint32_t most = blocked ? 0 : pairs_at_once(fwd, now);
    uint32_t pairs = 0;

    /* Those that still hold something go to the end: each is looked at once. */
    zr_list *end = fwd->holding.prev;
    for (zr_list *at = fwd->holding.next, *next; at != &fwd->holding; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, holding);
        bool last = at == end;
        next = at->next;
        uint32_t count = stream->urgent.count + stream->wait.count, bytes = stream->urgent.bytes + stream->wait.bytes;
        uint32_t many = players(stream);
        if (stream->urgent.count > 0 && stream->rush.count == 0 && (stream->out.count == 0 || !stream->out_urgent)) {
            stream->rush = stream->urgent;
            stream->urgent = (zr_itemq){ .count = 0 };
            pairs += stream->rush.count * many;
            zr_fwd_rush(fwd, stream);
        }
        if (pairs < most && stream->wait.count > 0) {
            take_chunk(stream, ZR_MAX(ZR_MIN(most / ZR_MAX(many, 1u), CHUNK), 1u));
            pairs += stream->out.count * many;
            zr_list_remove(at);
            zr_fwd_leave(fwd, stream);
        }
        note_held(fwd, count, bytes, stream);
        keep_listed(fwd, stream);
        if (last)
            break;
    }
    if (!blocked) {
        fwd->let_pairs = pairs;
        fwd->let_most = most;
        fwd->let_at = now;
    }
}

void zr_fwd_forget_held(zr_fwd *fwd, zr_stream *stream)
{
    uint32_t count = stream->urgent.count + stream->wait.count, bytes = stream->urgent.bytes + stream->wait.bytes;

    zr_itemq_clear(&stream->urgent, &fwd->items);
    zr_itemq_clear(&stream->wait, &fwd->items);
    note_held(fwd, count, bytes, stream);
    keep_listed(fwd, stream);
}

void zr_fwd_release(zr_fwd *fwd, zr_ns_t now)
{
    for (zr_list *at = fwd->holding.next, *next; at != &fwd->holding; at = next) {
        zr_stream *stream = ZR_CONTAINER(at, zr_stream, holding);
        next = at->next;
        if (zr_list_empty(&stream->players)) /* due to nobody any more */
            zr_fwd_forget_held(fwd, stream);
    }
    shed_old(fwd, now);
    shed_all(fwd);
    let_go(fwd, now);
    zr_stat_set(fwd->page, ZR_STAT_held_packets, fwd->held);
    zr_stat_max(fwd->page, ZR_STAT_held_packets_max, fwd->held);
    zr_stat_set(fwd->page, ZR_STAT_held_bytes, fwd->held_bytes);
}
