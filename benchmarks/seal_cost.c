/*
 * What a seal costs.
 *
 *     seal_cost time     a line a cipher: name, median CPU nanoseconds to seal, to open, to refuse 1 200 bytes
 *     seal_cost count    a line a cipher: name, datagrams accepted, allocations meanwhile (no_alloc.so preloaded):
 *                        two lanes that talk, with forged datagrams, replaced lanes and rekeys among it
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/zr_err.h"
#include "cost.h"
#include "forward/zr_lane.h"
#include "sim/zr_rng.h"

enum { ROUNDS = 31, DATAGRAMS = 512, REPEATS = 16, LEN = 1200 };
enum { TURNS = 3000, MTU = 1420, PKTS = 1024, BATCH = 256, PORT = 5000 };

static const char *const names[] = { NULL, "aes-128-gcm", "chacha20-poly1305" };
static uint8_t datagrams[DATAGRAMS][LEN];

static double median(double ns[ROUNDS])
{
    qsort(ns, ROUNDS, sizeof *ns, by_value);
    return ns[ROUNDS / 2] / (DATAGRAMS * REPEATS);
}

static void measure(enum zr_cipher cipher)
{
    static double seal_ns[ROUNDS], open_ns[ROUNDS], refuse_ns[ROUNDS];
    uint8_t secret[ZR_SECRET_BYTES] = { 7 };
    zr_seal_kit kit;
    zr_seal ours, theirs;
    uint64_t counter = 0, opened = 0;

    ZR_CHECK(zr_seal_kit_open(&kit) == ZR_OK);
    zr_seal_init(&ours);
    zr_seal_init(&theirs);
    ZR_CHECK(zr_seal_prepare(&ours, &kit, cipher, true) == ZR_OK);
    ZR_CHECK(zr_seal_prepare(&theirs, &kit, cipher, false) == ZR_OK);
    zr_seal_key(&ours, cipher, secret, 0, 1, 1);
    zr_seal_key(&theirs, cipher, secret, 0, 1, 1);
    for (int round = 0; round < ROUNDS; round++) {
        double times[4] = { 0 };
        for (int repeat = 0; repeat < REPEATS; repeat++, counter += DATAGRAMS) {
            times[0] = cpu_ns();
            for (int i = 0; i < DATAGRAMS; i++)
                zr_seal_put(&ours, counter + (uint64_t)i, datagrams[i], LEN);
            times[1] = cpu_ns();
            for (int i = 0; i < DATAGRAMS; i++)
                opened += zr_seal_open(&theirs, counter + (uint64_t)i, datagrams[i], LEN);
            times[2] = cpu_ns();
            for (int i = 0; i < DATAGRAMS; i++) /* opened already: the tag is of something else */
                opened += zr_seal_open(&theirs, counter + (uint64_t)i, datagrams[i], LEN);
            times[3] = cpu_ns();
            seal_ns[round] += times[1] - times[0];
            open_ns[round] += times[2] - times[1];
            refuse_ns[round] += times[3] - times[2];
        }
    }
    ZR_CHECK(opened == (uint64_t)ROUNDS * REPEATS * DATAGRAMS);
    printf("%s %.0f %.0f %.0f\n", names[cipher], median(seal_ns), median(open_ns), median(refuse_ns));
    zr_seal_fini(&ours);
    zr_seal_fini(&theirs);
    zr_seal_kit_close(&kit);
}

typedef struct end {
    zr_pool pool;
    zr_batch batch;
    zr_lane *lane;
    zr_stat_page *page;
    zr_session_conf session;
    zr_addr addr;
    int conv;
} end;

static zr_keys keys_of(uint32_t generation, bool first, enum zr_cipher cipher)
{
    zr_keys keys = { .cipher = (uint8_t)cipher, .initiator = first };

    memset(keys.send, first ? 1 : 2, ZR_SECRET_BYTES);
    memset(keys.recv, first ? 2 : 1, ZR_SECRET_BYTES);
    memcpy(keys.send, &generation, sizeof generation);
    memcpy(keys.recv, &generation, sizeof generation);
    return keys;
}

static void begin(end *e, zr_ns_t now)
{
    ZR_CHECK(zr_lane_session_add(e->lane, 0, &e->session, now) == ZR_OK);
    e->conv = zr_lane_conv_open(e->lane, 0, 9, 0, ZR_CONV_MEDIA, 0, now);
    ZR_CHECK(e->conv >= 0);
}

static void open_end(end *e, bool first, enum zr_cipher cipher, zr_ns_t now)
{
    const zr_lane_conf conf = {
        .sessions_max = 2, .convs_max = 4, .peer_lanes_max = 4, .blocks_max = 64, .window = 128, .ciphers = 1u << cipher
    };

    ZR_CHECK(zr_pool_init(&e->pool, memory(zr_pool_bytes(PKTS)), PKTS) == ZR_OK);
    ZR_CHECK(zr_batch_init(&e->batch, memory(zr_batch_bytes(BATCH, BATCH * 1500)), BATCH, BATCH * 1500) == ZR_OK);
    ZR_CHECK(zr_stat_init(e->page = memory(zr_stat_bytes(1)), 1) == ZR_OK);
    e->lane = zr_lane_init(memory(zr_lane_bytes(&conf)), &conf, &e->pool, e->page, now);
    ZR_CHECK(e->lane != NULL);
    e->addr = (zr_addr){ .ip = { 127, 0, 0, 1 }, .port = (uint16_t)(PORT + (first ? 0 : 100) + 1), .family = 4 };
    e->session = (zr_session_conf){ .index = first ? 1 : 1001,
                                    .peer_index = first ? 1001 : 1,
                                    .agent = { .ip = { 127, 0, 0, 1 }, .family = 4 },
                                    .lanes = 1,
                                    .mtu = MTU,
                                    .rate_mhz = 4000,
                                    .keys = keys_of(0, first, cipher) };
    e->session.agent.port = (uint16_t)(PORT + (first ? 100 : 0));
    begin(e, now);
}

static int give(end *to, const zr_addr *from, const uint8_t *data, size_t len, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_copy(&to->pool, data, len);

    ZR_CHECK(pkt != NULL);
    zr_stat_add(to->page, ZR_STAT_rx_link, 1);
    return zr_lane_input(to->lane, pkt, from, now);
}

/* A turn of one end: messages, datagrams, each of them also forged, and what the other end makes of them. */
static void turn(end *e, end *to, zr_rng *rng, zr_ns_t now)
{
    zr_lane_msg msg;

    zr_lane_on_deadline(e->lane, now);
    for (int i = 0; i < 4; i++) {
        uint8_t head[ZR_KCP_HEAD_MAX] = { 0 };
        zr_pkt *pkt = zr_pool_take(&e->pool);
        ZR_CHECK(pkt != NULL);
        memset(pkt->buf + pkt->off, 0, 1000);
        (void)zr_lane_send(e->lane, (uint32_t)e->conv, head, sizeof head, &(zr_slice){ pkt, pkt->off, 1000 }, now);
        zr_pkt_drop(pkt);
    }
    zr_batch_reset(&e->batch);
    ZR_CHECK(zr_lane_output(e->lane, &e->batch, now) == ZR_OK);
    for (uint32_t i = 0; i < e->batch.count; i++) {
        const zr_tx *tx = &e->batch.tx[i];
        uint8_t forged[1500];
        memcpy(forged, tx->data, tx->len);
        forged[zr_rng_below(rng, tx->len)] ^= 1;
        (void)give(to, &e->addr, forged, tx->len, now);
        (void)give(to, &e->addr, tx->data, tx->len, now);
    }
    while (zr_lane_recv(to->lane, &msg) == ZR_OK)
        for (int i = 0; i < msg.view_count; i++)
            zr_pkt_drop(msg.views[i].pkt);
}

static void count(enum zr_cipher cipher)
{
    union {
        void *found;
        uint64_t (*call)(void);
    } allocations = { .found = dlsym(RTLD_DEFAULT, "zr_allocations") };
    static end a, b;
    zr_ns_t now = ZR_SEC(1);
    uint32_t generation = 0;
    uint16_t epoch = 0;
    zr_rng rng;

    ZR_CHECK(allocations.found != NULL);
    zr_rng_seed(&rng, 1);
    open_end(&a, true, cipher, now);
    open_end(&b, false, cipher, now);
    uint64_t before = allocations.call();
    for (int n = 0; n < TURNS; n++, now += ZR_MS(1)) {
        turn(&a, &b, &rng, now);
        turn(&b, &a, &rng, now);
        if (n % 100 == 99) {
            zr_keys ours = keys_of(++generation, true, cipher), theirs = keys_of(generation, false, cipher);
            ZR_CHECK(zr_lane_session_rekey(b.lane, 0, 1001 + generation, 1 + generation, &theirs, now) == ZR_OK);
            ZR_CHECK(zr_lane_session_rekey(a.lane, 0, 1 + generation, 1001 + generation, &ours, now) == ZR_OK);
            a.session.keys = ours;
            a.session.index = 1 + generation;
            a.session.peer_index = 1001 + generation;
        }
        if (n % 250 == 249) { /* a's lane is replaced */
            ZR_CHECK(zr_lane_session_drop(a.lane, 0) == ZR_OK);
            zr_lane_become(a.lane, 0, ++epoch, now);
            begin(&a, now);
        }
    }
    uint64_t accepted = atomic_load(&a.page->stat[ZR_STAT_link_accepted]);
    accepted += atomic_load(&b.page->stat[ZR_STAT_link_accepted]);
    printf("%s %llu %llu\n", names[cipher], (unsigned long long)accepted,
           (unsigned long long)(allocations.call() - before));
}

int main(int argc, char **argv)
{
    bool timed = argc == 2 && strcmp(argv[1], "time") == 0;

    if (!timed && (argc != 2 || strcmp(argv[1], "count") != 0)) {
        fputs("seal_cost time|count\n", stderr);
        return 2;
    }
    for (int cipher = ZR_CIPHER_AES_128_GCM; cipher < ZR_CIPHER_COUNT; cipher++) {
        if (timed)
            measure((enum zr_cipher)cipher);
        else
            count((enum zr_cipher)cipher);
    }
    return 0;
}
