#include "zr_test.h"

#include <errno.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "worker/zr_agentlane.h"

typedef struct agent {
    zr_stat_page *page;
    void *mem;
    zr_agentlane *lane;
} agent;

static agent agent_open_by(const zr_udp_calls *calls)
{
    agent a = { .page = zr_test_memory(zr_stat_bytes(0)) };
    zr_agentlane_conf conf = zr_agentlane_conf_default(16);

    conf.pkts_max = 256;
    conf.calls = calls;
    CHECK_EQ(zr_stat_init(a.page, 0), ZR_OK);
    a.mem = zr_test_memory(zr_agentlane_bytes(&conf));
    a.lane = zr_agentlane_init(a.mem, &conf, a.page, 1);
    CHECK(a.lane != NULL);
    return a;
}

static agent agent_open(void)
{
    return agent_open_by(NULL);
}

static void agent_close(agent *a)
{
    CHECK_EQ(zr_ledger_off(a->page, ZR_LEDGER_link), 0);
    CHECK(zr_agentlane_check(a->lane));
    zr_agentlane_fini(a->lane);
    free(a->mem);
    free(a->page);
}

static int hellos(agent *a)
{
    zr_hello hello;
    int count = 0;
    for (; zr_agentlane_hello(a->lane, &hello) == ZR_OK; count++)
        zr_pkt_drop(hello.pkt);
    return count;
}

ZR_TEST(hellos_pass_a_gate_of_length_and_rate_per_source)
{
    agent a = agent_open();
    zr_addr one = { .ip = { 192, 0, 2, 1 }, .port = 1, .family = 4 }, other = { .ip = { 192, 0, 2, 2 }, .family = 4 };
    uint8_t hello[1500] = { ZR_ENV_HELLO };
    int passed = 0;

    CHECK_EQ(zr_agentlane_input(a.lane, hello, 1401, false, &other, ZR_SEC(1)), ZR_E_dropped);
    CHECK_EQ(atomic_load(&a.page->drop[ZR_DROP_length]), 1);
    for (int i = 0; i < 1000; i++) { /* U26: 1 000 in one second from one host, whatever the port */
        one.port = (uint16_t)(i + 1);
        passed += zr_agentlane_input(a.lane, hello, 100, false, &one, ZR_SEC(1) + ZR_MS(i)) == ZR_OK;
    }
    CHECK(passed >= 24 && passed <= 25); /* 5 at once, 20 a second */
    CHECK_EQ(zr_agentlane_input(a.lane, hello, 100, false, &other, ZR_SEC(2)), ZR_OK);
    CHECK_EQ(hellos(&a), passed + 1);
    CHECK_EQ(atomic_load(&a.page->stat[ZR_STAT_link_hello]), passed + 1);
    CHECK_EQ(zr_agentlane_refuse(a.lane, ZR_DROP_unknown_peer), ZR_OK);
    CHECK_EQ(zr_agentlane_refuse(a.lane, ZR_DROP_ttl), ZR_E_inval); /* another ledger's */
    CHECK_EQ(atomic_load(&a.page->stat[ZR_STAT_link_accepted]), passed);
    agent_close(&a);
}

ZR_TEST(control_messages_cross_between_two_agents_also_in_many_fragments)
{
    static uint8_t sent[20000], got[ZR_MESSAGE_MAX];
    agent a = agent_open(), b = agent_open();
    agent *ends[2] = { &a, &b };
    zr_addr at[2] = { { .ip = { 127, 0, 0, 1 }, .port = 1000, .family = 4 },
                      { .ip = { 127, 0, 0, 1 }, .port = 2000, .family = 4 } };
    zr_ns_t now = ZR_MS(1);
    uint32_t session;
    int len = ZR_E_again;

    for (int i = 0; i < 2; i++) {
        zr_session_conf conf = { .index = 11 + (uint32_t)i,
                                 .peer_index = 12 - (uint32_t)i,
                                 .agent = at[1 - i],
                                 .lanes = 1,
                                 .mtu = 1420,
                                 .rate_mhz = 1000 };
        CHECK_EQ(zr_agentlane_session_add(ends[i]->lane, 3, &conf, now), ZR_OK);
    }
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (uint8_t)(i * 7);
    CHECK_EQ(zr_agentlane_send(a.lane, 3, sent, sizeof sent, now), ZR_OK);
    CHECK_EQ(zr_agentlane_send(a.lane, 4, sent, 1, now), ZR_E_missing);
    for (int round = 0; round < 100 && len < 0; round++, now += ZR_MS(1)) {
        for (int i = 0; i < 2; i++) {
            int rc;
            do {
                rc = zr_agentlane_output(ends[i]->lane, now);
                zr_batch *batch = zr_agentlane_batch(ends[i]->lane);
                for (uint32_t e = 0; e < batch->count; e++)
                    (void)zr_agentlane_input(ends[1 - i]->lane, batch->tx[e].data, batch->tx[e].len, false, &at[i],
                                             now);
                zr_batch_reset(batch);
            } while (rc == ZR_E_full);
        }
        len = zr_agentlane_message(b.lane, &session, got);
    }
    CHECK_EQ(len, sizeof sent);
    CHECK_EQ(session, 3);
    CHECK_EQ(memcmp(sent, got, sizeof sent), 0);
    CHECK(zr_agentlane_heard(b.lane, 3) > 0);
    agent_close(&a);
    agent_close(&b);
}

/* An interface that takes nothing longer. */
static size_t takes;

static int narrow_send(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    unsigned fit = 0;

    while (fit < count && msgs[fit].msg_hdr.msg_iov->iov_len <= takes)
        fit++;
    if (fit > 0)
        return sendmmsg(fd, msgs, fit, flags);
    errno = EMSGSIZE;
    return -1;
}

static const zr_udp_calls narrow = { .sendmmsg = narrow_send, .recvmmsg = recvmmsg };

/* Both, by loopback, for so long of their time. */
static void talk(const agent ends[2], const int fds[2], zr_ns_t *now, zr_ns_t time)
{
    for (zr_ns_t end = *now + time; *now < end; *now += ZR_MS(1))
        for (int i = 0; i < 2; i++) {
            (void)zr_agentlane_receive(ends[i].lane, fds[i], *now);
            zr_agentlane_flush(ends[i].lane, fds[i], *now);
        }
}

ZR_TEST(an_agent_whose_interface_refuses_the_size_in_use_is_below_it_by_its_next_probe)
{
    static const zr_addr any = { .ip = { 127, 0, 0, 1 }, .family = 4 };
    agent ends[2] = { agent_open_by(&narrow), agent_open_by(&narrow) };
    zr_ns_t now = ZR_SEC(1);
    zr_addr at[2];
    int fds[2];

    takes = 2000;
    for (int i = 0; i < 2; i++) {
        fds[i] = zr_udp_open(&any, 0, 0, 0);
        CHECK(fds[i] >= 0 && zr_udp_bound(fds[i], &at[i]) == ZR_OK);
    }
    for (uint32_t i = 0; i < 2; i++) {
        zr_session_conf conf = { .index = 11 + i, .peer_index = 12 - i, .agent = at[1 - i], .lanes = 1, .mtu = 1420 };
        CHECK_EQ(zr_agentlane_session_add(ends[i].lane, 3, &conf, now), ZR_OK);
        CHECK_EQ(zr_agentlane_session_active(ends[i].lane, 3, true, now), ZR_OK);
    }
    talk(ends, fds, &now, ZR_SEC(3));
    CHECK_EQ(zr_mtu_size(&zr_agentlane_probe(ends[0].lane, 3)->mtu), 1500);
    takes = 1300 - 48; /* IPv6 and UDP */
    talk(ends, fds, &now, ZR_MTU_ACTIVE + ZR_MS(2));
    CHECK(zr_mtu_size(&zr_agentlane_probe(ends[0].lane, 3)->mtu) < 1300);
    talk(ends, fds, &now, ZR_SEC(1));
    CHECK_EQ(zr_mtu_size(&zr_agentlane_probe(ends[0].lane, 3)->mtu), 1280);
    CHECK_EQ(atomic_load(&ends[0].page->drop[ZR_DROP_tx_oversize]), 2); /* the size in use, and one that was tried */
    CHECK(atomic_load(&ends[0].page->stat[ZR_STAT_tx_refused_bytes]) == 1400 - 48);
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        agent_close(&ends[i]);
    }
}
