/*
 * crossing.c - what it costs that a subscriber is on another worker than its stream. No sockets, only zr_fwd.
 *
 *     crossing time CPU CPU             ns per packet at each and added, in one line
 *     crossing local|owner|target N     for callgrind, in one thread: N packets below `counted`
 *
 *     local     publisher ─▶ one worker ─▶ subscriber
 *     owner     publisher ─▶ owner ═▶ ring          target    ring ═▶ target ─▶ subscriber
 *     bare      the same bytes moved between the two CPUs and nothing else: what no program can save
 *
 * Frames of 8; owner and target on threads of their own, local in rounds between theirs. A side's time is the CPU time
 * of its thread (CLOCK_THREAD_CPUTIME_ID) for BURST frames, the median of all bursts, less what reading that clock
 * takes: waiting for the other is not in it, nor what runs in between, nor an interrupt now and then.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "fwd_rig.h"

enum {
    FRAME = 8,
    RTP_BYTES = 1200,
    RECORD = (RTP_BYTES + sizeof(zr_record) + ZR_CACHELINE - 1) / ZR_CACHELINE * ZR_CACHELINE,
    BURST = 8, /* frames; together they fit into the ring */
    WARM_UP = 25,
    ROUND = 250, /* bursts */
    ROUNDS = 10,
    BATCH = 64,
    SLOT = 1,
    FEED = 3,
    SPENT_MAX = 1 << 17
};

_Static_assert(BURST *FRAME <= ZR_MIRROR_SLOTS / 2, "what is live has half of the ring");

typedef uint32_t spent[SPENT_MAX]; /* bursts by the nanoseconds they took */

typedef struct side {
    rig rig;
    uint64_t sent;
    spent bursts;
} side;

typedef struct scene {
    side local, owner, target;
    uint8_t moved[ZR_MIRROR_SLOTS][RECORD], here[FRAME][RECORD], there[FRAME][RECORD];
    spent written, read, clock;    /* clock: nothing in between */
    _Atomic uint32_t given, taken; /* bursts */
    int cpu;
} scene;

void zr_test_register(zr_test *test)
{
    (void)test;
}

_Noreturn void zr_test_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s\n", file, line, what);
    exit(1);
}

void counted(side *s, uint32_t first);

static void output(side *s)
{
    (void)zr_fwd_fan_out(s->rig.fwd, s->rig.now);
    CHECK_EQ(zr_fwd_output(s->rig.fwd, &s->rig.batch, s->rig.now), ZR_OK);
    s->sent += s->rig.batch.count;
    zr_batch_reset(&s->rig.batch);
}

/* One frame in; `first`: its first sequence number, UINT32_MAX: out of the inbox. */
static void turn(side *s, uint32_t first)
{
    zr_addr from = rig_addr(9, 5000);

    for (uint32_t i = 0; first != UINT32_MAX && i < FRAME; i++) {
        static uint8_t data[RTP_BYTES];
        rig_rtp(data, false, (uint16_t)(first + i), first, first % (60 * FRAME) == 0);
        zr_pkt *pkt = zr_pool_copy(zr_fwd_pool(s->rig.fwd), data, sizeof data);
        (void)zr_fwd_ingress_input(s->rig.fwd, 0, pkt, &from, s->rig.now);
    }
    if (first == UINT32_MAX)
        (void)zr_fwd_mirror_input(s->rig.fwd, FRAME, s->rig.now);
    output(s);
    while (zr_fwd_wake_next(s->rig.fwd) >= 0)
        ;
}

__attribute__((noinline)) void counted(side *s, uint32_t first)
{
    turn(s, first);
}

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(spent bursts, uint64_t began)
{
    uint64_t took = cpu_ns() - began;

    bursts[ZR_MIN(took, SPENT_MAX - 1u)]++;
}

/* BURST frames, each a turn of its own; `first` as for turn(). */
static void timed(side *s, uint32_t first)
{
    uint64_t began = cpu_ns();

    for (uint32_t i = 0; i < BURST; i++) {
        s->rig.now += ZR_MS(1);
        turn(s, first == UINT32_MAX ? first : first + i * FRAME);
    }
    note(s->bursts, began);
}

/* A burst's records into the slots both see, or out of them; the next one asked for ahead, as zr_inbox does. */
static void move(uint8_t slots[][RECORD], uint32_t burst, uint8_t mine[][RECORD], bool in, spent bursts)
{
    uint64_t began = cpu_ns();

    for (uint32_t i = 0; i < BURST * FRAME; i++) {
        uint8_t *slot = slots[(burst * BURST * FRAME + i) % ZR_MIRROR_SLOTS];
        const uint8_t *next = slots[(burst * BURST * FRAME + i + 1) % ZR_MIRROR_SLOTS];
        memcpy(in ? slot : mine[i % FRAME], in ? mine[i % FRAME] : slot, RECORD);
        for (uint32_t k = 0; k < RECORD; k += ZR_CACHELINE)
            __builtin_prefetch(next + k);
    }
    note(bursts, began);
}

/* Nanoseconds per packet. */
static double median(const spent bursts)
{
    uint32_t all = 0, seen = 0, ns = 0;

    for (uint32_t i = 0; i < SPENT_MAX; i++)
        all += bursts[i];
    while ((seen += bursts[ns]) * 2 < all)
        ns++;
    return (double)ns / (BURST * FRAME);
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    CHECK_EQ(sched_setaffinity(0, sizeof set, &set), 0);
}

static void subscribe(side *s, uint32_t stream)
{
    DO(&s->rig, .op = ZR_CMD_sub_add, .a = 0, .b = stream, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(8, 6000));
}

static void open_scene(scene *sc)
{
    size_t bytes = zr_inbox_bytes(2, ZR_MIRROR_SLOTS, ZR_MIRROR_RECORD);
    side *const pair[] = { &sc->owner, &sc->target };

    rig_open(&sc->local.rig, 0, BATCH);
    rig_publish(&sc->local.rig, 0);
    subscribe(&sc->local, 0);
    for (uint8_t i = 0; i < 2; i++)
        rig_open_of(&pair[i]->rig, i, 2, BATCH, 1024);
    for (uint32_t i = 0; i < 2; i++) {
        zr_inbox_page *page = zr_test_memory(bytes);
        zr_inbox inbox;
        CHECK_EQ(zr_inbox_init(page, 2, ZR_MIRROR_SLOTS, ZR_MIRROR_RECORD), ZR_OK);
        CHECK_EQ(zr_inbox_look(&inbox, page, bytes), ZR_OK);
        for (int k = 0; k < 2; k++)
            CHECK_EQ(zr_fwd_meet(pair[k]->rig.fwd, i, &inbox), ZR_OK);
    }
    rig_publish(&sc->owner.rig, 0);
    DO(&sc->target.rig, .op = ZR_CMD_stream_open, .a = SLOT, .b = 2, .d = FEED, .x = 1);
    DO(&sc->target.rig, .op = ZR_CMD_stream_track, .a = SLOT, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    subscribe(&sc->target, SLOT);
    DO(&sc->owner.rig, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED);
}

static void *take_bursts(void *arg)
{
    scene *sc = arg;

    pin(sc->cpu);
    for (uint32_t burst = 0; burst < WARM_UP + ROUND * ROUNDS; burst++) {
        while (atomic_load_explicit(&sc->given, memory_order_acquire) == burst)
            sched_yield();
        timed(&sc->target, UINT32_MAX);
        move(sc->moved, burst, sc->there, false, sc->read);
        atomic_store_explicit(&sc->taken, burst + 1, memory_order_release);
    }
    return NULL;
}

static void give_burst(scene *sc, uint32_t burst)
{
    timed(&sc->owner, burst * BURST * FRAME);
    move(sc->moved, burst, sc->here, true, sc->written);
    atomic_store_explicit(&sc->given, burst + 1, memory_order_release);
    while (atomic_load_explicit(&sc->taken, memory_order_acquire) != burst + 1)
        sched_yield();
    note(sc->clock, cpu_ns());
}

static void take_time(scene *sc, int cpu, int other)
{
    pthread_t thread;
    uint32_t burst = 0;

    pin(cpu);
    sc->cpu = other;
    CHECK_EQ(pthread_create(&thread, NULL, take_bursts, sc), 0);
    for (; burst < WARM_UP; burst++) {
        timed(&sc->local, burst * BURST * FRAME);
        give_burst(sc, burst);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < ROUND; i++)
            timed(&sc->local, (burst + i) * BURST * FRAME);
        for (uint32_t i = 0; i < ROUND; i++, burst++)
            give_burst(sc, burst);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(sc->target.sent, (uint64_t)burst * BURST * FRAME);
    CHECK_EQ(sc->local.sent, (uint64_t)burst * BURST * FRAME);
    double empty = median(sc->clock), local = median(sc->local.bursts) - empty;
    double owner = median(sc->owner.bursts) - empty, target = median(sc->target.bursts) - empty;
    double bare = median(sc->written) + median(sc->read) - 2 * empty;
    printf("local %.1f owner %.1f target %.1f added %.1f bare %.1f clock %.1f\n", local, owner, target,
           owner + target - local, bare, empty);
}

static void count(scene *sc, const char *which, uint32_t packets)
{
    for (uint32_t frame = 0; frame < WARM_UP * BURST + packets / FRAME; frame++) {
        side *sides[] = { &sc->local, &sc->owner, &sc->target };
        const char *const names[] = { "local", "owner", "target" };
        for (int i = 0; i < 3; i++) {
            sides[i]->rig.now += ZR_MS(1);
            (frame >= WARM_UP * BURST && strcmp(which, names[i]) == 0 ? counted : turn)(
                sides[i], i == 2 ? UINT32_MAX : frame * FRAME);
        }
    }
    CHECK_EQ(sc->target.sent, sc->local.sent);
    printf("%u\n", packets / FRAME * FRAME);
}

int main(int argc, char **argv)
{
    static scene sc;

    CHECK(argc >= 3);
    open_scene(&sc);
    if (strcmp(argv[1], "time") == 0) {
        CHECK(argc == 4);
        take_time(&sc, atoi(argv[2]), atoi(argv[3]));
    } else {
        count(&sc, argv[1], (uint32_t)atoi(argv[2]));
    }
    return 0;
}
