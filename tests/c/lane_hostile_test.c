/* H1 to H12: a peer with keys that lies. Its datagrams are sealed, so every check behind the tag is what answers. */
#include "lane_sealed.h"

enum { CONV = 10, IN_FLIGHT = 3, SAID_MAX = 256 };

typedef struct victim {
    end a;
    peer b, ear;           /* what b seals, and what opens the answers of a */
    zr_seg said[SAID_MAX]; /* what a said with the last output */
    uint32_t said_count;
    int conv;
    uint64_t counter, dropped; /* of b's datagrams; refused so far */
    zr_ns_t now;
} victim;

static void send_one(victim *v, size_t len)
{
    uint8_t head[16] = { 0 };
    zr_pkt *pkt = zr_pool_take(&v->a.pool);

    CHECK(pkt != NULL);
    pkt->len = (uint16_t)len;
    zr_slice body = { pkt, pkt->off, pkt->len };
    CHECK_EQ(zr_lane_send(v->a.lane, (uint32_t)v->conv, head, sizeof head, &body, v->now), ZR_OK);
    zr_pkt_drop(pkt);
}

/* b opens a datagram of a's and reads it. */
static void hear(victim *v, const zr_tx *tx)
{
    uint8_t data[ZR_ENV_HEAD + MTU + ZR_ENV_TAG], secret[ZR_SECRET_BYTES];
    size_t pos = 0;
    zr_env env;

    CHECK(tx->len <= sizeof data);
    memcpy(data, tx->data, tx->len);
    zr_env_parse(&env, data);
    secret_of(secret, 0, A_TO_B);
    zr_seal_key(&v->ear.seal, v->ear.cipher, secret, env.lane, zr_env_lane(env.receiver), env.epoch);
    CHECK(zr_seal_open(&v->ear.seal, env.counter, data, tx->len));
    for (zr_seg seg; zr_seg_next(&seg, data + ZR_ENV_HEAD, tx->len - ZR_ENV_HEAD - ZR_ENV_TAG, &pos) == ZR_OK;) {
        CHECK(v->said_count < SAID_MAX);
        v->said[v->said_count++] = seg;
    }
}

/* How many of a's last answers were such. */
static uint32_t said(const victim *v, uint32_t conv, uint8_t cmd)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < v->said_count; i++)
        count += v->said[i].conv == conv && v->said[i].cmd == cmd;
    return count;
}

/* Datagrams that a sends now; their segments are in `said`. */
static uint32_t output(victim *v)
{
    uint32_t count = 0;
    int rc;

    v->said_count = 0;
    do {
        zr_batch_reset(&v->a.batch);
        rc = zr_lane_output(v->a.lane, &v->a.batch, v->now);
        for (uint32_t i = 0; i < v->a.batch.count; i++)
            hear(v, &v->a.batch.tx[i]);
        count += v->a.batch.count;
    } while (rc == ZR_E_full);
    zr_batch_reset(&v->a.batch);
    return count;
}

static void victim_open(victim *v)
{
    memset(v, 0, sizeof *v);
    v->now = ZR_SEC(2);
    sealed_open(&v->a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, v->now);
    peer_open(&v->b, ZR_CIPHER_AES_128_GCM);
    ear_open(&v->ear, ZR_CIPHER_AES_128_GCM);
    v->conv = open_media(&v->a, CONV, 0, 1);
    for (int i = 0; i < IN_FLIGHT; i++)
        send_one(v, 200);
    output(v);
}

static void victim_close(victim *v)
{
    end_close(&v->a);
    peer_close(&v->b);
    peer_close(&v->ear);
}

/* One sealed datagram with these segments; what became of it. */
static int say_as(victim *v, uint32_t generation, zr_env env, const zr_seg *segs, uint32_t count)
{
    uint8_t body[MTU] = { 0 }, data[ZR_PKT_ROOM];
    zr_addr from = peer_addr(env.lane);
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        zr_seg_put(body + len, &segs[i]);
        len += ZR_SEG_HEAD + ZR_MIN(segs[i].len, MTU - ZR_SEG_HEAD - len);
    }
    len = peer_seal(&v->b, data, generation, &env, body, len);
    return give(&v->a, &from, data, len, v->now);
}

static int say_at(victim *v, uint64_t counter, const zr_seg *segs, uint32_t count)
{
    return say_as(v, 0, env_of(0, 0, 0, counter), segs, count);
}

static int say(victim *v, zr_seg seg)
{
    return say_at(v, v->counter++, &seg, 1);
}

static uint32_t waiting(const victim *v)
{
    return zr_kcp_waiting(&zr_lane_conv_at(v->a.lane, (uint32_t)v->conv)->kcp);
}

#define SEG(...) ((zr_seg){ .conv = CONV, .cmd = ZR_SEG_ACK, .wnd = 128, __VA_ARGS__ })

static void refused(victim *v, zr_seg seg, enum zr_drop_id why)
{
    uint64_t before = dropped(&v->a, why);

    CHECK_EQ(say(v, seg), ZR_E_dropped);
    CHECK_EQ(dropped(&v->a, why), before + 1);
    CHECK_EQ(waiting(v), IN_FLIGHT);
    v->dropped++;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"

ZR_TEST(H1_H2_H5_H6_lies_of_a_sealed_peer_are_violations_that_change_nothing)
{
    victim v;
    uint32_t session, count, told = 0;

    victim_open(&v);
    refused(&v, SEG(.una = IN_FLIGHT + 1), ZR_DROP_kcp_una);                      /* H1 */
    refused(&v, SEG(.una = INT32_MAX), ZR_DROP_kcp_una);                          /* H1 */
    refused(&v, SEG(.sn = IN_FLIGHT), ZR_DROP_kcp_ack);                           /* H2 */
    refused(&v, SEG(.sn = 1000000), ZR_DROP_kcp_ack);                             /* H2 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .frg = 2, .len = 10), ZR_DROP_kcp_frg);   /* H5 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .frg = 255, .len = 10), ZR_DROP_kcp_frg); /* H5 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .len = 0), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.len = 4), ZR_DROP_kcp_len);                                  /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_WASK, .len = 4), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_WINS, .len = 4), ZR_DROP_kcp_len);              /* H6 */
    refused(&v, SEG(.cmd = ZR_SEG_PUSH, .len = UINT32_MAX), ZR_DROP_kcp_len);     /* H6 */
    while (v.dropped < 16)
        refused(&v, SEG(.cmd = 255), ZR_DROP_kcp_cmd);
    for (; zr_lane_violations(v.a.lane, &session, &count); told += count)
        CHECK_EQ(session, 1);
    CHECK_EQ(told, 16);                               /* as many close a link: tests/sim/test_violations.py */
    CHECK_EQ(say(&v, SEG(.sn = 0, .una = 1)), ZR_OK); /* and the truth is heard as ever */
    CHECK_EQ(waiting(&v), IN_FLIGHT - 1);
    victim_close(&v);
}

ZR_TEST(H3_a_round_trip_comes_from_our_own_send_time_and_no_echo_we_did_not_send)
{
    victim v;
    zr_kcp_estimates before, after;

    victim_open(&v);
    CHECK_EQ(zr_lane_conv_estimated(v.a.lane, (uint32_t)v.conv, &before), ZR_OK);
    v.now += ZR_MS(20);
    CHECK_EQ(say(&v, SEG(.sn = 0, .ts = zr_kcp_ms(v.now) - 2000000000u)), ZR_OK);
    CHECK_EQ(say(&v, SEG(.sn = 1, .ts = zr_kcp_ms(v.now) + 5)), ZR_OK);
    CHECK_EQ(zr_lane_conv_estimated(v.a.lane, (uint32_t)v.conv, &after), ZR_OK);
    CHECK_EQ(after.timer_ms, before.timer_ms);
    CHECK_EQ(after.srtt_ms, before.srtt_ms);
    output(&v);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_ack_ts), 2);
    victim_close(&v);
}

ZR_TEST(K17_a_shut_window_stops_what_is_sent_into_it_and_nothing_else)
{
    uint32_t asked = 0;
    victim v;

    victim_open(&v);
    int shut = v.conv, other = open_media(&v.a, CONV + 1, 0, 2);
    CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_WINS, .wnd = 0, .una = IN_FLIGHT)), ZR_OK);
    for (uint32_t sn = 0; sn < 20; sn++, v.now += ZR_MS(10)) {
        zr_lane_msg msg;
        send_one(&v, 200);
        v.conv = other;
        send_one(&v, 200);
        v.conv = shut;
        CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_PUSH, .wnd = 0, .sn = sn, .una = IN_FLIGHT, .len = 100)), ZR_OK);
        CHECK_EQ(zr_lane_recv(v.a.lane, &msg), ZR_OK);
        zr_pkt_drop(msg.views[0].pkt);
        zr_lane_on_deadline(v.a.lane, v.now);
        output(&v);
        CHECK_EQ(said(&v, CONV, ZR_SEG_PUSH), 0);
        CHECK(said(&v, CONV, ZR_SEG_ACK) > 0);
        CHECK(said(&v, CONV + 1, ZR_SEG_PUSH) > 0);
        asked += said(&v, CONV, ZR_SEG_WASK);
        CHECK_EQ(say(&v, SEG(.conv = CONV + 1, .sn = sn, .ts = zr_kcp_ms(v.now), .una = sn + 1)), ZR_OK);
    }
    CHECK_EQ(asked, 2); /* after 50 ms and 100 more */
    CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_WINS, .una = IN_FLIGHT)), ZR_OK);
    output(&v);
    CHECK_EQ(said(&v, CONV, ZR_SEG_PUSH), 20);
    victim_close(&v);
}

ZR_TEST(H4_K18_a_window_of_nothing_in_an_overtaken_datagram_stops_nothing)
{
    victim v;
    zr_seg older = SEG(.cmd = ZR_SEG_WINS, .wnd = 0, .una = IN_FLIGHT); /* by its counter alone */

    victim_open(&v);
    uint64_t overtaken = v.counter++;
    CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_WINS, .wnd = 128, .una = IN_FLIGHT)), ZR_OK);
    CHECK_EQ(say_at(&v, overtaken, &older, 1), ZR_OK);
    output(&v);
    uint64_t before = stat(&v.a, ZR_STAT_kcp_segs_sent);
    for (int i = 0; i < 20; i++)
        send_one(&v, 200);
    output(&v);
    CHECK(stat(&v.a, ZR_STAT_kcp_segs_sent) >= before + 20);
    victim_close(&v);
}

ZR_TEST(H4_K18_the_window_is_what_the_newest_datagram_says_over_lanes_epochs_and_keys)
{
    static const struct {
        uint32_t generation;
        uint8_t lane;
        uint16_t epoch;
        uint64_t counter;
        uint16_t says, holds; /* after it */
    } rows[] = {
        { 0, 0, 0, 5, 128, 128 }, /* the first */
        { 0, 0, 0, 4, 0, 128 },   /* K18: overtaken */
        { 0, 0, 0, 6, 0, 0 },     /* newer */
        { 0, 0, 0, 3, 128, 0 },   /* an overtaken one opens nothing either */
        { 1, 0, 0, 8, 60, 60 },   /* newer keys: its lane counts on */
        { 0, 0, 0, 7, 0, 60 },    /* the last under the old ones, late */
        { 2, 0, 0, 0, 70, 70 },   /* newer keys, should a lane begin anew with them */
        { 1, 0, 0, 10, 80, 80 },  /* but the peer took two handshakes in the other order */
        { 2, 0, 0, 11, 85, 85 },  /* newer */
        { 1, 0, 0, 2, 0, 85 },    /* overtaken */
        { 2, 0, 1, 0, 90, 90 },   /* a lane that was replaced begins anew */
        { 2, 0, 0, 12, 0, 90 },   /* what the one before said last */
        { 2, 1, 0, 0, 100, 100 }, /* another lane: not to be compared */
    };
    victim v;

    victim_open(&v);
    for (uint32_t generation = 1; generation < ZR_LANE_GENS; generation++)
        CHECK_EQ(rekey(&v.a, generation, A_TO_B, ZR_CIPHER_AES_128_GCM, false, v.now), ZR_OK);
    for (size_t i = 0; i < ZR_LEN(rows); i++) {
        zr_seg segs[] = { SEG(.cmd = ZR_SEG_WASK, .wnd = rows[i].says), SEG(.cmd = ZR_SEG_WINS, .wnd = rows[i].says) };
        zr_env env = env_of(rows[i].generation, rows[i].lane, rows[i].epoch, rows[i].counter);
        CHECK_EQ(say_as(&v, rows[i].generation, env, segs, ZR_LEN(segs)), ZR_OK);
        CHECK_EQ(zr_lane_conv_at(v.a.lane, (uint32_t)v.conv)->kcp.rmt_wnd, rows[i].holds);
    }
    CHECK_EQ(waiting(&v), IN_FLIGHT);
    victim_close(&v);
}

ZR_TEST(H4_a_datagram_overtaken_by_another_conversations_alone_is_the_newest_of_its_own)
{
    victim v;
    zr_seg seg = SEG(.cmd = ZR_SEG_WINS, .wnd = 9), other = SEG(.cmd = ZR_SEG_WINS, .conv = CONV + 1, .wnd = 0);

    victim_open(&v);
    int conv = open_media(&v.a, CONV + 1, 0, 2);
    CHECK_EQ(say_at(&v, 1, &other, 1), ZR_OK);
    CHECK_EQ(say_at(&v, 0, &seg, 1), ZR_OK);
    CHECK_EQ(zr_lane_conv_at(v.a.lane, (uint32_t)v.conv)->kcp.rmt_wnd, 9);
    CHECK_EQ(zr_lane_conv_at(v.a.lane, (uint32_t)conv)->kcp.rmt_wnd, 0);
    victim_close(&v);
}

ZR_TEST(H7_of_a_datagram_with_one_bad_segment_none_is_applied)
{
    victim v;
    zr_seg segs[] = { SEG(.sn = 0, .una = 1), SEG(.cmd = ZR_SEG_PUSH, .sn = 0, .len = 10), SEG(.cmd = 0) };

    victim_open(&v);
    CHECK_EQ(say_at(&v, v.counter++, segs, ZR_LEN(segs)), ZR_E_dropped);
    CHECK_EQ(dropped(&v.a, ZR_DROP_kcp_cmd), 1);
    CHECK_EQ(waiting(&v), IN_FLIGHT);
    expect_nothing(&v.a);
    victim_close(&v);
}

/* A flood of stale segments over 10 ms, of numbers 0 to `numbers` - 1: what it is answered with, datagrams first. */
typedef struct answers {
    uint32_t datagrams, acks, windows, others;
} answers;

static answers flood(victim *v, uint32_t segments, uint32_t numbers)
{
    answers got = { 0 };

    for (uint32_t i = 0; i < segments; i++, v->now += ZR_MS(10) / segments) {
        CHECK_EQ(say(v, SEG(.cmd = ZR_SEG_PUSH, .sn = i % numbers, .una = IN_FLIGHT, .len = 10)), ZR_OK);
        if (i % (segments / 100) != segments / 100 - 1)
            continue;
        zr_lane_on_deadline(v->a.lane, v->now);
        got.datagrams += output(v);
        got.acks += said(v, CONV, ZR_SEG_ACK);
        got.windows += said(v, CONV, ZR_SEG_WINS);
        got.others += v->said_count;
    }
    got.others -= got.acks + got.windows;
    return got;
}

ZR_TEST(H8_stale_segments_are_acknowledged_once_in_ten_milliseconds_however_many_come_and_hold_nothing)
{
    static const struct {
        uint32_t segments, numbers;
    } floods[] = { { 10000, 1 }, { 10000, 5 }, { 1000, 5 }, { 100, 5 } };
    enum { OLD = 5, ROUNDS = 20, AGAIN = 6 };
    uint32_t settled = 0;

    for (size_t f = 0; f < ZR_LEN(floods); f++) {
        victim v;
        zr_lane_msg msg;

        victim_open(&v);
        for (uint32_t sn = 0; sn < OLD; sn++) {
            CHECK_EQ(say(&v, SEG(.cmd = ZR_SEG_PUSH, .sn = sn, .una = IN_FLIGHT, .len = 10)), ZR_OK);
            CHECK_EQ(zr_lane_recv(v.a.lane, &msg), ZR_OK);
            zr_pkt_drop(msg.views[0].pkt);
        }
        for (int quiet = 0; quiet < 10; quiet++, v.now += ZR_MS(1)) {
            zr_lane_on_deadline(v.a.lane, v.now);
            output(&v); /* all that is to be said of the first arrivals */
        }
        uint32_t held = v.a.pool.in_use;
        for (int round = 0; round < ROUNDS; round++) {
            answers got = flood(&v, floods[f].segments, floods[f].numbers);
            CHECK_EQ(got.acks, 1); /* whichever number: the newest */
            /* una is told once more as after any arrival: the more often, the worse the path looks, and a flood of
             * repeats looks like the worst. Not the more often the more there are. */
            CHECK(got.windows <= AGAIN);
            CHECK_EQ(got.others, 0);
            CHECK_EQ(got.datagrams, got.acks + got.windows);
            settled = f == 0 ? got.datagrams : settled;
            CHECK(round < 2 || got.datagrams == settled);
            CHECK_EQ(v.a.pool.in_use, held);
            CHECK_EQ(v.a.lane->blocks.in_use, 0);
        }
        CHECK_EQ(stat(&v.a, ZR_STAT_kcp_duplicates), ROUNDS * floods[f].segments);
        expect_nothing(&v.a);
        victim_close(&v);
    }
}

ZR_TEST(H9_H10_a_peer_that_acknowledges_nothing_makes_send_say_full_and_its_session_lives_on)
{
    victim v;
    uint8_t byte[16] = { 0 };
    uint32_t taken = 0;

    victim_open(&v);
    while (taken < 100000 && zr_lane_send_bytes(v.a.lane, (uint32_t)v.conv, byte, sizeof byte, v.now) == ZR_OK)
        taken++;
    CHECK(taken > 0 && taken < PKTS);
    for (int i = 0; i < 600; i++) { /* a minute */
        v.now += ZR_MS(100);
        zr_lane_on_deadline(v.a.lane, v.now);
        output(&v);
    }
    CHECK(waiting(&v) <= 1); /* past their deadline both sides move on; one asks whether anybody is there */
    CHECK(zr_lane_session_open(v.a.lane, 1));
    CHECK_EQ(zr_lane_send_bytes(v.a.lane, (uint32_t)v.conv, byte, sizeof byte, v.now), ZR_OK);
    victim_close(&v);
}

ZR_TEST(H11_a_conversation_nobody_opened_is_named_at_most_ten_times_a_second_and_is_no_violation)
{
    victim v;
    uint32_t session, conv, count, named = 0;

    victim_open(&v);
    for (uint32_t i = 0; i < 10000; i++, v.now += ZR_US(100)) {
        CHECK_EQ(say(&v, SEG(.conv = 1000 + i, .cmd = ZR_SEG_PUSH, .len = 10)), ZR_OK);
        named += zr_lane_unknown(v.a.lane, &session, &conv);
    }
    CHECK(named >= 9 && named <= 11);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_conv_unknown), 10000);
    CHECK(!zr_lane_violations(v.a.lane, &session, &count));
    victim_close(&v);
}

/* First halves of messages whose other halves do not come: each holds its packet, and wants a block of 64 places; the
 * one behind a gap wants another, for what is known of the gap. */
static const struct {
    uint32_t sn, blocks;
} halves[] = { { 0, 1 }, { 64, 2 } };

enum { FIRST = 100, CONVS = 60, ALONE = 2 /* of the first, so that once one block is left where two are wanted */ };

static zr_seg half_of(uint32_t conv, uint32_t sn)
{
    return SEG(.conv = conv, .cmd = ZR_SEG_PUSH, .frg = 1, .sn = sn, .una = 0, .len = MTU - ZR_SEG_HEAD);
}

/* All CONVS by turns, as long as there are blocks and beyond: which halves were taken. How many were not. */
static uint32_t exhaust(victim *v, bool taken[CONVS][ZR_LEN(halves)])
{
    const zr_kcp_blocks *blocks = &v->a.lane->blocks;
    uint32_t lost = 0;

    for (uint32_t i = 0; i < CONVS; i++) {
        for (size_t h = 0; h < (i < ALONE ? 1 : ZR_LEN(halves)); h++) {
            uint32_t before = blocks->in_use, packets = v->a.pool.in_use;
            bool fits = taken[i][h] = before + halves[h].blocks <= blocks->count;
            CHECK_EQ(say(v, half_of(FIRST + i, halves[h].sn)), ZR_OK); /* who is unlucky has done nothing wrong */
            CHECK_EQ(blocks->in_use, before + (fits ? halves[h].blocks : 0));
            CHECK_EQ(v->a.pool.in_use, packets + fits);
            lost += !fits;
        }
    }
    return lost;
}

/* Every half that was taken is acknowledged, no other one is, by ACK or by una. */
static void expect_acks(const victim *v, bool taken[CONVS][ZR_LEN(halves)])
{
    bool acked[CONVS][ZR_LEN(halves)] = { 0 };

    for (uint32_t i = 0; i < v->said_count; i++) {
        const zr_seg *seg = &v->said[i];
        if (seg->conv == CONV)
            continue;
        CHECK_EQ(seg->una, taken[seg->conv - FIRST][0]);
        acked[seg->conv - FIRST][0] |= seg->una == 1;
        for (size_t h = 0; h < ZR_LEN(halves); h++)
            acked[seg->conv - FIRST][h] |= seg->cmd == ZR_SEG_ACK && seg->sn == halves[h].sn;
    }
    for (uint32_t i = 0; i < CONVS; i++)
        for (size_t h = 0; h < ZR_LEN(halves); h++)
            CHECK_EQ(acked[i][h], taken[i][h]);
}

ZR_TEST(H12_without_a_block_left_a_segment_is_counted_not_acknowledged_and_taken_when_it_comes_again)
{
    bool taken[CONVS][ZR_LEN(halves)] = { 0 };
    int handles[CONVS];
    uint8_t byte = 1;
    zr_lane_msg msg;
    victim v;

    victim_open(&v);
    const zr_kcp_blocks *blocks = &v.a.lane->blocks;
    for (uint32_t i = 0; i < CONVS; i++)
        handles[i] = open_media(&v.a, FIRST + i, 0, 2);
    uint32_t lost = exhaust(&v, taken);
    CHECK_EQ(blocks->in_use, blocks->count);
    output(&v);
    expect_acks(&v, taken);
    CHECK(lost > 0);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_blocks_exhausted), lost); /* counted, each once */
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_window_drops), lost);
    CHECK_EQ(stat(&v.a, ZR_STAT_kcp_blocks_in_use), blocks->count);
    CHECK_EQ(drops(&v.a), 0);
    CHECK(zr_kcp_blocks_check(blocks) && zr_lane_check(v.a.lane));

    /* Who has blocks goes on; who has none is told so. */
    CHECK_EQ(say(&v, SEG(.sn = 0, .una = 1)), ZR_OK);
    CHECK_EQ(waiting(&v), IN_FLIGHT - 1);
    CHECK_EQ(zr_lane_send_bytes(v.a.lane, (uint32_t)v.conv, &byte, 1, v.now), ZR_OK);
    CHECK_EQ(zr_lane_send_bytes(v.a.lane, (uint32_t)handles[CONVS - 1], &byte, 1, v.now), ZR_E_nomem);

    /* Halves do not stay beyond their deadline, so there are blocks again: the same segment is taken, and what it is
     * half of is a message. */
    for (int i = 0; i < 100; i++, v.now += ZR_MS(10)) {
        zr_lane_on_deadline(v.a.lane, v.now);
        output(&v);
    }
    CHECK_EQ(v.a.pool.in_use, 0);
    CHECK_EQ(blocks->in_use, 0);
    CHECK(!taken[CONVS - 1][0]);
    CHECK_EQ(say(&v, half_of(FIRST + CONVS - 1, 0)), ZR_OK);
    CHECK_EQ(say(&v, SEG(.conv = FIRST + CONVS - 1, .cmd = ZR_SEG_PUSH, .sn = 1, .len = 10)), ZR_OK);
    CHECK_EQ(zr_lane_recv(v.a.lane, &msg), ZR_OK);
    CHECK_EQ(msg.view_count, 2);
    zr_pkt_drop(msg.views[0].pkt);
    zr_pkt_drop(msg.views[1].pkt);
    victim_close(&v);
}

#pragma GCC diagnostic pop
