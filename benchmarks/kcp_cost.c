/*
 * kcp_cost.c - what a segment costs an engine, both ends in one process, for callgrind and for the allocation counter.
 *
 *     kcp_cost ENGINE SCENARIO WARM MEASURED [LIBPYTHON MODULE]
 *
 *     ENGINE     media, compat: ours | stock: the engine in the wheel's extension MODULE
 *     SCENARIO   small  window 256                        WARM, MEASURED in virtual ms
 *                large  window 8192
 *                lossy  window 8192, 10 % of the datagrams lost in both directions
 *                flush window 8192, kept full, output after each message; WARM, MEASURED in messages
 *
 *        app ─▶ a ── 50 ms ─▶ b ─▶ app        1200-byte messages, as many as keep the window full (W per 100 ms)
 *               a ◀─ 50 ms ── b               a turn per burst of 16 or ms; stock flushes on its 10 ms grid
 *
 * What is measured are the engine's calls, the functions engine_*: the slope between a run of WARM and one of WARM +
 * MEASURED. Each engine is called as its user must: ours gets packets of the pool and leaves datagrams in a batch (the
 * one copy of a payload), stock gets and gives plain bytes; what its callback does with a datagram is not its own
 * (entering `output_measured` switches collection off).
 *
 * Prints: segments delivered, datagrams sent while measuring; allocations since the start, -1 when nobody counts.
 */
#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane.h"
#include "kcp/zr_kcp_priv.h"
#include "kcp_stock.h"
#include "sim/zr_rng.h"

enum { BYTES = 1200, HEAD = 16, MTU = 1420, WND = 8192, SLOTS = 32768, PACKETS = 3 * SLOTS, BLOCKS = 2048 };
enum { RTT_MS = 100, BURST = 16, MESSAGES = 4000000 };
/* The product's deadline; and one that lets nothing expire where a hole shuts the window and what is behind it waits:
 * the stock engine delivers everything (README.md). */
enum { DEADLINE_MS = ZR_LANE_DEADLINE_MS, LOSSY_DEADLINE_MS = 800 };

/* By a name that --toggle-collect knows. */
#define CALL __attribute__((noipa))

typedef struct dgram {
    zr_ns_t at;
    size_t len;
    char data[MTU];
} dgram;

typedef struct link {
    dgram *ring;
    uint32_t first, end;
    zr_ns_t delay;
    double loss;
    zr_rng rng;
    uint64_t sent;
} link;

typedef struct end {
    zr_kcp ours;
    stock *stock;
    link *in, *out;
    zr_ns_t now;
    uint32_t inbox, allowed; /* datagrams that arrived, messages that may be sent in this turn */
    uint32_t taken, got;     /* messages sent, and received, in this turn */
    zr_pkt *arrived[SLOTS], *fresh[WND];
    uint8_t heads[WND][HEAD];
    uint32_t numbers[SLOTS]; /* of what was received */
} end;

static struct {
    bool stock, media, at_once;
    uint32_t window;
    uint16_t deadline_ms; /* media */
} run;

static zr_pool pool;
static zr_kcp_blocks blocks;
static zr_batch batch;
static zr_kcp_plan plan;
static link there, back;
static end a, b;
static uint32_t next_number;
static uint64_t delivered;
static uint8_t seen[MESSAGES];
static char message[BYTES];

/* The link. */

static void put(link *l, const void *data, size_t len, zr_ns_t now)
{
    l->sent++;
    if (zr_rng_chance(&l->rng, l->loss))
        return;
    ZR_CHECK(l->end - l->first < SLOTS && len <= MTU);
    dgram *d = &l->ring[l->end++ % SLOTS];
    memcpy(d->data, data, len);
    d->len = len;
    d->at = now + l->delay;
}

static uint32_t arriving(const link *l, zr_ns_t now)
{
    uint32_t n = 0;
    while (l->first + n != l->end && l->ring[(l->first + n) % SLOTS].at <= now)
        n++;
    return n;
}

static const dgram *arrival(const end *e, uint32_t i)
{
    return &e->in->ring[(e->in->first + i) % SLOTS];
}

/* Stock's callback. */
CALL static int output_measured(const char *data, int len, stock *kcp, void *user)
{
    end *e = user;

    (void)kcp;
    put(e->out, data, (size_t)len, e->now);
    return 0;
}

/* The engines' calls: what is inside is counted. */

CALL static void engine_update(end *e)
{
    ikcp.update(e->stock, zr_kcp_ms(e->now));
}

CALL static int engine_stock_input(end *e, const dgram *d)
{
    return ikcp.input(e->stock, d->data, (long)d->len);
}

CALL static int engine_stock_recv(end *e, char *to)
{
    return ikcp.recv(e->stock, to, BYTES);
}

CALL static void engine_stock_send(end *e)
{
    ikcp.send(e->stock, message, BYTES);
}

CALL static void engine_stock_flush(end *e)
{
    ikcp.flush(e->stock);
}

static void stock_turn(end *e)
{
    char to[BYTES];

    engine_update(e);
    for (uint32_t i = 0; i < e->inbox; i++)
        ZR_CHECK(engine_stock_input(e, arrival(e, i)) == 0);
    while (engine_stock_recv(e, to) > 0)
        e->numbers[e->got++] = zr_get32((const uint8_t *)to);
    while (e->taken < e->allowed && (uint32_t)ikcp.waitsnd(e->stock) < run.window) {
        zr_put32((uint8_t *)message, next_number + e->taken++);
        engine_stock_send(e);
    }
    if (run.at_once)
        engine_stock_flush(e);
}

/* Ours. */

CALL static void engine_input(end *e, zr_pkt *pkt)
{
    zr_seg seg;
    size_t pos = 0;
    int drop;

    while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK) {
        ZR_CHECK(zr_kcp_judge(&e->ours, &seg, &drop) == ZR_OK);
        zr_kcp_input_seg(&e->ours, &seg, pkt, e->now);
    }
    zr_kcp_input_end(&e->ours, e->now);
}

CALL static int engine_recv(end *e, zr_slice *view)
{
    return zr_kcp_recv(&e->ours, view, 1);
}

CALL static void engine_deadline(end *e)
{
    if (zr_kcp_deadline(&e->ours) <= e->now)
        zr_kcp_on_deadline(&e->ours, e->now);
}

CALL static int engine_send(end *e, const zr_slice *body)
{
    return zr_kcp_send(&e->ours, e->heads[e->taken], HEAD, body, e->now);
}

CALL static void engine_output(end *e)
{
    static const zr_addr to = { .family = 4 };
    static zr_pack pack;

    if (run.at_once && !run.media)
        zr_kcp_flush(&e->ours);
    zr_pack_begin(&pack, &batch, &to, 0, MTU, 0, 0, run.media);
    ZR_CHECK(zr_kcp_output(&e->ours, &pack, e->now) == ZR_OK);
    zr_pack_finish(&pack);
}

static void ours_turn(end *e)
{
    zr_slice view;

    for (uint32_t i = 0; i < e->inbox; i++) {
        engine_input(e, e->arrived[i]);
        zr_pkt_drop(e->arrived[i]);
    }
    while (engine_recv(e, &view) > 0) {
        e->numbers[e->got++] = zr_get32(zr_slice_data(&view));
        zr_pkt_drop(view.pkt);
    }
    engine_deadline(e);
    while (e->taken < e->allowed && zr_kcp_waiting(&e->ours) < run.window) {
        zr_pkt *pkt = e->fresh[e->taken];
        zr_slice body = { pkt, pkt->off, pkt->len };
        if (engine_send(e, &body) != ZR_OK)
            break;
        zr_pkt_drop(pkt);
        e->fresh[e->taken++] = NULL;
    }
    engine_output(e);
}

/* What surrounds the engine. */

static void bring(end *e)
{
    for (uint32_t i = 0; i < e->inbox; i++) {
        e->arrived[i] = zr_pool_copy(&pool, arrival(e, i)->data, arrival(e, i)->len);
        ZR_CHECK(e->arrived[i] != NULL);
    }
    for (uint32_t i = 0; i < e->allowed; i++) {
        if (e->fresh[i] == NULL)
            e->fresh[i] = zr_pool_copy(&pool, message, BYTES - HEAD);
        ZR_CHECK(e->fresh[i] != NULL);
        zr_put32(e->heads[i], next_number + i);
    }
}

static void take_away(end *e)
{
    for (uint32_t i = 0; i < batch.count; i++)
        put(e->out, batch.tx[i].data, batch.tx[i].len, e->now);
    zr_batch_reset(&batch);
}

static void note(const end *e)
{
    for (uint32_t i = 0; i < e->got; i++) {
        ZR_CHECK(e->numbers[i] < next_number && seen[e->numbers[i]]++ == 0);
        delivered++;
    }
}

/* Answers how many messages were taken of those allowed. */
static uint32_t turn(end *e, zr_ns_t now, uint32_t inbox, uint32_t allowed)
{
    e->now = now;
    e->inbox = inbox;
    e->allowed = allowed;
    e->taken = e->got = 0;
    if (run.stock) {
        stock_turn(e);
    } else {
        bring(e);
        ours_turn(e);
        take_away(e);
    }
    e->in->first += inbox;
    next_number += e->taken;
    ZR_CHECK(next_number < MESSAGES && e->got <= SLOTS);
    note(e);
    return e->taken;
}

/* A turn of both ends per burst; what the window does not take waits, up to a window of it. */
static zr_ns_t by_the_clock(zr_ns_t now, uint32_t ms, uint32_t credit)
{
    static double owed;
    zr_ns_t until = now + ZR_MS((zr_ns_t)ms), step = ZR_MAX(ZR_MS(RTT_MS) * BURST / run.window, ZR_MS(1));
    double each = (double)run.window * (double)step / (double)ZR_MS(RTT_MS);

    for (; now < until; now += step) {
        owed = ZR_MIN(owed + each, (double)ZR_MIN(credit, run.window));
        turn(&b, now, arriving(&there, now), 0);
        owed -= turn(&a, now, arriving(&back, now), (uint32_t)owed);
    }
    return now;
}

/* The sender flushes after each message it is given; what arrived is taken in, and answered, once per millisecond. */
static zr_ns_t by_the_packet(zr_ns_t now, uint32_t packets)
{
    enum { PER_MS = WND / RTT_MS };

    for (uint32_t i = 0; i < packets; i++, now += ZR_MS(1) / PER_MS) {
        if (i % PER_MS == 0)
            turn(&b, now, PER_MS, 0);
        turn(&a, now, i % PER_MS == 0 ? arriving(&back, now) : 0, 1);
    }
    return now;
}

/* A first round trip tells both ends what there is to know: from then on the window is theirs to fill. */
static zr_ns_t meet(zr_ns_t now)
{
    now = by_the_clock(now, 1, 1);
    return by_the_clock(now, 3 * RTT_MS, 0);
}

/* A window goes out and none of it arrives. */
static zr_ns_t fill(zr_ns_t now)
{
    there.delay = back.delay = 0;
    for (uint32_t i = 0, left = WND; i < RTT_MS + 10; i++, now += ZR_MS(1))
        left -= turn(&a, now, 0, ZR_MIN(left, WND / RTT_MS + 1));
    run.at_once = true;
    return now;
}

static void open_ours(end *e, zr_ns_t now)
{
    zr_kcp_conf conf = run.media ? zr_kcp_conf_media(7) : zr_kcp_conf_compat(7);

    conf.mtu = MTU;
    conf.snd_wnd = conf.rcv_wnd = run.window;
    conf.deadline_ms = run.media ? run.deadline_ms : 0;
    conf.plan = &plan;
    ZR_CHECK(zr_kcp_init(&e->ours, &conf, &blocks, &pool, now) == ZR_OK);
}

static void open_all(zr_ns_t now, double loss)
{
    there = (link){ .ring = bench_memory(SLOTS * sizeof(dgram)), .delay = ZR_MS(RTT_MS / 2), .loss = loss };
    back = (link){ .ring = bench_memory(SLOTS * sizeof(dgram)), .delay = ZR_MS(RTT_MS / 2), .loss = loss };
    zr_rng_seed(&there.rng, 1);
    zr_rng_seed(&back.rng, 2);
    a.out = b.in = &there;
    a.in = b.out = &back;
    if (run.stock) {
        a.stock = stock_turbo(7, run.window, MTU, output_measured, &a);
        b.stock = stock_turbo(7, run.window, MTU, output_measured, &b);
        return;
    }
    zr_kcp_plan_init(&plan, ZR_LANE_RESIDUAL, ZR_LANE_MAX_OVERHEAD);
    ZR_CHECK(zr_pool_init(&pool, bench_memory(zr_pool_bytes(PACKETS)), PACKETS) == ZR_OK &&
             zr_kcp_blocks_init(&blocks, bench_memory(zr_kcp_blocks_bytes(BLOCKS)), BLOCKS) == ZR_OK &&
             zr_batch_init(&batch, bench_memory(zr_batch_bytes(SLOTS, SLOTS * MTU)), SLOTS, SLOTS * MTU) == ZR_OK);
    open_ours(&a, now);
    open_ours(&b, now);
}

static uint64_t none(void)
{
    return 0;
}

int main(int argc, char **argv)
{
    zr_ns_t now = ZR_MS(1000);
    uint64_t (*allocations)(void) = none;
    void *counter = dlsym(RTLD_DEFAULT, "zr_allocations");

    ZR_CHECK(argc >= 5);
    bool each = strcmp(argv[2], "flush") == 0;
    uint32_t warm = (uint32_t)atoi(argv[3]), measured = (uint32_t)atoi(argv[4]);
    run.stock = strcmp(argv[1], "stock") == 0;
    run.media = strcmp(argv[1], "media") == 0;
    bool lossy = strcmp(argv[2], "lossy") == 0;
    run.window = strcmp(argv[2], "small") == 0 ? 256 : WND;
    run.deadline_ms = lossy ? LOSSY_DEADLINE_MS : DEADLINE_MS;
    if (run.stock) {
        ZR_CHECK(argc == 7);
        stock_load(argv[5], argv[6]);
    }
    if (counter != NULL)
        memcpy(&allocations, &counter, sizeof counter);
    open_all(now, lossy ? 0.1 : 0);
    uint64_t started = allocations();
    now = meet(now);
    if (each)
        now = fill(now);
    now = each ? by_the_packet(now, warm) : by_the_clock(now, warm, run.window);
    uint64_t segments = delivered, datagrams = there.sent + back.sent;
    now = each ? by_the_packet(now, measured) : by_the_clock(now, measured, run.window);
    ZR_CHECK(!run.media || zr_kcp_counted(&a.ours)->expired + zr_kcp_counted(&b.ours)->holes == 0);
    long long asked = counter == NULL ? -1 : (long long)(allocations() - started);
    printf("%llu %llu %lld\n", (unsigned long long)(delivered - segments),
           (unsigned long long)(there.sent + back.sent - datagrams), asked);
    return 0;
}
