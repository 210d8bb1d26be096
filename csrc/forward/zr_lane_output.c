#include <string.h>

#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

void zr_lane_gauge(zr_lane *lane)
{
    zr_stat_set(lane->page, ZR_STAT_convs, lane->convs_open);
    zr_stat_set(lane->page, ZR_STAT_kcp_blocks_in_use, lane->blocks.in_use);
    zr_stat_add(lane->page, ZR_STAT_kcp_blocks_exhausted, lane->blocks.exhausted - lane->exhausted_told);
    lane->exhausted_told = lane->blocks.exhausted;
}

/* Of many probed sessions some beat together, a little early: one turn of the lane serves them all. */
static zr_ns_t beat_at(const zr_lane_peer *peer)
{
    zr_ns_t at = peer->last_tx + peer->session->beat_every, early = at - at % ZR_LANE_BEAT_GRID;

    return peer->session->probe != NULL && early > peer->last_tx ? early : at;
}

/* The timer is not moved by every datagram: when it fires it looks how long the peer lane really was quiet. */
void zr_lane_on_beat(zr_lane *lane, zr_lane_peer *peer, zr_ns_t now)
{
    zr_ns_t at = beat_at(peer);

    if (at > now) {
        zr_timer_arm(&lane->wheel, &peer->timer, at);
        return;
    }
    peer->beat = true;
    if (!zr_list_linked(&peer->due))
        zr_list_append(&lane->due, &peer->due);
}

/* Writes the envelopes of the entries from `first` on, and seals them where they lie. */
static void seal(const zr_lane *lane, zr_lane_peer *peer, zr_batch *batch, uint32_t first)
{
    const zr_lane_session *session = peer->session;
    const zr_lane_gen *gen = &session->gens[session->sending];
    zr_env env = {
        .type = ZR_ENV_DATA,
        .lane = lane->conf.lane,
        .epoch = lane->conf.epoch,
        .receiver = gen->peer_index << 6 | peer->number,
    };

    for (uint32_t i = first; i < batch->count; i++) {
        const zr_tx *tx = &batch->tx[i];
        uint8_t *data = batch->arena + (tx->data - batch->arena);
        env.counter = peer->counter++;
        zr_env_put(data, &env);
        if (gen->keys.cipher != ZR_CIPHER_PLAIN)
            zr_seal_put(&peer->tx, env.counter, data, tx->len);
        else
            memset(data + tx->len - ZR_ENV_TAG, 0, ZR_ENV_TAG);
    }
}

/* All due segments of one peer lane, whatever their conversation, through one packer. */
static int output_segments(zr_lane *lane, zr_lane_peer *peer, zr_batch *batch, zr_ns_t now)
{
    zr_pack pack;
    int rc = ZR_OK;

    zr_pack_begin(&pack, batch, &peer->addr, ZR_SOCK_LINK, peer->session->mtu, ZR_ENV_HEAD, ZR_ENV_TAG, true);
    if (peer->session->rate_bps != 0)
        rc = zr_lane_rate_output(lane, peer, &pack, now);
    while (rc == ZR_OK && !zr_list_empty(&peer->convs_due)) {
        zr_lane_conv *conv = ZR_LIST_FIRST(&peer->convs_due, zr_lane_conv, due);
        zr_ns_t deadline;
        if ((rc = zr_kcp_turn(&conv->kcp, &pack, now, &deadline)) < 0)
            break; /* it stays first in line */
        zr_list_remove(&conv->due);
        zr_lane_conv_settle(lane, conv, deadline);
    }
    if (rc == ZR_OK && peer->number == ZR_LANE_AGENT && peer->session->probe != NULL)
        rc = zr_lane_probe_output(lane, peer->session, &pack, now);
    zr_pack_finish(&pack);
    return rc;
}

static int output_beat(zr_lane *lane, const zr_lane_peer *peer, zr_batch *batch)
{
    if (zr_batch_reserve(batch, ZR_ENV_HEAD + ZR_ENV_TAG) == NULL)
        return ZR_E_full;
    zr_batch_commit(batch, &peer->addr, ZR_SOCK_LINK, ZR_ENV_HEAD + ZR_ENV_TAG);
    zr_stat_add(lane->page, ZR_STAT_heartbeats_sent, 1);
    return ZR_OK;
}

static int output_peer(zr_lane *lane, zr_lane_peer *peer, zr_batch *batch, zr_ns_t now)
{
    uint32_t first = batch->count, arena = batch->arena_len, count;
    bool probed = peer->number == ZR_LANE_AGENT && peer->session->probe != NULL;
    int rc = output_segments(lane, peer, batch, now);

    if (rc == ZR_OK && batch->count == first && peer->beat)
        rc = output_beat(lane, peer, batch);
    if (batch->count > first) {
        peer->last_tx = now;
        peer->beat = false;
    }
    if (rc == ZR_OK && probed)
        rc = zr_lane_paths_output(lane, peer->session, batch, now);
    count = batch->count - first;
    if (count > 0 && zr_lane_may_send(lane, peer, count, now)) {
        seal(lane, peer, batch, first);
        zr_stat_bump(&zr_lane_row(lane, peer->session)->tx_datagrams, count);
        zr_stat_bump(&zr_lane_row(lane, peer->session)->tx_bytes, batch->arena_len - arena);
    } else if (count > 0) { /* as if lost on the way: what sent it notices, and keeps its pace */
        zr_stat_add(lane->page, ZR_STAT_link_unsealed, count);
        batch->count = first;
        batch->arena_len = arena;
        if (rc == ZR_E_full)
            return ZR_OK; /* there is room again, and this peer lane is still the first in line */
    }
    if (peer->session->rate_bps != 0)
        zr_lane_rate_pay(peer->session, batch->arena_len - arena, now);
    if (rc == ZR_E_again) {
        zr_lane_rate_hold(lane, peer, now);
        return ZR_OK;
    }
    if (rc < 0)
        return rc;
    zr_list_remove(&peer->due);
    if (probed)
        zr_lane_probe_settle(lane, peer->session, now);
    if (peer->convs > 0 && !zr_timer_armed(&peer->timer) && peer->session->beat_every != ZR_NEVER)
        zr_timer_arm(&lane->wheel, &peer->timer, beat_at(peer));
    return ZR_OK;
}

int zr_lane_output(zr_lane *lane, zr_batch *batch, zr_ns_t now)
{
    int rc = ZR_OK;

    while (rc == ZR_OK && !zr_list_empty(&lane->due))
        rc = output_peer(lane, ZR_LIST_FIRST(&lane->due, zr_lane_peer, due), batch, now);
    zr_lane_gauge(lane);
    return rc;
}
