/*
 * A pair of conversations: whatever datagrams, clock steps and losses come, what they hold stays bounded and adds up.
 *
 * The first record says which pair: byte 0 the profile (media, control, compat), byte 1 bit 0 numbers near the wrap,
 * bit 1 the clock near it, bits 2-3 the window, bit 4 hardly any blocks, bit 5 batches of one datagram. Each later
 * record is a step; bit 7 of its first byte says at which end, bits 0-3 which step:
 *
 *   0 datagram   these bytes arrive                         4 forge   {from, offset, 4 bytes} a datagram of the other
 *   1 clock      {u16, unit: 1 ms, 20 ms, 1 s}                        end, one word overwritten
 *   2 send       {u16 length, u16 deadline}                 5 recv    {how many}
 *   3 output     {bits: lost; first byte: 1 reversed,       6 segment {cmd, frg, u16 wnd, u16 sn, u16 una, u16 ts,
 *                2 twice, 4 one batch only}                           u16 len} sn, una, ts relative to what stands
 *
 * As long as nothing was made up, what recv gives was sent, whole and once, and a link that becomes good ends quiet.
 */
#include "base/zr_err.h"
#include "fuzz.h"
#include "kcp/zr_kcp_priv.h"

enum { PKTS = 1024, BLOCKS = 32, BLOCKS_TIGHT = 3, BATCH = 16, CONV = 7, MTU = 576 };
enum {
    RECORDS_MAX = 96,
    MESSAGES_MAX = 1024,
    MESSAGE_MAX = 4 * (MTU - 24),
    KEPT = 32,
    OUTPUTS_MAX = 400,
    QUIET_STEPS = 4000
};

typedef struct datagram {
    size_t len;
    uint8_t data[MTU];
} datagram;

typedef struct world {
    zr_pool pool;
    zr_kcp_blocks blocks;
    zr_batch batch;
    zr_kcp ends[2];
    zr_ns_t now;
    bool media, honest, tight;
    uint32_t sent[2], received[2]; /* messages, by the sending end */
    uint8_t seen[2][MESSAGES_MAX];
    datagram kept[2][KEPT]; /* the newest of each end's */
    uint32_t put[2];
} world;

static world w;
static uint8_t message[MESSAGE_MAX];

static void *memory(size_t bytes)
{
    void *mem = aligned_alloc(ZR_CACHELINE, zr_round_up(bytes, ZR_CACHELINE));
    ZR_CHECK(mem != NULL);
    return mem;
}

static void open_world(const uint8_t *record, size_t len)
{
    static const uint32_t windows[] = { 4, 32, 128, 256 };
    static void *mem[3];
    uint8_t profile = len > 0 ? record[0] % 3 : 0, how = len > 1 ? record[1] : 0;
    zr_kcp_conf conf = profile == 0   ? zr_kcp_conf_media(CONV)
                       : profile == 1 ? zr_kcp_conf_control(CONV)
                                      : zr_kcp_conf_compat(CONV);

    if (mem[0] == NULL) {
        mem[0] = memory(zr_pool_bytes(PKTS));
        mem[1] = memory(zr_kcp_blocks_bytes(BLOCKS));
        mem[2] = memory(zr_batch_bytes(BATCH, BATCH * MTU));
    }
    memset(&w, 0, sizeof w);
    conf.mtu = MTU;
    conf.start_sn = (how & 1) != 0 ? UINT32_MAX - 20 : 0;
    conf.snd_wnd = conf.rcv_wnd = windows[how >> 2 & 3];
    w.now = (how & 2) != 0 ? ZR_MS(((int64_t)1 << 32) - 1000) : ZR_MS(1);
    w.media = profile == 0;
    w.honest = true;
    w.tight = (how & 16) != 0;
    ZR_CHECK(zr_pool_init(&w.pool, mem[0], PKTS) == ZR_OK);
    ZR_CHECK(zr_kcp_blocks_init(&w.blocks, mem[1], w.tight ? BLOCKS_TIGHT : BLOCKS) == ZR_OK);
    ZR_CHECK(zr_batch_init(&w.batch, mem[2], (how & 32) != 0 ? 1 : BATCH, BATCH * MTU) == ZR_OK);
    for (int i = 0; i < 2; i++)
        ZR_CHECK(zr_kcp_init(&w.ends[i], &conf, &w.blocks, &w.pool, w.now) == ZR_OK);
}

/* As a lane does: judged whole before any of it is applied. What is not made up is never refused. */
static void arrive(int end, const uint8_t *data, size_t len)
{
    zr_pkt *pkt = zr_pool_copy(&w.pool, data, ZR_MIN(len, (size_t)ZR_PKT_ROOM));
    int drop = -1, rc;
    size_t pos = 0;
    zr_seg seg;

    if (pkt == NULL)
        return;
    while ((rc = zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos)) == ZR_OK)
        if ((rc = zr_kcp_judge(&w.ends[end], &seg, &drop)) != ZR_OK)
            break;
    ZR_CHECK(rc == ZR_E_again || !w.honest);
    if (rc == ZR_E_again) {
        pos = 0;
        while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK)
            zr_kcp_input_seg(&w.ends[end], &seg, pkt, w.now);
        zr_kcp_input_end(&w.ends[end], w.now);
    }
    zr_pkt_drop(pkt);
}

static void keep(int end, const zr_tx *tx)
{
    datagram *kept = &w.kept[end][w.put[end]++ % KEPT];

    ZR_CHECK(tx->len <= MTU);
    kept->len = tx->len;
    memcpy(kept->data, tx->data, tx->len);
}

/* Everything due, into kept; how many. `once`: one batch, however much is left. */
static uint32_t output(int end, bool once)
{
    uint32_t before = w.put[end];
    zr_addr to = { .family = 4 };
    zr_pack pack;
    int rc = ZR_E_full;

    if (zr_kcp_deadline(&w.ends[end]) <= w.now)
        zr_kcp_on_deadline(&w.ends[end], w.now);
    for (int n = 0; rc == ZR_E_full; n++) {
        ZR_CHECK(n < OUTPUTS_MAX);
        zr_batch_reset(&w.batch);
        zr_pack_begin(&pack, &w.batch, &to, 0, MTU, 0, 0, w.media);
        rc = zr_kcp_output(&w.ends[end], &pack, w.now);
        zr_pack_finish(&pack);
        ZR_CHECK(rc == ZR_OK || w.batch.count > 0);
        for (uint32_t i = 0; i < w.batch.count; i++)
            keep(end, &w.batch.tx[i]);
        if (once)
            break;
    }
    return ZR_MIN(w.put[end] - before, (uint32_t)KEPT);
}

static const datagram *newest(int end, uint32_t back)
{
    return &w.kept[end][(w.put[end] - 1 - back) % KEPT];
}

static void step_output(int end, const uint8_t *args, size_t len)
{
    uint8_t how = len > 0 ? args[0] : 0;
    uint32_t n = output(end, (how & 4) != 0);

    for (uint32_t i = 0; i < n; i++) {
        if (1 + i / 8 < len && (args[1 + i / 8] >> i % 8 & 1) != 0)
            continue;
        const datagram *kept = newest(end, (how & 1) != 0 ? i : n - 1 - i);
        for (int times = (how & 2) != 0 ? 2 : 1; times > 0; times--)
            arrive(1 - end, kept->data, kept->len);
    }
}

static void step_clock(const uint8_t *args, size_t len)
{
    static const int units[] = { 1, 20, 1000 };

    if (len >= 3)
        w.now += ZR_MS((int64_t)zr_get16(args) * units[args[2] % 3]);
}

static void step_send(int end, const uint8_t *args, size_t len)
{
    if (len < 4 || w.sent[end] == MESSAGES_MAX)
        return;
    size_t size = 4 + zr_get16(args) % (MESSAGE_MAX - 4);
    zr_put32(message, w.sent[end]);
    for (size_t i = 4; i < size; i++)
        message[i] = (uint8_t)(i + w.sent[end]);
    int rc = ZR_E_oversize;
    if (size > ZR_PKT_ROOM || !w.media) {
        rc = zr_kcp_send_bytes(&w.ends[end], message, size, w.now);
    } else {
        zr_pkt *pkt = zr_pool_copy(&w.pool, message + 4, size - 4);
        if (pkt == NULL)
            return;
        zr_slice body = { pkt, pkt->off, pkt->len };
        uint16_t deadline_ms = (uint16_t)(1 + zr_get16(args + 2) % 1000);
        rc = zr_kcp_send_within(&w.ends[end], message, 4, &body, deadline_ms, w.now);
        zr_pkt_drop(pkt);
    }
    ZR_CHECK(rc == ZR_OK || rc == ZR_E_full || rc == ZR_E_nomem || rc == ZR_E_oversize);
    w.sent[end] += rc == ZR_OK;
}

static void check_message(int from, int size)
{
    uint32_t number = zr_get32(message);

    ZR_CHECK(size >= 4 && number < w.sent[from] && w.seen[from][number]++ == 0);
    ZR_CHECK(w.media || number == w.received[from]);
    for (int i = 4; i < size; i++)
        ZR_CHECK(message[i] == (uint8_t)((uint32_t)i + number));
    w.received[from]++;
}

static bool receive(int end)
{
    static uint8_t more[ZR_KCP_FRAGMENTS_MAX * MTU];
    int size = zr_kcp_recv_bytes(&w.ends[end], message, sizeof message);

    if (size == ZR_E_oversize) {
        ZR_CHECK(!w.honest && zr_kcp_recv_bytes(&w.ends[end], more, sizeof more) > 0);
        return true;
    }
    if (size >= 0 && w.honest)
        check_message(1 - end, size);
    return size >= 0;
}

static void step_forge(int end, const uint8_t *args, size_t len)
{
    int from = 1 - end;

    if (len < 6 || w.put[from] == 0)
        return;
    datagram forged = *newest(from, args[0] % ZR_MIN(w.put[from], (uint32_t)KEPT));
    size_t at = args[1] % forged.len;
    memcpy(forged.data + at, args + 2, ZR_MIN((size_t)4, forged.len - at));
    w.honest = false;
    arrive(end, forged.data, forged.len);
}

/* A signed distance, to be added. */
static uint32_t near16(const uint8_t *at)
{
    return (uint32_t)(int32_t)(int16_t)zr_get16(at);
}

static void step_segment(int end, const uint8_t *args, size_t len)
{
    static uint8_t data[MTU];
    const zr_kcp *kcp = &w.ends[end];

    if (len < 12)
        return;
    zr_seg seg = { .conv = CONV, .cmd = args[0], .frg = args[1], .wnd = zr_get16(args + 2) };
    seg.sn = (seg.cmd == ZR_SEG_PUSH ? kcp->rcv_nxt : kcp->snd_una) + near16(args + 4);
    seg.una = kcp->snd_una + near16(args + 6);
    seg.ts = zr_kcp_ms(w.now) - near16(args + 8);
    seg.len = zr_get16(args + 10) % (MTU - ZR_SEG_HEAD + 1);
    zr_seg_put(data, &seg);
    w.honest = false;
    arrive(end, data, ZR_SEG_HEAD + seg.len);
}

static void step(const uint8_t *record, size_t len)
{
    int end = record[0] >> 7;
    const uint8_t *args = record + 1;

    len--;
    switch (record[0] & 15) {
    case 0:
        w.honest = false;
        arrive(end, args, len);
        break;
    case 1:
        step_clock(args, len);
        break;
    case 2:
        step_send(end, args, len);
        break;
    case 3:
        step_output(end, args, len);
        break;
    case 4:
        step_forge(end, args, len);
        break;
    case 5:
        for (int n = len > 0 ? args[0] : 1; n > 0 && receive(end); n--)
            ;
        break;
    case 6:
        step_segment(end, args, len);
        break;
    default:
        break;
    }
}

/* Nothing is held that no segment wants. */
static void check_world(void)
{
    uint32_t wanted = 0, slots = 0;

    for (int i = 0; i < 2; i++) {
        const zr_kcp *kcp = &w.ends[i];
        ZR_CHECK(zr_kcp_check(kcp));
        slots = zr_kcp_waiting(kcp) + zr_kcp_slots_anywhere(&w.blocks, &kcp->rcv) + zr_kcp_whole_count(kcp);
        ZR_CHECK(slots <= kcp->snd_max + ZR_KCP_WND_MAX);
        wanted += slots;
        const zr_kcp_counts *counts = zr_kcp_counted(kcp);
        ZR_CHECK(counts->duplicates + counts->window_drops <= counts->segs_received);
    }
    ZR_CHECK(w.pool.in_use <= wanted);
    ZR_CHECK(zr_pool_check(&w.pool) && zr_kcp_blocks_check(&w.blocks));
}

/* A good link until nobody wants to be woken: nothing waits, and what is in order is complete. */
static void settle(void)
{
    for (int n = 0;; n++) {
        zr_ns_t wake = ZR_NEVER;
        ZR_CHECK(n < QUIET_STEPS);
        for (int end = 0; end < 2; end++) {
            step_output(end, NULL, 0);
            while (receive(1 - end))
                ;
        }
        for (int end = 0; end < 2; end++)
            wake = ZR_MIN(wake, zr_kcp_deadline(&w.ends[end]));
        if (wake == ZR_NEVER)
            break;
        w.now = ZR_MAX(w.now + ZR_MS(1), wake);
    }
    for (int end = 0; end < 2; end++) {
        ZR_CHECK(zr_kcp_waiting(&w.ends[end]) == 0);
        ZR_CHECK(w.media || w.received[end] == w.sent[end]);
    }
    check_world();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t len = 0;
    uint8_t *record = fuzz_record(&data, &size, &len);

    open_world(record, record == NULL ? 0 : len);
    free(record);
    for (int n = 0; n < RECORDS_MAX && (record = fuzz_record(&data, &size, &len)) != NULL; n++) {
        if (len > 0)
            step(record, len);
        free(record);
        check_world();
    }
    if (w.honest && !w.tight)
        settle();
    for (int end = 0; end < 2; end++)
        zr_kcp_fini(&w.ends[end]);
    ZR_CHECK(w.pool.in_use == 0 && w.blocks.in_use == 0);
    ZR_CHECK(zr_pool_check(&w.pool) && zr_kcp_blocks_check(&w.blocks));
    return 0;
}
