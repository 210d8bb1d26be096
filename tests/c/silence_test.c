/* Strangers at both kinds of port: the agent's, with its gate, and a worker's. Whatever they send, nothing leaves,
 * nothing stays, and each datagram ends in exactly one counter. */
#include <stdio.h>

#include "fwd_rig.h"
#include "sim/zr_rng.h"
#include "wire/zr_mac.h"
#include "worker/zr_agentlane.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(ZR_DEBUG)
enum { INSTRUMENTED = 1, FLOOD = 40000, LENGTHS_STEP = 37 };
#else
enum { INSTRUMENTED = 0, FLOOD = 2000000, LENGTHS_STEP = 1 };
#endif

enum { SLOT = 3, INDEX = 0x0111111, RSS_GROWTH_KIB_MAX = 64 };

typedef struct ports {
    rig worker;
    zr_stat_page *page; /* the agent's */
    void *mem;
    zr_agentlane *agent;
    zr_mac mac;
    uint8_t mac1_key[32];
    uint64_t thrown, bytes_in, bytes_out;
} ports;

static const zr_gate_keys keys = { .public = { 1 }, .mesh = { 2 }, .seed = { 3 } };

static void ports_open(ports *p)
{
    zr_agentlane_conf conf = zr_agentlane_conf_default(16);
    zr_session_conf session = { .index = INDEX, .peer_index = 7, .agent = rig_addr(9, 6000), .lanes = 2, .mtu = 1420 };

    *p = (ports){ .page = zr_test_memory(zr_stat_bytes(0)) };
    rig_open(&p->worker, 0, 64);
    DO(&p->worker, .op = ZR_CMD_session_add, .a = SLOT, .b = INDEX, .c = 7, .d = 2, .y = 1420, .addr = session.agent);
    CHECK_EQ(zr_stat_init(p->page, 0), ZR_OK);
    p->mem = zr_test_memory(zr_agentlane_bytes(&conf));
    p->agent = zr_agentlane_init(p->mem, &conf, p->page, p->worker.now);
    CHECK(p->agent != NULL);
    CHECK_EQ(zr_agentlane_gate_keys(p->agent, &keys), ZR_OK);
    CHECK_EQ(zr_agentlane_session_add(p->agent, SLOT, &session, p->worker.now), ZR_OK);
    CHECK_EQ(zr_mac_open(&p->mac), ZR_OK);
    CHECK_EQ(zr_mac_key(p->mac1_key, "mac1----", keys.public, keys.mesh), ZR_OK);
}

static void ports_close(ports *p)
{
    CHECK_EQ(zr_ledger_off(p->page, ZR_LEDGER_link), 0);
    CHECK(zr_agentlane_check(p->agent));
    zr_agentlane_fini(p->agent);
    zr_mac_close(&p->mac);
    free(p->mem);
    free(p->page);
    rig_close(&p->worker);
}

/* Ends the turn at both ports; what the agent's Python would refuse is refused. */
static void settle(ports *p)
{
    zr_hello hello;
    int rc;

    while (zr_agentlane_hello(p->agent, &hello) == ZR_OK) {
        CHECK_EQ(zr_pkt_data(hello.pkt)[0], 0x0A); /* cookie replies have no MAC: only these pass */
        zr_pkt_drop(hello.pkt);
        CHECK_EQ(zr_agentlane_refuse(p->agent, ZR_DROP_cookie), ZR_OK);
    }
    do {
        rc = zr_agentlane_output(p->agent, p->worker.now);
        zr_batch *batch = zr_agentlane_batch(p->agent);
        for (uint32_t i = 0; i < batch->count; i++)
            p->bytes_out += batch->tx[i].len;
        zr_batch_reset(batch);
        CHECK(rc == ZR_OK || rc == ZR_E_full);
    } while (rc == ZR_E_full);
    (void)zr_fwd_fan_out(p->worker.fwd, p->worker.now);
    do {
        rc = zr_fwd_output(p->worker.fwd, &p->worker.batch, p->worker.now);
        for (uint32_t i = 0; i < p->worker.batch.count; i++)
            p->bytes_out += p->worker.batch.tx[i].len;
        zr_batch_reset(&p->worker.batch);
        CHECK(rc == ZR_OK || rc == ZR_E_full);
    } while (rc == ZR_E_full);
}

static void at_worker(ports *p, const uint8_t *data, size_t len, const zr_addr *from)
{
    zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(p->worker.fwd), data, len);

    CHECK(pkt != NULL);
    CHECK_EQ(zr_fwd_link_input(p->worker.fwd, pkt, from, p->worker.now), ZR_E_dropped);
}

static void throw(ports * p, const uint8_t *data, size_t len, const zr_addr *from)
{
    (void)zr_agentlane_input(p->agent, data, len, false, from, p->worker.now);
    at_worker(p, data, len, from);
    p->thrown++;
    p->bytes_in += len;
    if (p->thrown % 16 == 0) {
        p->worker.now += ZR_MS(2);
        settle(p);
    }
}

static void check_silent(ports *p)
{
    uint64_t drops = 0;

    settle(p);
    CHECK_EQ(p->bytes_out, 0);
    CHECK_EQ(atomic_load(&p->page->stat[ZR_STAT_link_accepted]), 0);
    CHECK_EQ(rig_stat(&p->worker, ZR_STAT_link_accepted), 0);
    CHECK_EQ(atomic_load(&p->page->stat[ZR_STAT_pool_in_use]), 0);
    CHECK_EQ(zr_agentlane_heard(p->agent, SLOT), 0);
    for (int i = 0; i < ZR_DROP_COUNT; i++)
        drops += atomic_load(&p->page->drop[i]);
    CHECK_EQ(drops, p->thrown);
}

/* A network that strangers could come from. */
static zr_addr somewhere(zr_rng *rng)
{
    zr_addr from = { .port = (uint16_t)zr_rng_next(rng), .family = 4 };

    zr_put32(from.ip, (uint32_t)zr_rng_next(rng) | 1);
    from.ip[0] = from.ip[0] == 127 ? 11 : from.ip[0];
    return from;
}

ZR_TEST(t01_every_first_byte_at_every_length_is_met_with_silence)
{
    static uint8_t data[1500];
    const zr_addr from = { .ip = { 203, 0, 113, 5 }, .port = 53, .family = 4 };
    zr_rng rng;
    ports p;

    ports_open(&p);
    zr_rng_seed(&rng, 1);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)zr_rng_next(&rng);
    for (size_t len = 0; len <= sizeof data; len += LENGTHS_STEP)
        for (int first = 0; first < 256; first++) {
            data[0] = (uint8_t)first;
            throw(&p, data, len, &from);
        }
    check_silent(&p);
    ports_close(&p);
}

/* What whoever sees our traffic, but has no key, could send. */
static size_t strangers(zr_rng *rng, uint8_t *data, zr_addr *from)
{
    static const size_t lengths[] = { 180, 116, 64, 1200, 32, 0 };
    size_t len = lengths[zr_rng_below(rng, ZR_LEN(lengths))];

    zr_put64(data + zr_rng_below(rng, 190), zr_rng_next(rng));
    data[0] = len == 180 ? 0x08 : len == 116 ? 0x09 : len == 64 ? 0x0A : 0x0B;
    *from = somewhere(rng);
    if (data[0] == 0x0B && len > 0) { /* with our index; sometimes as if from the peer: its tag is wrong then */
        data[1] = 0;
        zr_put32(data + 4, (uint32_t)INDEX << 6 | (zr_rng_below(rng, 2) == 0 ? ZR_LANE_AGENT : 0));
        data[len - 1] |= 1;
        if (zr_rng_below(rng, 2) == 0)
            *from = rig_addr(9, 6001);
    }
    return len;
}

/* Counted page by page: the number in /proc/self/statm may lag behind by hundreds of KiB. */
static long resident_kib(void)
{
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    long kib = -1;

    CHECK(file != NULL);
    while (kib < 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Rss: %ld kB", &kib) != 1)
            kib = -1;
    fclose(file);
    CHECK(kib > 0);
    return kib;
}

ZR_TEST(two_million_datagrams_without_a_key_draw_no_byte_leave_no_state_and_take_no_memory)
{
    static uint8_t data[1500];
    zr_addr from;
    zr_rng rng;
    ports p;

    ports_open(&p);
    zr_rng_seed(&rng, 2);
    for (int i = 0; i < 2000; i++) { /* what is touched once for everybody */
        size_t len = strangers(&rng, data, &from);
        throw(&p, data, len, &from);
    }
    (void)resident_kib();
    long before = resident_kib();
    while (p.thrown < FLOOD) {
        size_t len = strangers(&rng, data, &from);
        throw(&p, data, len, &from);
    }
    long grown = resident_kib() - before;
    check_silent(&p);
    CHECK_EQ(atomic_load(&p.page->stat[ZR_STAT_gate_loads]), 0);
    CHECK(INSTRUMENTED || grown <= RSS_GROWTH_KIB_MAX);
    ports_close(&p);
}

ZR_TEST(t02_replayed_messages_from_spoofed_sources_draw_at_most_45_hundredths_of_their_bytes)
{
    static const size_t lengths[] = { ZR_GATE_HELLO, ZR_GATE_ANSWER };

    for (size_t kind = 0; kind < ZR_LEN(lengths); kind++) {
        uint8_t data[ZR_GATE_HELLO] = { (uint8_t)(ZR_ENV_HELLO + kind) };
        size_t len = lengths[kind];
        zr_rng rng;
        ports p;

        ports_open(&p);
        zr_rng_seed(&rng, 3);
        zr_mac_of(&p.mac, data + len - 32, p.mac1_key, 32, data, len - 32);
        zr_agentlane_busy(p.agent, 1000); /* the worst case: each source is asked to prove its address */
        for (int i = 0; i < 20000; i++) {
            zr_addr from = somewhere(&rng);
            throw(&p, data, len, &from);
            if (p.thrown % 16 == 0)
                CHECK(100 * p.bytes_out <= 45 * p.bytes_in); /* at any time */
        }
        settle(&p);
        CHECK(100 * p.bytes_out > 30 * p.bytes_in);
        CHECK(100 * p.bytes_out <= 45 * p.bytes_in);
        CHECK_EQ(p.bytes_out, 64 * atomic_load(&p.page->stat[ZR_STAT_gate_replies]));
        CHECK_EQ(atomic_load(&p.page->drop[ZR_DROP_mac2]), p.thrown);
        ports_close(&p);
    }
}

static int empty_calls;

static int recv_empty(int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout)
{
    (void)fd, (void)flags, (void)timeout;
    for (unsigned i = 0; i < count; i++) {
        msgs[i].msg_len = 0;
        msgs[i].msg_hdr.msg_controllen = 0;
    }
    empty_calls++;
    return (int)count;
}

ZR_TEST(t10_empty_datagrams_count_against_the_budget_of_the_agents_turn)
{
    const zr_udp_calls calls = { .sendmmsg = sendmmsg, .recvmmsg = recv_empty };
    zr_agentlane_conf conf = zr_agentlane_conf_default(4);
    zr_stat_page *page = zr_test_memory(zr_stat_bytes(0));

    conf.calls = &calls;
    CHECK_EQ(zr_stat_init(page, 0), ZR_OK);
    void *mem = zr_test_memory(zr_agentlane_bytes(&conf));
    zr_agentlane *agent = zr_agentlane_init(mem, &conf, page, 1);
    CHECK(agent != NULL);
    empty_calls = 0;
    CHECK_EQ(zr_agentlane_receive(agent, 0, ZR_SEC(1)), ZR_AGENT_DGRAMS);
    CHECK_EQ(empty_calls, ZR_AGENT_DGRAMS / (int)conf.batch);
    CHECK_EQ(atomic_load(&page->drop[ZR_DROP_short]), ZR_AGENT_DGRAMS);
    zr_agentlane_fini(agent);
    free(mem);
    free(page);
}
