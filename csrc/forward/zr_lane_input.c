#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

#define SEGS_MAX (ZR_LANE_MTU_MAX / ZR_SEG_HEAD)

/* A datagram on its way through the checks. */
typedef struct arrival {
    zr_env env;
    zr_lane_session *session;
    zr_lane_peer *peer;
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

static bool from_expected(const zr_session_conf *conf, uint8_t sending_lane, const zr_addr *from)
{
    int by = sending_lane == ZR_LANE_AGENT ? 0 : 1 + sending_lane;
    return zr_addr_same_ip(&conf->agent, from) && from->port == conf->agent.port + by;
}

/* The envelope, by compares alone, cheapest first: a stranger's datagram ends here and leaves nothing behind. */
static int check_envelope(const zr_lane *lane, const uint8_t *data, size_t len, const zr_addr *from, arrival *in)
{
    enum zr_env_type type;

    if (zr_env_classify(data, len, &type, &in->drop) < 0)
        return ZR_E_malformed;
    if (type != ZR_ENV_DATA)
        return refuse(in, ZR_DROP_type);
    zr_env_parse(&in->env, data);
    if (zr_env_lane(in->env.receiver) != lane->conf.lane)
        return refuse(in, ZR_DROP_lane);
    in->session = zr_lane_session_at(lane, zr_map_get(&lane->by_index, zr_env_index(in->env.receiver)));
    if (in->session == NULL)
        return refuse(in, ZR_DROP_noindex);
    if (len > ZR_ENV_HEAD + in->session->conf.mtu + ZR_ENV_TAG)
        return refuse(in, ZR_DROP_link_oversize);
    if (in->env.lane >= in->session->conf.lanes && in->env.lane != ZR_LANE_AGENT)
        return refuse(in, ZR_DROP_lane);
    if (!from_expected(&in->session->conf, in->env.lane, from))
        return refuse(in, ZR_DROP_src);
    const uint8_t *tag = data + len - ZR_ENV_TAG;
    if ((zr_get64(tag) | zr_get64(tag + 8)) != 0)
        return refuse(in, ZR_DROP_auth);
    return ZR_OK;
}

/* From here on the sender is the peer. Marks the counter, whatever becomes of the contents. */
static int check_replay(zr_lane *lane, arrival *in)
{
    zr_lane_peer *peer = zr_lane_peer_get(lane, in->session, in->env.lane);

    if (peer == NULL)
        return refuse(in, ZR_DROP_link_pool);
    if (!peer->heard || in->env.epoch > peer->epoch) { /* a replaced worker counts from 0 again */
        zr_win_init(&peer->win);
        peer->epoch = in->env.epoch;
        peer->heard = true;
    } else if (in->env.epoch < peer->epoch) {
        return refuse(in, ZR_DROP_lane);
    }
    in->peer = peer;
    switch (zr_win_mark(&peer->win, in->env.counter)) {
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
        if (!zr_probe_judge(in->session->probe, &said, in->now))
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

static void apply(zr_lane *lane, arrival *in, zr_pkt *pkt, zr_ns_t now)
{
    for (uint32_t i = 0; i < in->count; i++) {
        zr_lane_conv *conv = in->segs[i].conv;
        if (in->segs[i].probe) {
            zr_probe_seg said = zr_lane_probe_seg(&in->segs[i].seg);
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
        zr_kcp_input_seg(&conv->kcp, &in->segs[i].seg, pkt, now);
        conv->applied = true;
    }
    for (uint32_t i = 0; i < in->count; i++) {
        zr_lane_conv *conv = in->segs[i].conv;
        if (conv == NULL || !conv->applied)
            continue;
        conv->applied = false;
        zr_kcp_input_end(&conv->kcp, now);
        zr_lane_conv_touch(lane, conv);
        if (!zr_list_linked(&conv->ready))
            zr_list_append(&lane->ready, &conv->ready);
    }
}

int zr_lane_input(zr_lane *lane, zr_pkt *pkt, const zr_addr *from, zr_ns_t now)
{
    const uint8_t *data = zr_pkt_data(pkt);
    arrival in;

    in.now = now;
    if (check_envelope(lane, data, pkt->len, from, &in) < 0 || check_replay(lane, &in) < 0 ||
        check_segments(lane, &in, data + ZR_ENV_HEAD, pkt->len - ZR_ENV_HEAD - ZR_ENV_TAG) < 0) {
        zr_drop_add(lane->page, in.drop);
        zr_pkt_drop(pkt);
        return ZR_E_dropped;
    }
    if (in.session->probe != NULL && in.env.lane == ZR_LANE_AGENT)
        zr_probe_on_counter(in.session->probe, in.env.epoch, in.env.counter, now);
    apply(lane, &in, pkt, now);
    in.session->heard = now;
    if (in.session->probe != NULL)
        zr_lane_probe_settle(lane, in.session, now);
    zr_stat_add(lane->page, ZR_STAT_link_accepted, 1);
    if (pkt->len == ZR_ENV_HEAD + ZR_ENV_TAG)
        zr_stat_add(lane->page, ZR_STAT_link_empty, 1);
    zr_pkt_drop(pkt);
    return ZR_OK;
}
