/*
 * zr_kcp_tell.c - acknowledging, media: what arrived is told at once, and again before the sender's timer runs out.
 *
 * While nothing is lost, what arrives within 2 ms of the last ACK is told together.
 *
 * An ACK that is lost makes the sender repeat a whole packet, so 24 bytes more are cheap. Everything below rcv_nxt is
 * told by una, which any segment carries: one ACK for the newest arrival will do, and a WINS to repeat it. What came
 * behind a gap is kept in a ring and told
 *
 *     at once, then k - 1 times in steps that fit into the sender's slack of 8 ms, k = 2..7 by the loss seen,
 *     later about 16, 32, 64, 128 ms after its arrival, when a datagram goes anyway and as far as the budget reaches
 *
 * always with the ts of its newest copy.
 */
#include "base/zr_err.h"
#include "kcp/zr_kcp_heard.h"

#define SLACK_MS    8u
#define FORGET_MS   150u
#define HOLD_MS     2u  /* of an ACK, while nothing is lost */
#define HOLD_LATE   5u  /* and at the latest, when nothing else arrives: see hold() */
#define HOLD_MAX    64u /* arrivals */
#define LATER       8u  /* ACKs in a datagram that are told later than the quick repeats */
#define LATER_MS    16u /* age at the first of them, then twice that */
#define LATER_TIMES 4u
#define BAD_START   20000u
#define CLEAN_PPM   5000u

/* How often is an arrival told within the sender's slack? */
static uint32_t repeats(const zr_kcp *kcp)
{
    uint32_t bad = kcp->tell.bad_ppm;

    if (kcp->media.path.outcomes > 64)
        bad = ZR_MAX(bad, kcp->media.path.failed_ppm);

    if (kcp->tell.crowded)
        return 2;
    return bad < CLEAN_PPM ? 2 : bad < 120000 ? 3 : bad < 250000 ? 4 : bad < 400000 ? 5 : 7;
}

static uint32_t step(uint32_t often)
{
    return often <= 2 ? SLACK_MS / 2 : ZR_MAX(SLACK_MS / (often - 1), 1u) - (often == 3);
}

/* Of the length and the first and last bytes: where the headers of two different packets differ. */
static uint8_t sum_of(const zr_seg *seg)
{
    uint64_t sum = seg->len + seg->frg;

    for (uint32_t i = 0; seg->len < 16 && i < seg->len; i++)
        sum = sum * 31 + seg->data[i];
    if (seg->len >= 16)
        sum ^= zr_get64(seg->data) + 3 * zr_get64(seg->data + 8) + 5 * zr_get64(seg->data + seg->len - 8);
    sum ^= sum >> 32;
    sum ^= sum >> 16;
    return (uint8_t)(sum ^ sum >> 8);
}

void zr_kcp_tell_init(zr_kcp *kcp)
{
    kcp->tell = (zr_kcp_tell){ .heard = ZR_KCP_NONE, .bad_ppm = BAD_START };
}

void zr_kcp_tell_fini(zr_kcp *kcp)
{
    if (kcp->tell.heard != ZR_KCP_NONE)
        zr_kcp_block_give(kcp->blocks, kcp->tell.heard);
    kcp->tell = (zr_kcp_tell){ .heard = ZR_KCP_NONE };
}

bool zr_kcp_heard_borrow(zr_kcp *kcp)
{
    if (kcp->tell.heard != ZR_KCP_NONE)
        return true;
    kcp->tell.heard = (uint16_t)zr_kcp_block_take(kcp->blocks);
    if (kcp->tell.heard == ZR_KCP_NONE)
        return false;
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    memset(heard, 0, sizeof *heard);

    return true;
}

void zr_kcp_note_gap(zr_kcp *kcp, uint32_t from, uint32_t to)
{
    uint32_t at = kcp->ready.gaps++ % ZR_LEN(kcp->ready.given_up);
    kcp->ready.given_up[at].from = from;
    kcp->ready.given_up[at].to = to;
}

static zr_kcp_told *told_at(zr_kcp_heard *heard, uint32_t i)
{
    return &heard->ring[i % ZR_KCP_RING];
}

/* The entry of `sn`, if it is remembered. */
static zr_kcp_told *find(zr_kcp_heard *heard, uint32_t sn)
{
    zr_kcp_told *told = &heard->ring[heard->where[sn % 256]];
    return told->sn == sn ? told : NULL;
}

static void note_loss(zr_kcp_tell *tell, bool bad)
{
    tell->bad_ppm -= tell->bad_ppm / 64;
    if (bad)
        tell->bad_ppm += 1000000 / 64;
}

static void append(zr_kcp_heard *heard, uint32_t sn, uint32_t ts, uint8_t sum, uint32_t ms)
{
    if (heard->end - heard->first == ZR_KCP_RING)
        heard->first++;
    heard->where[sn % 256] = (uint8_t)(heard->end % ZR_KCP_RING);
    *told_at(heard, heard->end++) = (zr_kcp_told){ .sn = sn, .ts = ts, .at = (uint16_t)ms, .sum = sum };
}

/* A copy of what was told before. Told anew, unless that was within the last moments: copies come in bunches. */
static void note_copy(zr_kcp *kcp, zr_kcp_told *told, const zr_seg *seg, uint32_t ms)
{
    if (!kcp->conf.in_order) /* else it is still here, and was compared in full */
        kcp->counts.conflict += told->sum != sum_of(seg);
    if (zr_seq_before(told->ts, seg->ts))
        told->ts = seg->ts;
    if ((uint16_t)((uint16_t)ms - told->at) < ZR_KCP_ANSWER_MS)
        return;
    uint32_t ts = told->ts;
    told->sn = kcp->rcv_nxt - 1; /* forgotten, and told at the end instead: the ring stays in order of time */
    append(zr_kcp_heard_of(kcp), seg->sn, ts, told->sum, ms);
    kcp->tell.owed = true;
}

/* Noinline: so that the usual arrival does not pay for its registers. */
__attribute__((noinline)) static void arrived_other(zr_kcp *kcp, const zr_seg *seg, enum zr_kcp_taken taken,
                                                    uint32_t ms)
{
    zr_kcp_tell *tell = &kcp->tell;
    bool below = zr_seq_before(seg->sn, kcp->rcv_nxt);

    tell->cut = false; /* more to say than when it was cut: anew */
    note_loss(tell, taken == ZR_KCP_KNOWN || seg->sn + 1 != kcp->rcv_top);
    if (taken == ZR_KCP_KNOWN && below && !zr_kcp_may_answer(kcp, &kcp->answered.stale, ms))
        return; /* una covers it */
    if (taken == ZR_KCP_NEW || !zr_seq_before(seg->ts, tell->last.ts))
        tell->last = (zr_kcp_ack){ seg->sn, seg->ts };
    if (below || !zr_kcp_heard_borrow(kcp)) {
        tell->owed = tell->fresh = true;
        return;
    }
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    zr_kcp_told *had = taken == ZR_KCP_KNOWN ? find(heard, seg->sn) : NULL;
    if (had != NULL) {
        note_copy(kcp, had, seg, ms);
        return;
    }
    append(heard, seg->sn, seg->ts, sum_of(seg), ms);
    tell->owed = true;
}

/* An ACK is a datagram, and a wake-up of who gets it: at 20 000 packets a second in frames of 8 the ACKs of each turn
 * cost the two relays a fifth of their time. A second one within two milliseconds says nothing that cannot wait. */
static bool may_hold(const zr_kcp *kcp, uint32_t ms)
{
    const zr_kcp_tell *tell = &kcp->tell;

    return !tell->owed && tell->heard == ZR_KCP_NONE && tell->bad_ppm < CLEAN_PPM && ms - tell->told_at < HOLD_MS &&
           tell->held < HOLD_MAX;
}

/* The next arrival tells it, or, when none comes, the clock, and with it what was to be repeated. The clock has time:
 * to wait for less than a tick of the kernel (4 ms) programs a timer and takes it back at each wake-up, which costs a
 * guest 7 to 9 us where the wake-up itself costs 6. */
static void hold(zr_kcp_tell *tell)
{
    tell->at = tell->told_at + HOLD_LATE;
    tell->armed = true;
    tell->held++;
}

void zr_kcp_tell_arrived(zr_kcp *kcp, const zr_seg *seg, enum zr_kcp_taken taken, uint32_t ms)
{
    zr_kcp_tell *tell = &kcp->tell;

    if (taken != ZR_KCP_NEW || seg->sn + 1 != kcp->rcv_nxt || kcp->rcv_nxt != kcp->rcv_top) {
        arrived_other(kcp, seg, taken, ms);
        return;
    }
    note_loss(tell, false); /* the usual arrival */
    tell->last = (zr_kcp_ack){ seg->sn, seg->ts };
    tell->fresh = true;
    tell->cut = false;
    if (may_hold(kcp, ms))
        hold(tell);
    else
        tell->owed = true;
}

static int put_told(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, zr_kcp_told *told)
{
    ack->sn = told->sn;
    ack->ts = told->ts;
    if (zr_pack_put(pack, ack, NULL, 0, NULL, 0) != ZR_OK)
        return ZR_E_full;
    kcp->counts.acks_sent++;
    return ZR_OK;
}

static uint32_t age_of(const zr_kcp_told *told, uint32_t ms)
{
    return (uint16_t)((uint16_t)ms - told->at);
}

/* The newest, within the sender's slack: what is new, and the quick repeats. */
static int put_quick(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    uint32_t often = repeats(kcp), gap = step(often);

    if (kcp->tell.next - heard->first > heard->end - heard->first)
        kcp->tell.next = heard->end; /* arrivals since the cut have pushed it out */
    for (uint32_t i = kcp->tell.next; i != heard->first; kcp->tell.next = i) {
        zr_kcp_told *told = told_at(heard, --i);
        uint32_t age = age_of(told, ms);
        if (age > SLACK_MS + gap && told->told > 0)
            break; /* a turn that came late has missed it; those before are older still */
        if (told->told >= often || zr_seq_before(told->sn, kcp->rcv_nxt))
            continue;
        if (age >= told->told * gap) {
            if (put_told(kcp, pack, ack, told) != ZR_OK)
                return ZR_E_full;
            told->told++;
            kcp->tell.said = true;
        }
        kcp->tell.armed |= told->told < often;
    }
    return ZR_OK;
}

/* Further repeats ride along: a few of those whose next time has come, in turn. The datagram goes anyway. */
static int put_later(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);

    if (heard->later - heard->first > heard->end - heard->first)
        heard->later = heard->first;
    for (uint32_t looked = 0; looked < 2 * LATER && kcp->tell.later_left > 0; looked++, heard->later++) {
        if (heard->later == heard->end || age_of(told_at(heard, heard->later), ms) < LATER_MS) {
            heard->later = heard->first;
            break;
        }
        zr_kcp_told *told = told_at(heard, heard->later);
        if (zr_seq_before(told->sn, kcp->rcv_nxt) || told->later == LATER_TIMES ||
            age_of(told, ms) < LATER_MS << told->later)
            continue;
        if (put_told(kcp, pack, ack, told) != ZR_OK)
            return ZR_E_full;
        told->later++;
        kcp->tell.later_left--;
    }
    return ZR_OK;
}

/* Forgets what una covers and what is too old. */
static void forget(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);

    for (; heard->first != heard->end; heard->first++) {
        const zr_kcp_told *told = told_at(heard, heard->first);
        if (!zr_seq_before(told->sn, kcp->rcv_nxt) && age_of(told, ms) < FORGET_MS)
            break;
    }
}

void zr_kcp_heard_return(zr_kcp *kcp)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);

    if (heard != NULL && kcp->rcv_nxt == kcp->rcv_top && heard->first == heard->end) {
        zr_kcp_block_give(kcp->blocks, kcp->tell.heard);
        kcp->tell.heard = ZR_KCP_NONE;
    }
}

/* What is to be said now is settled when the first datagram of it begins, and not again when a full batch cuts it. */
static void begin(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_tell *tell = &kcp->tell;

    if (tell->fresh)
        tell->una_left = (uint8_t)(repeats(kcp) - 1);
    tell->later_left = tell->bad_ppm < CLEAN_PPM ? LATER / 4 : LATER;
    tell->fresh = tell->armed = tell->said = false;
    tell->cut = true;
    if (tell->heard == ZR_KCP_NONE)
        return;
    forget(kcp, ms);
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    tell->next = heard->end;
    /* At such a rate a third time would push out what has not been told twice. */
    tell->crowded =
        heard->end - heard->first > ZR_KCP_RING / 2 && age_of(told_at(heard, heard->first), ms) < 4 * SLACK_MS;
}

/* When no other ACK said it: what una says, with the ts of the newest arrival, or once more as a WINS. */
static int put_una(zr_kcp *kcp, zr_pack *pack, zr_seg *ack)
{
    zr_kcp_tell *tell = &kcp->tell;

    if ((tell->owed || tell->held > 0) && !tell->said) {
        ack->sn = tell->last.sn;
        ack->ts = tell->last.ts;
        if (zr_pack_put(pack, ack, NULL, 0, NULL, 0) != ZR_OK)
            return ZR_E_full;
        kcp->counts.acks_sent++;
    } else if (!tell->owed && tell->held == 0 && tell->una_left > 0 && !tell->first_una) {
        if (!tell->said)
            kcp->probe |= ZR_KCP_TELL;
        tell->una_left--;
    }
    return ZR_OK;
}

/* Until what was told is repeated. Where the oldest of it has waited, the repeat still comes within the slack. */
static uint32_t again_in(const zr_kcp *kcp, uint32_t ms)
{
    uint32_t waited = kcp->tell.held > 0 ? ZR_MIN(ms - kcp->tell.told_at, SLACK_MS - 2) : 0;

    return ZR_MIN(step(repeats(kcp)), SLACK_MS - 1 - waited);
}

/* Noinline: so that the turn that has nothing to tell does not pay for it. */
__attribute__((noinline)) static int tell_now(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms)
{
    zr_kcp_tell *tell = &kcp->tell;

    if (!tell->cut)
        begin(kcp, ms);
    if (tell->heard != ZR_KCP_NONE &&
        (put_quick(kcp, pack, ack, ms) != ZR_OK || (tell->said && put_later(kcp, pack, ack, ms) != ZR_OK)))
        return ZR_E_full;
    if (put_una(kcp, pack, ack) != ZR_OK)
        return ZR_E_full;
    tell->cut = tell->owed = tell->first_una = false;
    tell->armed |= tell->una_left > 0;
    tell->at = ms + again_in(kcp, ms);
    tell->held = 0;
    tell->told_at = ms;
    zr_kcp_heard_return(kcp);
    return ZR_OK;
}

int zr_kcp_tell_put(zr_kcp *kcp, zr_pack *pack, zr_seg *ack, uint32_t ms)
{
    return zr_kcp_tell_due(kcp, ms) ? tell_now(kcp, pack, ack, ms) : ZR_OK;
}

void zr_kcp_tell_una(zr_kcp *kcp)
{
    kcp->probe |= ZR_KCP_TELL;
    kcp->tell.fresh = kcp->tell.first_una = true;
    kcp->tell.cut = false;
}
