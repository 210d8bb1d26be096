#include "worker/zr_ingest.h"

#include "base/zr_err.h"

int zr_ingest(zr_fwd *fwd, zr_stat_page *page, uint32_t sock, const uint8_t *data, size_t len, bool truncated,
              const zr_addr *from, zr_ns_t came, zr_ns_t now)
{
    bool too_long = truncated || len > ZR_PKT_ROOM;
    zr_pkt *pkt = too_long ? NULL : zr_pool_copy(zr_fwd_pool(fwd), data, len);

    if (pkt == NULL && sock == ZR_SOCK_LINK)
        return zr_ingest_link_lost(page, len, too_long ? ZR_DROP_link_oversize : ZR_DROP_link_pool);
    if (pkt == NULL) {
        zr_stat_add(page, ZR_STAT_rx_media, 1);
        zr_stat_add(page, ZR_STAT_rx_media_bytes, len);
        zr_drop_add(page, too_long ? ZR_DROP_oversize : ZR_DROP_pool);
        return ZR_E_dropped;
    }
    pkt->came_us = (uint32_t)((uint64_t)came / 1000) | 1u; /* 0 is not known */
    zr_stat_add(page, ZR_STAT_rx_copied_bytes, len);
    if (sock == ZR_SOCK_LINK)
        return zr_fwd_link_input(fwd, pkt, from, now);
    if (sock == ZR_SOCK_EGRESS)
        return zr_fwd_egress_input(fwd, pkt, from, now);
    return zr_fwd_ingress_input(fwd, sock - ZR_SOCK_INGRESS, pkt, from, now);
}

int zr_ingest_link_lost(zr_stat_page *page, size_t len, enum zr_drop_id why)
{
    zr_stat_add(page, ZR_STAT_rx_link, 1);
    zr_stat_add(page, ZR_STAT_rx_link_bytes, len);
    zr_drop_add(page, why);
    return ZR_E_dropped;
}
