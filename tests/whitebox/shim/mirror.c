/* Two workers joined by their inboxes: stream 0 of worker 0 (H.264 and Opus), and its mirror in slot 1 of worker 1 with
 * one subscriber. */
#include <stdlib.h>

#include "base/zr_bytes.h"
#include "forward/zr_fwd_priv.h"
#include "wire/zr_codec.h"

typedef struct wb_worker {
    void *memory[4];
    zr_stat_page *page;
    zr_chan chan_view, *chan;
    zr_fwd *fwd;
    zr_batch batch;
} wb_worker;

typedef struct wb_mirror {
    wb_worker workers[2];
    void *pages[2];
    uint32_t feed;
    zr_ns_t now;
} wb_mirror;

static void *wb_mirror_memory(size_t bytes)
{
    void *memory = aligned_alloc(ZR_CACHELINE, zr_round_up(bytes, ZR_CACHELINE));
    memset(memory, 0, bytes);
    return memory;
}

static int wb_mirror_do(wb_mirror *w, int worker, zr_cmd cmd)
{
    wb_worker *at = &w->workers[worker];
    zr_spsc *events = zr_chan_events(at->chan);
    int rc = ZR_E_missing;

    cmd.seq = 1;
    *(zr_cmd *)zr_spsc_claim(zr_chan_commands(at->chan)) = cmd;
    zr_spsc_commit(zr_chan_commands(at->chan));
    zr_fwd_commands(at->fwd, 1, w->now);
    for (const zr_cmd *event; (event = zr_spsc_peek(events)) != NULL; zr_spsc_release(events))
        if (event->op == ZR_EVT_done)
            rc = -(int)event->a;
    return rc;
}

static void wb_mirror_tracks(wb_mirror *w, int worker, uint32_t slot)
{
    wb_mirror_do(w, worker, (zr_cmd){ .op = ZR_CMD_stream_track, .a = slot, .c = 1 | ZR_CODEC_h264 << 8 | 96 << 16 });
    wb_mirror_do(w, worker,
                 (zr_cmd){ .op = ZR_CMD_stream_track, .a = slot, .b = 1, .c = 0 | ZR_CODEC_opus << 8 | 97 << 16 });
}

static wb_mirror *wb_mirror_new(uint32_t slots, uint32_t number)
{
    wb_mirror *w = calloc(1, sizeof *w);
    size_t bytes = zr_inbox_bytes(2, slots, ZR_MIRROR_RECORD);

    w->now = ZR_SEC(1);
    for (uint8_t i = 0; i < 2; i++) {
        wb_worker *at = &w->workers[i];
        zr_fwd_conf conf = zr_fwd_conf_default(i, 2);
        conf.pkts_max = 512;
        conf.cache_max = 256;
        conf.workers = 2;
        at->page = at->memory[0] = wb_mirror_memory(zr_stat_bytes(2));
        at->memory[1] = wb_mirror_memory(zr_chan_bytes(64, sizeof(zr_cmd)));
        at->memory[2] = wb_mirror_memory(zr_fwd_bytes(&conf));
        at->memory[3] = wb_mirror_memory(zr_batch_bytes(256, 4096));
        zr_stat_init(at->page, 2);
        at->chan = &at->chan_view;
        zr_chan_init(at->chan, at->memory[1], 64, sizeof(zr_cmd));
        zr_batch_init(&at->batch, at->memory[3], 256, 4096);
        at->fwd = zr_fwd_init(at->memory[2], &conf, at->page, at->chan, w->now);
    }
    for (uint32_t i = 0; i < 2; i++) {
        zr_inbox inbox;
        w->pages[i] = wb_mirror_memory(bytes);
        zr_inbox_init(w->pages[i], 2, slots, ZR_MIRROR_RECORD);
        zr_inbox_look(&inbox, w->pages[i], bytes);
        zr_fwd_meet(w->workers[0].fwd, i, &inbox);
        zr_fwd_meet(w->workers[1].fwd, i, &inbox);
    }
    wb_mirror_do(w, 0, (zr_cmd){ .op = ZR_CMD_stream_open, .b = 1, .x = 1, .y = number });
    wb_mirror_tracks(w, 0, 0);
    wb_mirror_do(w, 0, (zr_cmd){ .op = ZR_CMD_ingress_bind, .c = 1 });
    return w;
}

static void wb_mirror_free(wb_mirror *w)
{
    for (int i = 0; i < 2; i++) {
        zr_fwd_fini(w->workers[i].fwd);
        for (int k = 0; k < 4; k++)
            free(w->workers[i].memory[k]);
        free(w->pages[i]);
    }
    free(w);
}

static int wb_mirror_open(wb_mirror *w)
{
    const zr_addr to = { .ip = { 127, 0, 0, 1 }, .port = 1000, .family = 4 };
    int rc = wb_mirror_do(w, 1, (zr_cmd){ .op = ZR_CMD_stream_open, .a = 1, .b = 2, .d = ++w->feed, .x = 1 });

    wb_mirror_tracks(w, 1, 1);
    wb_mirror_do(w, 1, (zr_cmd){ .op = ZR_CMD_sub_add, .b = 1, .c = 0xFFFF, .d = 0xFFFF, .addr = to });
    return rc;
}

static int wb_mirror_feed(wb_mirror *w)
{
    return wb_mirror_do(w, 0, (zr_cmd){ .op = ZR_CMD_mirror_add, .b = 1, .c = 1, .d = w->feed });
}

/* As the control plane does it: first at the owner. */
static int wb_mirror_close(wb_mirror *w)
{
    (void)wb_mirror_do(w, 0, (zr_cmd){ .op = ZR_CMD_mirror_drop, .b = 1 });
    return wb_mirror_do(w, 1, (zr_cmd){ .op = ZR_CMD_stream_close, .a = 1 });
}

static int wb_mirror_rtp(wb_mirror *w, bool audio, uint16_t seq, bool key)
{
    const zr_addr from = { .ip = { 127, 0, 0, 1 }, .port = 900, .family = 4 };
    uint8_t data[40] = { 0x80, audio ? 97 : 96 };
    zr_pkt *pkt;

    zr_put16be(data + 2, seq);
    zr_put32be(data + 4, seq);
    zr_put32be(data + 8, audio ? 2 : 1);
    data[12] = key ? 0x65 : 0x41;
    data[13] = 0x88;
    pkt = zr_pool_copy(zr_fwd_pool(w->workers[0].fwd), data, sizeof data);
    return pkt == NULL ? ZR_E_nomem : zr_fwd_ingress_input(w->workers[0].fwd, 0, pkt, &from, w->now);
}

static int wb_mirror_turn(wb_mirror *w, int worker, uint16_t *seqs, int max)
{
    wb_worker *at = &w->workers[worker];
    int count = 0, rc = ZR_E_full;

    zr_fwd_fan_out(at->fwd, w->now);
    while (rc == ZR_E_full) {
        rc = zr_fwd_output(at->fwd, &at->batch, w->now);
        for (uint32_t i = 0; i < at->batch.count && count < max; i++)
            if (at->batch.tx[i].sock == ZR_SOCK_EGRESS)
                seqs[count++] = zr_get16be(at->batch.tx[i].data + 2);
        zr_batch_reset(&at->batch);
    }
    return count;
}

static int wb_mirror_owner_turn(wb_mirror *w)
{
    return wb_mirror_turn(w, 0, NULL, 0);
}

static int wb_mirror_target_turn(wb_mirror *w, int budget, uint16_t *seqs, int max)
{
    (void)zr_fwd_mirror_input(w->workers[1].fwd, budget, w->now);
    return wb_mirror_turn(w, 1, seqs, max);
}

static uint64_t wb_mirror_queue_drops(wb_mirror *w)
{
    return atomic_load(&w->workers[0].page->drop[ZR_DROP_queue]);
}

static uint32_t wb_mirror_waiting(wb_mirror *w)
{
    return zr_inbox_waiting(&w->workers[1].fwd->mirrors.in[0]);
}

static bool wb_mirror_sound(wb_mirror *w)
{
    for (int i = 0; i < 2; i++) {
        const zr_stat_page *page = w->workers[i].page;
        if (!zr_fwd_check(w->workers[i].fwd) || zr_ledger_off(page, ZR_LEDGER_media) != 0)
            return false;
    }
    const zr_stat_page *owner = w->workers[0].page, *target = w->workers[1].page;
    return zr_ledger_off(owner, ZR_LEDGER_fan) == 0 &&
           atomic_load(&owner->stat[ZR_STAT_mirror_sent]) ==
               atomic_load(&target->stat[ZR_STAT_mirror_received]) + wb_mirror_waiting(w);
}
