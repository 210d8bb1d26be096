/* A sender against a kernel that answers at random: whatever it says, each datagram is taken once or dropped once, in
 * order, and the ledger holds at every moment. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#include "base/zr_err.h"
#include "net/zr_udp_tx.h"
#include "sim/zr_rng.h"
#include "zr_test.h"

enum { ENTRIES = 64, FANS = 32, DESTS = 12, ROUNDS = 4000 };

static uint32_t below(zr_rng *rng, uint32_t n)
{
    return (uint32_t)zr_rng_below(rng, n);
}

static const int errors[] = { EINTR,  EAGAIN,      EAGAIN,       ECONNREFUSED, ENOBUFS,       ENOMEM, EIO,
                              EINVAL, ENETUNREACH, EHOSTUNREACH, ENETDOWN,     EADDRNOTAVAIL, EPERM,  EMSGSIZE };

static struct kernel {
    zr_rng rng;
    uint32_t error_ppm, short_ppm;
    uint64_t taken;
    uint8_t seen[DESTS][ENTRIES]; /* how often this entry was taken for this destination */
    uint8_t last[2][DESTS];       /* entry taken last, by socket: order */
} kernel;

/* Cuts a message as the kernel does; an entry's first byte is its number. */
static void take(int sock, const struct msghdr *msg)
{
    static uint8_t flat[65536];
    size_t len = 0, size;
    struct sockaddr_in to;
    const struct cmsghdr *c = msg->msg_control;

    CHECK_EQ(msg->msg_namelen, sizeof to);
    memcpy(&to, msg->msg_name, sizeof to);
    uint32_t dest = ntohs(to.sin_port) - 1000u;
    CHECK(dest < DESTS);
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        memcpy(flat + len, msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
        len += msg->msg_iov[i].iov_len;
    }
    size = len;
    if (msg->msg_controllen > 0) {
        uint16_t segment;
        memcpy(&segment, CMSG_DATA(c), sizeof segment);
        size = segment;
    }
    for (size_t at = 0; at < len; at += size) {
        uint8_t entry = flat[at];
        CHECK(entry < ENTRIES);
        CHECK_EQ(kernel.seen[dest][entry], 0);
        CHECK(entry >= kernel.last[sock][dest]);
        for (size_t i = at; i < ZR_MIN(at + size, len); i++)
            CHECK_EQ(flat[i], entry); /* whole, and nothing of a neighbour's */
        kernel.seen[dest][entry]++;
        kernel.last[sock][dest] = entry;
        kernel.taken++;
    }
}

static int send_at_random(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    (void)flags;
    CHECK(count > 0 && count <= 1024);
    if (below(&kernel.rng, 1000000) < kernel.error_ppm) {
        errno = errors[below(&kernel.rng, ZR_LEN(errors))];
        return -1;
    }
    if (below(&kernel.rng, 1000000) < kernel.short_ppm)
        count = below(&kernel.rng, count + 1); /* also 0 */
    for (unsigned i = 0; i < count; i++)
        take(fd - 1, &msgs[i].msg_hdr);
    return (int)count;
}

static const zr_udp_calls random_calls = { .sendmmsg = send_at_random };

static uint64_t dropped(const zr_stat_page *page)
{
    uint64_t count = 0;
    for (int id = 0; id < ZR_DROP_COUNT; id++)
        count += atomic_load(&page->drop[id]);
    return count;
}

static zr_addr dest(uint32_t number)
{
    return (zr_addr){ .ip = { 127, 0, 0, (uint8_t)(1 + number / 3) }, .port = (uint16_t)(1000 + number), .family = 4 };
}

/* A batch as forwarders make them: packets for one destination in a row, some of them for others too. Each destination
 * gets each entry at most once. */
static void make(zr_batch *batch, zr_rng *rng)
{
    uint32_t count = 1 + below(rng, ENTRIES);

    while (batch->count < count) {
        uint32_t run = 1 + below(rng, ZR_MIN(10, count - batch->count)), first = batch->count;
        uint32_t len = 1 + below(rng, 300), to = below(rng, DESTS);
        uint16_t sock = below(rng, 4) == 0 ? ZR_SOCK_LINK : ZR_SOCK_EGRESS;
        for (uint32_t i = 0; i < run; i++) {
            size_t bytes = below(rng, 5) == 0 ? 1 + below(rng, 300) : len;
            uint8_t *data = zr_batch_reserve(batch, bytes);
            const zr_addr where = dest(to);
            memset(data, (int)batch->count, bytes);
            zr_batch_commit(batch, &where, sock, bytes);
            batch->tx[batch->count - 1].urgent = below(rng, 8) == 0;
        }
        for (uint32_t other = 0; other < DESTS && sock == ZR_SOCK_EGRESS && run % 2 == 0; other++) {
            const zr_addr where = dest(other);
            if (other != to && zr_batch_fan(batch, &where, first, run) != ZR_OK)
                break;
        }
    }
}

static void run(uint32_t error_ppm, uint32_t short_ppm, bool gso, uint64_t seed)
{
    zr_stat_page *page = zr_test_memory(zr_stat_bytes(0));
    void *mem[] = { zr_test_memory(zr_batch_bytes(ENTRIES, 1 << 16)), zr_test_memory(zr_batch_fan_bytes(FANS)),
                    zr_test_memory(zr_udp_tx_bytes(ENTRIES, FANS)) };
    const zr_udp_sock socks[2] = { { .fd = 1, .family = 4 }, { .fd = 2, .family = 4 } };
    zr_udp_tx *tx = zr_udp_tx_init(mem[2], ENTRIES, FANS, gso, &random_calls);
    zr_batch batch;
    zr_rng rng;
    zr_ns_t now = ZR_SEC(1);

    zr_rng_seed(&rng, seed);
    zr_rng_seed(&kernel.rng, seed + 1);
    kernel.taken = 0;
    CHECK_EQ(zr_stat_init(page, 0), ZR_OK);
    CHECK_EQ(zr_batch_init(&batch, mem[0], ENTRIES, 1 << 16), ZR_OK);
    zr_batch_add_fans(&batch, mem[1], FANS);
    kernel.error_ppm = error_ppm;
    kernel.short_ppm = short_ppm;
    for (int round = 0; round < ROUNDS; round++, now += ZR_MS(1)) {
        memset(kernel.seen, 0, sizeof kernel.seen);
        memset(kernel.last, 0, sizeof kernel.last);
        make(&batch, &rng);
        int waits = 0;
        bool done = false;
        while (!done && waits++ < 10000) {
            done = zr_udp_send(tx, socks, 2, &batch, page, now) == ZR_OK;
            CHECK_EQ(zr_ledger_off(page, ZR_LEDGER_egress), 0);
            CHECK_EQ(atomic_load(&page->stat[ZR_STAT_tx_sent]), kernel.taken);
            if (!done && below(&rng, 50) == 0) { /* its owner does not want to wait */
                zr_udp_tx_give_up(tx, page);
                CHECK_EQ(zr_ledger_off(page, ZR_LEDGER_egress), 0);
                break;
            }
            if (!done)
                now = ZR_MAX(now, zr_udp_tx_resume(tx));
        }
        CHECK(waits < 10000);
        CHECK_EQ(atomic_load(&page->stat[ZR_STAT_tx_waiting]), 0);
        CHECK_EQ(atomic_load(&page->stat[ZR_STAT_tx_due]), kernel.taken + dropped(page));
        if (error_ppm == 0 && short_ppm == 0)
            CHECK_EQ(dropped(page), 0);
        zr_batch_reset(&batch);
    }
    for (size_t i = 0; i < ZR_LEN(mem); i++)
        free(mem[i]);
    free(page);
}

ZR_TEST(each_datagram_is_taken_once_or_dropped_once_whatever_the_kernel_answers)
{
    run(0, 0, true, 1);
    run(0, 500000, true, 2);
    run(100000, 300000, true, 3);
    run(500000, 500000, true, 4);
    run(300000, 300000, false, 5);
}
