/*
 * fwd_rig.h - one forwarder with its page, channel and batch, and the packets tests feed it.
 *
 * Ends with rig_close: every ledger balances, reset leaves the pool empty.
 */
#ifndef FWD_RIG_H
#define FWD_RIG_H

#include "base/zr_bytes.h"
#include "chan_mem.h"
#include "forward/zr_fwd_priv.h"
#include "wire/zr_rtp.h"
#include "zr_test.h"

#define VIDEO_PT   96
#define AUDIO_PT   111
#define VIDEO_SSRC 0x11111111u
#define AUDIO_SSRC 0x22222222u

typedef struct rig {
    void *memory[4];
    zr_stat_page *page;
    zr_chan *chan;
    zr_fwd *fwd;
    zr_batch batch;
    zr_ns_t now;
    uint32_t seq;
} rig;

static inline zr_addr rig_addr(uint8_t host, uint16_t port)
{
    return (zr_addr){ .ip = { 127, 0, 0, host }, .port = port, .family = 4 };
}

static inline zr_fwd_conf rig_conf(uint8_t lane)
{
    zr_fwd_conf conf = zr_fwd_conf_default(lane, 4);

    conf.pkts_max = 512;
    conf.cache_max = 128;
    conf.lane.convs_max = 16;
    conf.lane.blocks_max = 128;
    return conf;
}

static inline void rig_open_conf(rig *r, zr_fwd_conf conf, uint32_t batch_cap)
{
    *r = (rig){ .now = ZR_SEC(100) };
    r->memory[0] = zr_test_memory(zr_stat_bytes(conf.streams_max));
    r->memory[1] = zr_test_chan(64, sizeof(zr_cmd));
    r->memory[2] = zr_test_memory(zr_fwd_bytes(&conf));
    r->memory[3] = zr_test_memory(zr_batch_bytes(batch_cap, 65536));
    r->page = r->memory[0];
    r->chan = r->memory[1];
    CHECK_EQ(zr_stat_init(r->page, conf.streams_max), ZR_OK);
    CHECK_EQ(zr_batch_init(&r->batch, r->memory[3], batch_cap, 65536), ZR_OK);
    r->fwd = zr_fwd_init(r->memory[2], &conf, r->page, r->chan, r->now);
    CHECK(r->fwd != NULL);
}

static inline void rig_open_of(rig *r, uint8_t lane, uint8_t workers, uint32_t batch_cap, uint32_t window)
{
    zr_fwd_conf conf = rig_conf(lane);

    conf.lane.window = window;
    conf.workers = workers;
    rig_open_conf(r, conf, batch_cap);
}

static inline void rig_open_window(rig *r, uint8_t lane, uint32_t batch_cap, uint32_t window)
{
    rig_open_of(r, lane, 1, batch_cap, window);
}

static inline void rig_open(rig *r, uint8_t lane, uint32_t batch_cap)
{
    rig_open_window(r, lane, batch_cap, 1024);
}

/* The next event; op ZR_EVT_COUNT when there is none. */
static inline zr_cmd rig_event(rig *r)
{
    const zr_cmd *record = zr_spsc_peek(zr_chan_events(r->chan));
    zr_cmd event = { .op = ZR_EVT_COUNT };

    if (record != NULL) {
        event = *record;
        zr_spsc_release(zr_chan_events(r->chan));
    }
    return event;
}

/* Executes one command; -(zr_err) or 0, and done.x in *value. Earlier events are thrown away. */
static inline uint32_t rig_do(rig *r, zr_cmd cmd, uint64_t *value)
{
    zr_cmd *slot, event;

    while (rig_event(r).op != ZR_EVT_COUNT)
        ;
    cmd.seq = ++r->seq;
    slot = zr_spsc_claim(zr_chan_commands(r->chan));
    CHECK(slot != NULL);
    *slot = cmd;
    zr_spsc_commit(zr_chan_commands(r->chan));
    CHECK_EQ(zr_fwd_commands(r->fwd, 64, r->now), 1);
    do
        event = rig_event(r);
    while (event.op != ZR_EVT_done && event.op != ZR_EVT_COUNT);
    CHECK_EQ(event.op, ZR_EVT_done);
    CHECK_EQ(event.seq, r->seq);
    if (value != NULL)
        *value = event.x;
    return event.a;
}

#define DO(r, ...)           CHECK_EQ(rig_do((r), (zr_cmd){ __VA_ARGS__ }, NULL), 0)
#define REFUSES(r, err, ...) CHECK_EQ(rig_do((r), (zr_cmd){ __VA_ARGS__ }, NULL), -(err))

/* Stream 0: track 0 H.264, track 1 Opus. */
static inline void rig_stream(rig *r, bool local, uint32_t number)
{
    DO(r, .op = ZR_CMD_stream_open, .a = 0, .b = local, .x = 1, .y = number);
    DO(r, .op = ZR_CMD_stream_track, .a = 0, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    DO(r, .op = ZR_CMD_stream_track, .a = 0, .b = 1, .c = 0 | ZR_CODEC_opus << 8 | AUDIO_PT << 16, .d = 48000);
}

/* Ingress 0 learns. */
static inline void rig_publish(rig *r, uint32_t number)
{
    rig_stream(r, true, number);
    DO(r, .op = ZR_CMD_ingress_bind, .a = 0, .b = 0, .c = 1);
}

static inline size_t rig_rtp(uint8_t *to, bool audio, uint16_t seq, uint32_t timestamp, bool key)
{
    memset(to, 0, 100);
    to[0] = 0x80;
    to[1] = audio ? AUDIO_PT : VIDEO_PT;
    zr_put16be(to + 2, seq);
    zr_put32be(to + 4, timestamp);
    zr_put32be(to + 8, audio ? AUDIO_SSRC : VIDEO_SSRC);
    to[12] = key ? 0x65 : 0x41; /* IDR or non-IDR slice */
    to[13] = 0x88;
    return 100;
}

static inline int rig_bytes(rig *r, const void *data, size_t len, zr_addr from)
{
    zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(r->fwd), data, len);
    CHECK(pkt != NULL);
    return zr_fwd_ingress_input(r->fwd, 0, pkt, &from, r->now);
}

static inline int rig_rtcp(rig *r, const void *data, size_t len, zr_addr from)
{
    zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(r->fwd), data, len);
    CHECK(pkt != NULL);
    return zr_fwd_egress_input(r->fwd, pkt, &from, r->now);
}

/* One RTP packet from the publisher. */
static inline int rig_media(rig *r, bool audio, uint16_t seq, uint32_t timestamp, bool key)
{
    uint8_t data[100];
    return rig_bytes(r, data, rig_rtp(data, audio, seq, timestamp, key), rig_addr(1, 5000));
}

/* fan_out, then output until done; what left is seen by `on` (may be NULL). Returns the number of RTP datagrams. */
static inline int rig_turn(rig *r, void (*on)(const zr_tx *, void *), void *context)
{
    int rtp = 0, rc;

    (void)zr_fwd_fan_out(r->fwd, r->now);
    do {
        rc = zr_fwd_output(r->fwd, &r->batch, r->now);
        CHECK(rc == ZR_OK || rc == ZR_E_full);
        CHECK(rc == ZR_OK || r->batch.count > 0);
        for (uint32_t i = 0; i < r->batch.count; i++) {
            rtp += r->batch.tx[i].sock == ZR_SOCK_EGRESS;
            if (on != NULL)
                on(&r->batch.tx[i], context);
        }
        zr_batch_reset(&r->batch);
    } while (rc == ZR_E_full);
    return rtp;
}

static inline uint64_t rig_stat(const rig *r, enum zr_stat_id id)
{
    return atomic_load(&r->page->stat[id]);
}

static inline uint64_t rig_drops(const rig *r, enum zr_drop_id id)
{
    return atomic_load(&r->page->drop[id]);
}

static inline void rig_balanced(const rig *r)
{
    for (int ledger = 0; ledger < ZR_LEDGER_egress; ledger++)
        CHECK_EQ(zr_ledger_off(r->page, (enum zr_ledger)ledger), 0);
    CHECK(zr_fwd_check(r->fwd));
}

static inline void rig_close(rig *r)
{
    DO(r, .op = ZR_CMD_reset);
    zr_batch_reset(&r->batch);
    rig_balanced(r);
    CHECK_EQ(zr_fwd_pool(r->fwd)->in_use, 0);
    CHECK_EQ(rig_stat(r, ZR_STAT_streams), 0);
    CHECK_EQ(rig_stat(r, ZR_STAT_subs), 0);
    zr_fwd_fini(r->fwd);
    for (unsigned i = 0; i < ZR_LEN(r->memory); i++)
        free(r->memory[i]);
}

#endif
