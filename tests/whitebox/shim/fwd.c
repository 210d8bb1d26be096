/* One forwarder with one local stream (track 0 H.264, track 1 Opus): subscriber n lives at port 1000 + 2n, or with
 * `split` its audio goes to the port above. */
#include <stdlib.h>

#include "base/zr_bytes.h"
#include "forward/zr_fwd_priv.h"
#include "wire/zr_rtp.h"

typedef struct wb_fwd {
    void *memory[4];
    zr_stat_page *page;
    zr_chan chan_view, *chan;
    zr_fwd *fwd;
    zr_batch batch;
    zr_ns_t now;
} wb_fwd;

static int wb_fwd_do(wb_fwd *w, zr_cmd cmd)
{
    zr_spsc *events = zr_chan_events(w->chan);
    int rc = ZR_E_missing;

    cmd.seq = 1;
    *(zr_cmd *)zr_spsc_claim(zr_chan_commands(w->chan)) = cmd;
    zr_spsc_commit(zr_chan_commands(w->chan));
    zr_fwd_commands(w->fwd, 1, w->now);
    for (const zr_cmd *event; (event = zr_spsc_peek(events)) != NULL; zr_spsc_release(events))
        if (event->op == ZR_EVT_done)
            rc = -(int)event->a;
    return rc;
}

static zr_addr wb_fwd_addr(uint32_t port)
{
    return (zr_addr){ .ip = { 127, 0, 0, 1 }, .port = (uint16_t)port, .family = 4 };
}

static wb_fwd *wb_fwd_new(uint32_t batch_cap, uint32_t number)
{
    wb_fwd *w = calloc(1, sizeof *w);
    zr_fwd_conf conf = zr_fwd_conf_default(0, 1);
    size_t bytes[4];

    conf.pkts_max = 256;
    conf.cache_max = 128;
    bytes[0] = zr_stat_bytes(1);
    bytes[1] = zr_chan_bytes(64, sizeof(zr_cmd));
    bytes[2] = zr_fwd_bytes(&conf);
    bytes[3] = zr_batch_bytes(batch_cap, 4096);
    for (int i = 0; i < 4; i++) {
        bytes[i] = zr_round_up(bytes[i], ZR_CACHELINE);
        w->memory[i] = aligned_alloc(ZR_CACHELINE, bytes[i]);
        memset(w->memory[i], 0, bytes[i]);
    }
    w->page = w->memory[0];
    w->chan = &w->chan_view;
    w->now = ZR_SEC(1);
    zr_stat_init(w->page, 1);
    zr_chan_init(w->chan, w->memory[1], 64, sizeof(zr_cmd));
    zr_batch_init(&w->batch, w->memory[3], batch_cap, 4096);
    w->fwd = zr_fwd_init(w->memory[2], &conf, w->page, w->chan, w->now);
    wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_stream_open, .b = 1, .x = 1, .y = number });
    wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_stream_track, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | 96 << 16 });
    wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_stream_track, .b = 1, .c = 0 | ZR_CODEC_opus << 8 | 97 << 16 });
    wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_ingress_bind, .c = 1 });
    return w;
}

static void wb_fwd_free(wb_fwd *w)
{
    zr_fwd_fini(w->fwd);
    for (int i = 0; i < 4; i++)
        free(w->memory[i]);
    free(w);
}

static int wb_fwd_join(wb_fwd *w, uint32_t sub, uint32_t tracks, bool split)
{
    int rc = wb_fwd_do(
        w, (zr_cmd){ .op = ZR_CMD_sub_add, .a = sub, .c = tracks, .d = 0xFFFF, .addr = wb_fwd_addr(1000 + 2 * sub) });
    if (rc == ZR_OK && split)
        rc = wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_sub_addr, .a = sub, .b = 1, .addr = wb_fwd_addr(1001 + 2 * sub) });
    return rc;
}

static int wb_fwd_leave(wb_fwd *w, uint32_t sub)
{
    return wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_sub_drop, .a = sub });
}

static int wb_fwd_close(wb_fwd *w)
{
    return wb_fwd_do(w, (zr_cmd){ .op = ZR_CMD_reset });
}

static int wb_fwd_rtp(wb_fwd *w, bool audio, uint16_t seq, bool key)
{
    uint8_t data[40] = { 0x80, audio ? 97 : 96 };
    zr_addr from = wb_fwd_addr(900);
    zr_pkt *pkt;

    zr_put16be(data + 2, seq);
    zr_put32be(data + 4, seq);
    zr_put32be(data + 8, audio ? 2 : 1);
    data[12] = key ? 0x65 : 0x41;
    data[13] = 0x88;
    pkt = zr_pool_copy(zr_fwd_pool(w->fwd), data, sizeof data);
    return pkt == NULL ? ZR_E_nomem : zr_fwd_ingress_input(w->fwd, 0, pkt, &from, w->now);
}

static int wb_fwd_fan_out(wb_fwd *w)
{
    return zr_fwd_fan_out(w->fwd, w->now);
}

static int wb_fwd_output(wb_fwd *w, uint16_t *ports, uint16_t *seqs, int max, bool *more)
{
    int count = 0;

    *more = zr_fwd_output(w->fwd, &w->batch, w->now) == ZR_E_full;
    for (uint32_t i = 0; i < w->batch.count && count < max; i++, count++) {
        ports[count] = w->batch.tx[i].to.port;
        seqs[count] = zr_get16be(w->batch.tx[i].data + 2);
    }
    zr_batch_reset(&w->batch);
    return count;
}

static bool wb_fwd_sound(wb_fwd *w)
{
    return zr_fwd_check(w->fwd) && zr_ledger_off(w->page, ZR_LEDGER_media) == 0;
}

static uint32_t wb_fwd_in_use(wb_fwd *w)
{
    return zr_fwd_pool(w->fwd)->in_use;
}
