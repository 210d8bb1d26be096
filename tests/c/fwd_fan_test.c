/* Players that want all of a stream share its entries; whatever the others want, each gets what it is due. */
#include "fwd_rig.h"
#include "sim/zr_rng.h"

enum { PLAYERS = 12, PORTS = 16, SEQS = 4096 };

typedef struct tally {
    uint8_t got[2 * PLAYERS][SEQS]; /* by port - 6000 (7000: a track's own), by sequence number */
    uint16_t last[2 * PLAYERS];
    uint64_t dgrams;
} tally;

static void count_one(tally *t, const zr_addr *to, const zr_tx *tx)
{
    uint32_t slot = to->port >= 7000 ? PLAYERS + to->port - 7000u : to->port - 6000u;
    uint16_t seq = zr_get16be(tx->data + 2);

    CHECK(slot < 2 * PLAYERS && seq < SEQS);
    t->got[slot][seq]++;
    CHECK(seq > t->last[slot] || t->last[slot] == 0);
    t->last[slot] = seq;
    t->dgrams++;
}

static void take(rig *r, tally *t)
{
    const zr_batch *b = &r->batch;

    for (uint32_t i = 0; i < b->count; i++)
        if (b->tx[i].sock == ZR_SOCK_EGRESS)
            count_one(t, &b->tx[i].to, &b->tx[i]);
    for (uint32_t f = 0; f < b->fan_count; f++)
        for (uint32_t i = 0; i < b->fans[f].count; i++)
            count_one(t, &b->fans[f].to, &b->tx[b->fans[f].first + i]);
}

static void turn(rig *r, tally *t)
{
    int rc;

    (void)zr_fwd_fan_out(r->fwd, r->now);
    do {
        rc = zr_fwd_output(r->fwd, &r->batch, r->now);
        CHECK(rc == ZR_OK || r->batch.count > 0);
        take(r, t);
        zr_batch_reset(&r->batch);
    } while (rc == ZR_E_full);
    CHECK_EQ(rig_stat(r, ZR_STAT_fan_sent), t->dgrams);
}

/* What a player of `kind` wants: 0..3 all of it, 4 no audio, 5 no video, 6 the base layer, 7 its audio elsewhere. */
static void add(rig *r, uint32_t slot, uint32_t kind)
{
    uint32_t tracks = kind == 4 ? 1u : kind == 5 ? 2u : 0xFFFFu;
    uint32_t layers = kind == 6 ? 0u : 0xFFFFu;
    zr_addr at = rig_addr(8, (uint16_t)(6000 + slot));

    DO(r, .op = ZR_CMD_sub_add, .a = slot, .c = tracks, .d = layers, .addr = at);
    if (kind == 7) {
        at.port = (uint16_t)(7000 + slot);
        DO(r, .op = ZR_CMD_sub_addr, .a = slot, .b = 1, .addr = at);
    }
}

static void everyone_gets_what_is_due(uint32_t fans, uint32_t batch_cap, uint64_t seed)
{
    static tally t;
    rig r;
    zr_rng rng;
    void *room = zr_test_memory(zr_batch_fan_bytes(ZR_MAX(fans, 1u)));
    uint32_t fanned = 0;

    t = (tally){ .dgrams = 0 };
    zr_rng_seed(&rng, seed);
    rig_open(&r, 0, batch_cap);
    if (fans > 0)
        zr_batch_add_fans(&r.batch, room, fans);
    rig_publish(&r, 0);
    for (uint32_t slot = 0; slot < PLAYERS; slot++)
        add(&r, slot, slot % 8);
    uint16_t seq = 1;
    for (int round = 0; round < 200; round++) {
        uint16_t begin = seq;
        bool audio[16];
        for (uint32_t n = 1 + (uint32_t)zr_rng_below(&rng, 9); n > 0; n--, seq++) {
            audio[seq - begin] = zr_rng_chance(&rng, 0.2);
            CHECK_EQ(rig_media(&r, audio[seq - begin], seq, seq * 90u, false), ZR_OK);
        }
        (void)zr_fwd_fan_out(r.fwd, r.now);
        int rc;
        do {
            rc = zr_fwd_output(r.fwd, &r.batch, r.now);
            fanned += r.batch.fan_count;
            take(&r, &t);
            zr_batch_reset(&r.batch);
        } while (rc == ZR_E_full);
        CHECK_EQ(rig_stat(&r, ZR_STAT_fan_sent), t.dgrams);
        for (uint32_t slot = 0; slot < PLAYERS; slot++)
            for (uint16_t s = begin; s < seq; s++) {
                uint32_t kind = slot % 8;
                bool heard = audio[s - begin], wants = heard ? kind != 4 : kind != 5;
                CHECK_EQ(t.got[slot][s], wants && !(kind == 7 && heard));
                CHECK_EQ(t.got[PLAYERS + slot][s], kind == 7 && heard);
            }
        rig_balanced(&r);
        r.now += ZR_MS(1);
    }
    CHECK(fans == 0 ? fanned == 0 : fanned > 0);
    rig_close(&r);
    free(room);
}

ZR_TEST(players_that_want_all_share_entries_and_each_player_gets_exactly_its_packets)
{
    everyone_gets_what_is_due(64, 256, 1);
    everyone_gets_what_is_due(64, 12, 2); /* full in the middle of a player */
    everyone_gets_what_is_due(2, 64, 3);  /* no room for more fans */
    everyone_gets_what_is_due(0, 256, 4);
}

ZR_TEST(a_player_that_joins_or_goes_between_fan_out_and_output_gets_none_of_the_others_share)
{
    static tally t;
    rig r;
    void *room = zr_test_memory(zr_batch_fan_bytes(16));

    t = (tally){ .dgrams = 0 };
    rig_open(&r, 0, 64);
    zr_batch_add_fans(&r.batch, room, 16);
    rig_publish(&r, 0);
    for (uint32_t slot = 0; slot < 4; slot++)
        add(&r, slot, 0);
    for (uint16_t seq = 1; seq <= 3; seq++)
        CHECK_EQ(rig_media(&r, true, seq, seq, false), ZR_OK);
    (void)zr_fwd_fan_out(r.fwd, r.now);
    add(&r, 5, 0);
    DO(&r, .op = ZR_CMD_sub_drop, .a = 2);
    turn(&r, &t);
    for (uint16_t seq = 1; seq <= 3; seq++) {
        CHECK_EQ(t.got[0][seq] + t.got[1][seq] + t.got[3][seq], 3);
        CHECK_EQ(t.got[2][seq], 0);
        CHECK_EQ(t.got[5][seq] <= 1, true); /* from the cache, or not at all */
    }
    CHECK_EQ(rig_drops(&r, ZR_DROP_gone), 3);
    rig_close(&r);
    free(room);
}

ZR_TEST(children_do_not_wait_for_players_whose_socket_is_blocked)
{
    rig r;

    rig_open(&r, 0, 64);
    rig_publish(&r, 0);
    DO(&r, .op = ZR_CMD_session_add, .a = 0, .b = 17, .c = 18, .d = 1, .y = 1420, .addr = rig_addr(2, 7000));
    DO(&r, .op = ZR_CMD_child_add, .a = 9, .b = 0, .c = 0, .d = 5);
    add(&r, 0, 0);
    for (uint16_t seq = 1; seq <= 20; seq++) { /* egress is not called: it is blocked */
        CHECK_EQ(rig_media(&r, true, seq, seq, false), ZR_OK);
        (void)zr_fwd_fan_out(r.fwd, r.now);
        CHECK_EQ(rig_stat(&r, ZR_STAT_fan_sent), seq);
        CHECK_EQ(zr_fwd_output_links(r.fwd, &r.batch, r.now), ZR_OK);
        CHECK(r.batch.count > 0);
        zr_batch_reset(&r.batch);
        CHECK_EQ(zr_fwd_deadline(r.fwd), 0);
        CHECK(zr_fwd_deadline_but(r.fwd, ZR_FWD_EGRESS_BLOCKED) > r.now); /* nothing spins for it */
        r.now += ZR_MS(1);
    }
    CHECK_EQ(rig_turn(&r, NULL, NULL), 1);  /* the turn that was on its way out */
    CHECK_EQ(rig_turn(&r, NULL, NULL), 19); /* and all that waited behind it */
    rig_close(&r);
}
