/*
 * zr_kcp_media.c - recovery between our relays: by send order and time, within a deadline, with copies by a plan.
 *
 *   first sent, once ──▶ fresh ──(silence)──▶ the next attempt
 *   any other attempt ──▶ copying ──(its copies are out)──▶ waiting ──(silence)──▶ the next attempt: copying ...
 *                             acknowledged ──▶ gone, or given up at the deadline
 *
 * The lines are in send order, so only their heads are ever looked at: O(1) whatever the window. Fresh segments are in
 * send order by their numbers: they need no links, only a cursor; on a good path there is no other line. A waiting
 * segment is lost when a later transmission is known to have arrived and its round trip is over, or by time alone (RFC
 * 8985's idea). Nothing backs off per segment. Only when the peer has been silent for a whole deadline (dark), repeats
 * shrink to probes, and the first thing heard sets everything going again.
 */
#include "kcp/zr_kcp_media.h"
#include "base/zr_err.h"

#define DARK_MS     1000u /* silence when there is no deadline */
#define PROBE_MAX   1000u
#define ARRIVED_MIN 8u /* outcomes are told to the estimate in bunches */

__attribute__((always_inline)) static inline void first_sent(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;
    const zr_kcp_start *start = zr_kcp_start_of(kcp, slot, ms);

    if (start->earn > 0 && kcp->media.credit < (int32_t)kcp->mss * ZR_KCP_CREDIT_MAX)
        zr_kcp_spend(kcp, -(zr_kcp_wire_len(slot) * start->earn >> 10));
    uint32_t copies = start->copies == 1 ? 1 : zr_kcp_affordable(kcp, slot, start->copies);
    slot->media.first = ms;
    slot->media.second = 0;
    slot->media.spread = 0;
    slot->media.first_copies = (uint8_t)copies;
    slot->media.left = (uint8_t)(copies - 1);
    slot->media.wanted = copies == 1 ? start->rest : (uint8_t)zr_kcp_plan_rest(start->wanted, copies);
    slot->media.attempts = 1;
    if (media->in_flight++ == 0) {
        media->quiet = ms;
        media->any_acked &= ms - media->newest < 1u << 30; /* after weeks of silence the clock has lapped it */
    }
    if (copies == 1)
        return;
    zr_kcp_line_up(kcp, sn, slot, ms);
    if (sn == media->fresh)
        media->fresh++; /* to snd_nxt, which is moved already */
}

static void outcome(zr_kcp *kcp, const zr_kcp_slot *slot, bool arrived)
{
    zr_kcp_media *media = &kcp->media;

    kcp->counts.spurious += arrived && slot->media.attempts > 1;
    if (!media->dark && !media->path.full && slot->media.first_copies == media->path.copies)
        zr_kcp_path_outcome(&media->path, arrived, media->in_flight);
}

/* What is given up before its first ACK could be here says nothing about loss. */
static void expire(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, uint32_t ms)
{
    if (slot->media.attempts > 1 || ms - slot->media.first > zr_kcp_path_srtt(&kcp->media.path))
        outcome(kcp, slot, false);
    kcp->counts.expired++;
    kcp->media.in_flight--;
    zr_kcp_unlink(kcp, slot);
    zr_kcp_snd_drop(kcp, sn, slot);
    if (sn == kcp->snd_una)
        zr_kcp_snd_shrink(kcp);
}

static void new_attempt(zr_kcp *kcp, zr_kcp_slot *slot, uint32_t copies, uint32_t ms)
{
    if (slot->media.attempts == 1)
        slot->media.second = (uint16_t)ZR_MIN(ms - slot->media.first, (uint32_t)UINT16_MAX);
    if (slot->media.attempts < UINT8_MAX)
        slot->media.attempts++;
    slot->media.left = (uint8_t)(copies - 1);
    slot->media.wanted = (uint8_t)zr_kcp_plan_rest(slot->media.wanted, copies);
    slot->media.spread = 0;
    kcp->counts.retrans_timeout++;
}

static void note_paced(zr_kcp *kcp, uint32_t ms)
{
    if (ms - kcp->media.pace_from >= ZR_KCP_PACE_MS) {
        kcp->media.pace_from = ms;
        kcp->media.paced = 0;
    }
    kcp->media.paced++;
}

/* Another silence, without a transmission. */
static void wait_on(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, uint32_t ms)
{
    zr_kcp_unlink(kcp, slot);
    slot->media.left = slot->media.spread = 0;
    zr_kcp_line_up(kcp, sn, slot, ms);
}

static int send_copies(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;

    while (media->copying.head != ZR_KCP_NONE) {
        uint32_t sn = zr_kcp_snd_sn(kcp, media->copying.head);
        zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, sn);
        if (zr_seq_before(ms, slot->media.due))
            break;
        bool hopeless = !zr_kcp_endless(slot) && zr_seq_before(zr_kcp_last_call(kcp, slot), ms);
        if (hopeless || media->path.full || media->dark) {
            slot->media.left = 0;
        } else {
            if (!zr_kcp_has_pace(kcp, ms))
                break;
            uint32_t since = ms - slot->ts;
            if (zr_kcp_put_push(kcp, pack, sn, slot, ms) != ZR_OK)
                return ZR_E_full;
            slot->media.spread = (uint8_t)ZR_MIN(slot->media.spread + since, (uint32_t)UINT8_MAX);
            note_paced(kcp, ms);
            slot->media.left--;
            kcp->counts.copies++;
            zr_kcp_spend(kcp, zr_kcp_wire_len(slot));
        }
        zr_kcp_unlink(kcp, slot);
        zr_kcp_line_up(kcp, sn, slot, slot->ts);
    }
    return ZR_OK;
}

/* In the dark one segment at a time finds out whether the peer is back. */
static bool may_probe(zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;

    if (!media->dark)
        return true;
    if (zr_seq_before(ms, media->probe_at))
        return false;
    media->probe_wait = zr_kcp_endless(slot) ? ZR_MIN(2 * media->probe_wait, PROBE_MAX) : ZR_KCP_PROBE_MIN;
    media->probe_at = ms + media->probe_wait;
    return true;
}

/* What is to be done about the head of a line. */
enum step { STOP, DONE, FULL };

static enum step again(zr_kcp *kcp, zr_pack *pack, uint32_t sn, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;
    zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, sn);

    if (zr_seq_before(ms, zr_kcp_lost_at(kcp, slot)))
        return STOP;
    bool over = !zr_kcp_endless(slot) &&
                (zr_seq_before(zr_kcp_last_call(kcp, slot), ms) || !zr_seq_before(ms, slot->media.give_up));
    if (over && !zr_kcp_needed(kcp, sn)) {
        if (zr_seq_before(ms, slot->media.give_up))
            wait_on(kcp, sn, slot, ms); /* its ACK may still come */
        else
            expire(kcp, sn, slot, ms);
        return DONE;
    }
    if (!zr_kcp_has_pace(kcp, ms) || !may_probe(kcp, slot, ms))
        return STOP;
    if (media->path.full && !zr_kcp_endless(slot) && !zr_kcp_needed(kcp, sn) && media->credit < zr_kcp_wire_len(slot)) {
        wait_on(kcp, sn, slot, ms); /* more would only make the queue longer */
        return DONE;
    }
    if (zr_kcp_put_push(kcp, pack, sn, slot, ms) != ZR_OK)
        return FULL;
    note_paced(kcp, ms);
    zr_kcp_spend(kcp, zr_kcp_wire_len(slot));
    new_attempt(kcp, slot, zr_kcp_copies_now(kcp, slot, ms), ms);
    zr_kcp_unlink(kcp, slot);
    zr_kcp_line_up(kcp, sn, slot, ms);
    return DONE;
}

static int send_again(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;
    enum step step = DONE;

    while (step == DONE && media->waiting.head != ZR_KCP_NONE)
        step = again(kcp, pack, zr_kcp_snd_sn(kcp, media->waiting.head), ms);
    if (step == FULL)
        return ZR_E_full;
    for (step = DONE; step == DONE && media->fresh != kcp->snd_nxt; media->fresh = zr_kcp_fresh_head(kcp))
        step = again(kcp, pack, media->fresh, ms);
    return step == FULL ? ZR_E_full : ZR_OK;
}

/* Has it waited for the window until it would come too late? */
static bool is_over(const zr_kcp *kcp, const zr_kcp_slot *slot, uint32_t ms)
{
    return slot->ts != ms && !zr_kcp_endless(slot) && zr_seq_before(zr_kcp_last_call(kcp, slot), ms);
}

/* Takes what waited for the window too long out of the queue's head; what is behind moves up, so that no number is used
 * for it. But what has begun is finished: another message must not come where the second half is awaited. */
static void purge(zr_kcp *kcp, uint32_t ms)
{
    uint32_t from = kcp->snd_nxt, end = kcp->snd_end, gone;

    if (from != end && zr_kcp_snd_slot(kcp, from)->piece)
        from++; /* stays, and keeps its number */
    for (gone = from; gone != end; gone++) {
        const zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, gone);
        if (!is_over(kcp, slot, ms))
            break;
        zr_pkt_drop(slot->pkt);
        kcp->counts.expired++;
    }
    uint32_t count = gone - from;
    if (count == 0)
        return;
    for (uint32_t sn = gone; sn != end; sn++)
        *zr_kcp_snd_slot(kcp, sn - count) = *zr_kcp_snd_slot(kcp, sn);
    for (uint32_t sn = end - count; sn != end; sn++)
        zr_kcp_slot_give(kcp->blocks, &kcp->snd, sn);
    kcp->snd_end -= count;
    kcp->snd_held -= count;
}

/* First transmissions. */
static int send_new(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    bool dark = kcp->media.dark;

    purge(kcp, ms);
    for (uint32_t room = zr_kcp_snd_room(kcp);
         room > 0 && (dark ? zr_kcp_new_at(kcp, ms) == ms : zr_kcp_in_pace(kcp, ms)); room--) {
        uint32_t sn = kcp->snd_nxt;
        zr_kcp_slot *slot = zr_kcp_snd_slot(kcp, sn);
        if (room > 1 && is_over(kcp, slot, ms)) { /* its number goes, and leaves a hole */
            kcp->counts.expired++;
            kcp->snd_nxt++;
            zr_kcp_snd_drop(kcp, sn, slot);
            kcp->media.fresh += sn == kcp->media.fresh;
            if (sn == kcp->snd_una)
                zr_kcp_snd_shrink(kcp);
            continue;
        }
        if (zr_kcp_put_push(kcp, pack, sn, slot, ms) != ZR_OK)
            return ZR_E_full;
        if (dark && zr_kcp_trickles(kcp))
            kcp->media.trickle_at = ms + ZR_KCP_PROBE_MIN;
        note_paced(kcp, ms);
        kcp->snd_nxt++;
        first_sent(kcp, sn, slot, ms);
    }
    return ZR_OK;
}

static void init(zr_kcp *kcp, uint32_t ms)
{
    static const zr_kcp_line empty = { ZR_KCP_NONE, ZR_KCP_NONE };

    kcp->media = (zr_kcp_media){
        .waiting = empty,
        .copying = empty,
        .quiet = ms,
        .probe_wait = ZR_KCP_PROBE_MIN,
        .credit = (int32_t)kcp->mss * ZR_KCP_CREDIT_MAX / 2,
        .pace_from = ms,
        .slice = ZR_KCP_PACE_PACKETS,
        .fresh = kcp->snd_una,
    };
    zr_kcp_path_init(&kcp->media.path, ms);
    zr_kcp_tell_init(kcp);
}

static void fini(zr_kcp *kcp)
{
    static const zr_kcp_line empty = { ZR_KCP_NONE, ZR_KCP_NONE };

    zr_kcp_tell_fini(kcp);
    kcp->media.waiting = kcp->media.copying = empty;
    kcp->media.in_flight = 0;
    kcp->media.fresh = kcp->snd_end;
}

static uint32_t base(const zr_kcp *kcp)
{
    return kcp->peer_una;
}

static void reopened(zr_kcp *kcp)
{
    zr_kcp_tell_una(kcp);
}

static void queued(zr_kcp *kcp, zr_kcp_slot *slot, uint32_t deadline_ms, uint32_t ms)
{
    slot->ts = ms; /* until it is sent: since when it waits */
    slot->media.give_up = ms + deadline_ms;
    slot->media.flags = deadline_ms == 0 || kcp->conf.in_order ? ZR_KCP_ENDLESS : 0;
}

static bool is_dark(const zr_kcp *kcp, uint32_t ms)
{
    uint32_t limit = kcp->conf.deadline_ms == 0 ? DARK_MS : kcp->conf.deadline_ms;
    return kcp->media.in_flight > 0 && ms - kcp->media.quiet > limit;
}

static int send(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    if (kcp->media.in_flight > 0) {
        if (!kcp->media.dark && is_dark(kcp, ms)) {
            kcp->media.dark = true;
            kcp->media.probe_at = kcp->media.trickle_at = ms;
            kcp->media.probe_wait = ZR_KCP_PROBE_MIN;
        }
        if (send_copies(kcp, pack, ms) != ZR_OK || send_again(kcp, pack, ms) != ZR_OK)
            return ZR_E_full;
    }
    return kcp->snd_nxt == kcp->snd_end ? ZR_OK : send_new(kcp, pack, ms);
}

/* Of each segment the first and the last time are known; copies and repeats went out between. */
static bool sent_at(const zr_kcp_slot *slot, uint32_t ts)
{
    return !zr_seq_before(ts, slot->media.first) && !zr_seq_before(slot->ts, ts);
}

static void rtt(zr_kcp *kcp, uint32_t ts, int32_t sample, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;

    if (media->any_acked && zr_seq_before(ts, media->newest))
        return; /* not prompt: it says how long the peer waited */
    zr_kcp_path_rtt(&media->path, sample, ms);
}

/* Did the first attempt arrive? By its ts, or, when una alone says so, by how soon that came after the second. */
static bool first_arrived(const zr_kcp *kcp, const zr_kcp_slot *slot, const uint32_t *ts, uint32_t ms)
{
    if (slot->media.attempts == 1)
        return true;
    uint32_t second = slot->media.first + slot->media.second;
    if (ts != NULL)
        return zr_seq_before(*ts, second);
    return ms - second < zr_kcp_path_srtt(&kcp->media.path) * 7 / 8;
}

static void settled(zr_kcp *kcp, uint32_t sn, zr_kcp_slot *slot, const uint32_t *ts, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;
    uint32_t arrived = ts != NULL && sent_at(slot, *ts) ? *ts : slot->media.first; /* another time is not believed */

    (void)sn;
    if (!media->any_acked || zr_seq_before(media->newest, arrived))
        media->newest = arrived;
    media->any_acked = true;
    media->in_flight--;
    media->settled_bytes += (uint32_t)zr_kcp_wire_len(slot);
    if ((slot->media.flags & ZR_KCP_LISTED) == 0) {
        media->arrived++; /* fresh: the usual case, counted in `heard` */
        return;
    }
    bool first = first_arrived(kcp, slot, ts, ms);
    outcome(kcp, slot, first);
    if (slot->media.attempts == 1)
        zr_kcp_path_in_time(&media->path, 1);
    else if (first)
        zr_kcp_path_spurious(&media->path, ms - arrived);
    zr_kcp_unlink(kcp, slot);
}

/* What was gathered goes into the estimates: each some acknowledgements, or some ms. */
__attribute__((noinline)) static void estimate(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;

    if (media->arrived >= ARRIVED_MIN) {
        if (!media->path.full && media->path.copies == 1)
            zr_kcp_path_arrived(&media->path, media->arrived, media->in_flight);
        zr_kcp_path_in_time(&media->path, media->arrived);
        media->arrived = 0;
    }
    if (media->settled_bytes > 0 && ms - media->path.rate_since >= ZR_KCP_PATH_RATE_MS) {
        zr_kcp_path_bytes(&media->path, media->settled_bytes, ms);
        media->settled_bytes = 0;
        /* Twice what is known to arrive: a pace drawn from what it lets through would never grow. */
        uint32_t kbps = media->path.full ? media->path.rate_best_kbps : 2 * media->path.rate_best_kbps;
        media->slice = ZR_MAX(kbps / (8 / ZR_KCP_PACE_MS) / kcp->mss, ZR_KCP_PACE_PACKETS);
    }
}

static void heard(zr_kcp *kcp, bool acked, uint32_t ms)
{
    zr_kcp_media *media = &kcp->media;

    media->quiet = ms;
    media->dark = false;
    if (!acked)
        return;
    if (media->arrived >= ARRIVED_MIN || ms - media->path.rate_since >= ZR_KCP_PATH_RATE_MS)
        estimate(kcp, ms);
    media->fresh = zr_kcp_fresh_head(kcp);
}

const zr_kcp_rules zr_kcp_rules_media = {
    .name = "media",
    .init = init,
    .fini = fini,
    .base = base,
    .queued = queued,
    .reopened = reopened,
    .purge = purge,
    .acknowledge = zr_kcp_tell_put,
    .send = send,
    .wait = zr_kcp_media_wait,
    .arrived = zr_kcp_tell_arrived,
    .sent_at = sent_at,
    .rtt = rtt,
    .settled = settled,
    .heard = heard,
    .check = zr_kcp_lines_check,
};
