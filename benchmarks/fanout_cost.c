/*
 * fanout_cost.c - what one (packet, subscriber) pair costs in user space, for callgrind: forwarder and sender, no
 * kernel.
 *
 *     fanout_cost SUBSCRIBERS SHARED
 *
 *        publisher ─▶ zr_fwd ─▶ batch ─▶ zr_udp_send ─▶ a sendmmsg that takes everything
 *
 *     SHARED 1: the batch has room for fans, as a worker's has; 0: each pair is an entry of its own
 *
 * Frames of 8 x 1200 B arrive in one turn. Collection is on below `counted`: ingress, fan-out, output, send.
 * Prints pairs and calls of sendmmsg while counting.
 */
#include "fwd_rig.h"
#include "net/zr_udp_tx.h"

enum { FRAME = 8, BYTES = 1200, WARM_UP = 20, FRAMES = 200, ENTRIES = 1024, SUBS = 1000 };

static rig relay;
static zr_udp_tx *tx;
static uint64_t calls, datagrams;
static uint8_t packet[BYTES];
static const zr_udp_sock socks[2] = { { .fd = 3, .family = 4 }, { .fd = 4, .family = 4 } };

void zr_test_register(zr_test *test)
{
    (void)test;
}

_Noreturn void zr_test_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

static int take_all(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    (void)fd;
    (void)msgs;
    (void)flags;
    calls++;
    return (int)count;
}

static const zr_udp_calls stub = { .sendmmsg = take_all };

static void transmit(void)
{
    int rc;

    do {
        rc = zr_fwd_output_egress(relay.fwd, &relay.batch, relay.now);
        datagrams += zr_batch_dgrams(&relay.batch);
        CHECK_EQ(zr_udp_send(tx, socks, 2, &relay.batch, relay.page, relay.now), ZR_OK);
        zr_udp_tx_timed(tx, relay.page, relay.now);
        zr_batch_reset(&relay.batch);
    } while (rc == ZR_E_full);
}

void counted(uint32_t number);

/* The name that --toggle-collect knows: one frame. */
__attribute__((noipa)) void counted(uint32_t number)
{
    const zr_addr from = rig_addr(9, 5000);

    for (uint32_t i = 0; i < FRAME; i++) {
        zr_put16be(packet + 2, (uint16_t)(number * FRAME + i));
        zr_put32be(packet + 4, number * 3000);
        zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(relay.fwd), packet, sizeof packet);
        pkt->came_us = 1 + number;
        CHECK_EQ(zr_fwd_ingress_input(relay.fwd, 0, pkt, &from, relay.now), ZR_OK);
    }
    (void)zr_fwd_fan_out(relay.fwd, relay.now);
    transmit();
}

int main(int argc, char **argv)
{
    zr_fwd_conf conf = zr_fwd_conf_default(0, 4);
    CHECK(argc == 3);
    uint32_t subs = (uint32_t)atoi(argv[1]);
    bool shared = atoi(argv[2]) != 0;

    CHECK(subs >= 1 && subs <= SUBS);
    relay.now = ZR_SEC(100);
    conf.pkts_max = 4096;
    conf.cache_max = 1024;
    conf.subs_max = SUBS;
    relay.page = zr_test_memory(zr_stat_bytes(4));
    relay.chan = zr_test_chan(64, sizeof(zr_cmd));
    CHECK_EQ(zr_stat_init(relay.page, 4), ZR_OK);
    CHECK_EQ(zr_batch_init(&relay.batch, zr_test_memory(zr_batch_bytes(ENTRIES, 65536)), ENTRIES, 65536), ZR_OK);
    if (shared)
        zr_batch_add_fans(&relay.batch, zr_test_memory(zr_batch_fan_bytes(ENTRIES)), ENTRIES);
    relay.fwd = zr_fwd_init(zr_test_memory(zr_fwd_bytes(&conf)), &conf, relay.page, relay.chan, relay.now);
    tx = zr_udp_tx_init(zr_test_memory(zr_udp_tx_bytes(ENTRIES, ENTRIES)), ENTRIES, ENTRIES, true, &stub);
    CHECK(relay.fwd != NULL && tx != NULL);

    rig_publish(&relay, 0);
    for (uint32_t i = 0; i < subs; i++)
        DO(&relay, .op = ZR_CMD_sub_add, .a = i, .c = 0xFFFF, .d = 0xFFFF,
           .addr = rig_addr((uint8_t)(10 + i / 100), (uint16_t)(6000 + i)));
    rig_rtp(packet, false, 0, 0, false);
    for (uint32_t number = 0; number < WARM_UP + FRAMES; number++) {
        if (number == WARM_UP)
            calls = datagrams = 0;
        relay.now += ZR_MS(1);
        counted(number);
    }
    CHECK_EQ(datagrams, (uint64_t)FRAMES * FRAME * subs);
    CHECK_EQ(zr_ledger_off(relay.page, ZR_LEDGER_egress), 0);
    printf("%llu %llu %d\n", (unsigned long long)datagrams, (unsigned long long)calls, WARM_UP + FRAMES);
    return 0;
}
