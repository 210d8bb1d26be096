/* One forwarder, one local stream (track 0 H.264, track 1 Opus), one player; egress takes a few datagrams a turn. */
#include <stdlib.h>

#include "base/zr_bytes.h"
#include "forward/zr_fwd_priv.h"
#include "wire/zr_rtp.h"

typedef struct wb_shed {
    void *memory[4];
    zr_stat_page *page;
    zr_chan chan_view, *chan;
    zr_fwd *fwd;
    zr_batch batch;
    zr_ns_t now;
} wb_shed;

static void wb_shed_do(wb_shed *w, zr_cmd cmd)
{
    *(zr_cmd *)zr_spsc_claim(zr_chan_commands(w->chan)) = cmd;
    zr_spsc_commit(zr_chan_commands(w->chan));
    zr_fwd_commands(w->fwd, 1, w->now);
}

static wb_shed *wb_shed_new(uint32_t hold_pkts, uint32_t hold_all)
{
    wb_shed *w = calloc(1, sizeof *w);
    zr_fwd_conf conf = zr_fwd_conf_default(0, 1);
    size_t bytes[4];

    conf.pkts_max = 1024;
    conf.cache_max = 64;
    conf.hold_pkts = hold_pkts;
    conf.hold_pkts_all = hold_all;
    bytes[0] = zr_stat_bytes(1);
    bytes[1] = zr_chan_bytes(64, sizeof(zr_cmd));
    bytes[2] = zr_fwd_bytes(&conf);
    bytes[3] = zr_batch_bytes(1, 4096); /* one datagram at a time: egress stops wherever the model wants */
    for (int i = 0; i < 4; i++) {
        bytes[i] = zr_round_up(bytes[i], ZR_CACHELINE);
        w->memory[i] = aligned_alloc(ZR_CACHELINE, bytes[i]);
        memset(w->memory[i], 0, bytes[i]);
    }
    w->page = w->memory[0];
    w->chan = &w->chan_view;
    w->now = ZR_SEC(10);
    zr_stat_init(w->page, 1);
    zr_chan_init(w->chan, w->memory[1], 64, sizeof(zr_cmd));
    zr_batch_init(&w->batch, w->memory[3], 1, 4096);
    w->fwd = zr_fwd_init(w->memory[2], &conf, w->page, w->chan, w->now);
    wb_shed_do(w, (zr_cmd){ .op = ZR_CMD_stream_open, .b = 1, .x = 1 });
    wb_shed_do(w, (zr_cmd){ .op = ZR_CMD_stream_track, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | 96 << 16 });
    wb_shed_do(w, (zr_cmd){ .op = ZR_CMD_stream_track, .b = 1, .c = 0 | ZR_CODEC_opus << 8 | 97 << 16 });
    wb_shed_do(w, (zr_cmd){ .op = ZR_CMD_ingress_bind, .c = 1 });
    wb_shed_do(w, (zr_cmd){ .op = ZR_CMD_sub_add,
                            .c = 3,
                            .d = 0xFFFF,
                            .addr = { .ip = { 127, 0, 0, 1 }, .port = 1000, .family = 4 } });
    return w;
}

static void wb_shed_free(wb_shed *w)
{
    zr_fwd_fini(w->fwd);
    for (int i = 0; i < 4; i++)
        free(w->memory[i]);
    free(w);
}

/* kind: 0 key, 1 reference, 2 discardable */
static int wb_shed_rtp(wb_shed *w, bool audio, uint16_t seq, uint32_t timestamp, int kind)
{
    static const uint8_t nal[] = { 0x65, 0x41, 0x01 };
    uint8_t data[40] = { 0x80, audio ? 97 : 96 };
    zr_addr from = { .ip = { 127, 0, 0, 1 }, .port = 900, .family = 4 };
    zr_pkt *pkt;

    zr_put16be(data + 2, seq);
    zr_put32be(data + 4, timestamp);
    zr_put32be(data + 8, audio ? 2 : 1);
    data[12] = nal[kind];
    data[13] = 0x88;
    pkt = zr_pool_copy(zr_fwd_pool(w->fwd), data, sizeof data);
    return pkt == NULL ? ZR_E_nomem : zr_fwd_ingress_input(w->fwd, 0, pkt, &from, w->now);
}

/* A turn whose egress takes `most` datagrams; those to the player are told. */
static int wb_shed_turn(wb_shed *w, int most, uint16_t *seqs, bool *audio, int max)
{
    int count = 0, rc = ZR_E_full;

    zr_fwd_fan_out(w->fwd, w->now);
    for (; rc == ZR_E_full && most > 0; most--) {
        rc = zr_fwd_output(w->fwd, &w->batch, w->now);
        for (uint32_t i = 0; i < w->batch.count && count < max; i++) {
            const zr_tx *tx = &w->batch.tx[i];
            if (tx->sock != ZR_SOCK_EGRESS)
                continue;
            seqs[count] = zr_get16be(tx->data + 2);
            audio[count++] = tx->data[1] == 97;
        }
        zr_batch_reset(&w->batch);
    }
    return count;
}

static void wb_shed_pass(wb_shed *w, uint32_t us)
{
    w->now += (zr_ns_t)us * 1000;
}

static void wb_shed_load(wb_shed *w, uint32_t busy)
{
    zr_fwd_load(w->fwd, &(zr_load){ .busy = busy }, w->now);
    while (zr_spsc_peek(zr_chan_events(w->chan)) != NULL)
        zr_spsc_release(zr_chan_events(w->chan));
}

static bool wb_shed_sound(wb_shed *w)
{
    return zr_fwd_check(w->fwd) && zr_ledger_off(w->page, ZR_LEDGER_media) == 0 &&
           zr_ledger_off(w->page, ZR_LEDGER_fan) == 0;
}

static uint32_t wb_shed_held(wb_shed *w)
{
    return w->fwd->held;
}
