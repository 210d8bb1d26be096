#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

#define MEDIA_FRAGMENTS 2u /* an RTP packet of up to 1 500 bytes is one or two segments */

zr_lane_conv *zr_lane_conv_at(const zr_lane *lane, uint32_t handle)
{
    return handle < lane->convs_used && lane->convs[handle].session != NULL ? &lane->convs[handle] : NULL;
}

/* A conversation that nobody can be answered on yet keeps what it has until its peer lane is learned. */
void zr_lane_conv_touch(zr_lane *lane, zr_lane_conv *conv)
{
    if (conv->peer == NULL)
        return;
    if (!zr_list_linked(&conv->due))
        zr_list_append(&conv->peer->convs_due, &conv->due);
    if (!zr_list_linked(&conv->peer->due))
        zr_list_append(&lane->due, &conv->peer->due);
}

void zr_lane_conv_bind(zr_lane *lane, zr_lane_conv *conv, zr_lane_peer *peer, zr_ns_t now)
{
    conv->peer = peer;
    if (peer->convs++ == 0 && peer->session->beat_every != ZR_NEVER)
        zr_timer_arm(&lane->wheel, &peer->timer, now + peer->session->beat_every);
    zr_lane_conv_touch(lane, conv);
}

static void fold(zr_lane *lane, zr_lane_conv *conv)
{
    const zr_kcp_counts *counted = zr_kcp_counted(&conv->kcp);

#define FOLD(name)                                                                                                     \
    if (counted->name != conv->folded.name)                                                                            \
    zr_stat_add(lane->page, ZR_STAT_kcp_##name, counted->name - conv->folded.name)
    FOLD(segs_sent);
    FOLD(retrans_timeout);
    FOLD(retrans_fast);
    FOLD(segs_received);
    FOLD(duplicates);
    FOLD(acks_sent);
    FOLD(window_drops);
    FOLD(copies);
    FOLD(spurious);
    FOLD(expired);
    FOLD(holes);
    FOLD(late);
    FOLD(conflict);
    FOLD(ack_ts);
#undef FOLD
    conv->folded = *counted;
}

static void note_queue(zr_lane *lane, zr_lane_conv *conv)
{
    uint32_t queued = zr_kcp_unsent(&conv->kcp), bytes;

    conv->session->queued += queued - conv->queued;
    conv->queued = queued;
    bytes = conv->session->queued * conv->session->mtu;
    if (bytes > lane->queued_most) {
        lane->queued_most = bytes;
        zr_stat_set(lane->page, ZR_STAT_child_queue_max, bytes);
    }
}

void zr_lane_conv_note_reordered(zr_lane *lane, zr_lane_conv *conv)
{
    uint32_t reordered = zr_kcp_reordered(&conv->kcp);

    if (reordered == conv->reordered)
        return;
    conv->session->reordered += reordered - conv->reordered;
    conv->reordered = reordered;
    zr_stat_max(lane->page, ZR_STAT_reorder_max, conv->session->reordered);
}

void zr_lane_conv_settle(zr_lane *lane, zr_lane_conv *conv, zr_ns_t deadline)
{
    fold(lane, conv);
    zr_lane_conv_note_reordered(lane, conv);
    note_queue(lane, conv);
    if (deadline == ZR_NEVER)
        zr_timer_cancel(&lane->wheel, &conv->timer);
    else if (!zr_timer_armed(&conv->timer) || conv->timer.deadline != deadline)
        zr_timer_arm(&lane->wheel, &conv->timer, deadline);
}

static bool may_open(const zr_lane_session *session, uint32_t conv, uint8_t peer_lane, enum zr_conv_kind kind)
{
    if (kind != ZR_CONV_CONTROL && (kind != ZR_CONV_MEDIA || conv == 0))
        return false;
    return peer_lane < session->conf.lanes || peer_lane == ZR_LANE_AGENT || peer_lane == ZR_LANE_ANY;
}

/* One that was open before, or else one more: memory is touched only as far as conversations are open at once. */
static zr_lane_conv *free_conv(zr_lane *lane)
{
    if (zr_list_empty(&lane->convs_free) && lane->convs_used < lane->conf.convs_max) {
        zr_lane_conv *conv = &lane->convs[lane->convs_used];
        conv->session = NULL;
        conv->peer = NULL;
        zr_list_init(&conv->node);
        zr_list_init(&conv->due);
        zr_list_init(&conv->ready);
        zr_timer_init(&conv->timer, ZR_LANE_TIMER_CONV, lane->convs_used++);
        zr_list_append(&lane->convs_free, &conv->node);
    }
    return zr_list_empty(&lane->convs_free) ? NULL : ZR_LIST_FIRST(&lane->convs_free, zr_lane_conv, node);
}

int zr_lane_conv_open(zr_lane *lane, uint32_t slot, uint32_t id, uint8_t peer_lane, enum zr_conv_kind kind,
                      uint32_t user, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);
    zr_lane_peer *peer = NULL;

    if (session == NULL)
        return ZR_E_missing;
    if (!may_open(session, id, peer_lane, kind))
        return ZR_E_inval;
    if (zr_lane_conv_find(lane, slot, id) >= 0)
        return ZR_E_exists;
    zr_lane_conv *conv = free_conv(lane);
    if (conv == NULL)
        return ZR_E_nomem;
    if (peer_lane != ZR_LANE_ANY && (peer = zr_lane_peer_get(lane, session, peer_lane)) == NULL)
        return ZR_E_nomem;

    uint32_t handle = (uint32_t)(conv - lane->convs);
    zr_kcp_conf conf = kind == ZR_CONV_MEDIA ? zr_kcp_conf_media(id) : zr_kcp_conf_control(id);
    conf.mtu = session->conf.mtu;
    conf.snd_wnd = conf.rcv_wnd = lane->conf.window;
    conf.plan = &lane->plan;
    if (kind == ZR_CONV_MEDIA)
        conf.deadline_ms = lane->conf.deadline_ms;
    conf.fragments_max = kind == ZR_CONV_MEDIA ? MEDIA_FRAGMENTS : ZR_KCP_FRAGMENTS_MAX;
    int rc = zr_kcp_init(&conv->kcp, &conf, &lane->blocks, lane->pool, now);
    if (rc < 0)
        return rc;
    /* Control must arrive in order: no segment of it may be larger than a path that shrinks can take. */
    zr_kcp_set_mtu(&conv->kcp, kind == ZR_CONV_MEDIA ? session->mtu : ZR_MIN(session->mtu, ZR_LANE_MTU_SAFE));
    rc = zr_map_put(&lane->by_conv, zr_lane_conv_key(slot, id), handle);
    ZR_CHECK(rc == ZR_OK); /* it was not there, and the map has room for every handle */
    conv->session = session;
    conv->peer = NULL;
    conv->id = id;
    conv->user = user;
    conv->kind = kind;
    conv->applied = false;
    memset(&conv->newest, 0, sizeof conv->newest); /* nothing is older */
    conv->queued = conv->reordered = 0;
    conv->folded = (zr_kcp_counts){ 0 };
    zr_lane_move(&session->convs, &conv->node);
    if (peer != NULL)
        zr_lane_conv_bind(lane, conv, peer, now);
    zr_stat_set(lane->page, ZR_STAT_convs, ++lane->convs_open);
    return (int)handle;
}

int zr_lane_conv_find(const zr_lane *lane, uint32_t session, uint32_t conv)
{
    uint32_t handle = zr_map_get(&lane->by_conv, zr_lane_conv_key(session, conv));
    return handle == ZR_MAP_NONE ? ZR_E_missing : (int)handle;
}

int zr_lane_conv_next(const zr_lane *lane, uint32_t slot, int after)
{
    const zr_lane_session *session = zr_lane_session_at(lane, slot);
    const zr_list *node;

    if (session == NULL)
        return ZR_E_missing;
    if (after < 0) {
        node = session->convs.next;
    } else {
        const zr_lane_conv *conv = zr_lane_conv_at(lane, (uint32_t)after);
        if (conv == NULL || conv->session != session)
            return ZR_E_missing;
        node = conv->node.next;
    }
    if (node == &session->convs)
        return ZR_E_missing;
    return (int)(ZR_CONTAINER(node, const zr_lane_conv, node) - lane->convs);
}

uint32_t zr_lane_conv_user(const zr_lane *lane, uint32_t handle)
{
    const zr_lane_conv *conv = zr_lane_conv_at(lane, handle);
    return conv == NULL ? 0 : conv->user;
}

void zr_lane_conv_close(zr_lane *lane, uint32_t handle)
{
    zr_lane_conv *conv = zr_lane_conv_at(lane, handle);

    if (conv == NULL)
        return;
    fold(lane, conv);
    conv->session->queued -= conv->queued;
    conv->session->reordered -= conv->reordered;
    zr_kcp_fini(&conv->kcp);
    zr_timer_cancel(&lane->wheel, &conv->timer);
    zr_list_remove(&conv->due);
    zr_list_remove(&conv->ready);
    if (conv->peer != NULL && --conv->peer->convs == 0) {
        zr_timer_cancel(&lane->wheel, &conv->peer->timer);
        conv->peer->beat = false;
    }
    zr_map_del(&lane->by_conv, zr_lane_conv_key(conv->session->slot, conv->id));
    conv->session = NULL;
    conv->peer = NULL;
    zr_lane_move(&lane->convs_free, &conv->node);
    zr_stat_set(lane->page, ZR_STAT_convs, --lane->convs_open);
    zr_lane_gauge(lane);
}

int zr_lane_conv_estimated(const zr_lane *lane, uint32_t handle, zr_kcp_estimates *estimates)
{
    const zr_lane_conv *conv = zr_lane_conv_at(lane, handle);

    if (conv == NULL)
        return ZR_E_missing;
    *estimates = zr_kcp_estimated(&conv->kcp);
    return ZR_OK;
}

const zr_kcp_counts *zr_lane_conv_counted(const zr_lane *lane, uint32_t handle)
{
    const zr_lane_conv *conv = zr_lane_conv_at(lane, handle);
    return conv == NULL ? NULL : zr_kcp_counted(&conv->kcp);
}

/* Views of the next message, 0 of a control message that waits to be copied; ZR_E_again: none. */
static int next_message(zr_lane_conv *conv, zr_slice views[2])
{
    if (conv->kind == ZR_CONV_CONTROL)
        return zr_kcp_recv(&conv->kcp, NULL, 0) == ZR_E_full ? 0 : ZR_E_again;
    int count = zr_kcp_recv(&conv->kcp, views, 2);
    return count > 0 ? count : ZR_E_again;
}

int zr_lane_recv(zr_lane *lane, zr_lane_msg *msg)
{
    while (!zr_list_empty(&lane->ready)) {
        zr_lane_conv *conv = ZR_LIST_FIRST(&lane->ready, zr_lane_conv, ready);
        int count = next_message(conv, msg->views);
        if (count <= 0) /* a control conversation comes back when its message was taken and more wait */
            zr_list_remove(&conv->ready);
        if (count < 0)
            continue;
        if (count > 0)
            zr_lane_conv_touch(lane, conv); /* a shut window may have opened */
        msg->conv = (uint32_t)(conv - lane->convs);
        msg->user = conv->user;
        msg->session = conv->session->slot;
        msg->srtt_us = zr_lane_srtt_us(&conv->kcp);
        if (msg->srtt_us == 0)
            msg->srtt_us = conv->session->rtt_us;
        msg->view_count = count;
        for (int i = 0; i < count; i++)
            zr_stat_bump(&zr_lane_row(lane, conv->session)->rx_payload, msg->views[i].len);
        return ZR_OK;
    }
    return ZR_E_again;
}

int zr_lane_recv_bytes(zr_lane *lane, uint32_t handle, uint8_t *to, size_t size)
{
    zr_lane_conv *conv = zr_lane_conv_at(lane, handle);

    if (conv == NULL)
        return ZR_E_missing;
    int rc = zr_kcp_recv_bytes(&conv->kcp, to, size);
    if (rc < 0)
        return rc;
    zr_stat_bump(&zr_lane_row(lane, conv->session)->rx_payload, (uint32_t)rc);
    zr_lane_conv_touch(lane, conv);
    if (!zr_list_linked(&conv->ready))
        zr_list_append(&lane->ready, &conv->ready);
    return rc;
}

bool zr_lane_unknown(zr_lane *lane, uint32_t *session, uint32_t *conv)
{
    bool waiting = lane->unknown.waiting;

    *session = lane->unknown.session;
    *conv = lane->unknown.conv;
    lane->unknown.waiting = false;
    return waiting;
}

int zr_lane_send(zr_lane *lane, uint32_t handle, const uint8_t *head, size_t head_len, const zr_slice *body,
                 zr_ns_t now)
{
    return zr_lane_send_within(lane, handle, head, head_len, body, lane->conf.deadline_ms, now);
}

int zr_lane_send_within(zr_lane *lane, uint32_t handle, const uint8_t *head, size_t head_len, const zr_slice *body,
                        uint16_t deadline_ms, zr_ns_t now)
{
    zr_lane_conv *conv = zr_lane_conv_at(lane, handle);

    if (conv == NULL)
        return ZR_E_missing;
    int rc = zr_kcp_send_within(&conv->kcp, head, head_len, body, deadline_ms, now);
    if (rc >= 0)
        zr_stat_bump(&zr_lane_row(lane, conv->session)->tx_payload, head_len + (body == NULL ? 0 : body->len));
    zr_lane_conv_touch(lane, conv);
    note_queue(lane, conv);
    return rc;
}

uint32_t zr_lane_conv_fill(const zr_lane *lane, uint32_t handle)
{
    const zr_lane_conv *conv = zr_lane_conv_at(lane, handle);
    uint32_t used, most, queued;

    if (conv == NULL)
        return 0;
    used = zr_kcp_used(&conv->kcp, &most);
    queued = conv->session->queued * conv->session->mtu;
    if (conv->session->rate_bps != 0) {
        uint32_t fill = zr_lane_rate_fill(conv->session, queued);
        if (fill >= 8)
            return ZR_MAX(fill, 16 * used / most);
    }
    if (2 * used < most && 2 * queued < ZR_LANE_QUEUE_MAX)
        return 0;
    return ZR_MAX(16 * used / most, queued / (ZR_LANE_QUEUE_MAX / 16));
}

int zr_lane_send_bytes(zr_lane *lane, uint32_t handle, const uint8_t *data, size_t len, zr_ns_t now)
{
    zr_lane_conv *conv = zr_lane_conv_at(lane, handle);

    if (conv == NULL)
        return ZR_E_missing;
    int rc = zr_kcp_send_bytes(&conv->kcp, data, len, now);
    if (rc >= 0)
        zr_stat_bump(&zr_lane_row(lane, conv->session)->tx_payload, len);
    zr_lane_conv_touch(lane, conv);
    return rc;
}
