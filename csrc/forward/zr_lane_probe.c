#include "base/zr_err.h"
#include "base/zr_sip.h"
#include "forward/zr_lane_priv.h"

zr_probe *zr_lane_session_probe(const zr_lane *lane, uint32_t slot)
{
    const zr_lane_session *session = zr_lane_session_at(lane, slot);
    return session == NULL ? NULL : session->probe;
}

void zr_lane_listened(zr_lane *lane, zr_ns_t now)
{
    lane->listens = true;
    lane->listened = now;
}

/* Whatever happened to the probe: what it wants now. */
static void follow(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    zr_probe *probe = session->probe;
    zr_lane_paths_follow(lane, session, now);
    zr_ns_t asks = zr_paths_deadline(session->paths);
    zr_ns_t beat = zr_probe_beat(probe), at = ZR_MIN(zr_probe_deadline(probe), asks);
    zr_lane_peer *peer = zr_lane_peer_get(lane, session, ZR_LANE_AGENT);

    if (zr_probe_take_changed(probe)) {
        zr_list_remove(&session->news);
        zr_list_append(&lane->news, &session->news);
    }
    if (peer == NULL)
        return;
    if (beat != session->beat_every) {
        session->beat_every = beat;
        if (zr_timer_armed(&peer->timer)) /* it may have to come sooner */
            zr_timer_arm(&lane->wheel, &peer->timer, peer->last_tx + beat);
    }
    if (zr_probe_due(probe, now) || asks == 0) {
        if (!zr_list_linked(&peer->due))
            zr_list_append(&lane->due, &peer->due);
    } else if (!zr_timer_armed(&session->probe_timer) || session->probe_timer.deadline != at) {
        zr_timer_arm(&lane->wheel, &session->probe_timer, at);
    }
}

void zr_lane_probe_begin(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    zr_timer_init(&session->probe_timer, ZR_LANE_TIMER_PROBE, session->slot);
    zr_list_init(&session->news);
    if (lane->probes == NULL)
        return;
    zr_probe_conf conf = lane->conf.probe;
    conf.ip_max = (uint16_t)(session->conf.mtu + ZR_LANE_ENVELOPED);
    conf.rate_elsewhere = (uint16_t)ZR_MIN(session->conf.rate_mhz / 1000, ZR_ALIVE_RATE);
    uint64_t seed = lane->conf.probe.seed, who = (uint64_t)session->conf.index << 32 | session->conf.peer_index;
    conf.seed = zr_sip(seed, 0, who); /* what its tokens show of it leads nowhere */
    session->probe = &lane->probes[session->slot];
    zr_probe_init(session->probe, &conf, now);
    zr_lane_paths_begin(lane, session, zr_sip(seed, 1, who), now);
    session->mtu = (uint16_t)ZR_MIN(session->conf.mtu, ZR_LANE_MTU_SAFE);
    follow(lane, session, now);
}

void zr_lane_probe_end(zr_lane *lane, zr_lane_session *session)
{
    zr_timer_cancel(&lane->wheel, &session->probe_timer);
    zr_list_remove(&session->news);
    session->probe = NULL;
    session->paths = NULL;
}

void zr_lane_on_probe(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    uint32_t flaps = session->probe->alive.flaps;

    zr_probe_on_deadline(session->probe, lane->listens ? lane->listened : now, now);
    zr_stat_add(lane->page, ZR_STAT_link_deaths, session->probe->alive.flaps - flaps);
    follow(lane, session, now);
}

void zr_lane_probe_settle(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    follow(lane, session, now);
}

int zr_lane_probe_output(zr_lane *lane, zr_lane_session *session, zr_pack *pack, zr_ns_t now)
{
    static const uint8_t zeros[ZR_LANE_MTU_MAX];
    uint8_t body[ZR_PROBE_BODY_MAX];
    zr_probe_seg seg;

    while (zr_probe_next(session->probe, &seg, body, now) == ZR_OK) {
        zr_seg head = { .cmd = seg.cmd, .frg = seg.flags, .ts = seg.ts, .sn = seg.id, .una = seg.token };
        if (zr_pack_put(pack, &head, NULL, 0, seg.data == NULL ? zeros : seg.data, seg.len) != ZR_OK)
            return ZR_E_full;
        zr_probe_sent(session->probe, &seg, now);
        zr_stat_add(lane->page, ZR_STAT_probes_sent, 1);
    }
    follow(lane, session, now);
    return ZR_OK;
}

int zr_lane_session_set_active(zr_lane *lane, uint32_t slot, bool active, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (session->probe == NULL)
        return ZR_OK;
    zr_probe_set_active(session->probe, active, now);
    follow(lane, session, now);
    return ZR_OK;
}

int zr_lane_session_heard_at(zr_lane *lane, uint32_t slot, zr_ns_t when, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL || session->probe == NULL)
        return ZR_E_missing;
    zr_probe_on_heard(session->probe, when, now);
    follow(lane, session, now);
    return ZR_OK;
}

void zr_lane_on_oversize(zr_lane *lane, const zr_addr *to, uint32_t bytes, zr_ns_t now)
{
    for (uint32_t slot = 0; slot < lane->conf.sessions_max; slot++) { /* all of them: this is rare */
        zr_lane_session *session = zr_lane_session_at(lane, slot);
        if (session == NULL || session->probe == NULL || !zr_addr_eq(&session->conf.agent, to))
            continue;
        zr_probe_on_refused(session->probe, bytes + ZR_LANE_AROUND, now);
        follow(lane, session, now);
    }
}

int zr_lane_probed(zr_lane *lane, uint32_t *slot)
{
    if (zr_list_empty(&lane->news))
        return ZR_E_again;
    zr_lane_session *session = ZR_LIST_FIRST(&lane->news, zr_lane_session, news);
    zr_list_remove(&session->news);
    *slot = session->slot;
    return ZR_OK;
}

int zr_lane_session_set_mtu(zr_lane *lane, uint32_t slot, uint16_t mtu)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (mtu < ZR_LANE_MTU_MIN || mtu > session->conf.mtu)
        return ZR_E_inval;
    session->mtu = mtu;
    for (zr_list *node = session->convs.next; node != &session->convs; node = node->next) {
        zr_lane_conv *conv = ZR_CONTAINER(node, zr_lane_conv, node);
        if (conv->kind == ZR_CONV_MEDIA)
            zr_kcp_set_mtu(&conv->kcp, mtu);
    }
    return ZR_OK;
}

int zr_lane_session_kick(zr_lane *lane, uint32_t slot, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    for (zr_list *node = session->convs.next; node != &session->convs; node = node->next) {
        zr_lane_conv *conv = ZR_CONTAINER(node, zr_lane_conv, node);
        zr_kcp_kick(&conv->kcp, now);
        zr_lane_conv_touch(lane, conv);
    }
    return ZR_OK;
}
