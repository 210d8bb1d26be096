/* kcp_rig.h - two conversations over one pool; what an output puts into the batch is carried to the other by hand. */
#ifndef KCP_RIG_H
#define KCP_RIG_H

#include "base/zr_err.h"
#include "kcp/zr_kcp_priv.h"
#include "stat/zr_drop.h"
#include "zr_test.h"

enum { PACKETS = 9000, BLOCKS = 600, DATAGRAMS = 64, MTU = 1420 };

static zr_pool pool;
static zr_kcp_blocks blocks;
static zr_batch batch;
static zr_kcp a, b;
static zr_ns_t now;
static uint8_t bytes[2000];

static inline void memories(void)
{
    static void *packets, *slots, *datagrams;

    if (packets == NULL) {
        packets = zr_test_memory(zr_pool_bytes(PACKETS));
        slots = zr_test_memory(zr_kcp_blocks_bytes(BLOCKS));
        datagrams = zr_test_memory(zr_batch_bytes(DATAGRAMS, DATAGRAMS * MTU));
    }
    CHECK_EQ(zr_pool_init(&pool, packets, PACKETS), ZR_OK);
    CHECK_EQ(zr_kcp_blocks_init(&blocks, slots, BLOCKS), ZR_OK);
    CHECK_EQ(zr_batch_init(&batch, datagrams, DATAGRAMS, DATAGRAMS * MTU), ZR_OK);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7);
    now = ZR_MS(1000);
}

static inline void start_conf(const zr_kcp_conf *conf)
{
    memories();
    CHECK_EQ(zr_kcp_init(&a, conf, &blocks, &pool, now), ZR_OK);
    CHECK_EQ(zr_kcp_init(&b, conf, &blocks, &pool, now), ZR_OK);
}

static inline void start_wnd(zr_kcp_conf conf, uint32_t wnd, uint32_t start_sn)
{
    conf.snd_wnd = conf.rcv_wnd = wnd;
    conf.start_sn = start_sn;
    start_conf(&conf);
}

static inline void start(uint32_t wnd, uint32_t start_sn)
{
    start_wnd(zr_kcp_conf_media(7), wnd, start_sn);
}

static inline void start_compat(uint32_t wnd, uint32_t start_sn)
{
    start_wnd(zr_kcp_conf_compat(7), wnd, start_sn);
}

/* Everything comes back: no packet, no block stays out. */
static inline void finish(void)
{
    CHECK(zr_kcp_check(&a) && zr_kcp_check(&b));
    zr_batch_reset(&batch);
    zr_kcp_fini(&a);
    zr_kcp_fini(&b);
    CHECK_EQ(pool.in_use, 0);
    CHECK_EQ(blocks.in_use, 0);
    CHECK(zr_pool_check(&pool) && zr_kcp_blocks_check(&blocks));
}

static inline int send(zr_kcp *kcp, size_t len)
{
    return zr_kcp_send_bytes(kcp, bytes, len, now);
}

static inline int output(zr_kcp *kcp)
{
    zr_pack pack;
    zr_addr to = { .family = 4 };

    zr_batch_reset(&batch);
    zr_pack_begin(&pack, &batch, &to, 0, (uint16_t)kcp->conf.mtu, 0, 0, false);
    int rc = zr_kcp_output(kcp, &pack, now);
    zr_pack_finish(&pack);
    return rc;
}

/* In runs, into a batch of the test's own, perhaps too small: due is what did not fit. */
static inline int output_runs(zr_kcp *kcp, zr_batch *into)
{
    zr_pack pack;

    zr_batch_reset(into);
    zr_pack_begin(&pack, into, &(zr_addr){ .family = 4 }, 0, (uint16_t)kcp->conf.mtu, 0, 0, true);
    int rc = zr_kcp_output(kcp, &pack, now);
    zr_pack_finish(&pack);
    CHECK_EQ(zr_kcp_due(kcp, now), rc == ZR_E_full);
    CHECK(zr_kcp_check(kcp));
    return rc;
}

/* Compat: a flush whatever the grid says. */
static inline int flush(zr_kcp *kcp)
{
    zr_kcp_flush(kcp);
    return output(kcp);
}

/* The time is up: what the owner does then. */
static inline int turn(zr_kcp *kcp)
{
    zr_kcp_on_deadline(kcp, now);
    return output(kcp);
}

static inline int input_bytes(zr_kcp *kcp, const uint8_t *data, size_t len)
{
    zr_pkt *pkt = zr_pool_copy(&pool, data, len);
    zr_seg seg;
    size_t pos = 0;
    int drop = -1;

    CHECK(pkt != NULL);
    while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK)
        if (zr_kcp_judge(kcp, &seg, &drop) == ZR_OK)
            zr_kcp_input_seg(kcp, &seg, pkt, now);
    zr_kcp_input_end(kcp, now);
    zr_pkt_drop(pkt);
    return drop;
}

/* Hands datagram i of the batch to the other side. */
static inline void carry(zr_kcp *to, uint32_t i)
{
    CHECK_EQ(input_bytes(to, batch.tx[i].data, batch.tx[i].len), -1);
}

static inline void carry_all(zr_kcp *to)
{
    for (uint32_t i = 0; i < batch.count; i++)
        carry(to, i);
}

static inline int judge(const zr_kcp *kcp, zr_seg seg)
{
    int drop = -1;
    return zr_kcp_judge(kcp, &seg, &drop) == ZR_OK ? -1 : drop;
}

static inline void input_seg(zr_kcp *kcp, zr_seg seg)
{
    uint8_t data[ZR_SEG_HEAD];
    zr_seg_put(data, &seg);
    input_bytes(kcp, data, sizeof data);
}

static inline int recv_len(zr_kcp *kcp)
{
    uint8_t got[2000];
    int len = zr_kcp_recv_bytes(kcp, got, sizeof got);
    CHECK(len < 0 || memcmp(got, bytes, (size_t)len) == 0);
    return len;
}

#endif
