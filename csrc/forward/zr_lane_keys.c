/*
 * Keys of sessions. A handshake makes a generation: two direction secrets and a pair of indices. From a secret comes
 * one key per pair of lanes, and per epoch of the sending one:
 *
 *   session ── generation ─┬─ peer lane ── tx   our key towards it, of the generation we send under; its counter
 *                          └─ peer lane ── rx ── before   its keys towards us, of its last two epochs; their windows
 *
 * tx is keyed when it is first needed under a generation, and generations to send under only become newer, so under one
 * key no counter is used twice. What would restart a counter, the same keys told to the same lane again, meets
 * lane->counter_floor. rx comes from a datagram's header, which anybody can write: its key is tried in lane->trial and
 * lives on only when the datagram verified, and no more than a bounded number are derived a second. With the next
 * generation the keys of the epochs heard so far are made beforehand, so that nobody can use that bound to stand in the
 * way of a rekey.
 *
 * In plaintext there is one generation without keys; its rx have windows, as all have.
 */
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

uint32_t zr_lane_rx_max(const zr_lane_conf *conf)
{
    return conf->keys_max > 0 ? conf->keys_max : 2 * conf->peer_lanes_max + 64;
}

static void gauge(zr_lane *lane)
{
    zr_stat_set(lane->page, ZR_STAT_lane_keys, lane->rx_in_use);
    zr_stat_set(lane->page, ZR_STAT_lane_keys_cap, zr_lane_rx_max(&lane->conf));
}

int zr_lane_keys_init(zr_lane *lane)
{
    zr_list_init(&lane->rx_free);
    zr_list_init(&lane->wanting);
    for (uint32_t i = 0; i < zr_lane_rx_max(&lane->conf); i++) {
        zr_seal_init(&lane->rxs[i].seal);
        zr_list_init(&lane->rxs[i].node);
        zr_list_append(&lane->rx_free, &lane->rxs[i].node);
    }
    zr_seal_init(&lane->trial);
    gauge(lane);
    int rc = zr_seal_kit_open(&lane->kit);
    for (int cipher = ZR_CIPHER_PLAIN + 1; rc == ZR_OK && cipher < ZR_CIPHER_COUNT; cipher++)
        if ((lane->conf.ciphers >> cipher & 1) != 0)
            rc = zr_lane_prepare(lane, (enum zr_cipher)cipher);
    if (rc < 0)
        zr_lane_keys_fini(lane);
    return rc;
}

void zr_lane_keys_fini(zr_lane *lane)
{
    for (uint32_t i = 0; i < lane->conf.peer_lanes_max; i++)
        zr_seal_fini(&lane->peers[i].tx);
    for (uint32_t i = 0; i < zr_lane_rx_max(&lane->conf); i++)
        zr_seal_fini(&lane->rxs[i].seal);
    zr_seal_fini(&lane->trial);
    zr_seal_kit_close(&lane->kit);
    lane->prepared = 0;
}

int zr_lane_prepare(zr_lane *lane, enum zr_cipher cipher)
{
    if (cipher == ZR_CIPHER_PLAIN || (lane->prepared >> cipher & 1) != 0)
        return ZR_OK;
    int rc = zr_seal_prepare(&lane->trial, &lane->kit, cipher, false);
    for (uint32_t i = 0; rc == ZR_OK && i < lane->conf.peer_lanes_max; i++)
        rc = zr_seal_prepare(&lane->peers[i].tx, &lane->kit, cipher, true);
    for (uint32_t i = 0; rc == ZR_OK && i < zr_lane_rx_max(&lane->conf); i++)
        rc = zr_seal_prepare(&lane->rxs[i].seal, &lane->kit, cipher, false);
    if (rc == ZR_OK)
        lane->prepared |= 1u << cipher;
    return rc;
}

void zr_lane_want_keys(zr_lane *lane, zr_lane_session *session, enum zr_rekey_why why)
{
    if (why <= session->told)
        return;
    session->told = session->why = why;
    if (!zr_list_linked(&session->wanting))
        zr_list_append(&lane->wanting, &session->wanting);
}

bool zr_lane_rekey_wanted(zr_lane *lane, uint32_t *slot, enum zr_rekey_why *why)
{
    if (zr_list_empty(&lane->wanting))
        return false;
    zr_lane_session *session = ZR_LIST_FIRST(&lane->wanting, zr_lane_session, wanting);
    zr_list_remove(&session->wanting);
    *slot = session->slot;
    *why = session->why;
    return true;
}

void zr_lane_rx_give(zr_lane *lane, zr_lane_rx *rx)
{
    if (rx == NULL)
        return;
    zr_seal_wipe(&rx->seal);
    zr_list_prepend(&lane->rx_free, &rx->node);
    lane->rx_in_use--;
    gauge(lane);
}

static void give_heard(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    ZR_LIST_EACH(peer, &session->peers, zr_lane_peer, node)
    {
        zr_lane_rx *rx = peer->rx[gen];
        if (rx == NULL)
            continue;
        zr_lane_rx_give(lane, rx->before);
        zr_lane_rx_give(lane, rx);
        peer->rx[gen] = NULL;
    }
}

/* No key of it is left; its index still is, so that what comes late is known for what it is. */
static void end(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    give_heard(lane, session, gen);
    zr_wipe(session->gens[gen].keys.send, ZR_SECRET_BYTES);
    zr_wipe(session->gens[gen].keys.recv, ZR_SECRET_BYTES);
    session->gens[gen].over = true;
    ZR_LIST_EACH(peer, &session->peers, zr_lane_peer, node)
    {
        if (peer->tx_serial == session->gens[gen].serial) /* also of who has not sent since there is a newer one */
            zr_seal_wipe(&peer->tx);
    }
}

static void forget(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    if (!session->gens[gen].open)
        return;
    end(lane, session, gen);
    zr_map_del(&lane->by_index, session->gens[gen].index);
    session->gens[gen].open = false;
}

static void arm_expiry(zr_lane *lane, zr_lane_session *session)
{
    zr_ns_t at = ZR_NEVER;

    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (session->gens[i].open && !session->gens[i].over)
            at = ZR_MIN(at, session->gens[i].until);
    if (at == ZR_NEVER)
        zr_timer_cancel(&lane->wheel, &session->expiry);
    else
        zr_timer_arm(&lane->wheel, &session->expiry, at);
}

/* The oldest generation but the one that is sent under; only if older than that, when so asked. Or ZR_LANE_GENS. */
static uint32_t oldest(const zr_lane_session *session, bool older_only)
{
    uint32_t found = ZR_LANE_GENS;

    for (uint32_t i = 0; i < ZR_LANE_GENS; i++) {
        const zr_lane_gen *gen = &session->gens[i];
        if (i == session->sending || !gen->open)
            continue;
        if (older_only && gen->serial > session->gens[session->sending].serial)
            continue;
        if (found == ZR_LANE_GENS || gen->serial < session->gens[found].serial)
            found = i;
    }
    return found;
}

/* Where the next generation goes: the first has its choice, later ones never push out the one that is sent under. */
static uint32_t place(zr_lane *lane, zr_lane_session *session)
{
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (!session->gens[i].open)
            return i;
    uint32_t gen = oldest(session, false);
    forget(lane, session, gen);
    return gen;
}

/* Only ever forward. What is older than the one sent under until now is not needed any more. */
static void send_under(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    uint32_t before = session->sending;

    if (gen == before || session->gens[gen].serial <= session->gens[before].serial)
        return;
    session->sending = gen;
    session->why = session->told = 0;
    zr_list_remove(&session->wanting);
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (session->gens[i].serial < session->gens[before].serial)
            forget(lane, session, i);
}

/* The other end sends under a generation once it has heard something under it: now, even if we have nothing to say. */
static void show(zr_lane *lane, zr_lane_session *session)
{
    ZR_LIST_EACH(peer, &session->peers, zr_lane_peer, node)
    {
        if (peer->convs == 0)
            continue;
        peer->beat = true;
        if (!zr_list_linked(&peer->due))
            zr_list_append(&lane->due, &peer->due);
    }
}

void zr_lane_gen_heard(zr_lane *lane, zr_lane_session *session, uint32_t gen, zr_ns_t now)
{
    uint32_t serial = session->gens[gen].serial;

    if (serial <= session->heard_serial)
        return;
    session->heard_serial = serial;
    send_under(lane, session, gen);
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (session->gens[i].open && session->gens[i].serial < serial)
            session->gens[i].until = ZR_MIN(session->gens[i].until, now + ZR_LANE_KEYS_LATE);
    arm_expiry(lane, session);
}

int zr_lane_gen_add(zr_lane *lane, zr_lane_session *session, uint32_t index, uint32_t peer_index, const zr_keys *keys,
                    zr_ns_t now)
{
    uint32_t at = place(lane, session);
    int rc = zr_map_put(&lane->by_index, index, session->slot * ZR_LANE_GENS + at);

    if (rc < 0)
        return rc;
    session->gens[at] = (zr_lane_gen){
        .open = true,
        .serial = ++session->serials,
        .index = index,
        .peer_index = peer_index,
        .keys = *keys,
        .until = keys->cipher == ZR_CIPHER_PLAIN ? ZR_NEVER : now + ZR_LANE_KEYS_AGE - ZR_MS(keys->age_ms),
    };
    if (session->serials == 1)
        session->sending = at;
    arm_expiry(lane, session);
    return ZR_OK;
}

/* Of the epoch that was heard last of this peer lane; NULL: it was not heard under any generation. */
static const zr_lane_rx *last_heard(const zr_lane_peer *peer)
{
    const zr_lane_rx *last = NULL;

    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        if (peer->rx[i] != NULL && (last == NULL || peer->rx[i]->epoch > last->epoch))
            last = peer->rx[i];
    return last;
}

static void key_ahead(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    ZR_LIST_EACH(peer, &session->peers, zr_lane_peer, node)
    {
        const zr_lane_rx *known = last_heard(peer);
        if (known == NULL || zr_list_empty(&lane->rx_free))
            continue;
        zr_lane_rx *rx = zr_lane_rx_take(lane, session, gen);
        const zr_keys *keys = &session->gens[gen].keys;
        zr_seal_key(&rx->seal, (enum zr_cipher)keys->cipher, keys->recv, peer->number, lane->conf.lane, known->epoch);
        rx->epoch = known->epoch;
        rx->before = NULL;
        zr_win_init(&rx->win);
        peer->rx[gen] = rx;
    }
}

int zr_lane_session_rekey(zr_lane *lane, uint32_t slot, uint32_t index, uint32_t peer_index, const zr_keys *keys,
                          zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (keys->cipher == ZR_CIPHER_PLAIN || keys->cipher >= ZR_CIPHER_COUNT || index > ZR_LANE_INDEX_MAX ||
        peer_index > ZR_LANE_INDEX_MAX || session->gens[session->sending].keys.cipher == ZR_CIPHER_PLAIN)
        return ZR_E_inval;
    uint32_t known = zr_map_get(&lane->by_index, index);
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++) {
        if (!session->gens[i].open || !zr_same_secret(session->gens[i].keys.send, keys->send, ZR_SECRET_BYTES))
            continue;
        if (known != slot * ZR_LANE_GENS + i || !keys->initiator)
            return ZR_E_exists;
        zr_lane_gen_heard(lane, session, i, now); /* in another lane of ours */
        return ZR_OK;
    }
    if (known != ZR_MAP_NONE)
        return ZR_E_exists;
    int rc = zr_lane_prepare(lane, (enum zr_cipher)keys->cipher);
    if (rc < 0)
        return rc;
    rc = zr_lane_gen_add(lane, session, index, peer_index, keys, now);
    ZR_CHECK(rc == ZR_OK); /* it was not there, and the map has room for every generation */
    uint32_t gen = zr_map_get(&lane->by_index, index) % ZR_LANE_GENS;
    key_ahead(lane, session, gen);
    zr_stat_add(lane->page, ZR_STAT_rekeys, 1);
    if (keys->initiator) {
        send_under(lane, session, gen);
        show(lane, session);
    }
    return ZR_OK;
}

void zr_lane_gens_drop(zr_lane *lane, zr_lane_session *session)
{
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        forget(lane, session, i);
    zr_timer_cancel(&lane->wheel, &session->expiry);
    zr_list_remove(&session->wanting);
}

void zr_lane_gen_shut(zr_lane *lane, zr_lane_session *session, uint32_t gen, enum zr_rekey_why why)
{
    end(lane, session, gen);
    arm_expiry(lane, session);
    zr_lane_want_keys(lane, session, why);
}

void zr_lane_on_expiry(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++) {
        zr_lane_gen *gen = &session->gens[i];
        if (!gen->open || gen->over || now < gen->until)
            continue;
        end(lane, session, i);
        if (i == session->sending)
            zr_lane_want_keys(lane, session, ZR_REKEY_MUTE);
    }
    arm_expiry(lane, session);
}

/* When none is left, the session's generation before the one it sends under gives its own. */
zr_lane_rx *zr_lane_rx_take(zr_lane *lane, zr_lane_session *session, uint32_t gen)
{
    uint32_t old = zr_list_empty(&lane->rx_free) ? oldest(session, true) : ZR_LANE_GENS;

    if (old != ZR_LANE_GENS && old != gen)
        forget(lane, session, old);
    if (zr_list_empty(&lane->rx_free)) {
        zr_stat_add(lane->page, ZR_STAT_lane_keys_exhausted, 1);
        return NULL;
    }
    zr_lane_rx *rx = ZR_LIST_FIRST(&lane->rx_free, zr_lane_rx, node);
    zr_list_remove(&rx->node);
    lane->rx_in_use++;
    gauge(lane);
    return rx;
}

static void key_tx(zr_lane *lane, zr_lane_peer *peer, const zr_lane_gen *gen)
{
    if (gen->keys.cipher != ZR_CIPHER_PLAIN) {
        lane->counter_floor = ZR_MAX(lane->counter_floor, peer->counter);
        peer->counter = lane->counter_floor;
        zr_seal_wipe(&peer->tx); /* the cipher may change with the generation */
        zr_seal_key(&peer->tx, (enum zr_cipher)gen->keys.cipher, gen->keys.send, lane->conf.lane, peer->number,
                    lane->conf.epoch);
    }
    peer->first = peer->counter;
    peer->tx_serial = gen->serial;
}

bool zr_lane_may_send(zr_lane *lane, zr_lane_peer *peer, uint32_t count, zr_ns_t now)
{
    zr_lane_session *session = peer->session;
    const zr_lane_gen *gen = &session->gens[session->sending];

    if (gen->keys.cipher == ZR_CIPHER_PLAIN) {
        if (peer->tx_serial == 0)
            key_tx(lane, peer, gen);
        return true;
    }
    if (zr_lane_gen_over(gen, now)) {
        zr_lane_want_keys(lane, session, ZR_REKEY_MUTE);
        return false;
    }
    if (peer->tx_serial != gen->serial)
        key_tx(lane, peer, gen);
    uint64_t sent = peer->counter - peer->first;
    if (sent + count > ZR_LANE_KEYS_LIMIT) {
        zr_lane_want_keys(lane, session, ZR_REKEY_MUTE);
        return false;
    }
    if (sent + count > ZR_LANE_KEYS_REKEY)
        zr_lane_want_keys(lane, session, ZR_REKEY_SOON);
    return true;
}

bool zr_lane_keys_check(const zr_lane *lane)
{
    uint32_t indices = 0, in_use = 0, free = 0;

    for (uint32_t slot = 0; slot < lane->conf.sessions_max; slot++) {
        const zr_lane_session *session = &lane->sessions[slot];
        if (!session->open)
            continue;
        if (!session->gens[session->sending].open)
            return false;
        for (uint32_t i = 0; i < ZR_LANE_GENS; i++) {
            const zr_lane_gen *gen = &session->gens[i];
            if (gen->open && zr_map_get(&lane->by_index, gen->index) != slot * ZR_LANE_GENS + i)
                return false;
            indices += gen->open;
        }
        ZR_LIST_EACH(peer, &session->peers, zr_lane_peer, node)
        {
            for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
                for (const zr_lane_rx *rx = peer->rx[i]; rx != NULL; rx = rx->before, in_use++)
                    if (!session->gens[i].open || session->gens[i].over ||
                        rx->seal.cipher != session->gens[i].keys.cipher)
                        return false;
        }
    }
    for (const zr_list *node = lane->rx_free.next; node != &lane->rx_free; node = node->next)
        free++;
    return indices == lane->by_index.count && in_use == lane->rx_in_use && in_use + free == zr_lane_rx_max(&lane->conf);
}
