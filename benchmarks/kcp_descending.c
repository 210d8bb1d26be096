/*
 * kcp_descending.c - case K23: a full window of 4 096 segments arrives in descending order, each in its own datagram.
 *
 *     kcp_descending PROFILE ROUNDS        media: first arrival | control: media in order | compat
 *
 * Only the inputs are measured, a fresh conversation each round: for callgrind what is below `engine_inputs`. Prints
 * the least CPU time of a round, in ns. Fails when the messages do not come out: in order, but for first arrival.
 */
#include <stdio.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "cost.h"
#include "kcp/zr_kcp_priv.h"

enum { COUNT = 4096, PACKETS = COUNT + 64, BLOCKS = 256 };

static zr_pool pool;
static zr_kcp_blocks blocks;
static zr_kcp kcp;
static zr_pkt *arriving[COUNT];

/* By a name that --toggle-collect knows. */
__attribute__((noipa)) static void engine_inputs(zr_ns_t now)
{
    zr_seg seg;
    int drop;

    for (uint32_t i = 0; i < COUNT; i++) {
        size_t pos = 0;
        while (zr_seg_next(&seg, zr_pkt_data(arriving[i]), arriving[i]->len, &pos) == ZR_OK) {
            ZR_CHECK(zr_kcp_judge(&kcp, &seg, &drop) == ZR_OK);
            zr_kcp_input_seg(&kcp, &seg, arriving[i], now);
        }
        zr_kcp_input_end(&kcp, now);
    }
}

static void bring(void)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t data[ZR_SEG_HEAD + 4];
        uint32_t sn = COUNT - 1 - i;
        zr_seg_put(data, &(zr_seg){ .conv = 7, .cmd = ZR_SEG_PUSH, .wnd = 256, .sn = sn, .len = 4 });
        zr_put32(data + ZR_SEG_HEAD, sn);
        arriving[i] = zr_pool_copy(&pool, data, sizeof data);
        ZR_CHECK(arriving[i] != NULL);
    }
}

static void take(bool in_order)
{
    zr_slice view;
    uint32_t got = 0;

    for (; zr_kcp_recv(&kcp, &view, 1) > 0; got++) {
        uint32_t sn = zr_get32(zr_slice_data(&view));
        ZR_CHECK(sn == (in_order ? got : COUNT - 1 - got));
        zr_pkt_drop(view.pkt);
    }
    ZR_CHECK(got == COUNT);
}

static double run(const zr_kcp_conf *conf)
{
    zr_ns_t now = ZR_MS(1000);

    ZR_CHECK(zr_kcp_init(&kcp, conf, &blocks, &pool, now) == ZR_OK);
    bring();
    double start = cpu_ns();
    engine_inputs(now);
    double took = cpu_ns() - start;
    for (uint32_t i = 0; i < COUNT; i++)
        zr_pkt_drop(arriving[i]);
    take(conf->profile == ZR_KCP_COMPAT || conf->in_order);
    zr_kcp_fini(&kcp);
    ZR_CHECK(pool.in_use == 0 && blocks.in_use == 0);
    return took;
}

int main(int argc, char **argv)
{
    double least = 1e18;

    ZR_CHECK(argc == 3);
    zr_kcp_conf conf = strcmp(argv[1], "media") == 0     ? zr_kcp_conf_media(7)
                       : strcmp(argv[1], "control") == 0 ? zr_kcp_conf_control(7)
                                                         : zr_kcp_conf_compat(7);
    conf.snd_wnd = conf.rcv_wnd = COUNT;
    ZR_CHECK(zr_pool_init(&pool, memory(zr_pool_bytes(PACKETS)), PACKETS) == ZR_OK &&
             zr_kcp_blocks_init(&blocks, memory(zr_kcp_blocks_bytes(BLOCKS)), BLOCKS) == ZR_OK);
    for (int round = 0; round < atoi(argv[2]); round++) {
        double took = run(&conf);
        least = took < least ? took : least;
    }
    printf("%.0f\n", least);
    return 0;
}
