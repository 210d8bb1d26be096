#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane.h"

static int wb_lane_input(zr_lane *lane, zr_pool *pool, zr_stat_page *page, const zr_addr *from, const uint8_t *data,
                         size_t len, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_copy(pool, data, len);

    zr_stat_add(page, ZR_STAT_rx_link, 1);
    if (pkt == NULL) {
        zr_drop_add(page, ZR_DROP_link_pool);
        return ZR_E_dropped;
    }
    return zr_lane_input(lane, pkt, from, now);
}

static int wb_lane_send(zr_lane *lane, zr_pool *pool, uint32_t conv, uint32_t number, uint32_t len, zr_ns_t now)
{
    uint8_t head[ZR_KCP_HEAD_MAX] = { 0 };
    zr_pkt *pkt = zr_pool_take(pool);

    if (pkt == NULL)
        return ZR_E_nomem;
    zr_put32(head, number);
    memset(pkt->buf + pkt->off, (int)(number & 0xFF), len);
    zr_slice body = { pkt, pkt->off, (uint16_t)len };
    int rc = zr_lane_send(lane, conv, head, sizeof head, &body, now);
    zr_pkt_drop(pkt);
    return rc;
}

static int wb_lane_recv(zr_lane *lane, uint32_t *user, uint32_t *number, uint32_t *len)
{
    zr_lane_msg msg;
    size_t skip = ZR_KCP_HEAD_MAX;
    int rc = zr_lane_recv(lane, &msg);

    if (rc < 0)
        return rc;
    *user = msg.user;
    *number = zr_get32(zr_slice_data(&msg.views[0]));
    *len = 0;
    for (int i = 0; i < msg.view_count; i++) {
        const uint8_t *data = zr_slice_data(&msg.views[i]);
        for (size_t at = skip; at < msg.views[i].len; at++, ++*len)
            rc = data[at] == (uint8_t)*number ? rc : ZR_E_malformed;
        skip = 0;
        zr_pkt_drop(msg.views[i].pkt);
    }
    return rc;
}
