/*
 * A worker that went mad, seen from the workers beside it: a third process writes at random into the rings between two
 * honest forwarders, counters, sizes and records, and into the headers of both inboxes. Worker 1 publishes, worker 0
 * has the mirror and asks for key frames the other way. The ring that each reads lies right before a page without
 * access or beside a ring that nobody touches; neither is left. ZR_FULL=1: 10^7 writes.
 */
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fwd_rig.h"
#include "hostile_rig.h"
#include "sim/zr_rng.h"

#define OWNER     1u
#define TARGET    0u
#define SLOTS     64u
#define SLOT      2u /* the mirror's */
#define UNTOUCHED 0xA5
#define LISTENER  rig_addr(4, 6000)

typedef struct mesh {
    rig rigs[2];
    region regions[2];
    zr_inbox inbox[2];
    uint32_t feed;
    uint16_t seq;
    bool calm;                     /* nobody is mad any more */
    uint64_t turns, repairs, sent; /* sent: to the listener */
} mesh;

/* The ring of worker i's inbox that the other one writes; its own, which nobody does. */
static zr_spsc_mem *ring_from(const mesh *m, uint32_t to, uint32_t from)
{
    unsigned char *rings = ((zr_inbox_page *)m->regions[to].at)->rings;
    return (void *)(rings + from * zr_spsc_bytes(SLOTS, ZR_MIRROR_RECORD));
}

static bool own_ring_is_untouched(const mesh *m, uint32_t worker)
{
    const unsigned char *own = (const void *)ring_from(m, worker, worker);

    for (size_t i = 0; i < zr_spsc_bytes(SLOTS, ZR_MIRROR_RECORD); i++)
        if (own[i] != UNTOUCHED)
            return false;
    return true;
}

/* What the control plane does when a worker is a new process: the rings between the two begin anew, and the mirror. */
static void repair(mesh *m)
{
    rig *owner = &m->rigs[OWNER], *target = &m->rigs[TARGET];

    CHECK_EQ(zr_fwd_meet(owner->fwd, TARGET, &m->inbox[TARGET]), ZR_OK);
    CHECK_EQ(zr_fwd_meet(target->fwd, OWNER, &m->inbox[OWNER]), ZR_OK);
    DO(owner, .op = ZR_CMD_peer_up, .a = TARGET);
    DO(target, .op = ZR_CMD_peer_up, .a = OWNER);
    if (m->feed++ > 0) {
        DO(owner, .op = ZR_CMD_mirror_drop, .a = 0, .b = TARGET);
        DO(target, .op = ZR_CMD_stream_close, .a = SLOT);
    }
    DO(target, .op = ZR_CMD_stream_open, .a = SLOT, .b = 2, .c = OWNER | 0 << 8, .d = m->feed, .x = 1);
    DO(target, .op = ZR_CMD_stream_track, .a = SLOT, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    DO(target, .op = ZR_CMD_sub_add, .a = 0, .b = SLOT, .c = 0xFFFF, .d = 0xFFFF, .addr = LISTENER);
    DO(owner, .op = ZR_CMD_mirror_add, .a = 0, .b = TARGET, .c = SLOT, .d = m->feed);
    m->repairs++;
}

static void open_mesh(mesh *m)
{
    *m = (mesh){ .feed = 0 };
    for (uint32_t i = 0; i < 2; i++) {
        m->regions[i] = region_open(zr_inbox_bytes(2, SLOTS, ZR_MIRROR_RECORD));
        rig_open_of(&m->rigs[i], (uint8_t)i, 2, 64, 1024);
        CHECK_EQ(zr_inbox_init(m->regions[i].at, 2, SLOTS, ZR_MIRROR_RECORD), ZR_OK);
        CHECK_EQ(zr_inbox_look(&m->inbox[i], m->regions[i].at, m->regions[i].bytes), ZR_OK);
        CHECK_EQ(zr_fwd_meet(m->rigs[i].fwd, i, &m->inbox[i]), ZR_OK);
        memset(ring_from(m, i, i), UNTOUCHED, zr_spsc_bytes(SLOTS, ZR_MIRROR_RECORD));
    }
    rig_publish(&m->rigs[OWNER], UINT32_MAX - 100);
    repair(m);
}

static void close_mesh(mesh *m)
{
    for (int i = 0; i < 2; i++) {
        rig_close(&m->rigs[i]);
        region_close(&m->regions[i]);
    }
}

static uint32_t some_value(zr_rng *rng, const _Atomic uint32_t *near)
{
    uint64_t random = zr_rng_next(rng);

    switch (random % 4) {
    case 0:
        return (uint32_t)(random >> 32);
    case 1:
        return (uint32_t)(random >> 32) % (2 * SLOTS + 1);
    default: /* often believable */
        return atomic_load_explicit(near, memory_order_relaxed) + (uint32_t)(random >> 32) % (SLOTS + 2) - SLOTS / 2;
    }
}

/* A record with one thing in it that may or may not be possible. */
static void spoil(zr_rng *rng, unsigned char *at)
{
    static const uint16_t lens[] = { 0, 1, 11, 12, 100, ZR_RTP_MAX, ZR_RTP_MAX + 1, UINT16_MAX };
    uint64_t random = zr_rng_next(rng);

    switch (random % 8) {
    case 0: /* the longest a record could claim to be, of either kind */
    case 1:
        put32(at, (uint32_t)(random >> 40) % 4 | (uint32_t)lens[random >> 8 & 7] << 16);
        break;
    case 2:
        put32(at + offsetof(zr_record, stream), (uint32_t)(random >> 40) % 8);
        break;
    case 3:
        put32(at + offsetof(zr_record, track), (uint32_t)(random >> 40) % 32);
        break;
    case 4:
        put32(at + offsetof(zr_record, arrival) + 4, (uint32_t)(random >> 32));
        break;
    case 5:
        put32(at + offsetof(zr_record, media) + (random >> 8 & 3) * 4, (uint32_t)(random >> 32));
        break;
    default:
        put32(at + (random >> 8) % (ZR_MIRROR_RECORD / 4) * 4, (uint32_t)(random >> 40));
    }
}

/* Half of the writes go to the words that everything hangs on. */
static void scribble(const mesh *m, zr_rng *rng, uint32_t writes)
{
    for (uint32_t i = 0; i < writes; i++) {
        uint32_t to = zr_rng_next(rng) % 4 == 0 ? OWNER : TARGET;
        zr_spsc_mem *ring = ring_from(m, to, 1 - to);
        zr_inbox_page *page = m->regions[to].at;
        switch (zr_rng_next(rng) % 12) {
        case 0:
        case 1:
            put32(&ring->tail, some_value(rng, &ring->tail));
            break;
        case 2:
        case 3:
            put32(&ring->head, some_value(rng, &ring->tail));
            break;
        case 4:
            put32(&ring->mask, some_value(rng, &ring->mask));
            put32(&ring->slot_bytes, some_value(rng, &ring->slot_bytes));
            break;
        case 5:
            put32(&page->asleep, some_value(rng, &page->asleep));
            put32((unsigned char *)page + zr_rng_next(rng) % (sizeof *page / 4) * 4, some_value(rng, &ring->tail));
            break;
        default:
            spoil(rng, ring->slots + zr_rng_next(rng) % SLOTS * ZR_MIRROR_RECORD);
        }
        if (i % 16 == 0)
            sched_yield();
    }
}

static void honest_turn(mesh *m)
{
    static const uint8_t pli[12] = { 0x81, 206, 0, 2, 0, 0, 0, 9, 0x11, 0x11, 0x11, 0x11 };
    rig *owner = &m->rigs[OWNER], *target = &m->rigs[TARGET];
    zr_inbox found;

    for (int i = 0; i < 8; i++, m->seq++)
        (void)rig_media(owner, false, m->seq, m->seq, m->seq % 32 == 0);
    (void)rig_rtcp(target, pli, sizeof pli, LISTENER);
    for (int i = 0; i < 2; i++) {
        rig *r = &m->rigs[i];
        (void)zr_fwd_mirror_input(r->fwd, 256, r->now);
        zr_fwd_on_deadline(r->fwd, r->now);
        int rtp = rig_turn(r, NULL, NULL);
        m->sent += i == TARGET ? (uint64_t)rtp : 0;
        while (zr_fwd_wake_next(r->fwd) >= 0)
            ;
        zr_chan_sleep(&m->inbox[i].page->asleep);
        (void)zr_mirrors_waiting(zr_fwd_mirrors(r->fwd));
        zr_chan_awake(&m->inbox[i].page->asleep);
        rig_balanced(r);
        r->now += ZR_MS(1);
        /* Who attaches only now takes the true sizes or nothing. */
        int rc = zr_inbox_look(&found, m->regions[i].at, m->regions[i].bytes);
        CHECK(rc == ZR_E_version || (rc == ZR_OK && found.slots == SLOTS && found.record_bytes == ZR_MIRROR_RECORD));
    }
    m->turns++;
    /* A writer with a wrong counter takes its ring for full and goes on: now and then it is the one that is new. */
    if (owner->fwd->mirrors.in[TARGET].corrupt || target->fwd->mirrors.in[OWNER].corrupt ||
        (!m->calm && m->turns % 64 == 0))
        repair(m);
}

static uint64_t broken(const mesh *m)
{
    return rig_stat(&m->rigs[OWNER], ZR_STAT_ring_corrupt) + rig_stat(&m->rigs[TARGET], ZR_STAT_ring_corrupt);
}

ZR_TEST(a_mad_worker_costs_its_neighbours_records_and_nothing_else)
{
    uint32_t writes = getenv("ZR_FULL") != NULL ? 10000000 : 1000000;
    mesh m;
    int status;

    open_mesh(&m);
    pid_t mad = fork();
    if (mad == 0) {
        zr_rng rng;
        zr_rng_seed(&rng, 5);
        scribble(&m, &rng, writes);
        _exit(0);
    }
    CHECK(mad > 0);
    while (waitpid(mad, &status, WNOHANG) == 0)
        honest_turn(&m);
    CHECK(WIFEXITED(status));
    CHECK(m.turns > 100);
    CHECK(broken(&m) > 10);
    CHECK(rig_stat(&m.rigs[TARGET], ZR_STAT_mirror_received) > 100);
    CHECK(rig_drops(&m.rigs[TARGET], ZR_DROP_record) > 0);
    CHECK_EQ(rig_drops(&m.rigs[TARGET], ZR_DROP_pool), 0); /* no length comes as far as the pool */
    CHECK(own_ring_is_untouched(&m, OWNER) && own_ring_is_untouched(&m, TARGET));
    fprintf(stderr, "hostile: %u writes, %llu turns, %llu records taken, %llu rings broken, %llu repairs\n", writes,
            (unsigned long long)m.turns, (unsigned long long)rig_stat(&m.rigs[TARGET], ZR_STAT_mirror_received),
            (unsigned long long)broken(&m), (unsigned long long)m.repairs);
    /* The mad one is dead: the two work as if nothing had been, once the mirror has what the cache held. */
    m.calm = true;
    repair(&m);
    for (int i = 0; i < 50; i++)
        honest_turn(&m);
    uint64_t sent = m.sent, repairs = m.repairs, was_broken = broken(&m);
    for (int i = 0; i < 100; i++)
        honest_turn(&m);
    CHECK_EQ(m.sent - sent, 800);
    CHECK_EQ(broken(&m), was_broken);
    CHECK_EQ(m.repairs, repairs);
    close_mesh(&m);
}
