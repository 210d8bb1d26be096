/* Generations of a session's keys: when one begins, when it ends, and which is sent under. */
#include "lane_sealed.h"

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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 0, end_at - 1), ZR_OK);
    CHECK_EQ(send_one(&a, conv, end_at - 1), 1);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 1, end_at), ZR_E_dropped);
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
    CHECK_EQ(hear_under(&a, &b, 1, 0, 0, 0, end_at + ZR_SEC(1)), ZR_OK);
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
    CHECK_EQ(hear_under(&a, &b, 1, 0, 0, 0, ZR_SEC(1)),
             ZR_OK); /* the other cipher: it may change with the generation */
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), slot_of_next);
    CHECK_EQ(rekey(&a, 2, A_TO_B, ZR_CIPHER_CHACHA20_POLY1305, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(send_one(&a, conv, ZR_SEC(1)), 1);
    zr_env_parse(&env, a.batch.tx[0].data);
    CHECK_EQ(zr_env_index(env.receiver), index_of(2, B_TO_A));
    /* The one before is still taken, the one before that is not. */
    CHECK_EQ(hear_under(&a, &b, 1, 0, 0, 1, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 2, ZR_SEC(1)), ZR_E_dropped);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 0, now), ZR_OK);
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, now), ZR_OK);
    zr_lane_on_deadline(a.lane, at);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 1, at), ZR_OK); /* it may not have the new ones yet, however long that takes */
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(0, A_TO_B));
    CHECK_EQ(hear_under(&a, &b, 1, 0, 0, 0, at), ZR_OK);
    CHECK_EQ(zr_lane_session_index(a.lane, 1), index_of(1, A_TO_B));
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 2, at + ZR_LANE_KEYS_LATE - 1), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 3, at + ZR_LANE_KEYS_LATE), ZR_E_dropped);
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
    CHECK_EQ(hear_under(&a, &b, 2, 0, 0, 0, now + ZR_SEC(300)), ZR_OK);
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
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 0, 1, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 0, ZR_LANE_AGENT, 0, 0, ZR_SEC(1)), ZR_E_dropped);
    CHECK_EQ(dropped(&a, ZR_DROP_link_pool), 1);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_exhausted), 1);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys), 2);
    CHECK_EQ(stat(&a, ZR_STAT_lane_keys_cap), 2);
    CHECK_EQ(rekey(&a, 1, A_TO_B, ZR_CIPHER_AES_128_GCM, true, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 1, 0, 0, 0, ZR_SEC(1)), ZR_OK);
    CHECK_EQ(hear_under(&a, &b, 0, 0, 0, 1, ZR_SEC(1)), ZR_E_dropped); /* it went */
    CHECK_EQ(dropped(&a, ZR_DROP_noindex), 1);
    CHECK(zr_lane_check(a.lane));
    end_close(&a);
    peer_close(&b);
}
