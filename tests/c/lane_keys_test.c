/* A lane with keys. Case ids are those of the bad-input tables (U) and of the threats (T). */
#include "lane_sealed.h"

static const enum zr_cipher ciphers[] = { ZR_CIPHER_AES_128_GCM, ZR_CIPHER_CHACHA20_POLY1305 };

/* An empty datagram of b's: what becomes of it at a. */
static int hear(end *a, peer *b, uint32_t generation, uint8_t lane, uint16_t epoch, uint64_t counter, zr_ns_t now)
{
    uint8_t data[ZR_ENV_HEAD + ZR_ENV_TAG];
    zr_env env = env_of(generation, lane, epoch, counter);
    zr_addr from = peer_addr(lane);

    return give(a, &from, data, peer_seal(b, data, generation, &env, NULL, 0), now);
}

typedef struct row {
    const char *id;
    enum zr_drop_id want; /* ZR_DROP_COUNT: accepted */
    uint8_t lane, to_lane;
    uint16_t epoch;
    uint32_t index_by;
    uint64_t counter;
    size_t body_len;
    int len_by;        /* bytes appended or cut off */
    bool forged;       /* the tag is of something else */
    zr_addr from;      /* family 0: where the lane is */
    zr_ns_t at;        /* 0: ZR_SEC(2) */
    uint64_t stat_was; /* of roam_refused, after */
} row;

static void expect_row(end *a, peer *b, const row *r)
{
    static const uint8_t body[ZR_PKT_ROOM];
    uint8_t data[ZR_PKT_ROOM + 1] = { 0 };
    zr_env env = env_of(0, r->lane, r->epoch, r->counter);
    zr_addr from = r->from.family == 0 ? peer_addr(r->lane) : r->from;
    uint64_t before = drops(a), accepted = stat(a, ZR_STAT_link_accepted);
    uint64_t word = r->want == ZR_DROP_COUNT ? 0 : dropped(a, r->want);

    env.receiver = (env.receiver + (r->index_by << 6)) | r->to_lane;
    size_t len = peer_seal(b, data, 0, &env, body, r->body_len);
    if (r->forged)
        data[len - 1] ^= 0x40;
    int rc = give(a, &from, data, (size_t)((int)len + r->len_by), r->at == 0 ? ZR_SEC(2) : r->at);
    bool right = r->want == ZR_DROP_COUNT
                     ? rc == ZR_OK && drops(a) == before && stat(a, ZR_STAT_link_accepted) == accepted + 1
                     : rc == ZR_E_dropped && drops(a) == before + 1 && dropped(a, r->want) == word + 1;
    if (!right || stat(a, ZR_STAT_roam_refused) != r->stat_was)
        fprintf(stderr, "  case %s\n", r->id);
    CHECK(right);
    CHECK_EQ(stat(a, ZR_STAT_roam_refused), r->stat_was);
    CHECK_EQ(a->pool.in_use, 0);
    CHECK_EQ(zr_ledger_off(a->page, ZR_LEDGER_link), 0);
    CHECK(zr_lane_check(a->lane));
}

ZR_TEST(the_table_of_sealed_datagrams_ends_in_exactly_one_counter_each)
{
    const zr_addr stranger = { .ip = { 192, 0, 2, 1 }, .port = 9, .family = 4 };
    const uint64_t far = (uint64_t)1 << 40;
    const row table[] = {
        { .id = "U03", .len_by = -16, .want = ZR_DROP_short },
        { .id = "U08 known index, no key of it", .counter = 5, .forged = true, .want = ZR_DROP_auth },
        { .id = "U04", .want = ZR_DROP_COUNT },
        { .id = "U07 another index", .index_by = 1, .counter = 1, .want = ZR_DROP_noindex },
        { .id = "U07 another lane", .to_lane = 1, .counter = 1, .want = ZR_DROP_lane },
        { .id = "U08", .counter = 1, .forged = true, .want = ZR_DROP_auth },
        { .id = "U10 one byte", .counter = 1, .body_len = 64, .len_by = -1, .want = ZR_DROP_auth },
        { .id = "U10 15 bytes", .counter = 1, .body_len = 64, .len_by = -15, .want = ZR_DROP_auth },
        { .id = "U10 15 bytes of an empty one", .counter = 1, .len_by = -15, .want = ZR_DROP_short },
        { .id = "U11", .counter = 1, .body_len = 64, .len_by = 1, .want = ZR_DROP_auth },
        { .id = "U12", .counter = 0, .want = ZR_DROP_replay },
        { .id = "U12 forged", .counter = 0, .forged = true, .want = ZR_DROP_auth },
        { .id = "window, edge", .counter = ZR_WIN, .want = ZR_DROP_COUNT },
        { .id = "window, edge - 1", .counter = 1, .want = ZR_DROP_COUNT },
        { .id = "window, beyond", .counter = 0, .want = ZR_DROP_old },
        { .id = "U13", .counter = 2 * ZR_WIN, .want = ZR_DROP_COUNT },
        { .id = "U13 late", .counter = 1 + ZR_WIN - 1, .want = ZR_DROP_old },
        { .id = "U14", .counter = far, .want = ZR_DROP_COUNT },
        { .id = "U14 before", .counter = 2 * ZR_WIN + 1, .want = ZR_DROP_old },
        { .id = "U16 lane 2 of 2", .lane = 2, .want = ZR_DROP_lane },
        { .id = "U16 lane 62", .lane = 62, .want = ZR_DROP_lane },
        { .id = "U16 lane 255", .lane = 255, .want = ZR_DROP_lane },
        { .id = "U16 the agent", .lane = ZR_LANE_AGENT, .want = ZR_DROP_COUNT },
        { .id = "U16 another lane", .lane = 1, .want = ZR_DROP_COUNT },
        { .id = "U18", .epoch = 1, .forged = true, .want = ZR_DROP_auth },
        { .id = "epoch 0 goes on", .counter = far + 1, .want = ZR_DROP_COUNT },
        { .id = "epoch 1", .epoch = 1, .want = ZR_DROP_COUNT },
        { .id = "epoch 0, late", .counter = far + 2, .want = ZR_DROP_COUNT },
        { .id = "epoch 0, late, again", .counter = far + 2, .want = ZR_DROP_replay },
        { .id = "epoch 0, too late", .counter = far + 3, .at = ZR_SEC(3), .want = ZR_DROP_lane },
        { .id = "epoch 5", .epoch = 5, .want = ZR_DROP_COUNT, .at = ZR_SEC(4) },
        { .id = "U17", .epoch = 3, .counter = 1, .want = ZR_DROP_lane, .at = ZR_SEC(4) },
        { .id = "epoch 6", .epoch = 6, .want = ZR_DROP_COUNT, .at = ZR_SEC(5) },
        { .id = "epoch 5, late", .epoch = 5, .counter = 1, .want = ZR_DROP_COUNT, .at = ZR_SEC(5) },
        { .id = "U33 1 byte too long", .epoch = 6, .counter = 1, .body_len = MTU + 1, .want = ZR_DROP_link_oversize },
        { .id = "U33 2047", .epoch = 6, .counter = 1, .body_len = ZR_PKT_ROOM - 32, .want = ZR_DROP_link_oversize },
        { .id = "U35 port 0",
          .epoch = 6,
          .counter = 1,
          .from = { .ip = { 127, 0, 0, 1 }, .family = 4 },
          .want = ZR_DROP_src },
        { .id = "U35 ours", .epoch = 6, .counter = 1, .from = loopback(PORT_A + 1), .want = ZR_DROP_src },
        { .id = "U36", .epoch = 6, .counter = 1, .from = stranger, .want = ZR_DROP_COUNT, .stat_was = 1 },
        { .id = "U36 forged",
          .epoch = 6,
          .counter = 2,
          .forged = true,
          .from = stranger,
          .want = ZR_DROP_auth,
          .stat_was = 1 },
        { .id = "U36 again", .epoch = 6, .counter = 1, .from = stranger, .want = ZR_DROP_replay, .stat_was = 1 },
        { .id = "U15", .epoch = 6, .counter = UINT64_MAX, .want = ZR_DROP_limit, .stat_was = 1 },
        { .id = "U15 is the end of it", .epoch = 6, .counter = 7, .want = ZR_DROP_expired, .stat_was = 1 },
    };
    uint32_t slot;
    enum zr_rekey_why why;

    for (size_t c = 0; c < ZR_LEN(ciphers); c++) {
        end a;
        peer b;
        peer_open(&b, ciphers[c]);
        sealed_open(&a, 0, A_TO_B, ciphers[c], ZR_SEC(1));
        zr_lane_set_own(a.lane, &a.addr);
        for (size_t i = 0; i < ZR_LEN(table); i++)
            expect_row(&a, &b, &table[i]);
        CHECK(zr_addr_same_ip(&a.lane->sessions[1].peer[0]->addr, &a.addr)); /* U36: the endpoint is as it was */
        CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && slot == 1 && why == ZR_REKEY_SHUT);
        CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why));
        end_close(&a);
        peer_close(&b);
    }
}

ZR_TEST(a_datagram_with_any_bit_of_its_header_or_tag_flipped_is_refused_U09)
{
    for (size_t c = 0; c < ZR_LEN(ciphers); c++) {
        uint8_t data[ZR_ENV_HEAD + 40 + ZR_ENV_TAG], flipped[sizeof data], body[40] = { 1 };
        zr_env env = env_of(0, 0, 1, 77);
        zr_addr from = peer_addr(0);
        uint64_t header = 0, tag = 0;
        end a;
        peer b;

        peer_open(&b, ciphers[c]);
        sealed_open(&a, 0, A_TO_B, ciphers[c], ZR_SEC(1));
        CHECK_EQ(hear(&a, &b, 0, 0, 1, 76, ZR_SEC(1)), ZR_OK);
        size_t len = peer_seal(&b, data, 0, &env, body, sizeof body);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            memcpy(flipped, data, len);
            flipped[bit / 8] ^= (uint8_t)(1u << bit % 8);
            /* One a time, so that no rate is in the way. */
            CHECK_EQ(give(&a, &from, flipped, len, ZR_SEC(2 + (int64_t)bit)), ZR_E_dropped);
            header += bit < 8 * ZR_ENV_HEAD;
            tag += bit >= 8 * (len - ZR_ENV_TAG);
        }
        CHECK_EQ(header, 128);
        CHECK_EQ(tag, 128);
        CHECK_EQ(drops(&a), 8 * len);
        CHECK_EQ(dropped(&a, ZR_DROP_auth) + dropped(&a, ZR_DROP_noindex) + dropped(&a, ZR_DROP_lane) +
                     dropped(&a, ZR_DROP_type) + dropped(&a, ZR_DROP_version),
                 drops(&a));
        CHECK_EQ(give(&a, &from, data, len, ZR_SEC(900)), ZR_E_dropped); /* a body of no segments, but ours */
        CHECK_EQ(dropped(&a, ZR_DROP_kcp_cmd), 1);
        end_close(&a);
        peer_close(&b);
    }
}

ZR_TEST(of_ten_million_datagrams_with_one_byte_changed_none_is_accepted)
{
    uint8_t data[ZR_ENV_HEAD + 32 + ZR_ENV_TAG], changed[sizeof data], body[32] = { 0 };
    zr_env env = env_of(0, 0, 1, 77);
    zr_addr from = peer_addr(0);
    zr_rng rng;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(hear(&a, &b, 0, 0, 1, 76, ZR_SEC(1)), ZR_OK);
    size_t len = peer_seal(&b, data, 0, &env, body, sizeof body);
    zr_rng_seed(&rng, 5);
    for (int i = 0; i < 10000000 / MANY; i++) {
        uint64_t dice = zr_rng_next(&rng);
        memcpy(changed, data, len);
        changed[dice % len] ^= (uint8_t)(1 + (dice >> 32) % 255);
        (void)give(&a, &from, changed, len, ZR_SEC(2) + ZR_US(20) * i);
    }
    CHECK_EQ(drops(&a), 10000000 / MANY);
    CHECK_EQ(stat(&a, ZR_STAT_link_accepted), 1);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(of_a_hundred_thousand_replays_none_is_accepted)
{
    enum { KEPT = 1000, REPLAYS = 100000 };
    static uint8_t kept[KEPT][ZR_ENV_HEAD + ZR_ENV_TAG];
    zr_addr from = peer_addr(0);
    zr_rng rng;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    for (uint32_t i = 0; i < KEPT; i++) {
        zr_env env = env_of(0, 0, 0, i * 9);
        peer_seal(&b, kept[i], 0, &env, NULL, 0);
        CHECK_EQ(give(&a, &from, kept[i], sizeof kept[i], ZR_SEC(1)), ZR_OK);
    }
    zr_rng_seed(&rng, 6);
    for (int i = 0; i < REPLAYS; i++)
        CHECK_EQ(give(&a, &from, kept[zr_rng_next(&rng) % KEPT], sizeof kept[0], ZR_SEC(1)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_replay) + dropped(&a, ZR_DROP_old), REPLAYS);
    CHECK(dropped(&a, ZR_DROP_old) > 0);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(datagrams_that_come_up_to_4000_places_out_of_order_are_all_accepted)
{
    enum { DEPTH = 4000, ALL = DEPTH * 10 };
    static uint32_t order[ALL];
    zr_rng rng;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_CHACHA20_POLY1305);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_CHACHA20_POLY1305, ZR_SEC(1));
    zr_rng_seed(&rng, 7);
    for (uint32_t i = 0; i < ALL; i++)
        order[i] = i;
    for (uint32_t block = 0; block < ALL; block += DEPTH) /* every one changes places within its 4 000 */
        for (uint32_t i = DEPTH - 1; i > 0; i--) {
            uint32_t with = (uint32_t)(zr_rng_next(&rng) % (i + 1)), was = order[block + i];
            order[block + i] = order[block + with];
            order[block + with] = was;
        }
    for (uint32_t i = 0; i < ALL; i++)
        CHECK_EQ(hear(&a, &b, 0, 0, 0, order[i], ZR_SEC(1)), ZR_OK);
    CHECK_EQ(drops(&a), 0);
    end_close(&a);
    peer_close(&b);
}

/* What a session, its peer lanes and their windows are, without what counts strangers. */
static uint64_t state_of(const end *e)
{
    uint64_t hash = 0xCBF29CE484222325u;
    zr_lane_session session = e->lane->sessions[1];

    session.derive_full_at = 0;
    for (uint32_t i = 0; i < ZR_LANE_GENS; i++)
        session.gens[i].forged = 0;
    const struct {
        const void *at;
        size_t bytes;
    } parts[] = {
        { &session, sizeof session },
        { e->lane->peers, e->lane->conf.peer_lanes_max * sizeof(zr_lane_peer) },
        { e->lane->rxs, zr_lane_rx_max(&e->lane->conf) * sizeof(zr_lane_rx) },
        { &e->lane->due, sizeof e->lane->due },
        { &e->lane->by_index.count, sizeof e->lane->by_index.count },
        { &e->lane->trial, sizeof e->lane->trial },
    };
    for (size_t part = 0; part < ZR_LEN(parts); part++)
        for (size_t i = 0; i < parts[part].bytes; i++)
            hash = (hash ^ ((const uint8_t *)parts[part].at)[i]) * 0x100000001B3u;
    return hash;
}

ZR_TEST(whatever_is_not_authenticated_leaves_the_state_as_it_was_T06)
{
    zr_ns_t now = ZR_SEC(2);
    zr_rng rng;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, false, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 0, 3, 10, ZR_SEC(1)), ZR_OK);
    uint64_t before = state_of(&a);
    zr_rng_seed(&rng, 8);
    for (int i = 0; i < 20000; i++, now += ZR_MS(10)) {
        uint64_t dice = zr_rng_next(&rng);
        uint8_t data[200];
        zr_env env = env_of((uint32_t)(dice % 2), dice >> 8 & 1, (uint16_t)(dice >> 16 & 7), dice >> 32);
        zr_addr from = dice >> 9 & 1 ? peer_addr(env.lane) : loopback((uint16_t)(1 + (dice >> 40)));
        for (size_t at = 0; at < sizeof data; at++)
            data[at] = (uint8_t)zr_rng_next(&rng);
        env.type = (uint8_t)(8 + (dice >> 10 & 7)); /* every type there is, and some */
        zr_env_put(data, &env);
        CHECK_EQ(give(&a, &from, data, (size_t)(dice >> 24 & 127) + 32, now), ZR_E_dropped);
    }
    CHECK(dropped(&a, ZR_DROP_auth) > 2000);
    CHECK(state_of(&a) == before);
    CHECK_EQ(hear(&a, &b, 0, 0, 3, 11, now), ZR_OK);
    CHECK(state_of(&a) != before); /* it would have been seen */
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(forged_epochs_are_derived_at_most_a_hundred_times_a_second_U18)
{
    zr_ns_t now = ZR_SEC(2);
    zr_addr from = peer_addr(0);
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(hear(&a, &b, 0, 0, 3, 10, ZR_SEC(1)), ZR_OK);
    for (uint32_t i = 0; i < 100000; i++, now += ZR_US(10)) { /* 10^5 a second */
        uint8_t data[ZR_ENV_HEAD + ZR_ENV_TAG] = { 0 };
        zr_env env = env_of(0, 0, 4, i);
        zr_env_put(data, &env);
        CHECK_EQ(give(&a, &from, data, sizeof data, now), ZR_E_dropped);
        if (i % 1000 == 0) /* the lane itself is heard all the while */
            CHECK_EQ(hear(&a, &b, 0, 0, 3, 11 + i, now), ZR_OK);
    }
    CHECK(dropped(&a, ZR_DROP_auth) <= 100);
    CHECK(dropped(&a, ZR_DROP_auth) >= 90);
    CHECK_EQ(dropped(&a, ZR_DROP_auth) + dropped(&a, ZR_DROP_ratelimit), 100000);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_derived), dropped(&a, ZR_DROP_auth) + 1);
    end_close(&a);
    peer_close(&b);
}

/* One media message of one segment; how many datagrams a has to send then. */
static uint32_t send_one(end *a, int conv, zr_ns_t now)
{
    zr_pkt *pkt = zr_pool_take(&a->pool);
    uint8_t head[ZR_KCP_HEAD_MAX] = { 0 };

    CHECK(pkt != NULL);
    memset(pkt->buf + pkt->off, 0, 100);
    CHECK(zr_lane_send(a->lane, (uint32_t)conv, head, sizeof head, &(zr_slice){ pkt, pkt->off, 100 }, now) >= 0);
    zr_pkt_drop(pkt);
    zr_batch_reset(&a->batch);
    CHECK_EQ(zr_lane_output(a->lane, &a->batch, now), ZR_OK);
    return a->batch.count;
}

ZR_TEST(keys_end_after_fifteen_minutes_whatever_the_traffic_U19)
{
    uint32_t slot;
    enum zr_rekey_why why;
    zr_ns_t end_at = ZR_SEC(1) + ZR_LANE_KEYS_AGE;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    int conv = open_media(&a, 9, 0, 0);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 0, end_at - 1), ZR_OK);
    CHECK_EQ(send_one(&a, conv, end_at - 1), 1);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 1, end_at), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_expired), 1);
    CHECK_EQ(send_one(&a, conv, end_at), 0);
    CHECK_EQ(stat(&a, ZR_STAT_link_unsealed), 1);
    CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && why == ZR_REKEY_MUTE);

    /* The timer wipes them: no byte of a secret is left in the session. */
    zr_keys keys = keys_of(0, A_TO_B, ZR_CIPHER_AES_128_GCM, true);
    const zr_lane_session *session = &a.lane->sessions[1];
    CHECK(memmem(session, sizeof *session, keys.send, 8) != NULL);
    zr_lane_on_deadline(a.lane, end_at + ZR_MS(10));
    CHECK(memmem(session, sizeof *session, keys.send, 8) == NULL);
    CHECK(memmem(session, sizeof *session, keys.recv, 8) == NULL);
    CHECK_EQ(session->peer[0]->tx.cipher, ZR_CIPHER_PLAIN);
    CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why)); /* told once */

    /* New keys, and it goes on. */
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, end_at + ZR_SEC(1)), ZR_OK);
    CHECK_EQ(send_one(&a, conv, end_at + ZR_SEC(1)), 1);
    CHECK_EQ(hear(&a, &b, 1, 0, 0, 0, end_at + ZR_SEC(1)), ZR_OK);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(new_keys_are_asked_for_at_2_to_the_26_and_nothing_is_sent_from_2_to_the_28_on)
{
    uint32_t slot;
    enum zr_rekey_why why;
    end a;

    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    int conv = open_media(&a, 9, 0, 0);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_lane_peer *to = a.lane->sessions[1].peer[0];
    to->counter = to->first + ZR_LANE_KEYS_REKEY - 1;
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why));
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && slot == 1 && why == ZR_REKEY_SOON);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why));
    to->counter = to->first + ZR_LANE_KEYS_LIMIT - 1;
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 0);
    CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && why == ZR_REKEY_MUTE);
    CHECK_EQ(stat(&a, ZR_STAT_link_unsealed), 1);
    end_close(&a);
}

ZR_TEST(too_many_wrong_tags_end_a_generation)
{
    uint32_t slot;
    enum zr_rekey_why why;
    end a;
    peer b;
    row forged = { .id = "forged", .counter = 1, .forged = true, .want = ZR_DROP_auth };

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 0, ZR_SEC(2)), ZR_OK);
    a.lane->sessions[1].gens[0].forged = ZR_LANE_KEYS_FORGED - 2;
    expect_row(&a, &b, &forged);
    CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why));
    expect_row(&a, &b, &forged);
    CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && why == ZR_REKEY_SHUT);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 1, ZR_SEC(2)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_expired), 1);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(a_generation_is_sent_under_at_once_or_after_the_first_valid_datagram_under_it)
{
    uint32_t slot_of_next = index_of(1, B_TO_A);
    zr_env env;
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_CHACHA20_POLY1305);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    int conv = open_media(&a, 9, 0, 0);
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_CHACHA20_POLY1305, false, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), index_of(0, B_TO_A));
    CHECK_EQ(hear(&a, &b, 1, 0, 0, 0, ZR_SEC(1)), ZR_OK); /* the other cipher: it may change with the generation */
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), slot_of_next);
    CHECK_EQ(rekey(&a, 2, A_TO_B, ZR_CIPHER_CHACHA20_POLY1305, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), index_of(2, B_TO_A));
    /* The one before is still taken, the one before that is not. */
    CHECK_EQ(hear(&a, &b, 1, 0, 0, 1, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 2, ZR_SEC(1)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_noindex), 1);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), index_of(2, B_TO_A)); /* never back */
    /* A lane that sent under this generation and is idle from then on keeps no key longer than others. */
    open_media(&a, 10, 1, 0);
    const zr_lane_peer *idle = a.lane->sessions[1].peer[1];
    CHECK_EQ(rekey(&a, 3, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    send_one(&a, conv, ZR_SEC(1));
    CHECK_EQ(idle->tx.cipher, ZR_CIPHER_AES_128_GCM);
    zr_lane_conv_close(a.lane, (uint32_t)zr_lane_conv_find(a.lane, 1, 10));
    CHECK_EQ(rekey(&a, 4, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(idle->tx.cipher, ZR_CIPHER_AES_128_GCM); /* the one before */
    CHECK_EQ(rekey(&a, 5, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(idle->tx.cipher, ZR_CIPHER_PLAIN);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(keys_that_were_heard_on_another_lane_are_sent_under_when_told_again)
{
    end a;

    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(0, A_TO_B));
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, false, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(0, A_TO_B));
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(1, A_TO_B));
    CHECK_EQ(rekey(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK); /* never back */
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(1, A_TO_B));
    CHECK_EQ(zr_lane_session_index(a.lane, 2), ZR_LANE_INDEX_NONE);
    end_close(&a);
}

static bool remembers(const end *e, uint32_t generation)
{
    zr_keys keys = keys_of(generation, A_TO_B, ZR_CIPHER_AES_128_GCM, true);
    const zr_lane_session *session = &e->lane->sessions[1];

    return memmem(session, sizeof *session, keys.send, 8) != NULL ||
           memmem(session, sizeof *session, keys.recv, 8) != NULL;
}

ZR_TEST(keys_end_five_seconds_after_the_peer_was_heard_under_newer_ones_T20)
{
    zr_ns_t now = ZR_SEC(60), at = ZR_SEC(121);
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 0, now), ZR_OK);
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, now), ZR_OK);
    zr_lane_on_deadline(a.lane, at);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 1, at), ZR_OK); /* it may not have the new ones yet, however long that takes */
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(0, A_TO_B));
    CHECK_EQ(hear(&a, &b, 1, 0, 0, 0, at), ZR_OK);
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(1, A_TO_B));
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 2, at + ZR_LANE_KEYS_LATE - 1), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 3, at + ZR_LANE_KEYS_LATE), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_expired), 1);
    CHECK(remembers(&a, 0));
    zr_lane_on_deadline(a.lane, at + ZR_LANE_KEYS_LATE + ZR_MS(10));
    CHECK(!remembers(&a, 0) && remembers(&a, 1));

    /* A lane that hears nothing is told: what it would send under, and what it need not keep. */
    now = at + ZR_SEC(120);
    CHECK_EQ(rekey(&a, 2, A_TO_B, ZR_CIPHER_AES_128_GCM, false, now), ZR_OK);
    zr_lane_on_deadline(a.lane, now + ZR_SEC(60));
    CHECK(remembers(&a, 1) && remembers(&a, 2));
    now += ZR_SEC(60);
    CHECK_EQ(rekey(&a, 2, A_TO_B, ZR_CIPHER_AES_128_GCM, true, now), ZR_OK);
    zr_lane_on_deadline(a.lane, now + ZR_LANE_KEYS_LATE + ZR_MS(10));
    CHECK(!remembers(&a, 1) && remembers(&a, 2));
    CHECK(zr_lane_check(a.lane));
    CHECK_EQ(hear(&a, &b, 2, 0, 0, 0, now + ZR_SEC(300)), ZR_OK);
    end_close(&a);
    peer_close(&b);
}

ZR_TEST(a_rekey_that_cannot_be_is_refused_and_changes_nothing)
{
    zr_keys plain = { .cipher = ZR_CIPHER_PLAIN }, keys = keys_of(5, A_TO_B, ZR_CIPHER_AES_128_GCM, true);
    end a, p;

    sealed_open(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, ZR_SEC(1));
    end_open(&p, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    uint64_t before = state_of(&a);
    CHECK_EQ(zr_lane_session_rekey(a.lane, 1, 7, 8, &plain, ZR_SEC(1)), ZR_E_inval);
    CHECK_EQ(zr_lane_session_rekey(a.lane, 2, 7, 8, &keys, ZR_SEC(1)), ZR_E_missing);
    CHECK_EQ(zr_lane_session_rekey(a.lane, 1, 1u << 26, 8, &keys, ZR_SEC(1)), ZR_E_inval);
    CHECK_EQ(zr_lane_session_rekey(a.lane, 1, 7, 1u << 26, &keys, ZR_SEC(1)), ZR_E_inval);
    CHECK_EQ(zr_lane_session_rekey(a.lane, 1, index_of(0, A_TO_B), 8, &keys, ZR_SEC(1)), ZR_E_exists);
    CHECK_EQ(rekey(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, false, ZR_SEC(1)), ZR_E_exists); /* the same keys */
    keys.cipher = ZR_CIPHER_COUNT;
    CHECK_EQ(zr_lane_session_rekey(a.lane, 1, 7, 8, &keys, ZR_SEC(1)), ZR_E_inval);
    CHECK(state_of(&a) == before);
    CHECK_EQ(rekey(&a, 0, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK); /* in use already: it was heard */
    keys.cipher = ZR_CIPHER_AES_128_GCM;
    CHECK_EQ(zr_lane_session_rekey(p.lane, 1, 7, 8, &keys, ZR_SEC(1)), ZR_E_inval); /* plaintext stays plaintext */
    end_close(&a);
    end_close(&p);
}

ZR_TEST(H12_without_receive_keys_left_the_oldest_generation_gives_its_own)
{
    end a;
    peer b;

    peer_open(&b, ZR_CIPHER_AES_128_GCM);
    end_open(&a, 0, BATCH, INDEX_A, PORT_A, INDEX_B, PORT_B);
    zr_lane_fini(a.lane);
    zr_lane_conf conf = conf_of(0);
    conf.keys_max = 2;
    CHECK(zr_lane_init(a.mem[3], &conf, &a.pool, a.page, ZR_SEC(1)) == a.lane);
    zr_session_conf session = sealed_conf(A_TO_B, ZR_CIPHER_AES_128_GCM);
    CHECK_EQ(zr_lane_session_add(a.lane, 1, &session, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 1, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, ZR_LANE_AGENT, 0, 0, ZR_SEC(1)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_link_pool), 1);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_exhausted), 1);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys), 2);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_cap), 2);
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 1, 0, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear(&a, &b, 0, 0, 0, 1, ZR_SEC(1)), ZR_E_dropped); /* it went */
    CHECK_EQ(dropped(&a, ZR_DROP_noindex), 1);
    CHECK(zr_lane_check(a.lane));
    end_close(&a);
    peer_close(&b);
}
