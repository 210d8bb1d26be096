/*
 * kcp_pairs.c - how many conversations of 500 kbit/s a core carries: 5 000 pairs of ours and of the wheel's, in turn.
 *
 *     kcp_pairs SECONDS ROUNDS LIBPYTHON MODULE
 *
 *        app ─▶ a[i] ── 50 ms ─▶ b[i] ─▶ app        a 1200-byte message each 19.2 ms, the pairs evenly apart
 *               a[i] ◀─ 50 ms ── b[i]               turns of 1 virtual ms: what arrived, what is due, what is sent
 *
 * Both are driven by their own deadlines through a zr_wheel: ours as the lane does it (zr_kcp_turn), stock by its
 * check. Measured is the CPU time of the engines' part of each turn, up to the datagrams that lie in a batch, ready for
 * one system call; carrying them over is the network's work and stays outside.
 *
 * Prints a line a round, "ENGINE SEGMENTS CPU_NS", then "idle BYTES" once nothing is in flight any more.
 */
#include <sys/mman.h>
#include <time.h>

#include "base/zr_bytes.h"
#include "base/zr_err.h"
#include "forward/zr_lane_priv.h"
#include "kcp_stock.h"
#include "time/zr_wheel.h"

enum {
    PAIRS = 5000,
    ENDS = 2 * PAIRS,
    BYTES = 1200,
    HEAD = 16,
    MTU = 1420,
    WND = 256,
    DELAY_MS = 50,
    WARM_MS = 3000,
    AHEAD = 6
};
enum { FLYING = 1 << 17, TURN = 8192, PACKETS = 100000, BLOCKS = 60000 };

#define EVERY (ZR_MS(192) / 10) /* 1200 bytes at 500 kbit/s */

typedef struct dgram {
    zr_ns_t at;
    uint32_t to, len;
    uint64_t where; /* in world->bytes, counted on */
} dgram;

typedef struct end {
    zr_timer timer;
    stock *stock;
    uint32_t self;
    bool dirty;
    zr_kcp ours;
} end;

typedef struct world { /* of one engine */
    bool ours;
    zr_ns_t now;
    end *ends;
    zr_wheel wheel;
    zr_ns_t *send_at; /* of each pair */
    dgram *flying;
    uint32_t first, last;
    uint8_t *bytes; /* a ring; no datagram passes its end */
    uint64_t bytes_used;
    zr_batch batch;
    uint32_t *batch_to;
    uint64_t got, sent;
    double cpu_ns;
} world;

enum { RING = 1 << 27 };

static zr_pool pool;
static zr_kcp_blocks blocks;
static zr_kcp_plan plan;
static world *current;
static char message[BYTES];

/* What a turn works on. */
static zr_pkt *arrived[TURN], *fresh[TURN];
static uint32_t arrivals, senders[TURN], sender_count, dirty[ENDS], dirty_count;

/* Huge pages, as a worker's memory lies in (the wheel's engine asks malloc); touched, so that no page's first use falls
 * into a measurement. */
static void *touched_memory(size_t bytes)
{
    size_t huge = (size_t)2 << 20, all = zr_round_up(bytes, huge);
    void *mem = aligned_alloc(huge, all);

    ZR_CHECK(mem != NULL);
    (void)madvise(mem, all, MADV_HUGEPAGE);
    return memset(mem, 0, all);
}

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static const dgram *arrival(const world *w, uint32_t i)
{
    return &w->flying[(w->first + i) % FLYING];
}

static const uint8_t *contents(const world *w, const dgram *d)
{
    return w->bytes + d->where % RING;
}

static void put(world *w, uint32_t to, const uint8_t *data, size_t len)
{
    ZR_CHECK(w->last - w->first < FLYING);
    if (w->bytes_used % RING + len > RING)
        w->bytes_used += RING - w->bytes_used % RING;
    memcpy(w->bytes + w->bytes_used % RING, data, len);
    w->flying[w->last++ % FLYING] =
        (dgram){ .at = w->now + ZR_MS(DELAY_MS), .to = to, .len = (uint32_t)len, .where = w->bytes_used };
    w->bytes_used += len;
}

/* Stock. */

static int stock_out(const char *data, int len, stock *kcp, void *user)
{
    const end *e = user;
    const zr_addr to = { .family = 4 };
    world *w = current;
    uint8_t *place = zr_batch_reserve(&w->batch, (size_t)len);

    (void)kcp;
    ZR_CHECK(place != NULL);
    memcpy(place, data, (size_t)len);
    w->batch_to[w->batch.count] = e->self ^ 1u;
    zr_batch_commit(&w->batch, &to, 0, (size_t)len);
    return 0;
}

static void stock_turn(world *w)
{
    uint32_t ms = zr_kcp_ms(w->now);
    char to[BYTES];

    for (uint32_t i = 0; i < arrivals; i++) {
        const dgram *d = arrival(w, i);
        stock *kcp = w->ends[d->to].stock;
        ZR_CHECK(ikcp.input(kcp, (const char *)contents(w, d), (long)d->len) == 0);
        while (ikcp.recv(kcp, to, sizeof to) > 0)
            w->got++;
    }
    for (uint32_t i = 0; i < sender_count; i++)
        ikcp.send(w->ends[senders[i]].stock, message, BYTES);
    zr_wheel_advance(&w->wheel, w->now);
    for (zr_timer *t; (t = zr_wheel_expired(&w->wheel)) != NULL;) {
        end *e = &w->ends[t->ref];
        ikcp.update(e->stock, ms);
        zr_timer_arm(&w->wheel, t, zr_kcp_ns(w->now, ikcp.check(e->stock, ms)));
    }
}

/* Ours. */

static void touch(end *e)
{
    if (!e->dirty)
        dirty[dirty_count++] = e->self;
    e->dirty = true;
}

static void apply(end *e, zr_pkt *pkt, zr_ns_t now)
{
    zr_seg seg;
    size_t pos = 0;
    int drop;

    while (zr_seg_next(&seg, zr_pkt_data(pkt), pkt->len, &pos) == ZR_OK) {
        ZR_CHECK(zr_kcp_judge(&e->ours, &seg, &drop) == ZR_OK);
        zr_kcp_input_seg(&e->ours, &seg, pkt, now);
    }
    zr_kcp_input_end(&e->ours, now);
    zr_pkt_drop(pkt);
    touch(e);
}

static void emit(world *w, end *e)
{
    const zr_addr to = { .family = 4 };
    uint32_t from = w->batch.count;
    zr_ns_t deadline = zr_kcp_deadline(&e->ours);
    zr_pack pack;

    e->dirty = false;
    if (deadline <= w->now) {
        zr_pack_begin(&pack, &w->batch, &to, 0, MTU, 0, 0, true);
        ZR_CHECK(zr_kcp_output(&e->ours, &pack, w->now) == ZR_OK);
        zr_pack_finish(&pack);
        for (uint32_t i = from; i < w->batch.count; i++)
            w->batch_to[i] = e->self ^ 1u;
        deadline = zr_kcp_deadline(&e->ours);
    }
    if (deadline != ZR_NEVER || zr_timer_armed(&e->timer))
        zr_timer_arm(&w->wheel, &e->timer, deadline);
}

/* Which conversations are next is known of a batch: so much ahead their memory is asked for. */
static void ask_ahead(world *w, uint32_t i)
{
    if (i + AHEAD >= arrivals)
        return;
    __builtin_prefetch(arrived[i + AHEAD]);
    __builtin_prefetch(zr_pkt_data(arrived[i + AHEAD / 2])); /* for this the packet must be there */
    zr_kcp_prefetch(&w->ends[arrival(w, i + AHEAD)->to].ours);
}

static void ours_turn(world *w)
{
    zr_slice view;

    for (uint32_t i = 0; i < arrivals; i++) {
        ask_ahead(w, i);
        end *e = &w->ends[arrival(w, i)->to];
        apply(e, arrived[i], w->now);
        for (; zr_kcp_recv(&e->ours, &view, 1) > 0; w->got++)
            zr_pkt_drop(view.pkt);
    }
    zr_wheel_advance(&w->wheel, w->now);
    for (zr_timer *t; (t = zr_wheel_expired(&w->wheel)) != NULL;) {
        const zr_timer *next = zr_wheel_next(&w->wheel);
        if (next != NULL)
            zr_kcp_prefetch(&w->ends[next->ref].ours);
        zr_kcp_on_deadline(&w->ends[t->ref].ours, w->now);
        touch(&w->ends[t->ref]);
    }
    for (uint32_t i = 0; i < sender_count; i++) {
        if (i + AHEAD < sender_count)
            zr_kcp_prefetch(&w->ends[senders[i + AHEAD]].ours);
        end *e = &w->ends[senders[i]];
        const uint8_t head[HEAD] = { 0 };
        zr_slice body = { fresh[i], fresh[i]->off, fresh[i]->len };
        ZR_CHECK(zr_kcp_send(&e->ours, head, HEAD, &body, w->now) == ZR_OK);
        zr_pkt_drop(fresh[i]);
        touch(e);
    }
    for (uint32_t i = 0; i < dirty_count; i++)
        emit(w, &w->ends[dirty[i]]);
    dirty_count = 0;
}

/* Around them. */

static void gather(world *w, bool sending)
{
    for (arrivals = 0; w->first + arrivals != w->last && arrival(w, arrivals)->at <= w->now; arrivals++) {
        ZR_CHECK(arrivals < TURN);
        const dgram *d = arrival(w, arrivals);
        if (w->ours)
            arrived[arrivals] = zr_pool_copy(&pool, contents(w, d), d->len);
    }
    sender_count = 0;
    for (uint32_t i = 0; i < PAIRS; i++) {
        if (!sending || w->send_at[i] > w->now)
            continue;
        w->send_at[i] += EVERY;
        if (w->ours)
            fresh[sender_count] = zr_pool_copy(&pool, message, BYTES - HEAD);
        senders[sender_count++] = 2 * i;
    }
    w->sent += sender_count;
}

static void advance(world *w, uint32_t ms, bool sending)
{
    current = w;
    for (uint32_t i = 0; i < ms; i++, w->now += ZR_MS(1)) {
        gather(w, sending);
        double start = cpu_ns();
        (w->ours ? ours_turn : stock_turn)(w);
        w->cpu_ns += cpu_ns() - start;
        w->first += arrivals;
        for (uint32_t k = 0; k < w->batch.count; k++)
            put(w, w->batch_to[k], w->batch.tx[k].data, w->batch.tx[k].len);
        zr_batch_reset(&w->batch);
    }
}

static void open_end(world *w, uint32_t i)
{
    end *e = &w->ends[i];
    zr_kcp_conf conf = zr_kcp_conf_media(7);

    e->self = i;
    e->dirty = false;
    zr_timer_init(&e->timer, 0, i);
    if (w->ours) {
        conf.mtu = MTU;
        conf.snd_wnd = conf.rcv_wnd = WND;
        conf.plan = &plan;
        ZR_CHECK(zr_kcp_init(&e->ours, &conf, &blocks, &pool, w->now) == ZR_OK);
        ZR_CHECK(zr_kcp_deadline(&e->ours) == ZR_NEVER);
    } else {
        e->stock = stock_turbo(7, WND, MTU, stock_out, e);
        zr_timer_arm(&w->wheel, &e->timer, w->now + ZR_MS(i % 10));
    }
}

static void open_world(world *w, bool ours)
{
    *w = (world){ .ours = ours, .now = ZR_MS(1000) };
    w->ends = touched_memory(ENDS * sizeof(end));
    w->send_at = touched_memory(PAIRS * sizeof(zr_ns_t));
    w->flying = touched_memory(FLYING * sizeof(dgram));
    w->bytes = touched_memory(RING);
    w->batch_to = touched_memory(TURN * sizeof(uint32_t));
    ZR_CHECK(zr_batch_init(&w->batch, touched_memory(zr_batch_bytes(TURN, TURN * MTU)), TURN, TURN * MTU) == ZR_OK);
    zr_wheel_init(&w->wheel, w->now);
    for (uint32_t i = 0; i < ENDS; i++)
        open_end(w, i);
    for (uint32_t i = 0; i < PAIRS; i++)
        w->send_at[i] = w->now + (zr_ns_t)i * EVERY / PAIRS;
}

static void measure(world *w, uint32_t ms)
{
    uint64_t got = w->got;

    w->cpu_ns = 0;
    advance(w, ms, true);
    printf("%s %llu %.0f\n", w->ours ? "ours" : "stock", (unsigned long long)(w->got - got), w->cpu_ns);
}

/* Nothing is on its way: no timer, no packet, no window; what is left of a conversation is what a lane holds of it. */
static void idle(world *w)
{
    advance(w, 2000, false);
    ZR_CHECK(w->got == w->sent && w->wheel.count == 0 && pool.in_use == 0 && blocks.in_use == 0);
    for (uint32_t i = 0; i < ENDS; i++)
        ZR_CHECK(zr_kcp_deadline(&w->ends[i].ours) == ZR_NEVER);
    printf("idle %zu\n", sizeof(zr_lane_conv));
}

int main(int argc, char **argv)
{
    static world ours, theirs;

    ZR_CHECK(argc == 5);
    uint32_t ms = (uint32_t)(atof(argv[1]) * 1000);
    stock_load(argv[3], argv[4]);
    zr_kcp_plan_init(&plan, ZR_LANE_RESIDUAL, ZR_LANE_MAX_OVERHEAD);
    ZR_CHECK(zr_pool_init(&pool, touched_memory(zr_pool_bytes(PACKETS)), PACKETS) == ZR_OK &&
             zr_kcp_blocks_init(&blocks, touched_memory(zr_kcp_blocks_bytes(BLOCKS)), BLOCKS) == ZR_OK);
    open_world(&ours, true);
    open_world(&theirs, false);
    advance(&ours, WARM_MS, true);
    advance(&theirs, WARM_MS, true);
    for (int round = 0; round < atoi(argv[2]); round++) {
        measure(&ours, ms);
        measure(&theirs, ms);
    }
    idle(&ours);
    return 0;
}
