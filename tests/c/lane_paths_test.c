/* Two addresses of a peer inside lanes: both are kept warm, one is used, the other takes over; strangers move nothing.
 */
#include "lane_sealed.h"

enum { WAYS = 2 };

static zr_addr way_addr(uint8_t way, uint16_t port)
{
    return (zr_addr){ .ip = { 127, 0, 0, (uint8_t)(1 + way) }, .port = port, .family = 4 };
}

/* A way that is down takes what it is given. */
typedef struct ways {
    bool up[WAYS];
    uint64_t bytes[WAYS], dgrams[WAYS];
} ways;

/* An agent's lane that probes, with the keys of generation 0; or in plaintext. */
static void agent_open(end *e, int direction, enum zr_cipher cipher)
{
    zr_lane_conf conf = conf_of(ZR_LANE_AGENT);
    zr_session_conf session = sealed_conf(direction, cipher);

    conf.probe = (zr_probe_conf){ .rate_idle = 25, .rate_active = 100, .seed = 3 + (unsigned)direction };
    session.rate_mhz = 25000;
    end_make(e, &conf, BATCH, direction == A_TO_B ? PORT_A : PORT_B, &session);
    CHECK(zr_lane_conv_open(e->lane, 1, 0, ZR_LANE_AGENT, ZR_CONV_CONTROL, 0, ZR_SEC(1)) >= 0);
}

static void two_ways_open(end *a, end *b)
{
    const zr_addr to_b[WAYS] = { way_addr(0, PORT_B), way_addr(1, PORT_B) };
    const zr_addr to_a[WAYS] = { way_addr(0, PORT_A), way_addr(1, PORT_A) };

    agent_open(a, A_TO_B, ZR_CIPHER_AES_128_GCM);
    agent_open(b, B_TO_A, ZR_CIPHER_AES_128_GCM);
    CHECK_EQ(zr_lane_session_set_paths(a->lane, 1, to_b, WAYS, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_session_set_paths(b->lane, 1, to_a, WAYS, ZR_SEC(1)), ZR_OK);
}

static void cross(end *from, end *to, ways *w, zr_ns_t now)
{
    int rc;

    zr_lane_on_deadline(from->lane, now);
    zr_lane_listened(from->lane, now);
    do {
        zr_batch_reset(&from->batch);
        rc = zr_lane_output(from->lane, &from->batch, now);
        for (uint32_t i = 0; i < from->batch.count; i++) {
            const zr_tx *tx = &from->batch.tx[i];
            uint32_t way = tx->to.ip[3] - 1u;
            zr_addr source = from->addr;
            CHECK(way < WAYS);
            source.ip[3] = tx->to.ip[3];
            w->bytes[way] += tx->len + 28u;
            w->dgrams[way]++;
            if (w->up[way])
                CHECK_EQ(give(to, &source, tx->data, tx->len, now), ZR_OK);
        }
    } while (rc == ZR_E_full);
}

static zr_ns_t run(end *a, end *b, ways *out, ways *back, zr_ns_t now, zr_ns_t until)
{
    for (; now < until; now += ZR_MS(1)) {
        cross(a, b, out, now);
        cross(b, a, back, now);
    }
    return now;
}

static uint32_t used(const end *e)
{
    return zr_lane_session_paths(e->lane, 1)->used;
}

static bool up(const end *e)
{
    return zr_alive_up(&zr_lane_session_probe(e->lane, 1)->alive);
}

ZR_TEST(a_way_that_goes_silent_is_left_within_t_dead_at_both_ends_and_the_session_stays_up)
{
    const bool active[] = { false, true };

    for (uint32_t i = 0; i < 2; i++) {
        end a, b;
        ways out = { .up = { true, true } }, back = { .up = { true, true } };
        two_ways_open(&a, &b);
        CHECK_EQ(zr_lane_session_set_active(a.lane, 1, active[i], ZR_SEC(1)), ZR_OK);
        CHECK_EQ(zr_lane_session_set_active(b.lane, 1, active[i], ZR_SEC(1)), ZR_OK);
        zr_ns_t now = run(&a, &b, &out, &back, ZR_SEC(1), ZR_SEC(20));
        CHECK_EQ(used(&a), 0);
        CHECK(zr_lane_session_paths(a.lane, 1)->one[1].proven);
        zr_ns_t dead_after = zr_lane_session_probe(a.lane, 1)->alive.dead_after;
        out.up[0] = back.up[0] = false;
        run(&a, &b, &out, &back, now, now + dead_after);
        CHECK_EQ(used(&a), 1);
        CHECK_EQ(used(&b), 1);
        now = run(&a, &b, &out, &back, now + dead_after, now + ZR_SEC(5));
        CHECK(up(&a) && up(&b));
        CHECK_EQ(stat(&a, ZR_STAT_link_deaths) + stat(&b, ZR_STAT_link_deaths), 0);
        CHECK_EQ(stat(&a, ZR_STAT_path_moves), 1);
        CHECK_EQ(zr_mtu_size(&zr_lane_session_probe(a.lane, 1)->mtu), MTU + 80); /* found anew on the new way */
        CHECK_EQ(drops(&a) + drops(&b), 0);
        end_close(&a);
        end_close(&b);
    }
}

ZR_TEST(a_way_that_loses_one_direction_is_left_by_who_is_not_heard_before_anybody_is_dead)
{
    end a, b;
    ways out = { .up = { true, true } }, back = { .up = { true, true } };

    two_ways_open(&a, &b);
    zr_ns_t now = run(&a, &b, &out, &back, ZR_SEC(1), ZR_SEC(20));
    out.up[0] = false; /* a hears b as before */
    now = run(&a, &b, &out, &back, now, now + ZR_MS(250));
    CHECK_EQ(used(&a), 1);
    now = run(&a, &b, &out, &back, now, now + ZR_SEC(5));
    CHECK(up(&a) && up(&b));
    CHECK_EQ(stat(&a, ZR_STAT_link_deaths) + stat(&b, ZR_STAT_link_deaths), 0);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_way_that_is_silent_from_the_first_ping_on_is_left_within_2_s)
{
    end a, b;
    ways out = { .up = { false, true } }, back = { .up = { false, true } };

    two_ways_open(&a, &b);
    zr_ns_t now = run(&a, &b, &out, &back, ZR_SEC(1), ZR_SEC(3));
    CHECK_EQ(used(&a), 1);
    CHECK_EQ(used(&b), 1);
    run(&a, &b, &out, &back, now, now + ZR_SEC(3));
    CHECK(up(&a) && up(&b));
    CHECK(zr_lane_session_probe(a.lane, 1)->path.samples > 0);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(an_idle_neighbour_with_two_addresses_costs_at_most_20_kbit_a_second)
{
    end a, b;
    ways out = { .up = { true, true } }, back = { .up = { true, true } };

    two_ways_open(&a, &b);
    zr_ns_t now = run(&a, &b, &out, &back, ZR_SEC(1), ZR_SEC(20));
    out = back = (ways){ .up = { true, true } };
    run(&a, &b, &out, &back, now, now + ZR_SEC(60));
    CHECK((out.bytes[0] + out.bytes[1]) * 8 / 60 <= 20000);
    CHECK((back.bytes[0] + back.bytes[1]) * 8 / 60 <= 20000);
    CHECK(out.dgrams[1] >= 55 && out.dgrams[1] <= 65); /* 30 challenges, 30 answers */
    end_close(&a);
    end_close(&b);
}

ZR_TEST(valid_data_from_an_unlisted_address_is_taken_and_moves_nothing) /* U36 */
{
    end a, b;
    ways out = { .up = { true, true } }, back = { .up = { true, true } };
    zr_addr stranger = { .ip = { 10, 0, 0, 66 }, .port = PORT_B, .family = 4 };

    two_ways_open(&a, &b);
    zr_ns_t now = run(&a, &b, &out, &back, ZR_SEC(1), ZR_SEC(5));
    uint64_t refused = stat(&a, ZR_STAT_roam_refused), accepted = stat(&a, ZR_STAT_link_accepted);
    CHECK_EQ(refused, 0); /* both ways are listed */
    for (zr_ns_t until = now + ZR_SEC(3); now < until; now += ZR_MS(1)) {
        zr_lane_on_deadline(b.lane, now);
        zr_batch_reset(&b.batch);
        CHECK_EQ(zr_lane_output(b.lane, &b.batch, now), ZR_OK);
        for (uint32_t i = 0; i < b.batch.count; i++) /* challenges among them */
            CHECK_EQ(give(&a, &stranger, b.batch.tx[i].data, b.batch.tx[i].len, now), ZR_OK);
        cross(&a, &b, &out, now); /* has two ways only: a datagram to the stranger would fail there */
    }
    CHECK(stat(&a, ZR_STAT_roam_refused) > 50);
    CHECK(stat(&a, ZR_STAT_link_accepted) > accepted + 50);
    CHECK_EQ(used(&a), 0);
    CHECK_EQ(stat(&a, ZR_STAT_path_moves), 0);
    end_close(&a);
    end_close(&b);
}

ZR_TEST(a_forged_answer_to_a_challenge_is_dropped_and_so_is_a_challenge_of_another_length)
{
    end a;
    uint8_t dgram[1500];
    const zr_seg bad[] = {
        { .cmd = ZR_PROBE_RESPONSE, .len = 8 },
        { .cmd = ZR_PROBE_RESPONSE, .len = 0 },
        { .cmd = ZR_PROBE_CHALLENGE, .len = 7 },
        { .cmd = ZR_PROBE_CHALLENGE, .len = 9 },
    };
    zr_addr from = loopback(PORT_B);

    agent_open(&a, A_TO_B, ZR_CIPHER_PLAIN);
    for (uint32_t i = 0; i < ZR_LEN(bad); i++) {
        zr_env env = {
            .type = ZR_ENV_DATA, .lane = ZR_LANE_AGENT, .receiver = INDEX_A << 6 | ZR_LANE_AGENT, .counter = i
        };
        size_t len = ZR_ENV_HEAD + ZR_SEG_HEAD + bad[i].len + ZR_ENV_TAG;
        memset(dgram, 0, sizeof dgram);
        zr_env_put(dgram, &env);
        zr_seg_put(dgram + ZR_ENV_HEAD, &bad[i]);
        CHECK_EQ(give(&a, &from, dgram, len, ZR_SEC(2)), ZR_E_dropped);
        CHECK_EQ(atomic_load(&a.page->drop[ZR_DROP_probe]), i + 1);
    }
    end_close(&a);
}

ZR_TEST(a_workers_lane_sends_where_it_is_told_and_takes_data_from_every_listed_address)
{
    end a, b;
    zr_addr first = way_addr(0, PORT_B), second = way_addr(1, PORT_B), none = { 0 };
    uint8_t dgram[1500];
    zr_env env = { .type = ZR_ENV_DATA, .lane = 0, .receiver = INDEX_A << 6 };

    pair_open(&a, &b, 0, BATCH);
    memset(dgram, 0, sizeof dgram);
    zr_addr from = way_addr(1, PORT_B + 1);
    zr_env_put(dgram, &env);
    CHECK_EQ(give(&a, &from, dgram, 32, ZR_SEC(1)), ZR_E_dropped); /* plaintext: not listed, not taken */
    CHECK_EQ(zr_lane_session_list(a.lane, 1, 1, &second), ZR_E_inval);
    CHECK_EQ(zr_lane_session_list(a.lane, 1, 0, &none), ZR_E_inval);
    CHECK_EQ(zr_lane_session_list(a.lane, 2, 0, &first), ZR_E_missing);
    CHECK_EQ(zr_lane_session_list(a.lane, 1, 0, &first), ZR_OK);
    CHECK_EQ(zr_lane_session_list(a.lane, 1, 1, &second), ZR_OK);
    CHECK_EQ(give(&a, &from, dgram, 32, ZR_SEC(1)), ZR_OK);

    (void)open_media(&a, 7, 0, 0);
    CHECK_EQ(zr_lane_send_bytes(a.lane, (uint32_t)zr_lane_conv_find(a.lane, 1, 7), dgram, 10, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_session_set_addr(a.lane, 1, &none), ZR_E_inval);
    CHECK_EQ(zr_lane_session_set_addr(a.lane, 2, &second), ZR_E_missing);
    CHECK_EQ(zr_lane_session_set_addr(a.lane, 1, &second), ZR_OK);
    CHECK_EQ(zr_lane_output(a.lane, &a.batch, ZR_SEC(1)), ZR_OK);
    CHECK(a.batch.count > 0);
    CHECK(zr_addr_eq(&a.batch.tx[0].to, &from));
    end_close(&a);
    end_close(&b);
}
