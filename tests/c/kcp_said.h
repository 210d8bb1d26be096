/* kcp_said.h - media conversations near the wrap of both their numbers and their clock, and what their output says. */
#ifndef KCP_SAID_H
#define KCP_SAID_H

#include "kcp_rig.h"

/* Where a conversation begins: the plain place, and where number and clock wrap within the first moments. */
typedef struct origin {
    uint32_t sn, ms;
} origin;

static const origin origins[] = { { 0, 1000 }, { UINT32_MAX - 1, UINT32_MAX - 70 } };
static uint32_t sn0; /* the first number */

static inline void start_at(const origin *from, zr_kcp_conf conf)
{
    memories();
    conf.start_sn = sn0 = from->sn;
    now = ZR_MS((zr_ns_t)from->ms);
    CHECK_EQ(zr_kcp_init(&a, &conf, &blocks, &pool, now), ZR_OK);
    CHECK_EQ(zr_kcp_init(&b, &conf, &blocks, &pool, now), ZR_OK);
}

static zr_seg said[4096]; /* the segments of the last output, `data` inside the batch */
static uint32_t said_count;

/* One turn of its owner; how many segments it says. */
static inline uint32_t say(zr_kcp *kcp)
{
    CHECK_EQ(turn(kcp), ZR_OK);
    said_count = 0;
    for (uint32_t i = 0; i < batch.count; i++)
        for (size_t pos = 0; zr_seg_next(&said[said_count], batch.tx[i].data, batch.tx[i].len, &pos) == ZR_OK;)
            CHECK(++said_count < ZR_LEN(said));
    return said_count;
}

static inline uint32_t said_cmd(uint8_t cmd)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < said_count; i++)
        n += said[i].cmd == cmd;
    return n;
}

static inline uint32_t said_sn(uint8_t cmd, uint32_t sn)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < said_count; i++)
        n += said[i].cmd == cmd && said[i].sn == sn;
    return n;
}

/* To the next deadline of `kcp` (at most `limit`), and a turn there. False: there is none. */
static inline bool sleep_and_say(zr_kcp *kcp, zr_ns_t limit)
{
    zr_ns_t at = zr_kcp_deadline(kcp);
    if (at > limit)
        return false;
    now = ZR_MAX(now, at);
    say(kcp);
    return true;
}

/* A PUSH from outside with these numbers. */
static inline void input_push(zr_kcp *kcp, uint32_t sn, uint8_t frg, uint32_t ts, size_t len)
{
    uint8_t data[ZR_SEG_HEAD + 1500];
    CHECK(len <= 1500);
    zr_seg_put(data, &(zr_seg){ .conv = 7,
                                .cmd = ZR_SEG_PUSH,
                                .frg = frg,
                                .wnd = 256,
                                .ts = ts,
                                .sn = sn,
                                .una = sn0,
                                .len = (uint32_t)len });
    memcpy(data + ZR_SEG_HEAD, bytes, len);
    input_bytes(kcp, data, ZR_SEG_HEAD + len);
}

static inline void input_ack(zr_kcp *kcp, uint32_t sn, uint32_t ts, uint32_t una)
{
    input_seg(kcp, (zr_seg){ .conv = 7, .cmd = ZR_SEG_ACK, .wnd = 1024, .ts = ts, .sn = sn, .una = una });
}

#endif
