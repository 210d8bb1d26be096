/* A peer's addresses: which are asked, which answers count, and when another one is used. */
#include "base/zr_sip.h"
#include "probe/zr_paths.h"
#include "zr_test.h"

enum { ADDRS = 3, WIRE = 64 };

/* Challenges under way to addresses that answer, each after a round trip of its own. */
typedef struct net {
    zr_paths paths;
    zr_addr addrs[ADDRS];
    zr_ns_t now, trip[ADDRS];
    bool up[ADDRS];
    double loss[ADDRS];
    uint64_t random;
    uint32_t asked[ADDRS], sent;
    struct {
        uint64_t token;
        zr_ns_t at; /* 0: free */
    } wire[WIRE];
} net;

static zr_addr addr_of(uint8_t host)
{
    return (zr_addr){ .ip = { 10, 0, 0, host }, .port = 29900, .family = 4 };
}

static void net_open(net *n, uint32_t count)
{
    memset(n, 0, sizeof *n);
    n->now = ZR_SEC(1);
    n->random = 1;
    for (uint8_t i = 0; i < ADDRS; i++) {
        n->addrs[i] = addr_of((uint8_t)(1 + i));
        n->trip[i] = ZR_MS(20);
        n->up[i] = true;
    }
    zr_paths_init(&n->paths, &n->addrs[0], 7, n->now);
    CHECK(zr_paths_set(&n->paths, n->addrs, count, n->now));
}

static void put(net *n, const zr_paths_out *out)
{
    uint32_t free = 0;

    n->asked[out->to]++;
    n->random = zr_sip(1, 2, n->random);
    if (!n->up[out->to] || (double)(n->random >> 11) * 0x1p-53 < n->loss[out->to])
        return;
    while (n->wire[free].at != 0)
        CHECK(++free < WIRE);
    n->wire[free].token = out->token;
    n->wire[free].at = n->now + n->trip[out->to];
}

static void turn(net *n)
{
    zr_paths_out out;

    for (uint32_t i = 0; i < WIRE; i++) {
        if (n->wire[i].at == 0 || n->wire[i].at > n->now)
            continue;
        n->wire[i].at = 0;
        zr_paths_on_answer(&n->paths, n->wire[i].token, n->now);
    }
    zr_paths_on_deadline(&n->paths, n->now);
    while (zr_paths_next(&n->paths, &out)) {
        CHECK(!out.answer);
        put(n, &out);
        n->sent++;
        zr_paths_sent(&n->paths, &out, n->now);
    }
    CHECK(zr_paths_deadline(&n->paths) > n->now);
    CHECK(zr_paths_check(&n->paths));
}

/* `worried`: from then on the session is silent, as long as the used address is down. */
static void run(net *n, zr_ns_t lasts, zr_ns_t worried)
{
    for (zr_ns_t until = n->now + lasts; n->now < until; n->now += ZR_MS(1)) {
        if (n->now >= worried && !n->up[n->paths.used])
            zr_paths_hurry(&n->paths, n->now);
        turn(n);
    }
}

ZR_TEST(siphash_gives_the_published_number)
{
    CHECK_EQ(zr_sip(0x0706050403020100u, 0x0f0e0d0c0b0a0908u, 0x0706050403020100u), 0x93f5f5799a932462u);
}

ZR_TEST(one_address_is_never_asked_and_one_challenge_a_second_serves_all_of_several)
{
    net n;

    net_open(&n, 1);
    CHECK_EQ(zr_paths_deadline(&n.paths), ZR_NEVER);
    zr_paths_hurry(&n.paths, n.now);
    run(&n, ZR_SEC(60), ZR_NEVER);
    CHECK_EQ(n.sent, 0);
    net_open(&n, 3);
    run(&n, ZR_SEC(60), ZR_NEVER);
    CHECK(n.sent >= 60 && n.sent <= 63);
    for (uint32_t i = 0; i < 3; i++) {
        CHECK(n.asked[i] >= 20);
        CHECK(n.paths.one[i].proven);
        CHECK(n.paths.one[i].srtt_us >= 19000 && n.paths.one[i].srtt_us <= 21000);
    }
    CHECK_EQ(n.paths.moves, 0);
}

ZR_TEST(an_address_that_never_answers_is_asked_every_5_s_and_never_used)
{
    net n;

    net_open(&n, 2);
    n.up[1] = false;
    run(&n, ZR_SEC(100), ZR_NEVER);
    CHECK(n.asked[1] >= 15 && n.asked[1] <= 21);
    CHECK(!n.paths.one[1].proven);
    n.up[0] = false; /* and then nothing does */
    run(&n, ZR_SEC(10), n.now);
    CHECK_EQ(n.paths.used, 0);
    CHECK_EQ(n.paths.moves, 0);
    CHECK(n.asked[1] <= 21 + 110);
    n.up[1] = true; /* the first to answer is used */
    run(&n, ZR_MS(400), 0);
    CHECK_EQ(n.paths.used, 1);
}

ZR_TEST(when_the_used_one_goes_silent_a_proven_one_takes_over_within_50_ms_and_its_round_trip)
{
    const zr_ns_t trips[] = { ZR_MS(5), ZR_MS(20), ZR_MS(150) };

    for (uint32_t t = 0; t < ZR_LEN(trips); t++) {
        net n;
        net_open(&n, 3);
        for (uint32_t i = 0; i < 3; i++)
            n.trip[i] = trips[t];
        n.trip[2] -= ZR_MS(1); /* the nearer one of two */
        run(&n, ZR_SEC(90), ZR_NEVER);
        CHECK_EQ(n.paths.used, 0);
        n.up[0] = false;
        zr_ns_t worried = n.now;
        while (n.paths.used == 0 && n.now < worried + ZR_SEC(1)) {
            zr_paths_hurry(&n.paths, n.now);
            turn(&n);
            n.now += ZR_MS(1);
        }
        CHECK_EQ(n.paths.used, 2);
        CHECK(n.now - worried <= ZR_MS(60) + trips[t]);
        CHECK(zr_paths_take_moved(&n.paths));
        CHECK(!zr_paths_take_moved(&n.paths));
        n.up[0] = true;
        run(&n, ZR_SEC(40), ZR_NEVER);
        CHECK_EQ(n.paths.used, 2); /* being back is no reason to move */
    }
}

ZR_TEST(a_hurry_does_not_move_from_an_address_that_answers)
{
    net n;

    net_open(&n, 2);
    run(&n, ZR_SEC(10), ZR_NEVER);
    for (zr_ns_t until = n.now + ZR_SEC(5); n.now < until; n.now += ZR_MS(1)) {
        zr_paths_hurry(&n.paths, n.now);
        turn(&n);
    }
    CHECK_EQ(n.paths.moves, 0);
}

ZR_TEST(the_address_that_loses_less_is_used_after_10_s_and_small_differences_move_nothing)
{
    net n;

    net_open(&n, 2);
    n.loss[0] = 0.3;
    run(&n, ZR_SEC(8), ZR_NEVER);
    CHECK_EQ(n.paths.used, 0);
    run(&n, ZR_SEC(90), ZR_NEVER);
    CHECK_EQ(n.paths.used, 1);
    CHECK_EQ(n.paths.moves, 1);

    net_open(&n, 2);
    n.loss[0] = n.loss[1] = 0.02;
    n.trip[0] = ZR_MS(20), n.trip[1] = ZR_MS(18);
    run(&n, ZR_SEC(600), ZR_NEVER);
    CHECK_EQ(n.paths.used, 0);

    net_open(&n, 2);
    n.trip[0] = ZR_MS(20), n.trip[1] = ZR_MS(10);
    run(&n, ZR_SEC(60), ZR_NEVER);
    CHECK_EQ(n.paths.used, 1); /* nearer by half, and loses no more */
    CHECK_EQ(n.paths.moves, 1);
}

ZR_TEST(an_answer_counts_once_and_only_for_what_was_asked)
{
    net n;
    zr_paths_out out;

    net_open(&n, 2);
    CHECK(zr_paths_next(&n.paths, &out));
    CHECK(!zr_paths_asked(&n.paths, out.token)); /* not sent yet */
    zr_paths_sent(&n.paths, &out, n.now);
    CHECK(zr_paths_asked(&n.paths, out.token));
    CHECK(!zr_paths_asked(&n.paths, out.token ^ 1));
    zr_paths_on_answer(&n.paths, out.token ^ 1, n.now);
    CHECK(!n.paths.one[out.to].proven);
    zr_paths_on_answer(&n.paths, out.token, n.now + ZR_MS(5));
    CHECK(n.paths.one[out.to].proven);
    CHECK(!zr_paths_asked(&n.paths, out.token));
    zr_paths_out other;
    CHECK(zr_paths_next(&n.paths, &other));
    CHECK(other.token != out.token);
}

ZR_TEST(an_answer_goes_where_its_challenge_came_from_when_that_is_listed_and_else_to_the_used_address)
{
    net n;
    zr_paths_out out;
    zr_addr stranger = addr_of(99);

    net_open(&n, 2);
    run(&n, ZR_SEC(1), ZR_NEVER);
    zr_paths_on_challenge(&n.paths, 11, &n.addrs[1], n.now);
    zr_paths_on_challenge(&n.paths, 22, &stranger, n.now);
    CHECK_EQ(zr_paths_deadline(&n.paths), 0);
    CHECK(zr_paths_next(&n.paths, &out));
    CHECK(out.answer);
    CHECK_EQ(out.to, 1);
    CHECK_EQ(out.token, 11);
    zr_paths_sent(&n.paths, &out, n.now);
    CHECK(zr_paths_next(&n.paths, &out));
    CHECK_EQ(out.to, n.paths.used);
    zr_paths_sent(&n.paths, &out, n.now);
    CHECK_EQ(n.paths.moves, 0);
    for (uint32_t i = 0; i < 1000; i++) /* no more than are owed, and those at a rate */
        zr_paths_on_challenge(&n.paths, i, &n.addrs[1], n.now);
    CHECK_EQ(n.paths.owed, ZR_PATHS_ANSWERS);
}

ZR_TEST(a_new_list_keeps_what_is_known_and_must_have_the_used_address)
{
    net n;

    net_open(&n, 3);
    run(&n, ZR_SEC(30), ZR_NEVER);
    const zr_addr two[] = { n.addrs[2], n.addrs[0] }, without[] = { n.addrs[1] }, twice[] = { n.addrs[0], n.addrs[0] };
    zr_addr many[ZR_PATHS_MAX + 1];
    for (uint8_t i = 0; i <= ZR_PATHS_MAX; i++)
        many[i] = addr_of((uint8_t)(1 + i));
    CHECK(!zr_paths_set(&n.paths, without, 1, n.now));
    CHECK(!zr_paths_set(&n.paths, twice, 2, n.now));
    CHECK(!zr_paths_set(&n.paths, many, ZR_PATHS_MAX + 1, n.now));
    CHECK(!zr_paths_set(&n.paths, NULL, 0, n.now));
    CHECK_EQ(n.paths.count, 3);
    CHECK(zr_paths_set(&n.paths, many, ZR_PATHS_MAX, n.now));
    CHECK(zr_paths_set(&n.paths, two, 2, n.now));
    CHECK_EQ(n.paths.used, 1);
    CHECK(zr_addr_eq(zr_paths_used(&n.paths), &n.addrs[0]));
    CHECK(n.paths.one[0].proven && n.paths.one[1].proven);
    CHECK(zr_paths_check(&n.paths));
}
