/* Rows of the errno table (zr_udp_tx.h) that need time or a process of their own, on real sockets. The others stand in
 * udp_test.c: whatever_sendmmsg_answers..., a_route_without_udp_segment... */
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/zr_err.h"
#include "net/zr_udp_tx.h"
#include "zr_test.h"

enum { ENTRIES = 128, SIZE = 1000 };

static const zr_addr here = { .ip = { 127, 0, 0, 1 }, .family = 4 };

typedef struct rig {
    zr_stat_page *page;
    zr_batch batch;
    zr_udp_tx *tx;
    zr_udp_sock socks[2];
    int player;
    zr_addr to, dark; /* the player; the same port of a host that `dark_host` refuses */
    zr_ns_t now;
    void *mem[3];
} rig;

static rig rig_open(const zr_udp_calls *calls)
{
    rig r = { .mem = { zr_test_memory(zr_stat_bytes(0)), zr_test_memory(zr_batch_bytes(ENTRIES, 1 << 20)),
                       zr_test_memory(zr_udp_tx_bytes(ENTRIES, 0)) },
              .now = ZR_SEC(7) };

    r.page = r.mem[0];
    CHECK_EQ(zr_stat_init(r.page, 0), ZR_OK);
    CHECK_EQ(zr_batch_init(&r.batch, r.mem[1], ENTRIES, 1 << 20), ZR_OK);
    r.tx = zr_udp_tx_init(r.mem[2], ENTRIES, 0, false, calls);
    for (int i = 0; i < 2; i++)
        CHECK_EQ(zr_udp_sock_of(&r.socks[i], zr_udp_open(&here, 0, 0, 0)), ZR_OK);
    r.player = zr_udp_open(&here, 4 << 20, 0, 0);
    CHECK_EQ(zr_udp_bound(r.player, &r.to), ZR_OK);
    r.dark = r.to;
    r.dark.ip[3] = 2;
    return r;
}

static void rig_close(rig *r)
{
    CHECK_EQ(zr_ledger_off(r->page, ZR_LEDGER_egress), 0);
    for (int i = 0; i < 2; i++)
        close(r->socks[i].fd);
    close(r->player);
    for (size_t i = 0; i < ZR_LEN(r->mem); i++)
        free(r->mem[i]);
}

static void put(rig *r, const zr_addr *to, bool urgent)
{
    uint8_t *at = zr_batch_reserve(&r->batch, SIZE);

    CHECK(at != NULL);
    memset(at, 0, SIZE);
    zr_batch_commit(&r->batch, to, ZR_SOCK_EGRESS, SIZE);
    r->batch.tx[r->batch.count - 1].urgent = urgent;
}

static int go(rig *r)
{
    int rc = zr_udp_send(r->tx, r->socks, 2, &r->batch, r->page, r->now);

    if (rc == ZR_OK)
        zr_batch_reset(&r->batch);
    return rc;
}

static uint64_t stat_of(const rig *r, enum zr_stat_id id)
{
    return atomic_load(&r->page->stat[id]);
}

static uint64_t drops_of(const rig *r, enum zr_drop_id id)
{
    return atomic_load(&r->page->drop[id]);
}

/* How many datagrams the player has got since it was last asked. */
static uint64_t played(rig *r)
{
    uint8_t got[SIZE + 1];
    uint64_t count = 0;

    while (recv(r->player, got, sizeof got, MSG_DONTWAIT) == SIZE)
        count++;
    return count;
}

static int fail_errno, fail_left, calls_made;

static int fail_first(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    calls_made++;
    if (fail_left == 0)
        return sendmmsg(fd, msgs, count, flags);
    fail_left--;
    errno = fail_errno;
    return -1;
}

/* As the kernel does: what stands before a message to 127.0.0.2 goes, and the next call says why that one does not. */
static int dark_host(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    for (unsigned i = 0; i < count; i++) {
        const struct sockaddr_in *to = msgs[i].msg_hdr.msg_name;
        if (fail_errno == 0 || ntohl(to->sin_addr.s_addr) != INADDR_LOOPBACK + 1)
            continue;
        if (i > 0)
            return sendmmsg(fd, msgs, i, flags);
        calls_made++;
        errno = fail_errno;
        return -1;
    }
    return sendmmsg(fd, msgs, count, flags);
}

static const zr_udp_calls failing = { .sendmmsg = fail_first }, darkened = { .sendmmsg = dark_host };

ZR_TEST(ebadf_enotsock_and_efault_are_our_bug_and_end_the_worker)
{
    static const int errors[] = { EBADF, ENOTSOCK, EFAULT };

    for (size_t e = 0; e < ZR_LEN(errors); e++) {
        rig r = rig_open(&failing);
        int status;
        put(&r, &r.to, false);
        fail_errno = errors[e];
        fail_left = 1;
        pid_t child = fork();
        if (child == 0) {
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(1);
            (void)go(&r);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
        rig_close(&r);
    }
}

ZR_TEST(enobufs_and_enomem_drop_the_packet_unless_it_is_audio_which_is_tried_again_each_millisecond)
{
    static const struct {
        int error, times;
        bool urgent;
        int waits;
        uint64_t sent;
    } cases[] = {
        { ENOBUFS, 1, false, 0, 0 }, { ENOMEM, 1, false, 0, 0 }, { ENOBUFS, 1, true, 1, 1 },
        { ENOMEM, 3, true, 3, 1 },   { ENOBUFS, 4, true, 3, 0 },
    };

    for (size_t c = 0; c < ZR_LEN(cases); c++) {
        rig r = rig_open(&failing);
        int waits = 0;
        put(&r, &r.to, cases[c].urgent);
        fail_errno = cases[c].error;
        fail_left = cases[c].times;
        for (; go(&r) == ZR_E_again && waits < 10; waits++) {
            CHECK_EQ(zr_udp_tx_resume(r.tx), r.now + ZR_MS(1));
            CHECK(!zr_udp_tx_full(r.tx)); /* no use to wait for room */
            r.now = zr_udp_tx_resume(r.tx);
        }
        CHECK_EQ(waits, cases[c].waits);
        CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), cases[c].sent);
        CHECK_EQ(drops_of(&r, ZR_DROP_tx_nobufs), 1 - cases[c].sent);
        CHECK_EQ(stat_of(&r, ZR_STAT_tx_paced), 1);
        CHECK_EQ(played(&r), cases[c].sent);
        rig_close(&r);
    }
}

/* Bytes a millisecond that leave in `ms` milliseconds when `packets` are due in each. */
static uint64_t rate_over(rig *r, int ms, int packets)
{
    uint64_t before = stat_of(r, ZR_STAT_tx_bytes);
    zr_ns_t end = r->now + ZR_MS(ms);

    while (r->now < end) {
        zr_ns_t next = r->now + ZR_MS(1);
        for (int i = 0; i < packets; i++)
            put(r, &r->to, false);
        while (go(r) == ZR_E_again && zr_udp_tx_resume(r->tx) < next)
            r->now = zr_udp_tx_resume(r->tx);
        zr_udp_tx_give_up(r->tx, r->page); /* what was not settled is for nobody: the next millisecond has its own */
        zr_batch_reset(&r->batch);
        r->now = next;
        (void)played(r);
    }
    return (stat_of(r, ZR_STAT_tx_bytes) - before) / (uint64_t)ms;
}

ZR_TEST(after_enobufs_what_leaves_is_a_fifth_less_for_100_ms_and_then_as_before)
{
    rig r = rig_open(&failing);

    fail_left = 0;
    CHECK_EQ(rate_over(&r, 50, 20), 20 * SIZE);
    fail_errno = ENOBUFS;
    fail_left = 1;
    uint64_t paced = rate_over(&r, 100, 20);
    CHECK(paced > 20 * SIZE * 3 / 4 && paced <= 20 * SIZE * 4 / 5 + SIZE / 10);
    CHECK_EQ(drops_of(&r, ZR_DROP_tx_nobufs), 1);
    CHECK_EQ(rate_over(&r, 50, 20), 20 * SIZE);
    CHECK_EQ(stat_of(&r, ZR_STAT_tx_paced), 1);
    rig_close(&r);
}

/* A card that sends a packet each millisecond and holds eight: what is more it refuses. */
enum { CARD_HOLDS = 8 };
static struct {
    const zr_ns_t *now;
    zr_ns_t since; /* when the packet at its head began to go */
    unsigned held;
} card;

static int full_card(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    unsigned gone = (unsigned)((*card.now - card.since) / ZR_MS(1));

    (void)fd;
    (void)msgs;
    (void)flags;
    card.since = gone < card.held ? card.since + gone * ZR_MS(1) : *card.now;
    card.held -= ZR_MIN(gone, card.held);
    count = ZR_MIN(count, CARD_HOLDS - card.held);
    card.held += count;
    errno = ENOBUFS;
    return count > 0 ? (int)count : -1;
}

/* What left from 500 ms to 2 s, in thousandths of what the card can send; how many it refused in this time. `late`: of
 * every wake-up. */
static uint64_t through_card(rig *r, unsigned due_in_100_ms, bool urgent, zr_ns_t late, uint64_t *refused)
{
    uint64_t due = 0, put_in = 0, sent = 0;
    zr_ns_t begin = r->now, next;
    int rc = ZR_OK;

    card.now = &r->now;
    card.since = r->now;
    card.held = 0;
    for (; r->now < begin + ZR_SEC(2); r->now = next) {
        due = (uint64_t)(r->now - begin) * due_in_100_ms / ZR_MS(100);
        if (sent == 0 && r->now >= begin + ZR_MS(500)) {
            sent = stat_of(r, ZR_STAT_tx_sent);
            *refused = drops_of(r, ZR_DROP_tx_nobufs);
        }
        while (rc == ZR_OK && r->batch.count < ENTRIES && put_in < due) {
            put(r, &r->to, urgent);
            put_in++;
        }
        rc = go(r);
        next = rc == ZR_OK ? r->now + ZR_US(800) : zr_udp_tx_resume(r->tx);
        next = ZR_MAX(next, r->now + ZR_US(100)) + late;
    }
    *refused = drops_of(r, ZR_DROP_tx_nobufs) - *refused;
    return (stat_of(r, ZR_STAT_tx_sent) - sent) * 1000 / 1500;
}

/* What it can send is 1 500 packets of the 1 800. */
ZR_TEST(a_card_that_is_full_all_the_time_is_kept_busy_and_refuses_less_than_one_packet_in_a_hundred)
{
    for (int urgent = 0; urgent < 2; urgent++)
        for (int late = 0; late < 5; late++) {
            static const zr_udp_calls calls = { .sendmmsg = full_card };
            rig r = rig_open(&calls);
            uint64_t refused, share = through_card(&r, 120, urgent, ZR_MS(late), &refused);
            CHECK(share >= 950);
            CHECK(urgent ? refused == 0 : refused > 0 && refused < 1800 / 100);
            zr_udp_tx_give_up(r.tx, r.page);
            rig_close(&r);
        }
}

ZR_TEST(a_host_out_of_reach_is_left_out_for_1_to_50_ms_and_the_others_of_the_batch_get_theirs)
{
    static const int errors[] = {
        ENETUNREACH, EHOSTUNREACH, ENETDOWN, EHOSTDOWN, EADDRNOTAVAIL, EINVAL, EPERM, EACCES
    };

    for (size_t e = 0; e < ZR_LEN(errors); e++) {
        rig r = rig_open(&darkened);
        zr_ns_t asked = 0, gap, last = 0, longest = 0;
        fail_errno = errors[e];
        for (int ms = 0; ms < 3000; ms++, r.now += ZR_MS(1)) {
            put(&r, &r.to, false);
            put(&r, &r.dark, false);
            put(&r, &r.to, false);
            calls_made = 0;
            CHECK_EQ(go(&r), ZR_OK);
            CHECK_EQ(played(&r), 2);
            if (calls_made == 0)
                continue;
            gap = asked == 0 ? ZR_MS(1) : r.now - asked;
            CHECK(gap >= ZR_MS(1) && gap <= ZR_MS(51) && gap >= last);
            longest = gap;
            last = gap;
            asked = r.now;
        }
        CHECK(longest >= ZR_MS(50));
        CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 6000);
        CHECK_EQ(drops_of(&r, ZR_DROP_tx_refused) + drops_of(&r, ZR_DROP_tx_skipped), 3000);
        CHECK(drops_of(&r, ZR_DROP_tx_refused) < 200);
        fail_errno = 0; /* within reach again: within 50 ms it has its packets, and no gap any more */
        r.now += ZR_MS(50);
        for (int i = 0; i < 10; i++, r.now += ZR_MS(1)) {
            put(&r, &r.dark, false);
            CHECK_EQ(go(&r), ZR_OK);
        }
        CHECK_EQ(stat_of(&r, ZR_STAT_tx_sent), 6010);
        rig_close(&r);
    }
}
