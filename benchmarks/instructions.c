/*
 * instructions.c - what one media packet costs the data plane, for callgrind: no sockets, only zr_fwd.
 *
 *     instructions rtp N             publisher ─▶ relay ─▶ N RTP subscribers
 *     instructions mesh WHO          publisher ─▶ origin ─KCP─▶ middle ─KCP─▶ edge ─▶ RTP subscriber
 *     instructions sealed WHO        the same under keys
 *
 * Only what happens below `counted` is of interest: turns of the relay asked for, after the warm-up. A turn is what
 * the worker does between two system calls, with one packet each: no batching helps.
 */
#include "fwd_rig.h"

enum { WARM_UP = 500, PACKETS = 2000, RTP_BYTES = 1100, INBOX = 8, BATCH = 64 };

typedef struct dgram {
    uint8_t data[1600];
    size_t len;
    uint16_t sock;
    zr_addr from;
} dgram;

typedef struct relay {
    rig rig;
    uint8_t host;
    dgram in[INBOX];
    uint32_t in_count;
} relay;

static bool sealed;

void zr_test_register(zr_test *test)
{
    (void)test;
}

_Noreturn void zr_test_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

/* Inputs, deadlines, fan-out, output; the batch stays full for `deliver` and is emptied by the next turn. */
static void turn(relay *r)
{
    zr_fwd *fwd = r->rig.fwd;

    zr_batch_reset(&r->rig.batch);
    for (uint32_t i = 0; i < r->in_count; i++) {
        const dgram *d = &r->in[i];
        zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(fwd), d->data, d->len);
        if (d->sock == ZR_SOCK_LINK)
            (void)zr_fwd_link_input(fwd, pkt, &d->from, r->rig.now);
        else
            (void)zr_fwd_ingress_input(fwd, 0, pkt, &d->from, r->rig.now);
    }
    r->in_count = 0;
    if (zr_fwd_deadline(fwd) <= r->rig.now)
        zr_fwd_on_deadline(fwd, r->rig.now);
    (void)zr_fwd_fan_out(fwd, r->rig.now);
    (void)zr_fwd_output(fwd, &r->rig.batch, r->rig.now);
}

void counted(relay *r);

/* The name that --toggle-collect knows. */
__attribute__((noinline)) void counted(relay *r)
{
    turn(r);
}

static void put(relay *r, const void *data, size_t len, uint16_t sock, zr_addr from)
{
    dgram *d = &r->in[r->in_count++];

    CHECK(r->in_count < INBOX && len <= sizeof d->data);
    memcpy(d->data, data, len);
    d->len = len;
    d->sock = sock;
    d->from = from;
}

/* What the last turn of `r` sent: link datagrams into the neighbours' inboxes; answers how many RTP packets left. */
static uint32_t deliver(relay *r, relay *relays, uint32_t count)
{
    uint32_t rtp = 0;

    for (uint32_t i = 0; i < r->rig.batch.count; i++) {
        const zr_tx *tx = &r->rig.batch.tx[i];
        rtp += tx->sock == ZR_SOCK_EGRESS;
        for (uint32_t k = 0; tx->sock == ZR_SOCK_LINK && k < count; k++)
            if (relays[k].host == tx->to.ip[3])
                put(&relays[k], tx->data, tx->len, ZR_SOCK_LINK, rig_addr(r->host, 7001));
    }
    return rtp;
}

static void publish(relay *r, uint32_t number)
{
    uint8_t data[RTP_BYTES] = { 0 };

    rig_rtp(data, false, (uint16_t)number, number * 90, number % 60 == 0);
    put(r, data, sizeof data, ZR_SOCK_INGRESS, rig_addr(9, 5000));
}

static void subscribe(relay *r, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        DO(&r->rig, .op = ZR_CMD_sub_add, .a = i, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(8, (uint16_t)(6000 + i)));
}

/* One packet through all relays, then the acknowledgements back; answers how many RTP packets left. */
static uint32_t cross(relay *relays, uint32_t count, const relay *who, bool count_it)
{
    uint32_t rtp = 0;

    for (uint32_t i = 0; i < 2 * count - 1; i++) {
        relay *r = &relays[i < count ? i : 2 * count - 2 - i];
        (r == who && count_it ? counted : turn)(r);
        rtp += deliver(r, relays, count);
    }
    return rtp;
}

static uint32_t run(relay *relays, uint32_t count, const relay *who)
{
    uint32_t rtp = 0;

    for (uint32_t number = 0; number < WARM_UP + PACKETS; number++) {
        for (uint32_t i = 0; i < count; i++)
            relays[i].rig.now += ZR_MS(1);
        publish(&relays[0], number);
        rtp += cross(relays, count, who, number >= WARM_UP);
    }
    return rtp;
}

/* Sealed: each host's secret to send is its number, over and over; the lower one has begun the handshake. */
static void tell_keys(relay *r, uint32_t session, uint8_t peer)
{
    for (uint32_t part = 0; part < 4; part++) {
        uint64_t half = 0x0101010101010101u * (part < 2 ? r->host : peer);
        DO(&r->rig, .op = ZR_CMD_session_secret, .a = session, .b = part,
           .c = ZR_CIPHER_AES_128_GCM | (r->host < peer ? 256u : 0u), .x = half, .y = half);
    }
}

static void know(relay *r, uint32_t session, uint8_t peer)
{
    if (sealed)
        tell_keys(r, session, peer);
    DO(&r->rig, .op = ZR_CMD_session_add, .a = session, .b = r->host * 16u + peer, .c = peer * 16u + r->host,
       .d = 1 | (sealed ? 256u : 0u), .y = 1420, .addr = rig_addr(peer, 7000));
}

static void open_mesh(relay relays[3])
{
    for (uint8_t i = 0; i < 3; i++) {
        relays[i].host = (uint8_t)(i + 1);
        rig_open(&relays[i].rig, 0, BATCH);
    }
    rig_publish(&relays[0].rig, 0);
    for (uint8_t i = 1; i < 3; i++) {
        relay *parent = &relays[i - 1], *child = &relays[i];
        rig_stream(&child->rig, false, 0);
        know(parent, 1, child->host);
        know(child, 0, parent->host);
        DO(&child->rig, .op = ZR_CMD_pull_start, .a = 0, .b = 0, .c = 5, .d = 0);
        DO(&parent->rig, .op = ZR_CMD_child_add, .a = 9, .b = 0, .c = 1, .d = 5);
    }
    subscribe(&relays[2], 1);
}

int main(int argc, char **argv)
{
    static relay relays[3];
    const char *const names[] = { "origin", "middle", "edge" };
    uint32_t rtp = 0, subs = 1;

    CHECK(argc == 3);
    if (strcmp(argv[1], "rtp") == 0) {
        subs = (uint32_t)atoi(argv[2]);
        CHECK(subs >= 1 && subs <= 16);
        rig_open(&relays[0].rig, 0, BATCH);
        rig_publish(&relays[0].rig, 0);
        subscribe(&relays[0], subs);
        rtp = run(relays, 1, &relays[0]);
    } else {
        sealed = strcmp(argv[1], "sealed") == 0;
        open_mesh(relays);
        for (uint32_t i = 0; i < 3; i++)
            if (strcmp(argv[2], names[i]) == 0)
                rtp = run(relays, 3, &relays[i]);
    }
    CHECK_EQ(rtp, (WARM_UP + PACKETS) * subs);
    printf("%d\n", PACKETS);
    return 0;
}
