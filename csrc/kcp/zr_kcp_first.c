/*
 * zr_kcp_first.c - delivery on first arrival: a complete message goes to recv at once, whatever is missing before it.
 *
 *   rcv_nxt                                     rcv_top
 *   ---|--- x --- x x x --- gap --- x x x x ------|--->      x: a bit in struct zr_kcp_heard; no payload is kept
 *
 * While nothing is missing rcv_nxt = rcv_top and there are no bits: the block for them is borrowed at the first gap and
 * given back when the last one is filled. A gap that is older than the deadline, counted from the first arrival of a
 * later number, is passed over: rcv_nxt moves on, and una tells the sender, a stock one too.
 *
 * Messages of one segment that come in order, as nearly all do, wait for recv as views in `whole`; what finds that
 * full, or comes behind others, lies in a slot and is listed. All of `whole` is older than all of the list.
 *
 * A message has one segment or two. Of two, either may come first. A lone segment with frg 0 would look like a message
 * of its own, so the second of two always has kcp->tail bytes (1021, less when the mss is), and a segment of
 * exactly that length waits until the number before it is here or given up. Any other length is delivered at once.
 */
#include "kcp/zr_kcp_heard.h"

static zr_kcp_slot *slot_at(const zr_kcp *kcp, uint32_t sn)
{
    return zr_kcp_slot_at(kcp->blocks, &kcp->rcv, sn);
}

/* Appends the segment in `sn`'s slot to what recv will take. */
static inline void append_ready(zr_kcp *kcp, zr_kcp_slot *slot, uint32_t sn)
{
    uint16_t index = sn % ZR_KCP_WND_MAX;

    slot->rcv.held = false;
    slot->rcv.next = ZR_KCP_NONE;
    if (kcp->ready.count++ == zr_kcp_whole_count(kcp))
        kcp->ready.head = index;
    else
        zr_kcp_slot_of(kcp->blocks, &kcp->rcv, kcp->ready.tail)->rcv.next = index;
    kcp->ready.tail = index;
}

static void make_ready(zr_kcp *kcp, uint32_t sn)
{
    zr_kcp_slot *slot = slot_at(kcp, sn);

    kcp->ready.held -= slot->rcv.held;
    append_ready(kcp, slot, sn);
}

/* Half a message whose other half cannot come any more. */
static void drop_half(zr_kcp *kcp, uint32_t sn)
{
    zr_pkt_drop(slot_at(kcp, sn)->pkt);
    zr_kcp_slot_give(kcp->blocks, &kcp->rcv, sn);
    kcp->ready.held--;
    kcp->counts.holes++;
}

static bool received(const zr_kcp *kcp, uint32_t sn)
{
    if (zr_seq_before(sn, kcp->rcv_nxt))
        return true;
    return zr_seq_before(sn, kcp->rcv_top) && zr_kcp_heard_bit(zr_kcp_heard_of(kcp), sn);
}

static bool is_held(const zr_kcp *kcp, uint32_t sn, bool first_half)
{
    if (zr_seq_before(sn + 1, kcp->rcv_nxt) || !zr_seq_before(sn, kcp->rcv_top))
        return false; /* another number's slot, 8192 away */
    const zr_kcp_slot *slot = slot_at(kcp, sn);
    return slot != NULL && slot->rcv.held && (slot->frg > 0) == first_half;
}

/* Is it the half that another one waits for? */
static bool completes(const zr_kcp *kcp, const zr_seg *seg)
{
    if (seg->frg > 0)
        return is_held(kcp, seg->sn + 1, false);
    return seg->len == kcp->tail && is_held(kcp, seg->sn - 1, true);
}

/* The first of two is in its slot. */
static void deliver_first(zr_kcp *kcp, uint32_t sn)
{
    if (is_held(kcp, sn - 1, true))
        drop_half(kcp, sn - 1); /* this is not its other half */
    if (is_held(kcp, sn + 1, false)) {
        make_ready(kcp, sn);
        make_ready(kcp, sn + 1);
    } else if (received(kcp, sn + 1)) {
        drop_half(kcp, sn);
    }
}

/* A whole message, or the second of two, is in its slot. Either way what is held behind it is a whole message. */
static void deliver_last(zr_kcp *kcp, uint32_t sn, uint32_t len)
{
    if (is_held(kcp, sn - 1, true)) {
        make_ready(kcp, sn - 1);
        make_ready(kcp, sn);
    } else if (kcp->ready.half_gone && sn == kcp->ready.half_sn) {
        drop_half(kcp, sn); /* its first half was given up a moment ago */
        kcp->ready.half_gone = false;
    } else if (len != kcp->tail || received(kcp, sn - 1)) {
        make_ready(kcp, sn);
    }
    if (is_held(kcp, sn + 1, false))
        make_ready(kcp, sn + 1);
}

/* Moves rcv_nxt to `to` and over everything behind it that is here. */
static void advance(zr_kcp *kcp, uint32_t to)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);

    for (; zr_seq_before(kcp->rcv_nxt, to); kcp->rcv_nxt++)
        zr_kcp_heard_clear(heard, kcp->rcv_nxt);
    for (; kcp->rcv_nxt != kcp->rcv_top && zr_kcp_heard_bit(heard, kcp->rcv_nxt); kcp->rcv_nxt++)
        zr_kcp_heard_clear(heard, kcp->rcv_nxt);
}

/* When was the top here? One mark per slice of time will do: a gap is passed over at most a slice late. */
static void mark_top(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    uint32_t slice = kcp->conf.deadline_ms / (ZR_KCP_MARKS - 4) + 1;
    zr_kcp_mark *last = &heard->marks[(heard->mark_end - 1) % ZR_KCP_MARKS];

    if (heard->mark_end != heard->mark_first && ms - last->at < slice) {
        last->top = kcp->rcv_top;
        return;
    }
    if (heard->mark_end - heard->mark_first == ZR_KCP_MARKS)
        heard->mark_first++; /* the clock was not asked for long: its gaps wait for the next mark */
    heard->marks[heard->mark_end++ % ZR_KCP_MARKS] = (zr_kcp_mark){ kcp->rcv_top, ms };
}

static bool given_up(const zr_kcp *kcp, uint32_t sn)
{
    for (uint32_t i = 0; i < ZR_MIN(kcp->ready.gaps, ZR_LEN(kcp->ready.given_up)); i++)
        if (!zr_seq_before(sn, kcp->ready.given_up[i].from) && zr_seq_before(sn, kcp->ready.given_up[i].to))
            return true;
    return false;
}

/* The usual arrival: the next number, nothing missing, a whole message. */
static enum zr_kcp_taken take_next(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt)
{
    uint32_t sn = seg->sn;

    if (kcp->ready.count >= kcp->conf.rcv_wnd)
        return ZR_KCP_REFUSED;
    if (kcp->ready.count == zr_kcp_whole_count(kcp) && kcp->ready.whole_end < ZR_KCP_WHOLE) {
        zr_pkt_hold(pkt);
        kcp->whole[kcp->ready.whole_end++] = (zr_slice){ pkt, (uint16_t)(seg->data - pkt->buf), (uint16_t)seg->len };
        kcp->ready.count++;
    } else if (zr_kcp_slot_at(kcp->blocks, &kcp->rcv, sn) == NULL) {
        zr_kcp_slot *slot = zr_kcp_rcv_keep(kcp, seg, pkt);
        if (slot == NULL)
            return ZR_KCP_REFUSED;
        append_ready(kcp, slot, sn);
    } else {
        return ZR_KCP_REFUSED;
    }
    kcp->rcv_nxt = kcp->rcv_top = sn + 1;
    return ZR_KCP_NEW;
}

/* Noinline: so that the usual arrival does not pay for its registers. */
__attribute__((noinline)) static enum zr_kcp_taken take_other(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms)
{
    uint32_t sn = seg->sn;
    bool in_order = sn == kcp->rcv_nxt && kcp->rcv_top == kcp->rcv_nxt;

    kcp->ready.half_gone &= !zr_seq_before(kcp->ready.half_sn, kcp->rcv_nxt);
    if (received(kcp, sn)) {
        if (zr_seq_before(sn, kcp->rcv_nxt) && given_up(kcp, sn))
            kcp->counts.late++;
        return ZR_KCP_KNOWN;
    }
    /* A window full of halves is never too full for the other half of one of them: nothing else would empty it. A slot
     * still taken is a message of 8192 numbers ago that recv has not taken yet. */
    if ((kcp->ready.count + kcp->ready.held >= kcp->conf.rcv_wnd && !completes(kcp, seg)) || slot_at(kcp, sn) != NULL ||
        (!in_order && !zr_kcp_heard_borrow(kcp)))
        return ZR_KCP_REFUSED;
    if (zr_kcp_rcv_keep(kcp, seg, pkt) == NULL) {
        zr_kcp_heard_return(kcp);
        return ZR_KCP_REFUSED;
    }
    slot_at(kcp, sn)->rcv.held = true;
    kcp->ready.held++;
    if (seg->frg > 0) {
        kcp->ready.half_at = ms;
        deliver_first(kcp, sn);
    } else {
        deliver_last(kcp, sn, seg->len);
    }
    if (in_order) {
        kcp->rcv_nxt = kcp->rcv_top = sn + 1;
        return ZR_KCP_NEW;
    }
    zr_kcp_heard_set(zr_kcp_heard_of(kcp), sn);
    if (!zr_seq_before(sn, kcp->rcv_top)) {
        kcp->rcv_top = sn + 1;
        mark_top(kcp, ms);
    }
    if (sn == kcp->rcv_nxt)
        advance(kcp, sn + 1);
    return ZR_KCP_NEW;
}

static enum zr_kcp_taken take(zr_kcp *kcp, const zr_seg *seg, zr_pkt *pkt, uint32_t ms)
{
    if (seg->sn == kcp->rcv_nxt && kcp->rcv_top == kcp->rcv_nxt && seg->frg == 0 && kcp->ready.held == 0 &&
        !kcp->ready.half_gone)
        return take_next(kcp, seg, pkt);
    return take_other(kcp, seg, pkt, ms);
}

/* `index` is in the ready list. */
static zr_kcp_slot *ready_slot(const zr_kcp *kcp, uint16_t index)
{
    return zr_kcp_slot_of(kcp->blocks, &kcp->rcv, index);
}

static uint32_t message(const zr_kcp *kcp, size_t *len)
{
    if (kcp->ready.count == 0)
        return 0;
    if (zr_kcp_whole_count(kcp) > 0) {
        *len = kcp->whole[kcp->ready.whole_first].len;
        return 1;
    }
    const zr_kcp_slot *slot = ready_slot(kcp, kcp->ready.head);
    uint32_t segs = slot->frg + 1u;
    *len = slot->len;
    for (uint32_t i = 1; i < segs; i++) {
        slot = ready_slot(kcp, slot->rcv.next);
        *len += slot->len;
    }
    return segs;
}

/* The first of `whole`; empty, it begins at its beginning again. */
static inline zr_slice take_whole(zr_kcp *kcp)
{
    zr_slice view = kcp->whole[kcp->ready.whole_first++];

    if (kcp->ready.whole_first == kcp->ready.whole_end)
        kcp->ready.whole_first = kcp->ready.whole_end = 0;
    kcp->ready.count--;
    return view;
}

static zr_slice take_listed(zr_kcp *kcp)
{
    uint16_t index = kcp->ready.head;
    const zr_kcp_slot *slot = ready_slot(kcp, index);
    zr_slice view = { slot->pkt, slot->off, slot->len };

    kcp->ready.head = slot->rcv.next;
    kcp->ready.count--;
    zr_kcp_slot_give(kcp->blocks, &kcp->rcv, index);
    return view;
}

static zr_slice consume(zr_kcp *kcp)
{
    return zr_kcp_whole_count(kcp) > 0 ? take_whole(kcp) : take_listed(kcp);
}

/* Noinline: so that who takes whole messages in order does not pay for it. */
__attribute__((noinline)) static int recv_listed(zr_kcp *kcp, zr_slice *views, int max)
{
    int segs = ready_slot(kcp, kcp->ready.head)->frg + 1;

    if (segs > max)
        return ZR_E_full;
    for (int i = 0; i < segs; i++)
        views[i] = take_listed(kcp);
    return segs;
}

static int recv(zr_kcp *kcp, zr_slice *views, int max)
{
    if (kcp->ready.count == 0)
        return 0;
    if (zr_kcp_whole_count(kcp) == 0)
        return recv_listed(kcp, views, max);
    if (max < 1)
        return ZR_E_full;
    views[0] = take_whole(kcp);
    return 1;
}

/* Half messages among what is passed over: their other half was given up. The last number's may still come. */
static void drop_halves(zr_kcp *kcp, uint32_t from, uint32_t to)
{
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, from, to); sn != to;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, sn + 1, to)) {
        zr_kcp_slot *slot = slot_at(kcp, sn);
        if (slot->rcv.held && (slot->frg == 0 || sn + 1 != to))
            drop_half(kcp, sn);
    }
}

static void note_gaps(zr_kcp *kcp, uint32_t from, uint32_t to)
{
    const zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    uint32_t begin = from;

    for (uint32_t sn = from; zr_seq_before(sn, to); sn++) {
        if (!zr_kcp_heard_bit(heard, sn)) {
            kcp->counts.holes++;
            continue;
        }
        if (begin != sn)
            zr_kcp_note_gap(kcp, begin, sn);
        begin = sn + 1;
    }
    if (begin != to)
        zr_kcp_note_gap(kcp, begin, to);
}

static bool oldest_mark(const zr_kcp *kcp, zr_kcp_mark *mark)
{
    if (kcp->conf.deadline_ms == 0 || kcp->rcv_nxt == kcp->rcv_top)
        return false;
    const zr_kcp_heard *heard = zr_kcp_heard_of(kcp);
    if (heard->mark_end == heard->mark_first)
        return false;
    *mark = heard->marks[heard->mark_first % ZR_KCP_MARKS];
    mark->at += kcp->conf.deadline_ms + kcp->conf.deadline_ms / (ZR_KCP_MARKS - 4) + 1;
    return true;
}

/* Nothing came behind a first half: it has a deadline of its own. False when there is none. */
static bool half_due(const zr_kcp *kcp, uint32_t *ms)
{
    if (kcp->conf.deadline_ms == 0 || kcp->rcv_nxt != kcp->rcv_top || !is_held(kcp, kcp->rcv_nxt - 1, true))
        return false;
    *ms = kcp->ready.half_at + kcp->conf.deadline_ms;
    return true;
}

static void expire(zr_kcp *kcp, uint32_t ms)
{
    zr_kcp_mark mark;
    uint32_t at;

    if (half_due(kcp, &at) && !zr_seq_before(ms, at)) {
        drop_half(kcp, kcp->rcv_nxt - 1);
        kcp->ready.half_gone = true;
        kcp->ready.half_sn = kcp->rcv_nxt;
    }

    while (oldest_mark(kcp, &mark) && !zr_seq_before(ms, mark.at)) {
        uint32_t from = kcp->rcv_nxt;
        zr_kcp_heard_of(kcp)->mark_first++;
        if (!zr_seq_before(from, mark.top))
            continue;
        note_gaps(kcp, from, mark.top);
        advance(kcp, mark.top);
        drop_halves(kcp, kcp->rcv_nxt - from < ZR_KCP_WND_MAX - 1 ? from - 1 : from, kcp->rcv_nxt);
        zr_kcp_tell_una(kcp);
    }
}

static bool deadline(const zr_kcp *kcp, uint32_t *ms)
{
    zr_kcp_mark mark;

    if (!oldest_mark(kcp, &mark))
        return half_due(kcp, ms);
    *ms = mark.at;
    return true;
}

static void fini(zr_kcp *kcp)
{
    while (zr_kcp_whole_count(kcp) > 0)
        zr_pkt_drop(take_whole(kcp).pkt);
    for (uint32_t sn = 0; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, sn, ZR_KCP_WND_MAX)) != ZR_KCP_WND_MAX;) {
        zr_pkt_drop(slot_at(kcp, sn)->pkt);
        zr_kcp_slot_give(kcp->blocks, &kcp->rcv, sn);
    }
    kcp->ready.count = kcp->ready.held = 0;
    kcp->rcv_nxt = kcp->rcv_top;
}

static bool check(const zr_kcp *kcp)
{
    uint32_t held = 0, ready = 0, whole = zr_kcp_whole_count(kcp);

    if (kcp->ready.whole_first > kcp->ready.whole_end || kcp->ready.whole_end > ZR_KCP_WHOLE ||
        whole > kcp->ready.count)
        return false;

    for (uint32_t sn = 0; (sn = zr_kcp_slot_next(kcp->blocks, &kcp->rcv, sn, ZR_KCP_WND_MAX)) != ZR_KCP_WND_MAX; sn++)
        held += slot_at(kcp, sn)->rcv.held;
    for (uint16_t i = kcp->ready.head; ready < kcp->ready.count - whole; i = slot_at(kcp, i)->rcv.next) {
        if (slot_at(kcp, i) == NULL || slot_at(kcp, i)->rcv.held)
            return false;
        ready++;
    }
    if (held != kcp->ready.held || zr_kcp_slots_anywhere(kcp->blocks, &kcp->rcv) != held + ready)
        return false;
    if (kcp->rcv_nxt == kcp->rcv_top)
        return held == 0 || zr_kcp_slots_taken(kcp->blocks, &kcp->rcv, kcp->rcv_nxt - 1, kcp->rcv_nxt) == 1;
    return kcp->tell.heard != ZR_KCP_NONE && !zr_kcp_heard_bit(zr_kcp_heard_of(kcp), kcp->rcv_nxt) &&
           zr_kcp_heard_bit(zr_kcp_heard_of(kcp), kcp->rcv_top - 1);
}

const zr_kcp_delivery zr_kcp_first_arrival = {
    .name = "first arrival",
    .take = take,
    .message = message,
    .consume = consume,
    .recv = recv,
    .expire = expire,
    .deadline = deadline,
    .fini = fini,
    .check = check,
};
