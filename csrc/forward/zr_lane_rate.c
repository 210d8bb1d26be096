/*
 * max_rate: what a session may send from this lane a second, whatever its peer acknowledges. A bucket of 4 ms, kept as
 * the time up to which everything sent is paid for; bytes are those of UDP payload.
 *
 *   due ── room in the bucket? ──yes──▶ output, as far as it reaches ──▶ paid += bytes / rate
 *    ▲               └────────────no──▶ session->held ──┐
 *    └───────────────── rate_timer: 1 to 5 ms ◀─────────┘
 *
 * Conversations that only acknowledge and heartbeats never wait; they are paid for all the same. What waits shows as a
 * full queue (zr_lane_conv_fill), so that the owner leaves out by class, audio last, long before anything is late.
 */
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

#define BURST   ZR_MS(4)
#define AGAIN   ZR_MS(1)
#define AT_MOST ZR_MS(5) /* so long may an acknowledgement stand behind what is held */

static zr_ns_t price(const zr_lane_session *session, uint64_t bytes)
{
    return (zr_ns_t)(bytes * 8 * (uint64_t)ZR_SEC(1) / session->rate_bps);
}

int zr_lane_session_set_rate(zr_lane *lane, uint32_t slot, uint64_t bps, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (bps != 0 && (bps < ZR_LANE_RATE_MIN || bps > ZR_LANE_RATE_MAX))
        return ZR_E_inval;
    session->rate_bps = bps;
    session->rate_paid = now;
    zr_timer_cancel(&lane->wheel, &session->rate_timer);
    zr_lane_on_rate(lane, session);
    return ZR_OK;
}

void zr_lane_on_rate(zr_lane *lane, zr_lane_session *session)
{
    while (!zr_list_empty(&session->held))
        zr_lane_move(&lane->due, session->held.next);
}

static uint64_t bucket(const zr_lane_session *session)
{
    return ZR_MAX(session->rate_bps / 8 * (uint64_t)BURST / (uint64_t)ZR_SEC(1), 2ull * session->conf.mtu);
}

/* While more is owed, there is no room for a whole datagram: less would not get every conversation on. */
static zr_ns_t may_owe(const zr_lane_session *session)
{
    return price(session, bucket(session) - session->conf.mtu - ZR_ENV_HEAD - ZR_ENV_TAG);
}

/* Bytes that may leave now. */
static uint32_t room(const zr_lane_session *session, zr_ns_t now)
{
    zr_ns_t owed = ZR_MAX(session->rate_paid - now, 0);

    if (owed > may_owe(session))
        return 0;
    uint64_t taken = (uint64_t)owed * (session->rate_bps / 8) / (uint64_t)ZR_SEC(1);
    return (uint32_t)ZR_MIN(bucket(session) - taken, (uint64_t)UINT32_MAX);
}

/* What of the arena may be filled: to `end`, and whatever is gathered already. */
static void bound(zr_batch *batch, const zr_pack *pack, uint32_t end, uint32_t whole)
{
    uint32_t gathered = pack->small_len == 0 ? 0 : (uint32_t)pack->small_len + pack->head + pack->tail;
    batch->arena_cap = ZR_MIN(whole, ZR_MAX(end, batch->arena_len + gathered));
}

int zr_lane_rate_output(zr_lane *lane, zr_lane_peer *peer, zr_pack *pack, zr_ns_t now)
{
    zr_batch *batch = pack->batch;
    uint32_t whole = batch->arena_cap, allowed = room(peer->session, now);
    uint32_t end = allowed < whole - batch->arena_len ? batch->arena_len + allowed : whole;
    zr_list *node = peer->convs_due.next, *next;
    bool held = false;
    int rc = ZR_OK;

    for (; node != &peer->convs_due; node = next) {
        zr_lane_conv *conv = ZR_CONTAINER(node, zr_lane_conv, due);
        bool sends = zr_kcp_waiting(&conv->kcp) > 0;
        zr_ns_t deadline;
        next = node->next;
        if (sends && (held || allowed == 0)) {
            held = true;
            continue;
        }
        zr_kcp_on_deadline(&conv->kcp, now); /* its timer may have waited with it */
        bound(batch, pack, sends ? end : whole, whole);
        rc = zr_kcp_turn(&conv->kcp, pack, now, &deadline);
        batch->arena_cap = whole;
        if (rc < 0 && (!sends || end == whole || batch->count + 2 >= batch->cap))
            return rc; /* the batch is full */
        if (rc < 0) {
            held = true;
            zr_lane_move(&peer->convs_due, node); /* the others' turn next time */
            continue;
        }
        zr_list_remove(&conv->due);
        zr_lane_conv_settle(lane, conv, deadline);
    }
    return held ? ZR_E_again : ZR_OK;
}

void zr_lane_rate_pay(zr_lane_session *session, uint32_t bytes, zr_ns_t now)
{
    session->rate_paid = ZR_MAX(session->rate_paid, now) + price(session, bytes);
}

void zr_lane_rate_hold(zr_lane *lane, zr_lane_peer *peer, zr_ns_t now)
{
    zr_lane_session *session = peer->session;
    zr_ns_t wait = ZR_MIN(ZR_MAX(session->rate_paid - may_owe(session) - now, AGAIN), AT_MOST);

    zr_stat_add(lane->page, ZR_STAT_link_rate_held, 1);
    zr_lane_move(&session->held, &peer->due);
    if (!zr_timer_armed(&session->rate_timer))
        zr_timer_arm(&lane->wheel, &session->rate_timer, now + wait);
}

uint32_t zr_lane_rate_fill(const zr_lane_session *session, uint32_t queued)
{
    return (uint32_t)ZR_MIN((uint64_t)price(session, queued) * 16 / (uint64_t)ZR_LANE_RATE_WAIT, (uint64_t)UINT8_MAX);
}
