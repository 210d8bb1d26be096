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

static uint32_t segs_for(const zr_kcp *kcp, size_t len)
{
    return (uint32_t)((len + kcp->mss - 1) / kcp->mss);
}

static void give_back(zr_kcp *kcp, uint32_t sn, uint32_t segs)
{
    while (segs-- > 0)
        zr_kcp_slot_give(kcp->blocks, &kcp->snd, sn + segs);
}

/* Takes the slots of `segs` segments behind snd_end, all or none. */
static int reserve(zr_kcp *kcp, uint32_t segs)
{
    if (segs > ZR_MIN(ZR_KCP_SEGS_MAX, kcp->snd_max))
        return ZR_E_oversize;
    if (kcp->snd_end - kcp->snd_una + segs > kcp->snd_max)
        return ZR_E_full;
    for (uint32_t i = 0; i < segs; i++) {
        zr_kcp_slot *slot = zr_kcp_slot_take(kcp->blocks, &kcp->snd, kcp->snd_end + i);
        if (slot == NULL) {
            give_back(kcp, kcp->snd_end, i);
            return ZR_E_nomem;
        }
        *slot = (zr_kcp_slot){ .frg = kcp->conf.stream ? 0 : (uint8_t)(segs - 1 - i) };
    }
    return ZR_OK;
}

static zr_kcp_slot *reserved(const zr_kcp *kcp, uint32_t i)
{
    return zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_end + i);
}

static int queue(zr_kcp *kcp, uint32_t segs, zr_ns_t now)
{
    kcp->snd_end += segs;
    kcp->snd_held += segs;
    kcp->now = now;
    if (kcp->conf.flush_at_once)
        zr_kcp_probe_step(kcp, zr_kcp_ms(now));
    return ZR_OK;
}

/* Stream mode: the last segment, when it is queued but has no sn on the wire yet, takes bytes until it is full. */
static zr_kcp_slot *tail_with_room(const zr_kcp *kcp)
{
    if (!kcp->conf.stream || kcp->snd_end == kcp->snd_nxt)
        return NULL;
    zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_end - 1);
    return slot->len < kcp->mss ? slot : NULL;
}

static int send_copied(zr_kcp *kcp, const zr_kcp_text *text, zr_ns_t now)
{
    size_t total = text->first_len + text->second_len;
    zr_kcp_slot *tail = tail_with_room(kcp);
    size_t topped = tail == NULL ? 0 : ZR_MIN(total, (size_t)(kcp->mss - tail->len));
    uint32_t segs = segs_for(kcp, total - topped);
    int rc = reserve(kcp, segs);

    if (rc != ZR_OK)
        return rc;
    for (uint32_t i = 0; i < segs; i++) {
        zr_kcp_slot *slot = reserved(kcp, i);
        size_t at = topped + (size_t)i * kcp->mss;
        slot->pkt = zr_pool_take(kcp->pool);
        if (slot->pkt == NULL) {
            for (uint32_t taken = 0; taken < i; taken++)
                zr_pkt_drop(reserved(kcp, taken)->pkt);
            give_back(kcp, kcp->snd_end, segs);
            return ZR_E_nomem;
        }
        slot->off = slot->pkt->off;
        slot->len = (uint16_t)ZR_MIN(total - at, (size_t)kcp->mss);
        text_read(text, at, slot->pkt->buf + slot->off, slot->len);
        slot->pkt->len = slot->len;
    }
    if (topped > 0) {
        text_read(text, 0, tail->pkt->buf + tail->off + tail->len, topped);
        tail->len = (uint16_t)(tail->len + topped);
        tail->pkt->len = tail->len;
    }
    return queue(kcp, segs, now);
}

static uint32_t limit(const zr_kcp *kcp)
{
    uint32_t wnd = ZR_MIN(kcp->conf.snd_wnd, kcp->rmt_wnd);
    return ZR_MIN(wnd, kcp->cc->window(kcp));
}

static zr_seg segment(const zr_kcp *kcp, enum zr_seg_cmd cmd)
{
    uint32_t queued = kcp->rcv_nxt - kcp->rcv_head;
    return (zr_seg){
        .conv = kcp->conf.conv,
        .cmd = (uint8_t)cmd,
        .wnd = (uint16_t)(kcp->conf.rcv_wnd > queued ? kcp->conf.rcv_wnd - queued : 0),
        .una = kcp->rcv_nxt,
    };
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

static int put_push(zr_kcp *kcp, zr_pack *pack, uint32_t sn, zr_kcp_slot *slot, enum zr_kcp_verdict verdict,
                    uint32_t ms)
{
    zr_seg seg = segment(kcp, ZR_SEG_PUSH);

    seg.frg = slot->frg;
    seg.ts = ms;
    seg.sn = sn;
    const uint8_t *body = slot->pkt == NULL ? NULL : slot->pkt->buf + slot->off;
    if (zr_pack_put(pack, &seg, slot->head, slot->head_len, body, slot->len) != ZR_OK)
        return ZR_E_full;
    zr_kcp_loss_sent(kcp, slot, verdict, ms);
    kcp->counts.segs_sent++;
    return ZR_OK;
}

static int put_again(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    uint32_t end = kcp->snd_nxt;

    if (!zr_kcp_loss_due(kcp, ms))
        return ZR_OK;
    for (uint32_t sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, kcp->snd_una, end); sn != end;
         sn = zr_kcp_slot_next(kcp->blocks, &kcp->snd, sn + 1, end)) {
        zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn);
        enum zr_kcp_verdict verdict = zr_kcp_loss_verdict(kcp, slot, ms);
        if (verdict != ZR_KCP_WAIT && put_push(kcp, pack, sn, slot, verdict, ms) != ZR_OK)
            return ZR_E_full; /* still due: what was sent is no longer, the rest is */
    }
    zr_kcp_loss_rearm(kcp);
    return ZR_OK;
}

static int put_new(zr_kcp *kcp, zr_pack *pack, uint32_t ms)
{
    while (zr_kcp_snd_admissible(kcp)) {
        zr_kcp_slot *slot = zr_kcp_slot_at(kcp->blocks, &kcp->snd, kcp->snd_nxt);
        if (put_push(kcp, pack, kcp->snd_nxt, slot, ZR_KCP_FIRST, ms) != ZR_OK)
            return ZR_E_full;
        kcp->snd_nxt++;
    }
    return ZR_OK;
}

/* One flush in the order of kcp.md section 8. Each step records what it has done, so that a call cut short by a full
 * batch is simply made again. */
static int flush(zr_kcp *kcp, zr_pack *pack, zr_ns_t now)
{
    uint32_t ms = zr_kcp_ms(now);
    zr_seg control = segment(kcp, ZR_SEG_ACK);
    int rc = zr_kcp_put_acks(kcp, pack, &control, ms);

    if (rc != ZR_OK)
        return rc;
    zr_kcp_tell_again(kcp, pack, &control, ms);
    zr_kcp_probe_step(kcp, ms);
    if ((rc = put_probe(kcp, pack, ZR_KCP_ASK, &control, ZR_SEG_WASK)) != ZR_OK ||
        (rc = put_probe(kcp, pack, ZR_KCP_TELL, &control, ZR_SEG_WINS)) != ZR_OK ||
        (rc = put_again(kcp, pack, ms)) != ZR_OK || (rc = put_new(kcp, pack, ms)) != ZR_OK)
        return rc;
    kcp->cc->on_flushed(kcp, limit(kcp));
    kcp->saw_fast = kcp->saw_timeout = false;
    kcp->flush_due = false;
    return ZR_OK;
}

int zr_kcp_send(zr_kcp *kcp, const uint8_t *head, size_t head_len, const zr_slice *body, zr_ns_t now)
{
    size_t body_len = body == NULL ? 0 : body->len, total = head_len + body_len;

    if (head_len > ZR_KCP_HEAD_MAX || (total == 0 && (kcp->conf.harden || kcp->conf.stream)))
        return ZR_E_inval;
    if (kcp->conf.stream) {
        zr_kcp_text text = { head, body_len == 0 ? NULL : zr_slice_data(body), head_len, body_len };
        return send_copied(kcp, &text, now);
    }
    uint32_t segs = ZR_MAX(segs_for(kcp, total), 1u);
    int rc = reserve(kcp, segs);
    if (rc != ZR_OK)
        return rc;
    for (uint32_t i = 0, at = 0; i < segs; i++) {
        zr_kcp_slot *slot = reserved(kcp, i);
        if (i == 0 && head_len > 0) {
            memcpy(slot->head, head, head_len);
            slot->head_len = (uint8_t)head_len;
        }
        slot->len = (uint16_t)ZR_MIN(body_len - at, (size_t)kcp->mss - slot->head_len);
        if (slot->len == 0)
            continue;
        slot->pkt = body->pkt;
        slot->off = (uint16_t)(body->off + at);
        zr_pkt_hold(slot->pkt);
        at += slot->len;
    }
    return queue(kcp, segs, now);
}

int zr_kcp_send_bytes(zr_kcp *kcp, const uint8_t *data, size_t len, zr_ns_t now)
{
    if (len == 0)
        return zr_kcp_send(kcp, NULL, 0, NULL, now);
    if (len > (size_t)ZR_KCP_SEGS_MAX * kcp->mss)
        return ZR_E_oversize;
    zr_kcp_text text = { data, NULL, len, 0 };
    return send_copied(kcp, &text, now);
}

int zr_kcp_output(zr_kcp *kcp, zr_pack *pack, zr_ns_t now)
{
    kcp->now = now;
    while (zr_kcp_due(kcp, now)) {
        int rc = flush(kcp, pack, now);
        if (rc != ZR_OK)
            return rc;
    }
    return ZR_OK;
}

void zr_kcp_snd_drop(zr_kcp *kcp, uint32_t sn)
{
    zr_pkt_drop(zr_kcp_slot_at(kcp->blocks, &kcp->snd, sn)->pkt);
    zr_kcp_slot_give(kcp->blocks, &kcp->snd, sn);
    kcp->snd_held--;
}

bool zr_kcp_snd_admissible(const zr_kcp *kcp)
{
    return kcp->snd_nxt != kcp->snd_end && kcp->snd_nxt - kcp->snd_una < limit(kcp);
}

/* At once, an empty queue needs no window and so no probe; the stock engine probes all the same. */
void zr_kcp_probe_step(zr_kcp *kcp, uint32_t ms)
{
    bool at_once = kcp->conf.flush_at_once;

    if (kcp->rmt_wnd != 0 || (at_once && kcp->snd_nxt == kcp->snd_end)) {
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
