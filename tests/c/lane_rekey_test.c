/* Keys that change under way: rekeys under load and loss, replaced lanes, and no nonce a second time. */
#include "lane_sealed.h"

#define WAY_NS   ZR_MS(20) /* one way; every second datagram takes a quarter more */
#define FLIGHT   2048u
#define LOSS_PPM 10000u
#define PAYLOAD  200u
#define CONVS    16u /* which share what is said: as many as it takes that no window fills in a round trip */
#define WITHIN   5   /* ms until its sender gives a message up */

typedef struct flown {
    zr_ns_t due;
    uint16_t len;
    uint8_t data[ZR_ENV_HEAD + MTU + ZR_ENV_TAG];
} flown;

/* Two ways of different length, so that what is sent close together is overtaken. */
typedef struct way {
    flown slots[2][FLIGHT];
    uint32_t head[2], tail[2];
    uint64_t sent, lost, said, heard; /* datagrams; messages */
    uint32_t turn;
} way;

static void fly(way *w, const zr_tx *tx, zr_rng *rng, zr_ns_t now)
{
    uint32_t which = w->sent++ % 2;
    flown *f = &w->slots[which][w->tail[which] % FLIGHT];

    if (zr_rng_next(rng) % 1000000 < LOSS_PPM) {
        w->lost++;
        return;
    }
    CHECK(w->tail[which] - w->head[which] < FLIGHT && tx->len <= sizeof f->data);
    f->due = now + WAY_NS + (which == 0 ? 0 : WAY_NS / 4);
    f->len = tx->len;
    memcpy(f->data, tx->data, tx->len);
    w->tail[which]++;
}

static void hear_all(way *w, end *at)
{
    zr_lane_msg msg;

    while (zr_lane_recv(at->lane, &msg) == ZR_OK) {
        CHECK(msg.view_count == 1 && msg.views[0].len == PAYLOAD);
        zr_pkt_drop(msg.views[0].pkt);
        w->heard++;
    }
}

static void land(way *w, end *at, const zr_addr *from, zr_ns_t now)
{
    for (uint32_t which = 0; which < 2; which++)
        for (; w->head[which] != w->tail[which]; w->head[which]++) {
            const flown *f = &w->slots[which][w->head[which] % FLIGHT];
            if (f->due > now)
                break;
            (void)give(at, from, f->data, f->len, now);
            hear_all(w, at);
        }
}

/* `count` datagrams, each with a message of its own, on conversations in turn; an empty one while too many wait. */
static void say(end *e, const int *convs, uint32_t count, way *out, zr_rng *rng, zr_ns_t now)
{
    zr_lane_peer *to = e->lane->sessions[1].peer[0];

    zr_lane_on_deadline(e->lane, now);
    for (uint32_t n = 0; n < count; n++) {
        zr_pkt *pkt = e->pool.in_use < PKTS / 2 ? zr_pool_take(&e->pool) : NULL;
        if (pkt != NULL) {
            uint32_t conv = (uint32_t)convs[out->turn++ % CONVS];
            zr_slice body = { pkt, pkt->off, PAYLOAD };
            memset(pkt->buf + pkt->off, (int)n, PAYLOAD);
            out->said += zr_lane_send_within(e->lane, conv, NULL, 0, &body, WITHIN, now) == ZR_OK;
            zr_pkt_drop(pkt);
        }
        to->beat = true;
        if (!zr_list_linked(&to->due))
            zr_list_append(&e->lane->due, &to->due);
        zr_batch_reset(&e->batch);
        CHECK_EQ(zr_lane_output(e->lane, &e->batch, now), ZR_OK);
        CHECK(e->batch.count >= 1);
        for (uint32_t i = 0; i < e->batch.count; i++)
            fly(out, &e->batch.tx[i], rng, now);
    }
}

/* For want of a key: anything but what the network does. */
static void expect_none_refused(const end *e)
{
    CHECK_EQ(dropped(e, ZR_DROP_noindex), 0);
    CHECK_EQ(dropped(e, ZR_DROP_expired), 0);
    CHECK_EQ(dropped(e, ZR_DROP_auth), 0);
    CHECK_EQ(dropped(e, ZR_DROP_lane), 0);
    CHECK_EQ(dropped(e, ZR_DROP_ratelimit), 0);
    CHECK_EQ(dropped(e, ZR_DROP_link_pool), 0);
    CHECK_EQ(stat(e, ZR_STAT_link_unsealed), 0);
    CHECK_EQ(drops(e), 0);
}

ZR_TEST(a_thousand_rekeys_under_load_with_loss_refuse_no_datagram_for_want_of_a_key)
{
    enum { GENERATIONS = MANY == 1 ? 1000 : 30, EVERY_MS = 50, PER_MS = 20 };
    static way ab, ba;
    zr_ns_t now = ZR_SEC(1);
    uint32_t responded = 0, initiated = 0;
    int at_a[CONVS], at_b[CONVS];
    bool turn = false;
    zr_rng rng;
    end a, b;

    zr_rng_seed(&rng, 11);
    memset(&ab, 0, sizeof ab);
    memset(&ba, 0, sizeof ba);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, now);
    sealed_open(&b, 0, B_TO_A, ZR_CIPHER_AES_128_GCM, now);
    for (uint32_t i = 0; i < CONVS; i++) {
        at_a[i] = open_media(&a, 8 + i, 0, 0);
        at_b[i] = open_media(&b, 8 + i, 0, 0);
    }
    for (uint32_t ms = 0; initiated < GENERATIONS; ms++, now += ZR_MS(1)) {
        enum zr_cipher cipher = initiated % 5 == 4 ? ZR_CIPHER_CHACHA20_POLY1305 : ZR_CIPHER_AES_128_GCM;
        /* The responder has the keys one way before the initiator; they take turns. */
        if (ms % EVERY_MS == 0) {
            turn = zr_rng_next(&rng) % 2 == 0;
            CHECK_EQ(rekey(turn ? &a : &b, ++responded, turn ? A_TO_B : B_TO_A, cipher, false, now), ZR_OK);
        }
        if (ms % EVERY_MS == 25) {
            ++initiated;
            CHECK_EQ(rekey(turn ? &b : &a, initiated, turn ? B_TO_A : A_TO_B, cipher, true, now), ZR_OK);
        }
        land(&ab, &b, &a.addr, now);
        land(&ba, &a, &b.addr, now);
        say(&a, at_a, PER_MS, &ab, &rng, now);
        say(&b, at_b, PER_MS, &ba, &rng, now);
    }
    expect_none_refused(&a);
    expect_none_refused(&b);
    CHECK(ab.sent + ba.sent > (uint64_t)GENERATIONS * EVERY_MS * PER_MS);
    CHECK(ab.lost > 0 && ba.lost > 0);
    CHECK(ab.said > ab.sent / 2 && ba.said > ba.sent / 2);
    CHECK(ab.heard > ab.said / 4 && ba.heard > ba.said / 4); /* given up this early, many come behind their window */
    CHECK_EQ(stat(&a, ZR_STAT_rekeys), GENERATIONS);
    CHECK(stat(&a, ZR_STAT_lane_keys_derived) <= 2); /* the first one: all others were made beforehand */
    end_close(&a);
    end_close(&b);
}

/* Every (key, counter) that ever left: keys by what the header names, counters as bits. */
typedef struct shadow {
    uint64_t key[4096];
    uint64_t *bits[4096];
    uint32_t keys;
    uint64_t seen;
} shadow;

#define SHADOW_BITS ((uint64_t)1 << 26)

static void shadow_note(shadow *s, const zr_env *env)
{
    uint64_t key = (uint64_t)env->epoch << 40 | (uint64_t)env->receiver << 8 | env->lane;
    uint32_t at = 0;

    while (at < s->keys && s->key[s->keys - 1 - at] != key)
        at++;
    if (at == s->keys) {
        CHECK(s->keys < ZR_LEN(s->key));
        s->key[s->keys] = key;
        s->bits[s->keys++] = calloc(SHADOW_BITS / 64, 8); /* untouched pages cost nothing */
        at = 0;
    }
    uint64_t *word = &s->bits[s->keys - 1 - at][env->counter / 64], bit = (uint64_t)1 << env->counter % 64;
    CHECK(env->counter < SHADOW_BITS);
    CHECK((*word & bit) == 0); /* one nonce twice would give the key away */
    *word |= bit;
    s->seen++;
}

/* Restarts are what the supervisor does (the next epoch), and what an agent does to a lane that is behind: the same
 * keys again, in the same life. */
ZR_TEST(no_nonce_is_used_twice_over_restarts_resets_and_rekeys)
{
    const char *full = getenv("ZR_FULL");
    bool all = full != NULL && strcmp(full, "1") == 0;
    const uint64_t wanted = (all ? 10000000u : 1000000u) / MANY;
    const uint32_t restarts = all ? 200 : 40;
    uint32_t generation = 0, life;
    static shadow s;
    zr_rng rng;

    memset(&s, 0, sizeof s);
    zr_rng_seed(&rng, 12);
    for (life = 0; life < restarts; life++) {
        zr_ns_t now = ZR_SEC(1);
        end a;
        sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, now);
        zr_lane_fini(a.lane);
        zr_lane_conf conf = conf_of(0);
        conf.epoch = (uint16_t)(life + 1);
        CHECK(zr_lane_init(a.mem[3], &conf, &a.pool, a.page, now) == a.lane);
        zr_session_conf session = sealed_conf(A_TO_B, ZR_CIPHER_AES_128_GCM);
        session.rate_mhz = 0;
        session.keys = keys_of(generation, A_TO_B, ZR_CIPHER_AES_128_GCM, true);
        session.index = index_of(generation, A_TO_B);
        session.peer_index = index_of(generation, B_TO_A);
        CHECK_EQ(zr_lane_session_add(a.lane, 1, &session, now), ZR_OK);
        int convs[2] = { -1, -1 };
        for (uint64_t until = wanted * (life + 1) / restarts; s.seen < until; now += ZR_MS(1)) {
            for (int i = 0; i < 2; i++) {
                if (convs[i] < 0)
                    convs[i] = zr_lane_conv_open(a.lane, 1, (uint32_t)(8 + i), (uint8_t)i, ZR_CONV_MEDIA, 0, now);
                zr_pkt *pkt = zr_pool_take(&a.pool);
                CHECK(convs[i] >= 0 && pkt != NULL);
                uint8_t head[ZR_KCP_HEAD_MAX] = { 0 };
                (void)zr_lane_send_within(a.lane, (uint32_t)convs[i], head, sizeof head,
                                          &(zr_slice){ pkt, pkt->off, 10 }, 5, now);
                zr_pkt_drop(pkt);
            }
            zr_lane_on_deadline(a.lane, now);
            zr_batch_reset(&a.batch);
            CHECK_EQ(zr_lane_output(a.lane, &a.batch, now), ZR_OK);
            for (uint32_t i = 0; i < a.batch.count; i++) {
                zr_env env;
                zr_env_parse(&env, a.batch.tx[i].data);
                shadow_note(&s, &env);
            }
            uint64_t dice = zr_rng_next(&rng) % 3000;
            if (dice == 0 && generation < 300) {
                generation++;
                CHECK_EQ(rekey(&a, generation, A_TO_B, ZR_CIPHER_AES_128_GCM, true, now), ZR_OK);
                session.keys = keys_of(generation, A_TO_B, ZR_CIPHER_AES_128_GCM, true);
                session.index = index_of(generation, A_TO_B);
                session.peer_index = index_of(generation, B_TO_A);
            } else if (dice < 4) { /* a reset: all of it again */
                CHECK_EQ(zr_lane_session_drop(a.lane, 1), ZR_OK);
                CHECK_EQ(zr_lane_session_add(a.lane, 1, &session, now), ZR_OK);
                convs[0] = convs[1] = -1;
            }
        }
        end_close(&a);
    }
    CHECK(s.seen >= wanted);
    CHECK(s.keys >= 2 * restarts);
    for (uint32_t i = 0; i < s.keys; i++)
        free(s.bits[i]);
}
