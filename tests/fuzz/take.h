/* take.h - whatever a lane hands on is taken, and dropped. */
#ifndef ZR_FUZZ_TAKE_H
#define ZR_FUZZ_TAKE_H

#include "base/zr_err.h"
#include "forward/zr_lane.h"

static inline void take_all(zr_lane *lane)
{
    /* The most segments of a message, at the mtu that both targets have. */
    static uint8_t message[127 * 1420];
    zr_lane_msg msg;

    while (zr_lane_recv(lane, &msg) == ZR_OK) {
        if (msg.view_count == 0)
            ZR_CHECK(zr_lane_recv_bytes(lane, msg.conv, message, sizeof message) > 0);
        for (int i = 0; i < msg.view_count; i++)
            zr_pkt_drop(msg.views[i].pkt);
    }
}

#endif
