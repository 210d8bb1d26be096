#include <string.h>

#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

enum part {
    PART_SESSIONS,
    PART_CONVS,
    PART_PEERS,
    PART_KEYS,
    PART_BY_INDEX,
    PART_BY_CONV,
    PART_BLOCKS,
    PART_PROBES,
    PART_PATHS,
    PARTS
};

/* Where each part begins behind the lane itself; returns the end. */
static size_t lay_out(const zr_lane_conf *conf, size_t at[PARTS])
{
    const size_t bytes[PARTS] = {
        [PART_SESSIONS] = conf->sessions_max * sizeof(zr_lane_session),
        [PART_CONVS] = conf->convs_max * sizeof(zr_lane_conv),
        [PART_PEERS] = conf->peer_lanes_max * sizeof(zr_lane_peer),
        [PART_KEYS] = zr_lane_rx_max(conf) * sizeof(zr_lane_rx),
        [PART_BY_INDEX] = zr_map_bytes(conf->sessions_max * ZR_LANE_GENS),
        [PART_BY_CONV] = zr_map_bytes(conf->convs_max),
        [PART_BLOCKS] = zr_kcp_blocks_bytes(conf->blocks_max),
        [PART_PROBES] = conf->probe.rate_idle == 0 ? 0 : conf->sessions_max * sizeof(zr_probe),
        [PART_PATHS] = conf->probe.rate_idle == 0 ? 0 : conf->sessions_max * sizeof(zr_paths),
    };
    return zr_lay_out(sizeof(zr_lane), bytes, PARTS, at);
}

size_t zr_lane_bytes(const zr_lane_conf *conf)
{
    size_t at[PARTS];
    return lay_out(conf, at);
}

int zr_lane_parts(const zr_lane_conf *conf, zr_part *parts)
{
    static const char *const names[PARTS] = {
        [PART_SESSIONS] = "sessions",  [PART_CONVS] = "conversations",    [PART_PEERS] = "peer lanes",
        [PART_KEYS] = "receive keys",  [PART_BY_INDEX] = "session index", [PART_BY_CONV] = "conversation index",
        [PART_BLOCKS] = "KCP windows", [PART_PROBES] = "probes",          [PART_PATHS] = "paths",
    };
    size_t at[PARTS], end = lay_out(conf, at);

    _Static_assert(PARTS <= ZR_LANE_PARTS, "its callers have room for all");
    return zr_parts_of(parts, names, at, end, PARTS);
}

size_t zr_lane_context_bytes(const zr_lane_conf *conf)
{
    size_t seals = (size_t)conf->peer_lanes_max + zr_lane_rx_max(conf) + 1;
    return seals * (size_t)__builtin_popcount(conf->ciphers) * ZR_SEAL_CONTEXT;
}

static bool in_range(const zr_lane_conf *conf)
{
    return (conf->lane < ZR_LANES - 2 || conf->lane == ZR_LANE_AGENT) && conf->sessions_max > 0 &&
           conf->sessions_max <= ZR_STAT_SESSIONS && conf->convs_max > 0 && conf->convs_max <= INT32_MAX &&
           conf->peer_lanes_max > 0 && conf->blocks_max > 0 && conf->blocks_max <= 65534 && conf->window > 0 &&
           conf->window <= ZR_KCP_WND_MAX;
}

static void init_slots(zr_lane *lane)
{
    for (uint32_t i = 0; i < lane->conf.sessions_max; i++) {
        lane->sessions[i] = (zr_lane_session){ .slot = i };
        zr_timer_init(&lane->sessions[i].probe_timer, ZR_LANE_TIMER_PROBE, i);
        zr_list_init(&lane->sessions[i].news);
    }
    for (uint32_t i = 0; i < lane->conf.peer_lanes_max; i++) {
        zr_lane_peer *peer = &lane->peers[i];
        peer->session = NULL;
        zr_seal_init(&peer->tx);
        zr_list_init(&peer->node);
        zr_list_init(&peer->due);
        zr_list_init(&peer->convs_due);
        zr_timer_init(&peer->timer, ZR_LANE_TIMER_BEAT, i);
        zr_list_append(&lane->peers_free, &peer->node);
    }
}

/* What the page shows from the beginning; it may still show a predecessor's. */
static void show_all(zr_lane *lane)
{
    zr_stat_set(lane->page, ZR_STAT_reorder_cap, ZR_LANE_REORDER_MAX);
    zr_stat_set(lane->page, ZR_STAT_child_queue_cap, ZR_LANE_QUEUE_MAX);
    zr_lane_gauge(lane);
}

zr_lane *zr_lane_init(void *mem, const zr_lane_conf *conf, zr_pool *pool, zr_stat_page *page, zr_ns_t now)
{
    size_t at[PARTS];
    uint8_t *base = mem;
    zr_lane *lane = mem;

    if (!in_range(conf))
        return NULL;
    lay_out(conf, at);
    memset(lane, 0, sizeof *lane);
    lane->conf = *conf;
    if (conf->deadline_ms == 0)
        lane->conf.deadline_ms = ZR_LANE_DEADLINE_MS;
    zr_kcp_plan_init(&lane->plan, conf->residual > 0 ? conf->residual : ZR_LANE_RESIDUAL,
                     conf->max_overhead > 0 ? conf->max_overhead : ZR_LANE_MAX_OVERHEAD);
    lane->pool = pool;
    lane->page = page;
    lane->sessions = (void *)(base + at[PART_SESSIONS]);
    lane->convs = (void *)(base + at[PART_CONVS]);
    lane->peers = (void *)(base + at[PART_PEERS]);
    lane->rxs = (void *)(base + at[PART_KEYS]);
    zr_list_init(&lane->convs_free);
    zr_list_init(&lane->peers_free);
    zr_list_init(&lane->due);
    zr_list_init(&lane->ready);
    zr_list_init(&lane->hostile);
    zr_list_init(&lane->news);
    lane->probes = conf->probe.rate_idle == 0 ? NULL : (void *)(base + at[PART_PROBES]);
    lane->paths = conf->probe.rate_idle == 0 ? NULL : (void *)(base + at[PART_PATHS]);
    lane->unknown.rest = now;
    zr_wheel_init(&lane->wheel, now);
    init_slots(lane);
    if (zr_map_init(&lane->by_index, base + at[PART_BY_INDEX], conf->sessions_max * ZR_LANE_GENS) != ZR_OK ||
        zr_map_init(&lane->by_conv, base + at[PART_BY_CONV], conf->convs_max) != ZR_OK ||
        zr_kcp_blocks_init(&lane->blocks, base + at[PART_BLOCKS], conf->blocks_max) != ZR_OK ||
        zr_lane_keys_init(lane) != ZR_OK)
        return NULL;
    show_all(lane);
    return lane;
}

void zr_lane_become(zr_lane *lane, uint8_t number, uint16_t epoch, zr_ns_t now)
{
    lane->conf.lane = number;
    lane->conf.epoch = epoch;
    lane->unknown.rest = now;
    zr_wheel_advance(&lane->wheel, now);
    show_all(lane);
}

void zr_lane_set_own(zr_lane *lane, const zr_addr *own)
{
    lane->conf.own = *own;
}

void zr_lane_fini(zr_lane *lane)
{
    for (uint32_t slot = 0; slot < lane->conf.sessions_max; slot++)
        (void)zr_lane_session_drop(lane, slot);
    zr_lane_keys_fini(lane);
}

zr_lane_session *zr_lane_session_at(const zr_lane *lane, uint32_t slot)
{
    return slot < lane->conf.sessions_max && lane->sessions[slot].open ? &lane->sessions[slot] : NULL;
}

int zr_lane_session_add(zr_lane *lane, uint32_t slot, const zr_session_conf *conf, zr_ns_t now)
{
    if (slot >= lane->conf.sessions_max || conf->index > ZR_LANE_INDEX_MAX || conf->peer_index > ZR_LANE_INDEX_MAX ||
        conf->lanes > ZR_LANES - 2 || conf->mtu < ZR_LANE_MTU_MIN || conf->mtu > ZR_LANE_MTU_MAX ||
        conf->agent.family == 0 || conf->agent.port == 0 || conf->agent.port + conf->lanes > UINT16_MAX)
        return ZR_E_inval;
    zr_lane_session *session = &lane->sessions[slot];
    if (session->open || zr_map_get(&lane->by_index, conf->index) != ZR_MAP_NONE)
        return ZR_E_exists;
    if (conf->keys.cipher >= ZR_CIPHER_COUNT)
        return ZR_E_inval;
    int rc = zr_lane_prepare(lane, (enum zr_cipher)conf->keys.cipher);
    if (rc < 0)
        return rc;
    *session = (zr_lane_session){ .open = true, .slot = slot, .conf = *conf, .mtu = conf->mtu };
    zr_wipe(&session->conf.keys, sizeof session->conf.keys);
    session->beat_every = conf->rate_mhz == 0 ? ZR_NEVER : ZR_SEC(1000) / conf->rate_mhz;
    zr_list_init(&session->convs);
    zr_list_init(&session->peers);
    zr_list_init(&session->wanting);
    zr_list_init(&session->hostile);
    zr_list_init(&session->held);
    zr_timer_init(&session->expiry, ZR_LANE_TIMER_KEYS, slot);
    zr_timer_init(&session->rate_timer, ZR_LANE_TIMER_RATE, slot);
    rc = zr_lane_gen_add(lane, session, conf->index, conf->peer_index, &conf->keys, now);
    if (rc == ZR_OK)
        zr_lane_probe_begin(lane, session, now);
    return rc;
}

static void give_peer(zr_lane *lane, zr_lane_peer *peer)
{
    zr_timer_cancel(&lane->wheel, &peer->timer);
    zr_list_remove(&peer->due);
    zr_lane_move(&lane->peers_free, &peer->node);
    zr_seal_wipe(&peer->tx);
    lane->counter_floor = ZR_MAX(lane->counter_floor, peer->tx_serial != 0 ? peer->counter : 0);
    peer->session = NULL;
}

int zr_lane_session_drop(zr_lane *lane, uint32_t slot)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    while (!zr_list_empty(&session->convs)) {
        zr_lane_conv *conv = ZR_LIST_FIRST(&session->convs, zr_lane_conv, node);
        zr_lane_conv_close(lane, (uint32_t)(conv - lane->convs));
    }
    zr_lane_gens_drop(lane, session);
    zr_lane_probe_end(lane, session);
    while (!zr_list_empty(&session->peers))
        give_peer(lane, ZR_LIST_FIRST(&session->peers, zr_lane_peer, node));
    zr_list_remove(&session->hostile);
    zr_timer_cancel(&lane->wheel, &session->rate_timer);
    if (lane->unknown.session == slot)
        lane->unknown.waiting = false;
    session->open = false;
    return ZR_OK;
}

bool zr_lane_session_open(const zr_lane *lane, uint32_t slot)
{
    return zr_lane_session_at(lane, slot) != NULL;
}

zr_ns_t zr_lane_session_heard(const zr_lane *lane, uint32_t slot)
{
    const zr_lane_session *session = zr_lane_session_at(lane, slot);
    return session == NULL ? 0 : session->heard;
}

uint32_t zr_lane_session_index(const zr_lane *lane, uint32_t slot)
{
    const zr_lane_session *session = zr_lane_session_at(lane, slot);
    if (session == NULL)
        return ZR_LANE_INDEX_NONE;
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (session->gens[i].open && session->gens[i].serial == session->heard_serial)
            return session->gens[i].index;
    return session->gens[session->sending].index;
}

uint32_t zr_lane_session_rtt_us(const zr_lane *lane, uint32_t slot)
{
    int conv = zr_lane_conv_find(lane, slot, 0);
    return conv < 0 ? 0 : zr_lane_srtt_us(&lane->convs[conv].kcp);
}

int zr_lane_session_set_rtt(zr_lane *lane, uint32_t slot, uint32_t rtt_us)
{
    if (zr_lane_session_at(lane, slot) == NULL)
        return ZR_E_missing;
    lane->sessions[slot].rtt_us = rtt_us;
    return ZR_OK;
}

zr_lane_peer *zr_lane_peer_get(zr_lane *lane, zr_lane_session *session, uint8_t number)
{
    if (session->peer[number] != NULL)
        return session->peer[number];
    if (zr_list_empty(&lane->peers_free))
        return NULL;
    zr_lane_peer *peer = ZR_LIST_FIRST(&lane->peers_free, zr_lane_peer, node);
    peer->session = session;
    peer->number = number;
    peer->beat = false;
    peer->convs = 0;
    peer->tx_serial = 0;
    peer->counter = peer->first = 0;
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        peer->rx[i] = NULL;
    peer->addr = zr_lane_addr_of(&session->conf.agent, number);
    peer->last_tx = 0;
    zr_lane_move(&session->peers, &peer->node);
    session->peer[number] = peer;
    return peer;
}

zr_ns_t zr_lane_deadline(const zr_lane *lane)
{
    /* Whoever asks before output has nothing to wait for. */
    return zr_list_empty(&lane->due) ? zr_wheel_deadline(&lane->wheel) : 0;
}

zr_ns_t zr_lane_timers(const zr_lane *lane)
{
    return zr_wheel_deadline(&lane->wheel);
}

void zr_lane_on_deadline(zr_lane *lane, zr_ns_t now)
{
    zr_timer *timer;

    zr_wheel_advance(&lane->wheel, now);
    while ((timer = zr_wheel_expired(&lane->wheel)) != NULL) {
        if (timer->kind == ZR_LANE_TIMER_BEAT) {
            zr_lane_on_beat(lane, &lane->peers[timer->ref], now);
        } else if (timer->kind == ZR_LANE_TIMER_KEYS) {
            zr_lane_on_expiry(lane, &lane->sessions[timer->ref], now);
        } else if (timer->kind == ZR_LANE_TIMER_RATE) {
            zr_lane_on_rate(lane, &lane->sessions[timer->ref]);
        } else if (timer->kind == ZR_LANE_TIMER_PROBE) {
            zr_lane_on_probe(lane, &lane->sessions[timer->ref], now);
        } else {
            zr_lane_conv *conv = &lane->convs[timer->ref];
            const zr_timer *next = zr_wheel_next(&lane->wheel);
            if (next != NULL && next->kind == ZR_LANE_TIMER_CONV)
                zr_kcp_prefetch(&lane->convs[next->ref].kcp);
            zr_kcp_on_deadline(&conv->kcp, now);
            zr_lane_conv_touch(lane, conv);
        }
    }
}

static uint32_t length(const zr_list *list)
{
    uint32_t n = 0;
    for (const zr_list *node = list->next; node != list; node = node->next)
        n++;
    return n;
}

static bool check_conv(const zr_lane *lane, uint32_t handle)
{
    const zr_lane_conv *conv = &lane->convs[handle];

    if (conv->session == NULL)
        return !zr_list_linked(&conv->due) && !zr_list_linked(&conv->ready) && !zr_timer_armed(&conv->timer);
    return conv->session->open && !conv->applied && zr_kcp_check(&conv->kcp) &&
           zr_map_get(&lane->by_conv, zr_lane_conv_key(conv->session->slot, conv->id)) == handle &&
           (conv->peer == NULL || conv->peer->session == conv->session) &&
           (!zr_list_linked(&conv->due) || zr_list_linked(&conv->peer->due));
}

bool zr_lane_check(const zr_lane *lane)
{
    uint32_t convs = 0, peers = 0, bound = 0, served = 0;

    for (uint32_t i = 0; i < lane->conf.sessions_max; i++) {
        const zr_lane_session *session = &lane->sessions[i];
        if (!session->open)
            continue;
        if (session->probe != NULL && (!zr_probe_check(session->probe) || !zr_paths_check(session->paths)))
            return false;
        convs += length(&session->convs);
        peers += length(&session->peers);
    }
    for (uint32_t i = 0; i < lane->convs_used; i++) {
        if (!check_conv(lane, i))
            return false;
        bound += lane->convs[i].session != NULL && lane->convs[i].peer != NULL;
    }
    for (uint32_t i = 0; i < lane->conf.peer_lanes_max; i++)
        served += lane->peers[i].session != NULL ? lane->peers[i].convs : 0;
    return zr_lane_keys_check(lane) && convs == lane->convs_open && convs == lane->by_conv.count && bound == served &&
           lane->convs_used <= lane->conf.convs_max && convs + length(&lane->convs_free) == lane->convs_used &&
           peers + length(&lane->peers_free) == lane->conf.peer_lanes_max && zr_map_check(&lane->by_index) &&
           zr_map_check(&lane->by_conv) && zr_wheel_check(&lane->wheel) && zr_kcp_blocks_check(&lane->blocks);
}
