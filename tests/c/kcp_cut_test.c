/* A batch of one datagram: an output cut short in the middle of anything loses nothing and repeats nothing. */
#include "kcp_link.h"
#include "zr_test.h"

/* What one conversation said in a turn, datagram by datagram. */
typedef struct turn_log {
    uint64_t hash;
    uint32_t datagrams, segs[4]; /* by cmd */
} turn_log;

enum { TURNS = 4000 };

static turn_log whole[2][TURNS];
static bool differs; /* from what was said when nothing was cut short */
static zr_batch one;

static int put_out(zr_kcp *kcp, zr_batch *to, bool runs)
{
    zr_pack pack;

    zr_batch_reset(to);
    zr_pack_begin(&pack, to, &(zr_addr){ .family = 4 }, 0, MTU, 0, 0, runs);
    int rc = zr_kcp_output(kcp, &pack, now);
    zr_pack_finish(&pack);
    CHECK(rc == ZR_OK || (rc == ZR_E_full && to->count > 0)); /* it gets on */
    CHECK_EQ(zr_kcp_due(kcp, now), rc == ZR_E_full);
    return rc;
}

/* One turn into batches of one datagram or into one that is large; onto the wire; what was said. */
static turn_log speak_in(zr_kcp *from, wire *onto, bool cut, bool runs)
{
    turn_log log = { .hash = 14695981039346656037u };
    zr_batch *to = cut ? &one : &batch;

    zr_kcp_on_deadline(from, now);
    for (int rc = ZR_E_full; rc == ZR_E_full;) {
        rc = put_out(from, to, runs);
        CHECK(zr_kcp_check(from));
        for (uint32_t i = 0; i < to->count; i++) {
            zr_seg seg;
            log.datagrams++;
            for (uint32_t n = 0; n < to->tx[i].len; n++)
                log.hash = (log.hash ^ to->tx[i].data[n]) * 1099511628211u;
            for (size_t pos = 0; zr_seg_next(&seg, to->tx[i].data, to->tx[i].len, &pos) == ZR_OK;)
                log.segs[seg.cmd - ZR_SEG_PUSH]++;
        }
        zr_batch all = batch;
        batch = *to;
        post(onto);
        batch = all;
    }
    return log;
}

/* How a world goes: its loss, when recv is called, how late its owner may be. */
typedef struct world {
    const char *name;
    double loss;
    uint32_t wnd, every_ms; /* recv is called once in so many ms */
    uint32_t late_ms;       /* up to so many ms between two turns */
    uint32_t burst, len;
    bool in_order;
} world;

/* The totals of a world; what each turn says is logged (first run) or must be as it was logged. */
static turn_log live(const world *w, const origin *from, bool cut, bool runs)
{
    zr_kcp_conf conf = w->in_order ? zr_kcp_conf_control(7) : zr_kcp_conf_media(7);
    turn_log sum = { 0 };
    uint32_t wait = 0, slept = 0;
    static void *memory;

    if (memory == NULL)
        memory = zr_test_memory(zr_batch_bytes(1, MTU));
    CHECK_EQ(zr_batch_init(&one, memory, 1, MTU), ZR_OK);
    conf.snd_wnd = conf.rcv_wnd = w->wnd;
    start_link(from, conf, 20, w->loss);
    for (uint32_t t = 0; t < TURNS; t++) {
        wait = w->late_ms <= 1 ? 1 : 1 + (t * 2654435761u >> 16) % w->late_ms;
        now += ZR_MS((zr_ns_t)wait);
        slept += wait;
        arrive(&ab, &b);
        arrive(&ba, &a);
        if (slept >= w->every_ms) {
            slept = 0;
            while (recv_len(&b) >= 0)
                ;
        }
        for (uint32_t n = 0; t % 20 == 0 && n < w->burst; n++)
            (void)send(&a, w->len);
        for (size_t side = 0; side < 2; side++) {
            turn_log log = speak_in(side == 0 ? &a : &b, side == 0 ? &ab : &ba, cut, runs);
            if (!cut)
                whole[side][t] = log;
            else if (!runs && !differs && memcmp(&log, &whole[side][t], sizeof log) != 0) {
                differs = true;
                fprintf(stderr, "  %s, turn %u of %c: %u datagrams, not %u; PUSH %u/%u ACK %u/%u\n", w->name, t,
                        side == 0 ? 'a' : 'b', log.datagrams, whole[side][t].datagrams, log.segs[0],
                        whole[side][t].segs[0], log.segs[1], whole[side][t].segs[1]);
            }
            for (size_t i = 0; i < ZR_LEN(sum.segs); i++)
                sum.segs[i] += log.segs[i];
        }
    }
    CHECK_EQ(sum.segs[0], zr_kcp_counted(&a)->segs_sent);
    finish();
    return sum;
}

static const world worlds[] = {
    { "first transmissions", 0, 1024, 1, 1, 12, 900, false },
    { "copies and repeats", 0.5, 1024, 1, 1, 8, 900, false },
    { "many small ones", 0.3, 1024, 1, 1, 90, 30, false },
    { "late turns", 0.3, 1024, 1, 15, 20, 900, false },
    { "late turns, small ones", 0.3, 1024, 1, 15, 150, 30, false },
    { "a window that shuts and opens", 0.2, 16, 300, 1, 8, 900, false },
    { "in order, a window that shuts and opens", 0.2, 16, 300, 7, 8, 900, true },
};

ZR_TEST(a_batch_of_one_datagram_changes_nothing_of_what_is_said)
{
    turn_log seen = { 0 };
    uint32_t differing = 0;

    for (size_t o = 0; o < ZR_LEN(origins); o++) {
        for (size_t i = 0; i < ZR_LEN(worlds); i++) {
            turn_log sum = live(&worlds[i], &origins[o], false, false);
            differs = false;
            live(&worlds[i], &origins[o], true, false);
            differing += differs;
            for (size_t n = 0; n < ZR_LEN(sum.segs); n++)
                seen.segs[n] += sum.segs[n];
        }
    }
    CHECK_EQ(differing, 0);
    for (size_t n = 0; n < ZR_LEN(seen.segs); n++)
        CHECK(seen.segs[n] > 20); /* every command was there to be cut */
}

ZR_TEST(a_batch_of_one_datagram_in_runs_sends_as_much_and_loses_nothing)
{
    turn_log sum = live(&worlds[0], &origins[1], true, true);
    CHECK_EQ(sum.segs[0], TURNS / 20 * 12);
    sum = live(&worlds[1], &origins[1], true, true);
    CHECK(sum.segs[0] > TURNS / 20 * 8);
}
