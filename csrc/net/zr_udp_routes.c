#include "net/zr_udp_tx_priv.h"

#define DOWN_MIN ZR_MS(1)
#define DOWN_MAX ZR_MS(50)
#define FORGET   ZR_SEC(1)

static zr_addr host_of(const zr_addr *to)
{
    zr_addr host = *to;
    host.port = 0; /* the route decides, not the port */
    return host;
}

static zr_addr exact(const zr_addr *to)
{
    zr_addr address = *to;
    address.pad = 1; /* never the same as a host */
    return address;
}

static uint32_t slot_of(const zr_addr *key)
{
    return (uint32_t)(zr_addr_hash(key) % ZR_ROUTE_SLOTS);
}

bool zr_udp_gso_allowed(const zr_udp_routes *routes, const zr_addr *to)
{
    if (!routes->gso || routes->no_gso_count == 0)
        return routes->gso;
    zr_addr host = host_of(to);
    return !zr_addr_eq(&routes->no_gso[slot_of(&host)], &host);
}

void zr_udp_gso_refused(zr_udp_routes *routes, const zr_addr *to, zr_stat_page *page)
{
    zr_addr host = host_of(to), *slot = &routes->no_gso[slot_of(&host)];

    if (zr_addr_eq(slot, &host))
        return;
    routes->no_gso_count += slot->family == 0;
    *slot = host;
    zr_stat_add(page, ZR_STAT_tx_gso_off, 1);
}

static bool key_is_down(const zr_udp_routes *routes, const zr_addr *key, zr_ns_t now)
{
    const zr_udp_down *down = &routes->down[slot_of(key)];
    return zr_addr_eq(&down->to, key) && now < down->until;
}

bool zr_udp_is_down(const zr_udp_routes *routes, const zr_addr *to, zr_ns_t now)
{
    if (routes->down_count == 0)
        return false;
    zr_addr host = host_of(to), address = exact(to);
    return key_is_down(routes, &host, now) || key_is_down(routes, &address, now);
}

void zr_udp_set_down(zr_udp_routes *routes, const zr_addr *to, bool host, zr_stat_page *page, zr_ns_t now)
{
    zr_addr key = host ? host_of(to) : exact(to);
    zr_udp_down *down = &routes->down[slot_of(&key)];

    if (!zr_addr_eq(&down->to, &key)) {
        routes->down_count += down->to.family == 0;
        *down = (zr_udp_down){ .to = key, .since = now };
        zr_stat_add(page, ZR_STAT_tx_unreachable, 1);
    }
    /* In proportion: back after at most a twentieth of the time that it was away. */
    zr_ns_t wait = (now - down->since) / 20;
    down->until = now + ZR_MIN(ZR_MAX(wait, DOWN_MIN), DOWN_MAX);
}

static void forget(zr_udp_routes *routes, zr_udp_down *down)
{
    *down = (zr_udp_down){ .since = 0 };
    routes->down_count--;
}

void zr_udp_set_up(zr_udp_routes *routes, const zr_addr *to)
{
    zr_addr keys[2] = { host_of(to), exact(to) };

    for (int i = 0; i < 2; i++) {
        zr_udp_down *down = &routes->down[slot_of(&keys[i])];
        if (zr_addr_eq(&down->to, &keys[i]))
            forget(routes, down);
    }
}

void zr_udp_routes_sweep(zr_udp_routes *routes, zr_ns_t now)
{
    if (routes->down_count == 0 || now - routes->swept < FORGET)
        return;
    routes->swept = now;
    for (uint32_t i = 0; i < ZR_ROUTE_SLOTS; i++)
        if (routes->down[i].to.family != 0 && now - routes->down[i].until > FORGET)
            forget(routes, &routes->down[i]);
}
