#include <string.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"

const zr_paths *zr_lane_session_paths(const zr_lane *lane, uint32_t slot)
{
    const zr_lane_session *session = zr_lane_session_at(lane, slot);
    return session == NULL ? NULL : session->paths;
}

static bool addr_ok(const zr_lane_session *session, const zr_addr *addr)
{
    return addr->family != 0 && addr->port != 0 && addr->port + session->conf.lanes <= UINT16_MAX;
}

zr_addr zr_lane_addr_of(const zr_addr *agent, uint8_t number)
{
    return number == ZR_LANE_AGENT ? *agent : zr_addr_shifted(agent, 1 + number);
}

bool zr_lane_listed(const zr_lane_session *session, uint8_t number, const zr_addr *from)
{
    int by = number == ZR_LANE_AGENT ? 0 : 1 + number;

    if (zr_addr_same_ip(&session->conf.agent, from) && from->port == session->conf.agent.port + by)
        return true;
    for (uint32_t i = 0; i < session->listed; i++)
        if (zr_addr_same_ip(&session->list[i], from) && from->port == session->list[i].port + by)
            return true;
    return false;
}

static void send_to(zr_lane_session *session, const zr_addr *addr)
{
    session->conf.agent = *addr;
    for (zr_list *node = session->peers.next; node != &session->peers; node = node->next) {
        zr_lane_peer *peer = ZR_CONTAINER(node, zr_lane_peer, node);
        peer->addr = zr_lane_addr_of(addr, peer->number);
    }
}

int zr_lane_session_set_addr(zr_lane *lane, uint32_t slot, const zr_addr *addr)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (!addr_ok(session, addr) || session->paths != NULL)
        return ZR_E_inval;
    send_to(session, addr);
    return ZR_OK;
}

int zr_lane_session_list(zr_lane *lane, uint32_t slot, uint32_t number, const zr_addr *addr)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    if (number >= ZR_PATHS_MAX || (number != 0 && number != session->listed) || !addr_ok(session, addr))
        return ZR_E_inval;
    session->list[number] = *addr;
    session->listed = number + 1;
    return ZR_OK;
}

int zr_lane_session_set_paths(zr_lane *lane, uint32_t slot, const zr_addr *addrs, uint32_t count, zr_ns_t now)
{
    zr_lane_session *session = zr_lane_session_at(lane, slot);

    if (session == NULL)
        return ZR_E_missing;
    for (uint32_t i = 0; i < count; i++)
        if (!addr_ok(session, &addrs[i]))
            return ZR_E_inval;
    if (session->paths == NULL || !zr_paths_set(session->paths, addrs, count, now))
        return ZR_E_inval;
    memcpy(session->list, addrs, count * sizeof *addrs);
    session->listed = count;
    zr_lane_probe_settle(lane, session, now);
    return ZR_OK;
}

void zr_lane_paths_begin(zr_lane *lane, zr_lane_session *session, uint64_t seed, zr_ns_t now)
{
    session->paths = &lane->paths[session->slot];
    zr_paths_init(session->paths, &session->conf.agent, seed, now);
}

bool zr_lane_paths_judge(const zr_lane_session *session, const zr_probe_seg *seg)
{
    if (seg->cmd == ZR_PROBE_CHALLENGE)
        return seg->len == ZR_PATHS_BODY;
    return seg->len == ZR_PATHS_BODY && zr_paths_asked(session->paths, zr_get64(seg->data));
}

void zr_lane_paths_input(zr_lane_session *session, const zr_probe_seg *seg, const zr_addr *from, zr_ns_t now)
{
    uint64_t token = zr_get64(seg->data);

    if (seg->cmd == ZR_PROBE_RESPONSE) {
        zr_paths_on_answer(session->paths, token, now);
        return;
    }
    zr_paths_on_challenge(session->paths, token, from, now);
    if ((seg->flags & ZR_PROBE_CALL) != 0) /* perhaps all else we send is lost */
        zr_probe_on_call(session->probe, now);
}

void zr_lane_paths_follow(zr_lane *lane, zr_lane_session *session, zr_ns_t now)
{
    if (zr_probe_worried(session->probe, now))
        zr_paths_hurry(session->paths, now);
    zr_paths_on_deadline(session->paths, now);
    if (!zr_paths_take_moved(session->paths))
        return;
    zr_stat_add(lane->page, ZR_STAT_path_moves, 1);
    send_to(session, zr_paths_used(session->paths));
    zr_probe_moved(session->probe, now);
    (void)zr_lane_session_kick(lane, session->slot, now);
}

int zr_lane_paths_output(zr_lane *lane, zr_lane_session *session, zr_batch *batch, zr_ns_t now)
{
    zr_paths_out out;

    while (zr_paths_next(session->paths, &out)) {
        zr_seg head = { .cmd = out.answer ? ZR_PROBE_RESPONSE : ZR_PROBE_CHALLENGE };
        uint8_t body[ZR_PATHS_BODY];
        if (!out.answer && zr_probe_silent(session->probe, now))
            head.frg = ZR_PROBE_CALL;
        zr_pack pack;
        zr_put64(body, out.token);
        zr_pack_begin(&pack, batch, &session->paths->one[out.to].addr, ZR_SOCK_LINK, session->mtu, ZR_ENV_HEAD,
                      ZR_ENV_TAG, true);
        int rc = zr_pack_put(&pack, &head, NULL, 0, body, sizeof body);
        zr_pack_finish(&pack);
        if (rc != ZR_OK)
            return ZR_E_full;
        zr_paths_sent(session->paths, &out, now);
        zr_stat_add(lane->page, ZR_STAT_probes_sent, 1);
    }
    return ZR_OK;
}
