#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"

/* The bytes of a message that is copied: two pieces that read as one. */
typedef struct zr_kcp_text {
    const uint8_t *first, *second;
    size_t first_len, second_len;
} zr_kcp_text;

static void text_read(const zr_kcp_text *text, size_t at, uint8_t *to, size_t len)
{
    if (at < text->first_len) {
        size_t part = ZR_MIN(len, text->first_len - at);
        memcpy(to, text->first + at, part);
        at += part;
        to += part;
        len -= part;
    }
    if (len > 0)
        memcpy(to, text->second + (at - text->first_len), len);
}

/* Above ZR_KCP_SEGS_MAX when the message is too long. */
static uint32_t segs_for(const zr_kcp *kcp, size_t len)
{
    if (kcp->tail != 0 && len > kcp->mss)
        return len <= (size_t)kcp->mss + kcp->tail ? 2 : UINT32_MAX;
    return (uint32_t)((len + kcp->mss - 1) / kcp->mss);
}

static void give_back(zr_kcp *kcp, uint32_t sn, uint32_t segs)
{
    while (segs-- > 0)
        zr_kcp_slot_give(kcp->blocks, &kcp->snd, sn + segs);
}

static bool has_room(zr_kcp *kcp, uint32_t segs, uint32_t ms)
{
    if (kcp->snd_end - kcp->snd_una + segs > kcp->snd_max)
        kcp->rules->purge(kcp, ms);
    return kcp->snd_end - kcp->snd_una + segs <= kcp->snd_max;
}

/* Takes the slots of `segs` segments behind snd_end, all or none. */
static int reserve(zr_kcp *kcp, uint32_t segs, uint32_t deadline_ms, uint32_t ms)
{
    if (segs > ZR_MIN(ZR_KCP_SEGS_MAX, kcp->snd_max))
        return ZR_E_oversize;
    if (!has_room(kcp, segs, ms))
        return ZR_E_full;
    for (uint32_t i = 0; i < segs; i++) {
        zr_kcp_slot *slot = zr_kcp_slot_take(kcp->blocks, &kcp->snd, kcp->snd_end + i);
        if (slot == NULL) {
            give_back(kcp, kcp->snd_end, i);
            return ZR_E_nomem;
        }
        *slot = (zr_kcp_slot){ .frg = kcp->conf.stream ? 0 : (uint8_t)(segs - 1 - i), .piece = i > 0 };
        kcp->rules->queued(kcp, slot, deadline_ms, ms);
    }
    return ZR_OK;
}

static zr_kcp_slot *reserved(const zr_kcp *kcp, uint32_t i)
{
    return zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_end + i);
}

static int queue(zr_kcp *kcp, uint32_t segs, uint32_t ms)
{
    kcp->snd_end += segs;
    kcp->snd_held += segs;
    if (kcp->rmt_wnd == 0 && kcp->conf.profile == ZR_KCP_MEDIA)
        zr_kcp_probe_step(kcp, ms);
    return ZR_OK;
}

/* First arrival: a lone second segment must be told from a whole message, so it has a length of its own
 * (zr_kcp_first.c). Else every segment but the last is full. */
static size_t first_len(const zr_kcp *kcp, uint32_t segs, size_t total)
{
    return kcp->tail != 0 && segs == 2 ? total - kcp->tail : kcp->mss;
}

/* Stream mode: the last segment, when it is queued but has no sn on the wire yet, takes bytes until it is full. */
static zr_kcp_slot *tail_with_room(const zr_kcp *kcp)
{
    if (!kcp->conf.stream || kcp->snd_end == kcp->snd_nxt)
        return NULL;
    zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_end - 1);
    return slot->len < kcp->mss ? slot : NULL;
}

static int send_copied(zr_kcp *kcp, const zr_kcp_text *text, uint32_t ms)
{
    size_t total = text->first_len + text->second_len;
    zr_kcp_slot *tail = tail_with_room(kcp);
    size_t topped = tail == NULL ? 0 : ZR_MIN(total, (size_t)(kcp->mss - tail->len));
    uint32_t segs = segs_for(kcp, total - topped);
    int rc = reserve(kcp, segs, kcp->conf.deadline_ms, ms);

    if (rc != ZR_OK)
        return rc;
    size_t at = topped, room = first_len(kcp, segs, total);
    for (uint32_t i = 0; i < segs; at += reserved(kcp, i)->len, i++, room = kcp->mss) {
        zr_kcp_slot *slot = reserved(kcp, i);
        slot->pkt = zr_pool_take(kcp->pool);
        if (slot->pkt == NULL) {
            for (uint32_t taken = 0; taken < i; taken++)
                zr_pkt_drop(reserved(kcp, taken)->pkt);
            give_back(kcp, kcp->snd_end, segs);
            return ZR_E_nomem;
        }
        slot->off = slot->pkt->off;
        slot->len = (uint16_t)ZR_MIN(total - at, room);
        text_read(text, at, slot->pkt->buf + slot->off, slot->len);
        slot->pkt->len = slot->len;
    }
    if (topped > 0) {
        text_read(text, 0, tail->pkt->buf + tail->off + tail->len, topped);
        tail->len = (uint16_t)(tail->len + topped);
        tail->pkt->len = tail->len;
    }
    return queue(kcp, segs, ms);
}

static uint32_t limit(const zr_kcp *kcp)
{
    uint32_t wnd = ZR_MIN(kcp->conf.snd_wnd, kcp->rmt_wnd);
    return kcp->cc == NULL ? wnd : ZR_MIN(wnd, kcp->cc->window(kcp));
}

static int put_probe(zr_kcp *kcp, zr_pack *pack, uint8_t flag, zr_seg *seg, enum zr_seg_cmd cmd)
{
    if ((kcp->probe & flag) == 0)
        return ZR_OK;
    seg->cmd = (uint8_t)cmd;
    if (zr_pack_put(pack, seg, NULL, 0, NULL, 0) != ZR_OK)
        return ZR_E_full;
    kcp->probe &= (uint8_t)~flag;
    return ZR_OK;
}

bool zr_kcp_put_shared(const zr_kcp *kcp, zr_pack *pack, uint32_t sn, const zr_kcp_slot *slot, uint32_t ms)
{
    const uint8_t *body = slot->pkt == NULL ? NULL : slot->pkt->buf + slot->off;
    const zr_seg seg = {
        .conv = kcp->conf.conv,
        .cmd = ZR_SEG_PUSH,
        .frg = slot->frg,
        .wnd = kcp->wnd,
        .ts = ms,
        .sn = sn,
        .una = kcp->rcv_nxt,
    };

    return zr_pack_put(pack, &seg, slot->head, slot->head_len, body, slot->len) == ZR_OK;
}

/* Media: the window is used up by numbers that were given up, and the una that passes over them was lost. Nothing would
 * ever be sent again: the peer is asked. */
static bool is_mute(const zr_kcp *kcp)
{
    return kcp->conf.profile == ZR_KCP_MEDIA && kcp->media.in_flight == 0 && kcp->snd_nxt != kcp->snd_end &&
           zr_kcp_snd_room(kcp) == 0;
}

/* One flush in the order of kcp.md section 8. Each step records what it has done, so that a call cut short by a full
 * batch is simply made again. */
static int flush(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    uint32_t queued = zr_kcp_queued(kcp);

    kcp->wnd = (uint16_t)(kcp->conf.rcv_wnd > queued ? kcp->conf.rcv_wnd - queued : 0);
    zr_seg control = { .conv = kcp->conf.conv, .cmd = ZR_SEG_ACK, .wnd = kcp->wnd, .una = kcp->rcv_nxt };
    int rc = kcp->rules->acknowledge(kcp, pack, &control, ms);
    if (rc != ZR_OK)
        return rc;
    if (kcp->rmt_wnd == 0 || kcp->probe_wait != 0)
        zr_kcp_probe_step(kcp, ms);
    if (kcp->probe != 0 && ((rc = put_probe(kcp, pack, ZR_KCP_ASK, &control, ZR_SEG_WASK)) != ZR_OK ||
                            (rc = put_probe(kcp, pack, ZR_KCP_TELL, &control, ZR_SEG_WINS)) != ZR_OK))
        return rc;
    if ((rc = kcp->rules->send(kcp, pack, ms)) != ZR_OK)
        return rc;
    if (is_mute(kcp))
        zr_kcp_probe_step(kcp, ms); /* sets the timer */
    if (kcp->cc != NULL)
        kcp->cc->on_flushed(kcp, limit(kcp));
    kcp->saw_fast = kcp->saw_timeout = false;
    kcp->flush_due = false;
    return ZR_OK;
}

int zr_kcp_send(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, zr_ns_t now)
{
    return zr_kcp_send_within(kcp, head, head_len, body, kcp->conf.deadline_ms, now);
}

/* The usual message: one segment. */
static int send_one(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, uint32_t deadline_ms,
                    uint32_t ms)
{
    if (!has_room(kcp, 1, ms))
        return ZR_E_full;
    zr_kcp_slot *slot = zr_kcp_slot_take(kcp->blocks, &kcp->snd, kcp->snd_end);
    if (slot == NULL)
        return ZR_E_nomem;
    slot->pkt = NULL;
    slot->len = 0;
    slot->frg = 0;
    slot->piece = false;
    slot->head_len = (uint8_t)head_len;
    if (head_len == ZR_KCP_HEAD_MAX) /* the media header: two moves for a call */
        memcpy(slot->head, head, ZR_KCP_HEAD_MAX);
    else if (head_len > 0)
        memcpy(slot->head, head, head_len);
    if (body != NULL && body->len > 0) {
        slot->pkt = body->pkt;
        slot->off = body->off;
        slot->len = body->len;
        zr_pkt_hold(slot->pkt);
    }
    kcp->rules->queued(kcp, slot, deadline_ms, ms);
    return queue(kcp, 1, ms);
}

int zr_kcp_send_within(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, uint16_t deadline_ms,
                       zr_ns_t now)
{
    size_t body_len = body == NULL ? 0 : body->len, total = head_len + body_len;
    uint32_t ms = zr_kcp_at(kcp, now);

    if (head_len > ZR_KCP_HEAD_MAX || (total == 0 && (kcp->conf.harden || kcp->conf.stream)))
        return ZR_E_inval;
    if (kcp->conf.stream) {
        zr_kcp_text text = { head, body_len == 0 ? NULL : zr_slice_data(body), head_len, body_len };
        return send_copied(kcp, &text, ms);
    }
    if (total <= kcp->mss)
        return send_one(kcp, head, head_len, body, deadline_ms, ms);
    uint32_t segs = segs_for(kcp, total);
    size_t room = first_len(kcp, segs, total);
    int rc = reserve(kcp, segs, deadline_ms, ms);
    if (rc != ZR_OK)
        return rc;
    for (uint32_t i = 0, at = 0; i < segs; i++, room = kcp->mss) {
        zr_kcp_slot *slot = reserved(kcp, i);
        if (i == 0 && head_len > 0) {
            memcpy(slot->head, head, head_len);
            slot->head_len = (uint8_t)head_len;
        }
        slot->len = (uint16_t)ZR_MIN(body_len - at, room - slot->head_len);
        if (slot->len == 0)
            continue;
        slot->pkt = body->pkt;
        slot->off = (uint16_t)(body->off + at);
        zr_pkt_hold(slot->pkt);
        at += slot->len;
    }
    return queue(kcp, segs, ms);
}

int zr_kcp_send_bytes(zr_kcp *kcp, const uint8_t *data, size_t len, zr_ns_t now)
{
    if (len == 0)
        return zr_kcp_send(kcp, NULL, 0, NULL, now);
    if (len > (size_t)ZR_KCP_SEGS_MAX * kcp->mss)
        return ZR_E_oversize;
    zr_kcp_text text = { data, NULL, len, 0 };
    return send_copied(kcp, &text, zr_kcp_at(kcp, now));
}

int zr_kcp_output(zr_kcp *kcp, zr_pack *pack, zr_ns_t now)
{
    uint32_t ms = zr_kcp_at(kcp, now);

    if (kcp->conf.profile == ZR_KCP_COMPAT && !kcp->flush_due)
        return ZR_OK;
    return flush(kcp, pack, ms);
}

void zr_kcp_snd_drop(zr_kcp *kcp, uint32_t sn, const zr_kcp_slot *slot)
{
    zr_pkt_drop(slot->pkt);
    zr_kcp_slot_give(kcp->blocks, &kcp->snd, sn);
    kcp->snd_held--;
}

void zr_kcp_snd_shrink(zr_kcp *kcp)
{
    kcp->snd_una = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, kcp->snd_nxt);
}

uint32_t zr_kcp_snd_room(const zr_kcp *kcp)
{
    uint32_t queued = kcp->snd_end - kcp->snd_nxt, used = kcp->snd_nxt - kcp->rules->base(kcp), most;

    if (queued == 0)
        return 0;
    most = limit(kcp);
    return used >= most ? 0 : ZR_MIN(queued, most - used);
}

/* At once, an empty queue needs no window and so no probe; the stock engine probes all the same. */
void zr_kcp_probe_step(zr_kcp *kcp, uint32_t ms)
{
    bool at_once = kcp->conf.profile == ZR_KCP_MEDIA;

    if ((kcp->rmt_wnd != 0 && !is_mute(kcp)) || (at_once && kcp->snd_nxt == kcp->snd_end)) {
        kcp->probe_wait = kcp->ts_probe = 0;
    } else if (kcp->probe_wait == 0) {
        kcp->probe_wait = kcp->probe_first;
        kcp->ts_probe = ms + kcp->probe_wait;
    } else if (!zr_seq_before(ms, kcp->ts_probe)) {
        kcp->probe_wait += at_once ? kcp->probe_wait : kcp->probe_wait / 2;
        kcp->probe_wait = ZR_MIN(kcp->probe_wait, kcp->probe_max);
        kcp->ts_probe = ms + kcp->probe_wait;
        kcp->probe |= ZR_KCP_ASK;
    }
}
