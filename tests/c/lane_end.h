/* lane_end.h - what the tests of lanes share: one lane with its pool, batch and page, and one session in slot 1. */
#ifndef LANE_END_H
#define LANE_END_H

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane.h"
#include "zr_test.h"

enum { PKTS = 512, BATCH = 128, INDEX_A = 0x0111111, INDEX_B = 0x2222222, PORT_A = 5000, PORT_B = 6000, MTU = 1420 };

typedef struct end {
    zr_pool pool;
    zr_batch batch;
    zr_lane *lane;
    zr_stat_page *page;
    zr_addr addr; /* of this lane */
    void *mem[4];
} end;

static inline zr_addr loopback(uint16_t port)
{
    return (zr_addr){ .ip = { 127, 0, 0, 1 }, .port = port, .family = 4 };
}

static inline zr_lane_conf conf_of(uint8_t lane)
{
    return (zr_lane_conf){
        .lane = lane, .sessions_max = 4, .convs_max = 64, .peer_lanes_max = 8, .blocks_max = 128, .window = 128
    };
}

/* A lane of a relay whose agent listens on `port`, with one session in slot 1. */
static inline void end_make(end *e, const zr_lane_conf *conf, uint32_t batch_cap, uint16_t port,
                            const zr_session_conf *session)
{
    CHECK_EQ(zr_pool_init(&e->pool, e->mem[0] = zr_test_memory(zr_pool_bytes(PKTS)), PKTS), ZR_OK);
    CHECK_EQ(zr_batch_init(&e->batch, e->mem[1] = zr_test_memory(zr_batch_bytes(batch_cap, batch_cap * 1500)),
                           batch_cap, batch_cap * 1500),
             ZR_OK);
    CHECK_EQ(zr_stat_init(e->page = e->mem[2] = zr_test_memory(zr_stat_bytes(1)), 1), ZR_OK);
    e->mem[3] = zr_test_memory(zr_lane_bytes(conf));
    memset(e->mem[3], 0xA5, zr_lane_bytes(conf)); /* init relies on no zeros */
    CHECK((e->lane = zr_lane_init(e->mem[3], conf, &e->pool, e->page, ZR_SEC(1))) != NULL);
    e->addr = loopback((uint16_t)(conf->lane == ZR_LANE_AGENT ? port : port + 1 + conf->lane));
    CHECK_EQ(zr_lane_session_add(e->lane, 1, session, ZR_SEC(1)), ZR_OK);
}

/* The session is with a relay whose agent listens on `peer_port` and which has two workers. */
static inline void end_open(end *e, uint8_t lane, uint32_t batch_cap, uint32_t index, uint16_t port,
                            uint32_t peer_index, uint16_t peer_port)
{
    zr_lane_conf conf = conf_of(lane);
    zr_session_conf session = {
        .index = index, .peer_index = peer_index, .agent = loopback(peer_port), .lanes = 2, .mtu = MTU, .rate_mhz = 5000
    };

    end_make(e, &conf, batch_cap, port, &session);
}

static inline void pair_open(end *a, end *b, uint8_t lane, uint32_t batch_cap)
{
    end_open(a, lane, batch_cap, INDEX_A, PORT_A, INDEX_B, PORT_B);
    end_open(b, lane, batch_cap, INDEX_B, PORT_B, INDEX_A, PORT_A);
}

static inline uint64_t stat(const end *e, enum zr_stat_id id)
{
    return atomic_load(&e->page->stat[id]);
}

static inline uint64_t drops(const end *e)
{
    uint64_t sum = 0;
    for (int i = 0; i < ZR_DROP_COUNT; i++)
        sum += atomic_load(&e->page->drop[i]);
    return sum;
}

static inline void end_close(end *e)
{
    CHECK(zr_lane_check(e->lane));
    CHECK_EQ(zr_ledger_off(e->page, ZR_LEDGER_link), 0);
    zr_lane_fini(e->lane);
    CHECK(zr_lane_check(e->lane));
    zr_batch_reset(&e->batch);
    CHECK_EQ(e->pool.in_use, 0);
    CHECK(zr_pool_check(&e->pool));
    CHECK_EQ(stat(e, ZR_STAT_convs), 0);
    CHECK_EQ(stat(e, ZR_STAT_kcp_blocks_in_use), 0);
    for (size_t i = 0; i < ZR_LEN(e->mem); i++)
        free(e->mem[i]);
}

static inline int give(end *to, const zr_addr *from, const uint8_t *data, size_t len, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_copy(&to->pool, data, len);
    CHECK(pkt != NULL);
    zr_stat_add(to->page, ZR_STAT_rx_link, 1);
    return zr_lane_input(to->lane, pkt, from, now);
}

static inline int open_media(end *e, uint32_t conv, uint8_t peer_lane, uint32_t user)
{
    int handle = zr_lane_conv_open(e->lane, 1, conv, peer_lane, ZR_CONV_MEDIA, user, ZR_SEC(1));
    CHECK(handle >= 0);
    return handle;
}

static inline void expect_nothing(end *e)
{
    zr_lane_msg msg;
    CHECK_EQ(zr_lane_recv(e->lane, &msg), ZR_E_again);
}

#endif
