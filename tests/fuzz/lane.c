/*
 * Datagrams into lanes: the envelope, and KCP segments behind it, with steps of the clock in between.
 *
 * Each record is a control byte and a datagram. Control: bit 7 the agent's lane instead of a worker's; bit 6 the rest
 * is a body, put a valid envelope around it; bits 4-5 who sends (worker 0, worker 1, the agent, a stranger); bits 0-3
 * the clock goes on by 2^n - 1 ms.
 */
#include "base/zr_err.h"
#include "forward/zr_lane.h"
#include "fuzz.h"
#include "take.h"

enum { PKTS = 256, BATCH = 64, INDEX = 0x0111111, PEER_INDEX = 0x2222222, PEER_PORT = 6000, MTU = 1420 };
enum { SLOT = 1, MEDIA = 7, ANYWHERE = 8, RECORDS_MAX = 64 };

typedef struct world {
    zr_pool pool;
    zr_batch batch;
    zr_stat_page *page;
    zr_lane *lanes[2]; /* a worker's, the agent's */
    zr_ns_t now;
    uint64_t counter;
} world;

static void *memory(size_t bytes)
{
    void *mem = aligned_alloc(ZR_CACHELINE, zr_round_up(bytes, ZR_CACHELINE));
    ZR_CHECK(mem != NULL);
    return mem;
}

static zr_lane_conf conf_of(int which)
{
    return (zr_lane_conf){ .lane = which == 0 ? 0 : ZR_LANE_AGENT,
                           .sessions_max = 2,
                           .convs_max = 4,
                           .peer_lanes_max = 4,
                           .blocks_max = 16,
                           .window = 128,
                           .probe = { .rate_idle = which == 0 ? 0 : 25, .rate_active = 100, .seed = 1 } };
}

static void pump(world *w, zr_lane *lane)
{
    int rc;

    take_all(lane);
    if (zr_lane_deadline(lane) <= w->now)
        zr_lane_on_deadline(lane, w->now);
    do {
        rc = zr_lane_output(lane, &w->batch, w->now);
        zr_batch_reset(&w->batch);
    } while (rc == ZR_E_full);
}

/* Each conversation has something on its way, so that acknowledgements have something to hit. */
static void speak(world *w)
{
    static const uint8_t words[2400]; /* two segments at most on a media conversation */
    const uint32_t convs[2][2] = { { MEDIA, ANYWHERE }, { 0, 0 } };

    for (int which = 0; which < 2; which++) {
        for (int i = 0; i < (which == 0 ? 2 : 1); i++) {
            uint32_t number = convs[which][i];
            uint8_t peer = which == 1 ? ZR_LANE_AGENT : number == ANYWHERE ? ZR_LANE_ANY : 0;
            int conv = zr_lane_conv_open(w->lanes[which], SLOT, number, peer,
                                         which == 0 ? ZR_CONV_MEDIA : ZR_CONV_CONTROL, 0, w->now);
            ZR_CHECK(conv >= 0);
            for (size_t len = 100; len <= sizeof words; len *= 4)
                ZR_CHECK(zr_lane_send_bytes(w->lanes[which], (uint32_t)conv, words, len, w->now) == ZR_OK);
        }
        pump(w, w->lanes[which]);
    }
}

static void open_world(world *w)
{
    static void *mem[5];
    const zr_addr agent = { .ip = { 127, 0, 0, 1 }, .port = PEER_PORT, .family = 4 };
    const zr_session_conf session = {
        .index = INDEX, .peer_index = PEER_INDEX, .agent = agent, .lanes = 2, .mtu = MTU
    };

    *w = (world){ .now = ZR_SEC(1) };
    if (mem[0] == NULL) {
        const zr_lane_conf worker = conf_of(0), control = conf_of(1);
        mem[0] = memory(zr_pool_bytes(PKTS));
        mem[1] = memory(zr_batch_bytes(BATCH, BATCH * 1536));
        mem[2] = memory(zr_stat_bytes(1));
        mem[3] = memory(zr_lane_bytes(&worker));
        mem[4] = memory(zr_lane_bytes(&control));
    }
    w->page = memset(mem[2], 0, zr_stat_bytes(1));
    ZR_CHECK(zr_pool_init(&w->pool, mem[0], PKTS) == ZR_OK);
    ZR_CHECK(zr_batch_init(&w->batch, mem[1], BATCH, BATCH * 1536) == ZR_OK);
    ZR_CHECK(zr_stat_init(w->page, 1) == ZR_OK);
    for (int which = 0; which < 2; which++) {
        const zr_lane_conf conf = conf_of(which);
        w->lanes[which] = zr_lane_init(mem[3 + which], &conf, &w->pool, w->page, w->now);
        ZR_CHECK(w->lanes[which] != NULL);
        ZR_CHECK(zr_lane_session_add(w->lanes[which], SLOT, &session, w->now) == ZR_OK);
    }
    speak(w);
}

static size_t seal(world *w, uint8_t *to, const uint8_t *body, size_t len, uint8_t sender, uint8_t receiver)
{
    const zr_env env = {
        .type = ZR_ENV_DATA, .lane = sender, .receiver = (uint32_t)INDEX << 6 | receiver, .counter = w->counter++
    };

    len = ZR_MIN(len, (size_t)ZR_PKT_ROOM - ZR_ENV_HEAD - ZR_ENV_TAG);
    zr_env_put(to, &env);
    memcpy(to + ZR_ENV_HEAD, body, len);
    memset(to + ZR_ENV_HEAD + len, 0, ZR_ENV_TAG);
    return ZR_ENV_HEAD + len + ZR_ENV_TAG;
}

static void give(world *w, const uint8_t *record, size_t len)
{
    static const uint8_t senders[4] = { 0, 1, ZR_LANE_AGENT, 99 };
    static const uint16_t ports[4] = { PEER_PORT + 1, PEER_PORT + 2, PEER_PORT, 9 };
    uint8_t control = record[0], data[ZR_PKT_ROOM];
    unsigned who = control >> 4 & 3;
    zr_lane *lane = w->lanes[control >> 7];
    zr_addr from = { .ip = { 127, 0, 0, 1 }, .port = ports[who], .family = 4 };

    w->now += ZR_MS((1 << (control & 15)) - 1);
    if ((control & 0x40) != 0) {
        len = seal(w, data, record + 1, len - 1, senders[who], (control & 0x80) != 0 ? ZR_LANE_AGENT : 0);
    } else {
        len = ZR_MIN(len - 1, sizeof data);
        memcpy(data, record + 1, len);
    }
    zr_pkt *pkt = zr_pool_copy(&w->pool, data, len);
    if (pkt == NULL)
        return;
    zr_stat_add(w->page, ZR_STAT_rx_link, 1);
    (void)zr_lane_input(lane, pkt, &from, w->now);
    pump(w, lane);
    ZR_CHECK(zr_lane_check(lane));
    ZR_CHECK(zr_ledger_off(w->page, ZR_LEDGER_link) == 0);
}

/* The stateless parsers, on memory of exactly the record's size. */
static void parse(const uint8_t *data, size_t len)
{
    enum zr_env_type type;
    enum zr_drop_id why;
    size_t pos = 0;
    zr_seg seg;
    zr_env env;

    if (zr_env_classify(data, len, &type, &why) == ZR_OK && type == ZR_ENV_DATA)
        zr_env_parse(&env, data);
    while (zr_seg_next(&seg, data, len, &pos) == ZR_OK)
        ZR_CHECK(pos <= len && seg.len <= len && seg.data + seg.len == data + pos);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    world w;
    uint8_t *record;
    size_t len;

    open_world(&w);
    for (int n = 0; n < RECORDS_MAX && (record = fuzz_record(&data, &size, &len)) != NULL; n++) {
        parse(record, len);
        if (len > 0)
            give(&w, record, len);
        free(record);
    }
    for (int which = 0; which < 2; which++)
        zr_lane_fini(w.lanes[which]);
    ZR_CHECK(w.pool.in_use == 0 && zr_pool_check(&w.pool));
    return 0;
}
