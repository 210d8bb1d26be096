/* What a worker asks the kernel about its sockets, ten times a second and never on a packet's way. */
#include "time/zr_clock.h"
#include "worker/zr_worker_priv.h"

#define LOOK_EVERY   ZR_MS(100)
#define LOOK_INGRESS 32u /* ingress sockets a look */

static const struct {
    enum zr_stat_id rcvbuf, sndbuf, lost;
} words[ZR_SOCK_INGRESS] = {
    [ZR_SOCK_LINK] = { ZR_STAT_link_rcvbuf, ZR_STAT_link_sndbuf, ZR_STAT_rx_lost_link },
    [ZR_SOCK_EGRESS] = { ZR_STAT_egress_rcvbuf, ZR_STAT_egress_sndbuf, ZR_STAT_rx_lost_egress },
};

void zr_worker_look_at(zr_worker *w, uint32_t number)
{
    zr_udp_sock *sock = &w->socks[number];
    zr_udp_memory memory;

    if (sock->fd < 0 || zr_udp_meminfo(sock->fd, &memory) != 0)
        return;
    bool ingress = number >= ZR_SOCK_INGRESS;
    zr_stat_add(w->page, ingress ? ZR_STAT_rx_lost_ingress : words[number].lost, memory.lost - sock->lost);
    sock->lost = memory.lost;
    if (ingress)
        return;
    zr_stat_set(w->page, words[number].rcvbuf, memory.rcvbuf);
    zr_stat_set(w->page, words[number].sndbuf, memory.sndbuf);
}

void zr_worker_look(zr_worker *w, zr_ns_t now)
{
    uint32_t ingresses = w->ingress_used;

    if (now < w->look_at)
        return;
    w->look_at = now + LOOK_EVERY;
    if (w->conf.stamps)
        w->wall = zr_clock_wall_offset();
    for (uint32_t number = 0; number < ZR_SOCK_INGRESS; number++)
        zr_worker_look_at(w, number);
    for (uint32_t left = ZR_MIN(ingresses, LOOK_INGRESS), i = 0; left > 0 && i < ingresses; i++) {
        w->look_next = (w->look_next + 1) % ingresses;
        if (w->socks[ZR_SOCK_INGRESS + w->look_next].fd < 0)
            continue;
        zr_worker_look_at(w, ZR_SOCK_INGRESS + w->look_next);
        left--;
    }
}
