/*
 * What a datagram costs that is not ours: into a packet of the pool, through the lane's first checks, and gone.
 *
 *     junk_cost            prints a line a kind: name, lowest and median CPU nanoseconds a datagram
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "cost.h"
#include "forward/zr_lane.h"
#include "sim/zr_rng.h"

enum { ROUNDS = 15, DATAGRAMS = 4096, REPEATS = 25, SESSIONS = 64, LEN = 64, MTU = 1420 };

static uint8_t junk[DATAGRAMS][LEN];

/* Random session indices, so that no lookup is like the one before. */
static void fill(zr_rng *rng, uint8_t type, uint32_t lane)
{
    for (int i = 0; i < DATAGRAMS; i++) {
        const zr_env env = { .type = type, .receiver = (uint32_t)zr_rng_below(rng, 1u << 26) << 6 | lane };
        zr_env_put(junk[i], &env);
    }
}

static void measure(const char *name, enum zr_drop_id want, zr_lane *lane, zr_pool *pool, zr_stat_page *page)
{
    const zr_addr from = { .ip = { 127, 0, 0, 1 }, .port = 9, .family = 4 };
    uint64_t before = atomic_load(&page->drop[want]);
    double ns[ROUNDS];

    for (int round = 0; round < ROUNDS; round++) {
        double start = cpu_ns();
        for (int i = 0; i < REPEATS * DATAGRAMS; i++) {
            zr_pkt *pkt = zr_pool_copy(pool, junk[i % DATAGRAMS], LEN);
            zr_stat_add(page, ZR_STAT_rx_link, 1);
            (void)zr_lane_input(lane, pkt, &from, ZR_SEC(2));
        }
        ns[round] = (cpu_ns() - start) / (REPEATS * DATAGRAMS);
    }
    ZR_CHECK(atomic_load(&page->drop[want]) - before == (uint64_t)ROUNDS * REPEATS * DATAGRAMS);
    qsort(ns, ROUNDS, sizeof ns[0], by_value);
    printf("%s %.1f %.1f\n", name, ns[0], ns[ROUNDS / 2]);
}

int main(void)
{
    const zr_lane_conf conf = {
        .lane = 0, .sessions_max = SESSIONS, .convs_max = 4, .peer_lanes_max = SESSIONS, .blocks_max = 16, .window = 128
    };
    zr_pool pool;
    zr_stat_page *page = memory(zr_stat_bytes(1));
    zr_rng rng;

    zr_rng_seed(&rng, 1);
    ZR_CHECK(zr_stat_init(page, 1) == ZR_OK && zr_pool_init(&pool, memory(zr_pool_bytes(64)), 64) == ZR_OK);
    zr_lane *lane = zr_lane_init(memory(zr_lane_bytes(&conf)), &conf, &pool, page, ZR_SEC(1));
    ZR_CHECK(lane != NULL);
    for (uint32_t slot = 0; slot < SESSIONS; slot++) {
        const zr_session_conf session = { .index = (1u << 26) - 1 - slot,
                                          .peer_index = slot,
                                          .lanes = 2,
                                          .mtu = MTU,
                                          .agent = { .ip = { 127, 0, 0, 1 }, .port = 6000, .family = 4 } };
        ZR_CHECK(zr_lane_session_add(lane, slot, &session, ZR_SEC(1)) == ZR_OK);
    }
    fill(&rng, ZR_ENV_DATA, 0);
    measure("noindex", ZR_DROP_noindex, lane, &pool, page);
    fill(&rng, ZR_ENV_DATA, 1);
    measure("lane", ZR_DROP_lane, lane, &pool, page);
    fill(&rng, 0x80, 0);
    measure("type", ZR_DROP_type, lane, &pool, page);
    ZR_CHECK(zr_ledger_off(page, ZR_LEDGER_link) == 0 && pool.in_use == 0);
    return 0;
}
