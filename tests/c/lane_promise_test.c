/* A worker's lane keeps the rate it promises, 4 datagrams a second, whatever it had to say before; and by that rate
 * alone a session whose agent is gone is rightly taken to live, and known to be dead when the lanes fall silent too. */
#include <stdio.h>
#include <stdlib.h>

#include "lane_end.h"
#include "sim/zr_rng.h"

enum { RATE = 4 };

/* A timer fires at most one tick of the wheel late; nothing else may be added to the promise. */
static const zr_ns_t gap_max = ZR_MS(250) + (1 << 19);

typedef struct way {
    uint64_t count;
    zr_ns_t last, longest; /* the longest between two datagrams */
    double loss;
    zr_rng *rng;
} way;

static void end_promise(end *e, uint8_t lane, uint32_t index, uint16_t port, uint32_t peer_index, uint16_t peer_port)
{
    zr_lane_conf conf = conf_of(lane);
    zr_session_conf session = { .index = index,
                                .peer_index = peer_index,
                                .agent = loopback(peer_port),
                                .lanes = 2,
                                .mtu = MTU,
                                .rate_mhz = 1000 * RATE };

    if (lane == ZR_LANE_AGENT)
        conf.probe = (zr_probe_conf){ .rate_idle = 25, .rate_active = 100, .seed = index };
    end_make(e, &conf, BATCH, port, &session);
}

static void flow(end *from, end *to, way *w, zr_ns_t now)
{
    zr_lane_on_deadline(from->lane, now);
    zr_batch_reset(&from->batch);
    CHECK_EQ(zr_lane_output(from->lane, &from->batch, now), ZR_OK);
    for (uint32_t i = 0; i < from->batch.count; i++) {
        const zr_tx *tx = &from->batch.tx[i];
        if (w->last != 0)
            w->longest = ZR_MAX(w->longest, now - w->last);
        w->last = now;
        w->count++;
        if (to != NULL && (w->loss == 0 || !zr_rng_chance(w->rng, w->loss)))
            CHECK_EQ(give(to, &from->addr, tx->data, tx->len, now), ZR_OK);
    }
}

static void hear_all(end *e)
{
    zr_lane_msg msg;

    while (zr_lane_recv(e->lane, &msg) == ZR_OK)
        for (int i = 0; i < msg.view_count; i++)
            zr_pkt_drop(msg.views[i].pkt);
}

static void say(end *e, int conv, zr_ns_t now)
{
    uint8_t head[16] = { 0 };
    zr_pkt *pkt = zr_pool_take(&e->pool);

    CHECK(pkt != NULL);
    pkt->len = 200;
    memset(pkt->buf + pkt->off, 7, pkt->len);
    zr_slice body = { pkt, pkt->off, pkt->len };
    CHECK_EQ(zr_lane_send(e->lane, (uint32_t)conv, head, sizeof head, &body, now), ZR_OK);
    zr_pkt_drop(pkt);
}

static zr_ns_t earlier(const end *a, const end *b, zr_ns_t now)
{
    return ZR_MAX(ZR_MIN(zr_lane_deadline(a->lane), zr_lane_deadline(b->lane)), now);
}

ZR_TEST(a_lane_with_conversations_and_nothing_to_say_keeps_its_rate_for_hours_and_sends_no_more)
{
    const zr_ns_t begin = ZR_SEC(2), hours = 6 * ZR_SEC(3600);
    zr_ns_t now = begin;
    way ab = { 0 }, ba = { 0 };
    end a, b;

    end_promise(&a, 0, INDEX_A, PORT_A, INDEX_B, PORT_B);
    end_promise(&b, 0, INDEX_B, PORT_B, INDEX_A, PORT_A);
    open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);
    for (uint64_t steps = 0; now < begin + hours; steps++) {
        CHECK(steps < 4000000);
        flow(&a, &b, &ab, now);
        flow(&b, &a, &ba, now);
        CHECK(now - zr_lane_session_heard(b.lane, 1) <= gap_max);
        now = earlier(&a, &b, now + 1);
    }
    CHECK(ab.longest <= gap_max && ba.longest <= gap_max);
    const uint64_t promised = (uint64_t)(hours / ZR_SEC(1)) * RATE;
    printf("promise: %llu datagrams in 6 h, %llu promised, %.1f ms apart at most\n", (unsigned long long)ab.count,
           (unsigned long long)promised, (double)ZR_MAX(ab.longest, ba.longest) / 1e6);
    CHECK(ab.count >= promised * 99 / 100 && ab.count <= promised + 1); /* every period a tick late: 0.2 % */
    CHECK_EQ(stat(&a, ZR_STAT_heartbeats_sent), ab.count);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(right_after_media_stops_the_next_datagram_is_no_later_than_promised)
{
    zr_rng rng;
    zr_ns_t now = ZR_SEC(2);
    way ab = { 0 }, ba = { 0 };
    end a, b;

    zr_rng_seed(&rng, 11);
    end_promise(&a, 0, INDEX_A, PORT_A, INDEX_B, PORT_B);
    end_promise(&b, 0, INDEX_B, PORT_B, INDEX_A, PORT_A);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);
    for (int round = 0; round < 2000; round++) { /* bursts of any length end at any phase of the heartbeat's timer */
        zr_ns_t stops = now + (zr_ns_t)zr_rng_below(&rng, (uint64_t)ZR_MS(400));
        zr_ns_t ends = stops + (zr_ns_t)zr_rng_below(&rng, (uint64_t)ZR_SEC(2));
        zr_ns_t media = now, every = ZR_MS(1) + (zr_ns_t)zr_rng_below(&rng, (uint64_t)ZR_MS(40));
        while (now < ends) {
            if (now >= media && now < stops) {
                say(&a, conv, now);
                media = now + every;
            }
            flow(&a, &b, &ab, now);
            hear_all(&b);
            flow(&b, &a, &ba, now);
            zr_ns_t next = earlier(&a, &b, now + 1);
            now = ZR_MIN(ZR_MIN(next, ends), now < stops ? ZR_MAX(media, now + 1) : ZR_NEVER);
        }
        CHECK(ab.longest <= gap_max && ba.longest <= gap_max);
    }
    CHECK(stat(&a, ZR_STAT_heartbeats_sent) > 2000 && stat(&b, ZR_STAT_heartbeats_sent) > 2000);
    CHECK_EQ(drops(&a) + drops(&b), 0);
    end_close(&a);
    end_close(&b);
}

/* b's agent, and what it does while a's is gone: asks its worker, whenever the probe says so, and reads the answer. */
static void judge(end *agent, const end *worker, zr_ns_t now)
{
    zr_probe_view view;

    zr_probe_look(zr_lane_session_probe(agent->lane, 1), &view, now);
    if (view.ask)
        CHECK_EQ(zr_lane_session_heard_at(agent->lane, 1, zr_lane_session_heard(worker->lane, 1), now), ZR_OK);
}

/* a's agent is gone after 3 s, its media (20 packets a second) stops at 6 s, its worker at `dies`; b's agent may be
 * wrong nowhere. When it knew, after the last. */
static zr_ns_t known_dead_after(double loss, zr_ns_t dies, uint64_t seed)
{
    zr_rng rng;
    zr_ns_t now = ZR_SEC(1);
    end agent_a, agent_b, a, b;
    zr_ns_t media = now;
    uint32_t slot;

    zr_rng_seed(&rng, seed);
    way quiet = { .loss = loss, .rng = &rng }, back = quiet, beats = quiet, other = quiet;
    end_promise(&agent_a, ZR_LANE_AGENT, INDEX_A, PORT_A, INDEX_B, PORT_B);
    end_promise(&agent_b, ZR_LANE_AGENT, INDEX_B, PORT_B, INDEX_A, PORT_A);
    end_promise(&a, 0, INDEX_A, PORT_A, INDEX_B, PORT_B);
    end_promise(&b, 0, INDEX_B, PORT_B, INDEX_A, PORT_A);
    int conv = open_media(&a, 10, 0, 1);
    open_media(&b, 10, 0, 2);
    CHECK_EQ(zr_lane_session_set_active(agent_a.lane, 1, true, now), ZR_OK);
    CHECK_EQ(zr_lane_session_set_active(agent_b.lane, 1, true, now), ZR_OK);
    const zr_alive *alive = &zr_lane_session_probe(agent_b.lane, 1)->alive;
    for (uint64_t steps = 0; now < dies || zr_alive_up(alive); steps++) {
        CHECK(steps < 40000000 && now < dies + ZR_SEC(3));
        bool there = now < ZR_SEC(3);
        if (now >= media && now < ZR_SEC(6)) {
            say(&a, conv, now);
            media += ZR_MS(50);
        }
        if (there)
            flow(&agent_a, &agent_b, &quiet, now);
        flow(&agent_b, there ? &agent_a : NULL, &back, now);
        if (now < dies)
            flow(&a, &b, &beats, now);
        flow(&b, now < dies ? &a : NULL, &other, now);
        hear_all(&b);
        while (zr_lane_probed(agent_b.lane, &slot) == ZR_OK)
            continue;
        judge(&agent_b, &b, now);
        CHECK_EQ(stat(&agent_b, ZR_STAT_link_deaths), now >= dies && !zr_alive_up(alive));
        zr_ns_t next = earlier(&agent_b, &b, now + 1);
        if (now < dies)
            next = ZR_MIN(next, earlier(&a, there ? &agent_a : &a, now + 1));
        now = now < ZR_SEC(6) ? ZR_MIN(next, ZR_MAX(media, now + 1)) : next;
    }
    CHECK(beats.longest <= gap_max);
    end_close(&agent_a);
    end_close(&agent_b);
    end_close(&a);
    end_close(&b);
    return now - beats.last;
}

ZR_TEST(by_four_heartbeats_a_second_a_lane_whose_agent_is_gone_is_never_called_dead_and_known_when_it_is)
{
    const zr_ns_t lives = (getenv("ZR_FULL") != NULL ? 24 : 1) * ZR_SEC(3600);
    const zr_ns_t clean = known_dead_after(0, lives, 1), lossy = known_dead_after(0.01, lives, 2);

    printf("promise: dead %.0f ms after the last heartbeat, %.0f ms at 1 %% loss\n", (double)clean / 1e6,
           (double)lossy / 1e6);
    CHECK(clean >= ZR_MS(1000) && clean <= ZR_MS(1300)); /* K = 5 at 4 a second: 1.25 s */
    CHECK(lossy >= ZR_MS(1000) && lossy <= ZR_MS(2100));
}
