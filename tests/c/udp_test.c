#include "fd_send.h"
#include "zr_test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "net/zr_fdpass.h"
#include "net/zr_udp_rx.h"
#include "net/zr_udp_tx.h"

#define ENTRIES 256u

static const zr_addr loopback = { .ip = { 127, 0, 0, 1 }, .family = 4 };

/* A batch, a page, a sender and two sockets on loopback; freed by net_fini. */
typedef struct net {
    zr_stat_page *page;
    zr_batch batch;
    zr_udp_tx *tx;
    zr_udp_rx *rx;
    zr_udp_sock socks[3];
    int out;
    zr_addr to;
    zr_ns_t now;
    int sent; /* what the last zr_udp_send answered */
    void *mem[5];
} net;

static zr_addr bound(int fd)
{
    zr_addr addr;
    CHECK_EQ(zr_udp_bound(fd, &addr), ZR_OK);
    return addr;
}

static net net_init(const zr_udp_calls *calls, bool gso, bool gro)
{
    net n = { .mem = { zr_test_memory(zr_stat_bytes(0)), zr_test_memory(zr_batch_bytes(ENTRIES, 1 << 20)),
                       zr_test_memory(zr_udp_tx_bytes(ENTRIES, ENTRIES)),
                       zr_test_memory(zr_udp_rx_bytes(16, ZR_UDP_AREA_BYTES)),
                       zr_test_memory(zr_batch_fan_bytes(ENTRIES)) },
              .now = ZR_SEC(7) };
    n.page = n.mem[0];
    CHECK_EQ(zr_stat_init(n.page, 0), ZR_OK);
    CHECK_EQ(zr_batch_init(&n.batch, n.mem[1], ENTRIES, 1 << 20), ZR_OK);
    zr_batch_add_fans(&n.batch, n.mem[4], ENTRIES);
    n.tx = zr_udp_tx_init(n.mem[2], ENTRIES, ENTRIES, gso, calls);
    n.rx = zr_udp_rx_init(n.mem[3], 16, ZR_UDP_AREA_BYTES, NULL);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(zr_udp_sock_of(&n.socks[i], zr_udp_open(&loopback, 0, 0, 0)), ZR_OK);
    n.out = zr_udp_open(&loopback, 4 << 20, 0, gro ? ZR_UDP_GRO : 0);
    CHECK(n.out >= 0);
    n.to = bound(n.out);
    return n;
}

static void net_fini(net *n)
{
    CHECK_EQ(zr_ledger_off(n->page, ZR_LEDGER_egress), 0);
    for (int i = 0; i < 3; i++)
        close(n->socks[i].fd);
    close(n->out);
    for (int i = 0; i < 5; i++)
        free(n->mem[i]);
}

static void put(net *n, const zr_addr *to, uint16_t sock, size_t len)
{
    uint8_t *at = zr_batch_reserve(&n->batch, len);
    CHECK(at != NULL);
    memset(at, (int)(n->batch.count & 255), len);
    zr_batch_commit(&n->batch, to, sock, len);
}

static void go(net *n)
{
    n->sent = zr_udp_send(n->tx, n->socks, 3, &n->batch, n->page, n->now);
    if (n->sent == ZR_OK)
        zr_batch_reset(&n->batch);
}

static uint64_t stat_of(const net *n, enum zr_stat_id id)
{
    return atomic_load(&n->page->stat[id]);
}

static uint64_t drops_of(const net *n, enum zr_drop_id id)
{
    return atomic_load(&n->page->drop[id]);
}

/* Lengths of what arrived, in order; how many. */
static int arrived(net *n, uint32_t *lens, int max)
{
    int count = 0;
    struct pollfd ready = { .fd = n->out, .events = POLLIN };

    while (poll(&ready, 1, 100) > 0 && zr_udp_recv(n->rx, n->out, n->page) > 0) {
        zr_udp_dgram d;
        while (zr_udp_next(n->rx, &d)) {
            CHECK(count < max);
            for (uint32_t i = 0; i < d.len; i++) /* datagrams are not mixed up */
                CHECK_EQ(d.data[i], count & 255);
            lens[count++] = d.len;
        }
        if (count == max)
            break;
    }
    return count;
}

ZR_TEST(equal_sizes_to_one_destination_become_one_message_and_arrive_as_they_were)
{
    static const struct {
        bool gso, gro;
    } ways[] = { { true, true }, { true, false }, { false, true }, { false, false } };
    static const size_t sizes[] = { 1200, 1200, 1200, 700, 1200, 1200, 1300, 1300, 1300, 0, 5, 5 };

    for (size_t w = 0; w < ZR_LEN(ways); w++) {
        uint32_t lens[ZR_LEN(sizes)];
        net n = net_init(NULL, ways[w].gso, ways[w].gro);
        for (size_t i = 0; i < ZR_LEN(sizes); i++)
            put(&n, &n.to, ZR_SOCK_LINK, sizes[i]);
        go(&n);
        CHECK_EQ(arrived(&n, lens, ZR_LEN(sizes)), ZR_LEN(sizes));
        for (size_t i = 0; i < ZR_LEN(sizes); i++)
            CHECK_EQ(lens[i], sizes[i]);
        /* 1200*3+700 | 1200*2 | 1300*3 | 0 | 5*2 */
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_runs), ways[w].gso ? 5 : 12);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_gso_runs), ways[w].gso ? 4 : 0);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_sent), 12);
        CHECK_EQ(stat_of(&n, ZR_STAT_sys_sendmmsg), 1);
        net_fini(&n);
    }
}

ZR_TEST(a_run_holds_at_most_64_datagrams_and_65000_bytes)
{
    uint32_t lens[200];
    net n = net_init(NULL, true, false);

    for (int i = 0; i < 130; i++)
        put(&n, &n.to, ZR_SOCK_EGRESS, 100);
    go(&n);
    CHECK_EQ(stat_of(&n, ZR_STAT_tx_runs), 3);
    CHECK_EQ(arrived(&n, lens, 130), 130);
    for (int i = 0; i < 60; i++)
        put(&n, &n.to, ZR_SOCK_EGRESS, 1400);
    go(&n);
    CHECK_EQ(stat_of(&n, ZR_STAT_tx_runs), 5); /* 46 and 14 */
    CHECK_EQ(arrived(&n, lens, 60), 60);
    net_fini(&n);
}

ZR_TEST(entries_of_several_sockets_leave_by_their_own)
{
    net n = net_init(NULL, true, true);
    uint64_t seen[3] = { 0 };

    for (int i = 0; i < 12; i++)
        put(&n, &n.to, (uint16_t)(i % 3), 50);
    put(&n, &n.to, 2, 50);
    put(&n, &n.to, 7, 50); /* no such socket */
    go(&n);
    CHECK_EQ(drops_of(&n, ZR_DROP_tx_error), 1);
    CHECK_EQ(stat_of(&n, ZR_STAT_tx_sent), 13);
    CHECK_EQ(zr_udp_recv(n.rx, n.out, n.page) > 0, true);
    zr_udp_dgram d;
    while (zr_udp_next(n.rx, &d))
        for (int i = 0; i < 3; i++) {
            zr_addr from = bound(n.socks[i].fd);
            seen[i] += zr_addr_eq(&d.from, &from);
        }
    CHECK_EQ(seen[0], 4);
    CHECK_EQ(seen[1], 4);
    CHECK_EQ(seen[2], 5);
    net_fini(&n);
}

ZR_TEST(an_empty_datagram_and_one_of_65507_bytes_are_received_as_such)
{
    net n = net_init(NULL, true, true);
    static uint8_t big[65507];
    zr_udp_dgram d;
    struct sockaddr_storage at;
    socklen_t len = zr_udp_to_sockaddr(&at, &n.to, 4);

    CHECK_EQ(sendto(n.socks[0].fd, big, 0, 0, (struct sockaddr *)&at, len), 0);
    CHECK_EQ(sendto(n.socks[0].fd, big, sizeof big, 0, (struct sockaddr *)&at, len), 65507);
    CHECK_EQ(zr_udp_recv(n.rx, n.out, n.page), 2);
    CHECK(zr_udp_next(n.rx, &d));
    CHECK_EQ(d.len, 0);
    CHECK(!d.truncated);
    CHECK(zr_udp_next(n.rx, &d));
    CHECK_EQ(d.len, 65507);
    CHECK(!zr_udp_next(n.rx, &d));
    CHECK_EQ(zr_udp_recv(n.rx, n.out, n.page), 0);

    void *mem = zr_test_memory(zr_udp_rx_bytes(4, 2048));
    zr_udp_rx *small = zr_udp_rx_init(mem, 4, 2048, NULL);
    CHECK_EQ(sendto(n.socks[0].fd, big, 3000, 0, (struct sockaddr *)&at, len), 3000);
    CHECK_EQ(zr_udp_recv(small, n.out, n.page), 1);
    CHECK(zr_udp_next(small, &d));
    CHECK(d.truncated);
    free(mem);
    net_fini(&n);
}

/* Injected calls: each sendmmsg follows the next step of a script, then libc. */
typedef struct step {
    int error; /* 0: send `take` messages */
    unsigned take;
} step;

static const step *script;
static int script_left;

static int scripted_send(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    if (script_left > 0) {
        step s = *script++;
        script_left--;
        if (s.error != 0) {
            errno = s.error;
            return -1;
        }
        return sendmmsg(fd, msgs, ZR_MIN(count, s.take), flags);
    }
    return sendmmsg(fd, msgs, count, flags);
}

static const zr_udp_calls scripted = { .sendmmsg = scripted_send, .recvmmsg = recvmmsg };

ZR_TEST(whatever_sendmmsg_answers_each_datagram_is_sent_once_or_dropped_with_its_reason)
{
    /* 10 messages of one datagram each: sizes grow, so that no two make a run */
    static const struct {
        const char *what;
        step steps[20];
        int step_count, waits; /* waits: how often the rest was kept */
        uint64_t sent, refused, skipped, oversize, nobufs, error, shorts, hints;
    } cases[] = {
        { "short sends go on where they ended", { { 0, 3 }, { 0, 1 }, { 0, 5 } }, 3, .sent = 10, .shorts = 3 },
        { "a signal", { { EINTR, 0 }, { EINTR, 0 }, { EINTR, 0 } }, 3, .sent = 10 },
        { "full once", { { EAGAIN, 0 } }, 1, 1, .sent = 10 },
        { "full after four, and again after six",
          { { 0, 4 }, { EAGAIN, 0 }, { 0, 2 }, { EAGAIN, 0 }, { EAGAIN, 0 } },
          5,
          3,
          .sent = 10,
          .shorts = 2 },
        { "earlier packets' refusals", { { ECONNREFUSED, 0 }, { ECONNREFUSED, 0 } }, 2, .sent = 10, .hints = 2 },
        { "no route",
          { { 0, 2 }, { ENETUNREACH, 0 }, { ENETUNREACH, 0 } },
          3,
          .sent = 2,
          .refused = 1,
          .skipped = 7,
          .shorts = 1,
          .hints = 1 },
        { "no route, an earlier one's", { { 0, 2 }, { ENETUNREACH, 0 } }, 2, .sent = 10, .shorts = 1, .hints = 1 },
        { "host unreachable",
          { { 0, 9 }, { EHOSTUNREACH, 0 }, { EHOSTUNREACH, 0 } },
          3,
          .sent = 9,
          .refused = 1,
          .shorts = 1,
          .hints = 1 },
        { "interface down", { { ENETDOWN, 0 } }, 1, .refused = 1, .skipped = 9 },
        { "no address of ours", { { EADDRNOTAVAIL, 0 } }, 1, .refused = 1, .skipped = 9 },
        { "not permitted", { { EPERM, 0 } }, 1, .refused = 1, .skipped = 9 },
        { "invalid", { { EINVAL, 0 } }, 1, .refused = 1, .skipped = 9 },
        { "too long for the path", { { EMSGSIZE, 0 }, { EMSGSIZE, 0 } }, 2, .sent = 9, .oversize = 1, .hints = 1 },
        { "no buffers, twice", { { 0, 2 }, { ENOBUFS, 0 }, { ENOMEM, 0 } }, 3, 7, .sent = 8, .nobufs = 2, .shorts = 1 },
        { "what nobody has heard of", { { ENOTTY, 0 } }, 1, .sent = 9, .error = 1 },
        { "nothing taken and no reason", { { 0, 0 }, { 0, 0 } }, 2, 2, .sent = 10 },
    };

    for (size_t c = 0; c < ZR_LEN(cases); c++) {
        uint32_t lens[10] = { 0 };
        int waits = 0;
        net n = net_init(&scripted, true, false);
        for (size_t i = 0; i < 10; i++)
            put(&n, &n.to, ZR_SOCK_LINK, 100 + i);
        script = cases[c].steps;
        script_left = cases[c].step_count;
        go(&n);
        for (; n.sent == ZR_E_again && waits < 100; waits++) {
            CHECK(stat_of(&n, ZR_STAT_tx_waiting) > 0);
            CHECK_EQ(zr_ledger_off(n.page, ZR_LEDGER_egress), 0);
            CHECK(zr_udp_tx_resume(n.tx) > n.now);
            n.now = zr_udp_tx_resume(n.tx);
            go(&n);
        }
        CHECK_EQ(n.sent, ZR_OK);
        if (stat_of(&n, ZR_STAT_tx_sent) != cases[c].sent)
            fprintf(stderr, "  case: %s\n", cases[c].what);
        CHECK_EQ(waits, cases[c].waits);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_waiting), 0);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_sent), cases[c].sent);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_again), 0);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_refused), cases[c].refused);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_skipped), cases[c].skipped);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_oversize), cases[c].oversize);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_nobufs), cases[c].nobufs);
        CHECK_EQ(drops_of(&n, ZR_DROP_tx_error), cases[c].error);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_short), cases[c].shorts);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_hints), cases[c].hints);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_refused_bytes), cases[c].oversize > 0 ? 100 : 0);
        zr_addr to;
        uint32_t bytes;
        for (uint64_t left = cases[c].oversize; left > 0; left--)
            CHECK(zr_udp_tx_oversize(n.tx, &to, &bytes) && zr_addr_eq(&to, &n.to) && bytes == 100);
        CHECK(!zr_udp_tx_oversize(n.tx, &to, &bytes));
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_due), 10);
        int count = 0;
        zr_udp_dgram d;
        while (zr_udp_recv(n.rx, n.out, n.page) > 0)
            while (zr_udp_next(n.rx, &d))
                CHECK(count < 10 && (count == 0 || d.len > lens[count - 1]) && (lens[count++] = d.len) > 0);
        CHECK_EQ(count, cases[c].sent); /* none twice: sizes only grow */
        net_fini(&n);
    }
}

ZR_TEST(a_route_without_udp_segment_gets_the_run_in_single_datagrams_and_no_more_runs)
{
    static const int errors[] = { EIO, EINVAL, EMSGSIZE };

    for (size_t e = 0; e < ZR_LEN(errors); e++) {
        uint32_t lens[16];
        net n = net_init(&scripted, true, false);
        const step steps[] = { { 0, 1 }, { errors[e], 0 }, { errors[e], 0 } };
        put(&n, &n.to, ZR_SOCK_LINK, 10);
        for (int i = 0; i < 8; i++)
            put(&n, &n.to, ZR_SOCK_LINK, 500);
        script = steps;
        script_left = errors[e] == EMSGSIZE ? 3 : 2; /* which may be an earlier datagram's: asked again */
        go(&n);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_gso_off), 1);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_sent), 9);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_gso_runs), 0);
        CHECK_EQ(arrived(&n, lens, 9), 9);
        for (int i = 0; i < 4; i++)
            put(&n, &n.to, ZR_SOCK_LINK, 500);
        go(&n);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_gso_runs), 0);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_gso_off), 1);
        CHECK_EQ(stat_of(&n, ZR_STAT_tx_runs), 13);
        net_fini(&n);
    }
}

ZR_TEST(an_ipv6_wildcard_socket_reaches_both_families_and_names_ipv4_as_ipv4)
{
    static const zr_addr any6 = { .family = 6 }, host6 = { .ip = { [15] = 1 }, .family = 6 };
    net n = net_init(NULL, true, true);
    int both = zr_udp_open(&any6, 0, 0, ZR_UDP_DONT_FRAGMENT);
    int six = zr_udp_open(&host6, 0, 0, 0);
    zr_udp_dgram d;

    if (both < 0 || six < 0) { /* a host without IPv6 */
        net_fini(&n);
        return;
    }
    zr_addr to6 = bound(six), from = bound(both);
    close(n.socks[0].fd);
    CHECK_EQ(zr_udp_sock_of(&n.socks[0], both), ZR_OK);
    put(&n, &n.to, ZR_SOCK_LINK, 7);
    put(&n, &to6, ZR_SOCK_LINK, 8);
    go(&n);
    CHECK_EQ(stat_of(&n, ZR_STAT_tx_sent), 2);
    CHECK_EQ(zr_udp_recv(n.rx, n.out, n.page), 1);
    CHECK(zr_udp_next(n.rx, &d));
    CHECK_EQ(d.from.family, 4);
    CHECK_EQ(d.from.port, from.port);
    CHECK_EQ(zr_udp_recv(n.rx, six, n.page), 1);
    CHECK(zr_udp_next(n.rx, &d));
    CHECK_EQ(d.from.family, 6);
    CHECK(zr_addr_same_ip(&d.from, &host6));
    /* an IPv4 socket cannot reach IPv6: refused, not lost */
    put(&n, &to6, ZR_SOCK_EGRESS, 8);
    put(&n, &to6, ZR_SOCK_EGRESS, 8);
    go(&n);
    CHECK_EQ(drops_of(&n, ZR_DROP_tx_refused), 2);
    close(six);
    net_fini(&n);
}

ZR_TEST(a_busy_port_is_an_error_and_no_socket_is_left_open)
{
    int fd = zr_udp_open(&loopback, 0, 0, 0);
    zr_addr taken = bound(fd), nothing = { .family = 0 };

    CHECK_EQ(zr_udp_open(&taken, 0, 0, 0), ZR_E_os);
    CHECK_EQ(errno, EADDRINUSE);
    CHECK_EQ(zr_udp_open(&nothing, 0, 0, 0), ZR_E_inval);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    close(fd);
    fd = zr_udp_open(&taken, 0, 0, 0);
    CHECK(fd >= 0);
    close(fd);
}

static int fd_count(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* S06, S07 of the bad input catalogue; a running worker: tests/py/test_bad_input_unix.py. */
ZR_TEST(only_one_descriptor_with_the_right_words_is_taken_and_none_leaks)
{
    static const struct {
        zr_fdpass message;
        size_t len;
        int fds;
        int want; /* ZR_OK: a descriptor */
    } cases[] = {
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 5 }, 8, 1, ZR_OK },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 5 }, 8, 0, ZR_E_malformed },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 5 }, 8, 2, ZR_E_malformed },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 5 }, 8, 17, ZR_E_malformed },
        { { ZR_FDPASS_MAGIC, ZR_FDPASS_INGRESS, 5 }, 7, 1, ZR_E_malformed },
        { { ZR_FDPASS_MAGIC + 1, ZR_FDPASS_INGRESS, 5 }, 8, 1, ZR_E_malformed },
        { { ZR_FDPASS_MAGIC, 77, 5 }, 8, 1, ZR_E_malformed },
    };
    static uint8_t much[70000];
    int pair[2];
    zr_fdpass got;

    CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    int before = fd_count();
    CHECK_EQ(zr_fdpass_recv(pair[0], &got), ZR_E_again);
    for (size_t c = 0; c < ZR_LEN(cases); c++) {
        fd_send(pair[1], &cases[c].message, cases[c].len, cases[c].fds, pair[1]);
        int fd = zr_fdpass_recv(pair[0], &got);
        if (cases[c].want == ZR_OK) {
            CHECK(fd >= 0);
            CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
            CHECK_EQ(got.slot, 5);
            close(fd);
        } else {
            CHECK_EQ(fd, cases[c].want);
        }
        CHECK_EQ(fd_count(), before);
    }
    struct rlimit limit, none_left = { .rlim_cur = (rlim_t)pair[1] + 1 };
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none_left.rlim_max = limit.rlim_max;
    fd_send(pair[1], &cases[0].message, 8, 1, pair[1]);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none_left), 0);
    int without = zr_fdpass_recv(pair[0], &got);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(without, ZR_E_nomem);
    CHECK_EQ(got.slot, 5);

    memcpy(much, &cases[0].message, 8);
    fd_send(pair[1], much, sizeof much, 1, pair[1]);
    CHECK_EQ(zr_fdpass_recv(pair[0], &got), ZR_E_malformed);
    CHECK_EQ(fd_count(), before);
    close(pair[1]);
    CHECK_EQ(zr_fdpass_recv(pair[0], &got), ZR_E_closed);
    close(pair[0]);
}
