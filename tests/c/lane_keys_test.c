/* A lane with keys. Case ids are those of the bad-input tables (U) and of the threats (T). */
#include "lane_sealed.h"

static const enum zr_cipher ciphers[] = { ZR_CIPHER_AES_128_GCM, ZR_CIPHER_CHACHA20_POLY1305 };

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
        CHECK_EQ(hear_under(&a, &b, 0, 0, 1, 76, ZR_SEC(1)), ZR_OK);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 1, 76, ZR_SEC(1)), ZR_OK);
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
        CHECK_EQ(hear_under(&a, &b, 0, 0, 0, order[i], ZR_SEC(1)), ZR_OK);
    CHECK_EQ(drops(&a), 0);
    end_close(&a);
    peer_close(&b);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 3, 10, ZR_SEC(1)), ZR_OK);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 3, 11, now), ZR_OK);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 3, 10, ZR_SEC(1)), ZR_OK);
    for (uint32_t i = 0; i < 100000; i++, now += ZR_US(10)) { /* 10^5 a second */
        uint8_t data[ZR_ENV_HEAD + ZR_ENV_TAG] = { 0 };
        zr_env env = env_of(0, 0, 4, i);
        zr_env_put(data, &env);
        CHECK_EQ(give(&a, &from, data, sizeof data, now), ZR_E_dropped);
        if (i % 1000 == 0) /* the lane itself is heard all the while */
            CHECK_EQ(hear_under(&a, &b, 0, 0, 3, 11 + i, now), ZR_OK);
    }
    CHECK(dropped(&a, ZR_DROP_auth) <= 100);
    CHECK(dropped(&a, ZR_DROP_auth) >= 90);
    CHECK_EQ(dropped(&a, ZR_DROP_auth) + dropped(&a, ZR_DROP_ratelimit), 100000);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_derived), dropped(&a, ZR_DROP_auth) + 1);
    end_close(&a);
    peer_close(&b);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 0, ZR_SEC(2)), ZR_OK);
    a.lane->sessions[1].gens[0].forged = ZR_LANE_KEYS_FORGED - 2;
    expect_row(&a, &b, &forged);
    CHECK(!zr_lane_rekey_wanted(a.lane, &slot, &why));
    expect_row(&a, &b, &forged);
    CHECK(zr_lane_rekey_wanted(a.lane, &slot, &why) && why == ZR_REKEY_SHUT);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 1, ZR_SEC(2)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_expired), 1);
    end_close(&a);
    peer_close(&b);
}
