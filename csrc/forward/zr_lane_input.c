#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"
#include "time/zr_rate.h"

#define SEGS_MAX (ZR_LANE_MTU_MAX / ZR_SEG_HEAD)

/* A datagram on its way through the checks. */
typedef struct arrival {
    zr_env env;
    zr_lane_session *session;
    uint32_t gen;
    zr_lane_peer *peer;
    bool stray; /* from no address listed for the session's peer */
    const zr_addr *from;
    zr_ns_t now;
    enum zr_drop_id drop; /* why, when a check failed */
    uint32_t count;
    struct {
        zr_seg seg;
        zr_lane_conv *conv; /* NULL: passed over */
        bool probe;
    } segs[SEGS_MAX];
} arrival;

static int refuse(arrival *in, enum zr_drop_id why)
{
    in->drop = why;
    return ZR_E_malformed;
}

/* By compares alone, cheapest first: a stranger's datagram ends here and leaves nothing behind. */
static int check_envelope(const zr_lane *lane, const uint8_t *data, size_t len, const zr_addr *from, zr_ns_t now,
                          arrival *in)
{
    enum zr_env_type type;

    if (zr_env_classify(data, len, &type, &in->drop) < 0)
        return ZR_E_malformed;
    if (type != ZR_ENV_DATA)
        return refuse(in, ZR_DROP_type);
    zr_env_parse(&in->env, data);
    if (zr_env_lane(in->env.receiver) != lane->conf.lane)
        return refuse(in, ZR_DROP_lane);
    uint32_t found = zr_map_get(&lane->by_index, zr_env_index(in->env.receiver));
    if (found == ZR_MAP_NONE)
        return refuse(in, ZR_DROP_noindex);
    in->session = &lane->sessions[found / ZR_LANE_GENS];
    in->gen = found % ZR_LANE_GENS;
    if (len > ZR_ENV_HEAD + in->session->conf.mtu + ZR_ENV_TAG)
        return refuse(in, ZR_DROP_link_oversize);
    if (in->env.lane >= in->session->conf.lanes && in->env.lane != ZR_LANE_AGENT)
        return refuse(in, ZR_DROP_lane);
    const zr_lane_gen *gen = &in->session->gens[in->gen];
    in->stray = !zr_lane_listed(in->session, in->env.lane, from);
    if (in->stray && (gen->keys.cipher == ZR_CIPHER_PLAIN || from->port == 0 || zr_addr_eq(from, &lane->conf.own)))
        return refuse(in, ZR_DROP_src);
    return zr_lane_gen_over(gen, now) ? refuse(in, ZR_DROP_expired) : ZR_OK;
}

static bool opens(zr_seal *seal, const arrival *in, uint8_t *data, size_t len)
{
    if (in->session->gens[in->gen].keys.cipher != ZR_CIPHER_PLAIN)
        return zr_seal_open(seal, in->env.counter, data, len);
    const uint8_t *tag = data + len - ZR_ENV_TAG;
    return (zr_get64(tag) | zr_get64(tag + 8)) == 0;
}

static int forged(zr_lane *lane, arrival *in)
{
    if (++in->session->gens[in->gen].forged >= ZR_LANE_KEYS_FORGED)
        zr_lane_gen_shut(lane, in->session, in->gen, ZR_REKEY_SHUT);
    return refuse(in, ZR_DROP_auth);
}

/* The first of a peer lane, or of its next epoch: anybody can write such a header. Its key is kept if it verifies. */
static int open_new(zr_lane *lane, arrival *in, zr_lane_rx *before, uint8_t *data, size_t len, zr_ns_t now,
                    zr_lane_rx **found)
{
    zr_lane_session *session = in->session;
    const zr_keys *keys = &session->gens[in->gen].keys;
    bool sealed = keys->cipher != ZR_CIPHER_PLAIN;

    if (sealed) {
        if (!zr_rate_take(&session->derive_full_at, now, ZR_LANE_DERIVE_EVERY, ZR_LANE_DERIVE_BURST))
            return refuse(in, ZR_DROP_ratelimit);
        zr_stat_add(lane->page, ZR_STAT_lane_keys_derived, 1);
        zr_seal_key(&lane->trial, (enum zr_cipher)keys->cipher, keys->recv, in->env.lane, lane->conf.lane,
                    in->env.epoch);
    }
    if (!opens(&lane->trial, in, data, len)) {
        zr_seal_wipe(&lane->trial);
        return forged(lane, in);
    }
    zr_lane_peer *peer = zr_lane_peer_get(lane, session, in->env.lane);
    zr_lane_rx *rx = peer == NULL ? NULL : zr_lane_rx_take(lane, session, in->gen);
    if (rx == NULL) {
        zr_seal_wipe(&lane->trial);
        return refuse(in, ZR_DROP_link_pool);
    }
    zr_seal keyed = lane->trial;
    lane->trial = rx->seal;
    rx->seal = keyed;
    rx->epoch = in->env.epoch;
    zr_win_init(&rx->win); /* a replaced lane counts from 0 again */
    rx->before = NULL;
    rx->late = now + ZR_LANE_EPOCH_LATE;
    if (before != NULL) {
        zr_lane_rx_give(lane, before->before);
        before->before = NULL;
        if (sealed)
            rx->before = before;
        else
            zr_lane_rx_give(lane, before);
    }
    peer->rx[in->gen] = *found = rx;
    return ZR_OK;
}

/* From here on the sender is the peer: the tag verifies. In plaintext it is zero. */
static int check_tag(zr_lane *lane, arrival *in, uint8_t *data, size_t len, zr_ns_t now, zr_lane_rx **found)
{
    zr_lane_peer *peer = in->session->peer[in->env.lane];
    zr_lane_rx *rx = peer == NULL ? NULL : peer->rx[in->gen];

    if (rx != NULL && rx->before != NULL && now >= rx->late) {
        zr_lane_rx_give(lane, rx->before);
        rx->before = NULL;
    }
    if (rx == NULL || in->env.epoch > rx->epoch)
        return open_new(lane, in, rx, data, len, now, found);
    if (in->env.epoch < rx->epoch) {
        if (in->env.epoch + 1 < rx->epoch || rx->before == NULL || rx->before->epoch != in->env.epoch)
            return refuse(in, ZR_DROP_lane);
        rx = rx->before;
    }
    *found = rx;
    return opens(&rx->seal, in, data, len) ? ZR_OK : forged(lane, in);
}

/* Marks the counter, whatever becomes of the contents. */
static int check_replay(zr_lane *lane, arrival *in, zr_lane_rx *rx)
{
    if (in->env.counter == UINT64_MAX && rx->seal.cipher != ZR_CIPHER_PLAIN) { /* none could follow */
        zr_lane_gen_shut(lane, in->session, in->gen, ZR_REKEY_SHUT);
        return refuse(in, ZR_DROP_limit);
    }
    in->peer = in->session->peer[in->env.lane];
    switch (zr_win_mark(&rx->win, in->env.counter)) {
    case ZR_WIN_SEEN:
        return refuse(in, ZR_DROP_replay);
    case ZR_WIN_OLD:
        return refuse(in, ZR_DROP_old);
    case ZR_WIN_NEW:
        break;
    }
    return ZR_OK;
}

static bool is_probe(const zr_lane *lane, const zr_seg *seg)
{
    return lane->conf.lane == ZR_LANE_AGENT && seg->conv == 0 && seg->cmd >= ZR_LANE_PROBE_FIRST &&
           seg->cmd <= ZR_LANE_PROBE_LAST;
}

static int judge(const zr_lane *lane, arrival *in, const zr_seg *seg)
{
    uint32_t handle = zr_map_get(&lane->by_conv, zr_lane_conv_key(in->session->slot, seg->conv));
    zr_lane_conv *conv = handle == ZR_MAP_NONE ? NULL : &lane->convs[handle];
    int drop = ZR_DROP_COUNT;

    bool probe = is_probe(lane, seg);
    if (probe && in->session->probe == NULL)
        return ZR_OK;
    if (probe) {
        zr_probe_seg said = zr_lane_probe_seg(seg);
        bool ok = zr_lane_paths_take(&said) ? zr_lane_paths_judge(in->session, &said)
                                            : zr_probe_judge(in->session->probe, &said, in->now);
        if (!ok)
            return refuse(in, ZR_DROP_probe);
    }
    if (!probe && (seg->cmd < ZR_SEG_PUSH || seg->cmd > ZR_SEG_WINS))
        return refuse(in, ZR_DROP_kcp_cmd); /* of an unknown conversation, too */
    if (!probe && conv != NULL && zr_kcp_judge(&conv->kcp, seg, &drop) < 0)
        return refuse(in, (enum zr_drop_id)drop);
    ZR_CHECK(in->count < SEGS_MAX); /* the mtu is bounded, so is this */
    in->segs[in->count].seg = *seg;
    in->segs[in->count].probe = probe;
    in->segs[in->count++].conv = probe ? NULL : conv;
    return ZR_OK;
}

static int check_segments(const zr_lane *lane, arrival *in, const uint8_t *body, size_t size)
{
    size_t pos = 0;
    zr_seg seg;
    int rc;

    in->count = 0;
    if (size > 0 && size < ZR_SEG_HEAD)
        return refuse(in, ZR_DROP_kcp_short);
    while ((rc = zr_seg_next(&seg, body, size, &pos)) == ZR_OK) {
        if (judge(lane, in, &seg) < 0)
            return ZR_E_malformed;
    }
    if (rc == ZR_E_oversize)
        return refuse(in, ZR_DROP_kcp_len);
    return pos == size ? ZR_OK : refuse(in, ZR_DROP_kcp_trail);
}

static void note_unknown(zr_lane *lane, const arrival *in, uint32_t conv, zr_ns_t now)
{
    zr_stat_add(lane->page, ZR_STAT_kcp_conv_unknown, 1);
    if (now < lane->unknown.rest)
        return;
    lane->unknown.waiting = true;
    lane->unknown.session = in->session->slot;
    lane->unknown.conv = conv;
    lane->unknown.rest = now + ZR_LANE_UNKNOWN_REST;
}

static void note_violation(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    if (now - session->violations_from >= ZR_LANE_VIOLATING) {
        session->violations_from = now;
        session->violations_told = 0;
        if (!zr_list_linked(&session->hostile))
            session->violations = 0; /* what was left untold came after enough of them, and is over */
    }
    session->violations++;
    if (zr_list_linked(&session->hostile) ||
        (session->violations_told >= ZR_LANE_VIOLATIONS && now < session->violations_rest &&
         session->violations < ZR_LANE_VIOLATIONS))
        return;
    zr_list_append(&lane->hostile, &session->hostile);
    session->violations_rest = now + ZR_LANE_UNKNOWN_REST;
}

bool zr_lane_violations(zr_lane *lane, uint32_t *slot, uint32_t *count)
{
    if (zr_list_empty(&lane->hostile))
        return false;
    zr_lane_session *session = ZR_LIST_FIRST(&lane->hostile, zr_lane_session, hostile);
    zr_list_remove(&session->hostile);
    *slot = session->slot;
    *count = session->violations;
    session->violations_told += session->violations;
    session->violations = 0;
    return true;
}

/* Was it sent before the newest applied to this conversation? A lane counts on over generations, which both ends may
 * take in different orders: older is what has neither newer keys nor a higher counter. Two lanes cannot be compared. */
static bool is_overtaken(const zr_lane_conv *conv, const arrival *in)
{
    if (in->env.lane != conv->newest.lane)
        return false;
    if (in->env.epoch != conv->newest.epoch)
        return in->env.epoch < conv->newest.epoch;
    return in->env.counter < conv->newest.counter && in->session->gens[in->gen].serial <= conv->newest.serial;
}

static void apply_seg(zr_lane_conv *conv, const arrival *in, const zr_seg *seg, zr_pkt *pkt, zr_ns_t now)
{
    conv->applied = true;
    if (is_overtaken(conv, in)) {
        zr_kcp_input_overtaken(&conv->kcp, seg, pkt, now);
        return;
    }
    conv->newest.lane = in->env.lane;
    conv->newest.epoch = in->env.epoch;
    conv->newest.serial = in->session->gens[in->gen].serial;
    conv->newest.counter = in->env.counter;
    zr_kcp_input_seg(&conv->kcp, seg, pkt, now);
}

static void apply(zr_lane *lane, arrival *in, zr_pkt *pkt, zr_ns_t now)
{
    for (uint32_t i = 0; i < in->count; i++) {
        zr_lane_conv *conv = in->segs[i].conv;
        if (in->segs[i].probe) {
            zr_probe_seg said = zr_lane_probe_seg(&in->segs[i].seg);
            if (zr_lane_paths_take(&said))
                zr_lane_paths_input(in->session, &said, in->from, now);
            else
                zr_probe_input(in->session->probe, &said, now);
            zr_stat_add(lane->page, ZR_STAT_probes_received, 1);
            continue;
        }
        if (conv == NULL) {
            note_unknown(lane, in, in->segs[i].seg.conv, now);
            continue;
        }
        if (conv->peer == NULL)
            zr_lane_conv_bind(lane, conv, in->peer, now);
        if (in->session->reordered >= ZR_LANE_REORDER_MAX && zr_kcp_reorders(&conv->kcp, &in->segs[i].seg)) {
            zr_stat_add(lane->page, ZR_STAT_reorder_refused, 1);
            continue; /* it is not acknowledged, so it comes again */
        }
        apply_seg(conv, in, &in->segs[i].seg, pkt, now);
    }
    for (uint32_t i = 0; i < in->count; i++) {
        zr_lane_conv *conv = in->segs[i].conv;
        if (conv == NULL || !conv->applied)
            continue;
        conv->applied = false;
        zr_kcp_input_end(&conv->kcp, now);
        zr_lane_conv_note_reordered(lane, conv);
        zr_lane_conv_touch(lane, conv);
        if (!zr_list_linked(&conv->ready))
            zr_list_append(&lane->ready, &conv->ready);
    }
}

int zr_lane_input(zr_lane *lane, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    uint8_t *data = pkt->buf + pkt->off; /* ours alone: opened in place */
    zr_lane_rx *rx = NULL;
    arrival in;

    in.now = now;
    in.from = from;
    if (check_envelope(lane, data, pkt->len, from, now, &in) < 0 ||
        check_tag(lane, &in, data, pkt->len, now, &rx) < 0 || check_replay(lane, &in, rx) < 0 ||
        check_segments(lane, &in, data + ZR_ENV_HEAD, pkt->len - ZR_ENV_HEAD - ZR_ENV_TAG) < 0) {
        zr_drop_add(lane->page, in.drop);
        if (in.drop >= ZR_DROP_kcp_short && in.drop <= ZR_DROP_kcp_frg)
            note_violation(lane, in.session, now);
        zr_pkt_drop(pkt);
        return ZR_E_dropped;
    }
    zr_lane_gen_heard(lane, in.session, in.gen, now);
    if (in.stray)
        zr_stat_add(lane->page, ZR_STAT_roam_refused, 1);
    if (in.session->probe != NULL && in.env.lane == ZR_LANE_AGENT)
        zr_probe_on_counter(in.session->probe, in.session->gens[in.gen].serial << 16 | in.env.epoch, in.env.counter,
                            now);
    apply(lane, &in, pkt, now);
    in.session->heard = now;
    if (in.session->probe != NULL)
        zr_lane_probe_settle(lane, in.session, now);
    zr_stat_add(lane->page, ZR_STAT_link_accepted, 1);
    zr_stat_bump(&zr_lane_row(lane, in.session)->rx_datagrams, 1);
    zr_stat_bump(&zr_lane_row(lane, in.session)->rx_bytes, pkt->len);
    if (pkt->len == ZR_ENV_HEAD + ZR_ENV_TAG)
        zr_stat_add(lane->page, ZR_STAT_link_empty, 1);
    zr_pkt_drop(pkt);
    return ZR_OK;
}
