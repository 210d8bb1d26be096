/* Two workers of one relay joined by their inboxes: stream 0 of worker 0, mirrored in slot 2 of worker 1. */
#include "fwd_rig.h"

#include "zr_test.h"

#define SLOT 2u
#define FEED 7u

typedef struct pair {
    rig owner, target;
    zr_inbox_page *pages[2];
    zr_inbox inbox[2];
} pair;

static void meet(pair *p)
{
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(zr_fwd_meet(p->owner.fwd, i, &p->inbox[i]), ZR_OK);
        CHECK_EQ(zr_fwd_meet(p->target.fwd, i, &p->inbox[i]), ZR_OK);
    }
}

static void open_rigs(pair *p, uint32_t slots)
{
    size_t bytes = zr_inbox_bytes(2, slots, ZR_MIRROR_RECORD);

    rig_open_of(&p->owner, 0, 2, 64, 1024);
    rig_open_of(&p->target, 1, 2, 64, 1024);
    for (int i = 0; i < 2; i++) {
        p->pages[i] = zr_test_memory(bytes);
        CHECK_EQ(zr_inbox_init(p->pages[i], 2, slots, ZR_MIRROR_RECORD), ZR_OK);
        CHECK_EQ(zr_inbox_look(&p->inbox[i], p->pages[i], bytes), ZR_OK);
    }
    meet(p);
    rig_publish(&p->owner, UINT32_MAX - 3);
}

static void open_mirror(pair *p, uint32_t feed, uint64_t epoch)
{
    rig *t = &p->target;

    DO(t, .op = ZR_CMD_stream_open, .a = SLOT, .b = 2, .c = 0 | 0 << 8, .d = feed, .x = epoch);
    DO(t, .op = ZR_CMD_stream_track, .a = SLOT, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    DO(t, .op = ZR_CMD_stream_track, .a = SLOT, .b = 1, .c = 0 | ZR_CODEC_opus << 8 | AUDIO_PT << 16, .d = 48000);
    DO(t, .op = ZR_CMD_sub_add, .a = 0, .b = SLOT, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
}

static pair open_pair(uint32_t slots)
{
    pair p;

    open_rigs(&p, slots);
    open_mirror(&p, FEED, 1);
    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED);
    return p;
}

static void close_pair(pair *p)
{
    while (zr_fwd_mirror_input(p->owner.fwd, 64, p->owner.now) + zr_fwd_mirror_input(p->target.fwd, 64, p->target.now))
        ;
    rig_close(&p->owner);
    rig_close(&p->target);
    free(p->pages[0]);
    free(p->pages[1]);
}

typedef struct got {
    uint16_t seqs[1024];
    int count;
} got;

static void note(const zr_tx *tx, void *context)
{
    got *g = context;

    if (tx->sock == ZR_SOCK_EGRESS)
        g->seqs[g->count++] = zr_get16be(tx->data + 2);
}

/* One turn of each; what the target's subscriber is sent. */
static int turn(pair *p, got *g)
{
    int before = g->count;

    rig_turn(&p->owner, NULL, NULL);
    (void)zr_fwd_mirror_input(p->target.fwd, 256, p->target.now);
    rig_turn(&p->target, note, g);
    rig_balanced(&p->owner);
    rig_balanced(&p->target);
    return g->count - before;
}

ZR_TEST(a_subscriber_on_another_worker_gets_every_packet_in_order_over_the_wrap)
{
    pair p = open_pair(512);
    got g = { .count = 0 };

    for (uint16_t i = 0; i < 600; i++) {
        CHECK_EQ(rig_media(&p.owner, i % 3 == 2, i, i, i == 0), ZR_OK);
        if (i % 7 == 0)
            turn(&p, &g);
    }
    turn(&p, &g);
    CHECK_EQ(g.count, 600);
    for (uint16_t i = 0; i < 600; i++)
        CHECK_EQ(g.seqs[i], i);
    CHECK_EQ(rig_stat(&p.owner, ZR_STAT_fan_due), 600); /* nobody else is there: one pair a packet */
    CHECK_EQ(rig_stat(&p.owner, ZR_STAT_mirror_sent), 600);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_mirror_received), 600);
    CHECK_EQ(p.target.page->streams[SLOT].next_number, p.owner.page->streams[0].next_number);
    CHECK_EQ(p.target.page->streams[SLOT].keyframes, 1);
    close_pair(&p);
}

ZR_TEST(two_subscribers_on_another_worker_cost_one_copy)
{
    pair p = open_pair(64);
    got g = { .count = 0 };

    DO(&p.target, .op = ZR_CMD_sub_add, .a = 1, .b = SLOT, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6002));
    for (uint16_t i = 0; i < 10; i++)
        rig_media(&p.owner, false, i, i, i == 0);
    CHECK_EQ(turn(&p, &g), 20);
    CHECK_EQ(rig_stat(&p.owner, ZR_STAT_mirror_sent), 10);
    close_pair(&p);
}

ZR_TEST(a_new_mirror_begins_at_the_latest_key_frame_and_misses_nothing_after_it)
{
    pair p;
    got g = { .count = 0 };
    uint16_t seq = 0;

    open_rigs(&p, 16); /* half of it is for what is live: the replay takes several turns */
    for (; seq < 40; seq++)
        rig_media(&p.owner, seq % 2, seq, seq, seq == 10);
    rig_turn(&p.owner, NULL, NULL);
    rig_media(&p.owner, false, seq, seq, false); /* accepted, not yet fanned out */
    seq++;
    open_mirror(&p, FEED, 1);
    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED);
    for (int i = 0; i < 20; i++, seq++) {
        rig_media(&p.owner, false, seq, seq, false);
        rig_media(&p.owner, true, seq, seq, false);
        turn(&p, &g);
        if (i == 0)
            CHECK_EQ(zr_fwd_deadline(p.owner.fwd), p.owner.now + ZR_MS(1)); /* it comes back to it by itself */
    }
    turn(&p, &g);
    CHECK_EQ(g.count, 31 + 40);
    for (int i = 0; i < 31; i++)
        CHECK_EQ(g.seqs[i], 10 + i);
    for (int i = 31; i < g.count; i++)
        CHECK_EQ(g.seqs[i], 41 + (i - 31) / 2);
    CHECK_EQ(rig_drops(&p.owner, ZR_DROP_queue), 0);
    close_pair(&p);
}

ZR_TEST(a_mirror_that_goes_while_it_catches_up_leaves_nothing_to_come_back_to)
{
    pair p;

    open_rigs(&p, 16);
    for (uint16_t seq = 0; seq < 40; seq++)
        rig_media(&p.owner, false, seq, seq, seq == 0);
    rig_turn(&p.owner, NULL, NULL);
    open_mirror(&p, FEED, 1);
    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED);
    rig_turn(&p.owner, NULL, NULL);
    CHECK_EQ(zr_fwd_deadline(p.owner.fwd), p.owner.now + ZR_MS(1));
    DO(&p.owner, .op = ZR_CMD_mirror_drop, .a = 0, .b = 1);
    rig_turn(&p.owner, NULL, NULL);
    CHECK(zr_fwd_deadline(p.owner.fwd) > p.owner.now + ZR_MS(1));
    close_pair(&p);
}

ZR_TEST(a_full_ring_costs_its_own_mirror_packets_and_each_is_counted)
{
    pair p = open_pair(16);
    got g = { .count = 0 };

    DO(&p.owner, .op = ZR_CMD_sub_add, .a = 3, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(3, 6000));
    for (uint16_t i = 0; i < 50; i++)
        rig_media(&p.owner, false, i, i, i == 0);
    CHECK_EQ(rig_turn(&p.owner, NULL, NULL), 50);
    CHECK_EQ(rig_drops(&p.owner, ZR_DROP_queue), 34);
    CHECK_EQ(turn(&p, &g), 16);
    rig_media(&p.owner, false, 50, 50, false);
    CHECK_EQ(turn(&p, &g), 1);
    CHECK_EQ(g.seqs[16], 50);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_inbox_fill_max), 16);
    close_pair(&p);
}

static uint64_t level_after_a_look(rig *r)
{
    zr_fwd_load(r->fwd, &(zr_load){ .busy = 0 }, r->now += ZR_SHED_EVERY);
    while (rig_event(r).op != ZR_EVT_COUNT) /* the ring of events counts, too */
        ;
    return rig_stat(r, ZR_STAT_overload_level);
}

ZR_TEST(an_inbox_ring_that_stays_full_raises_the_overload_level_and_one_that_was_full_for_a_moment_does_not)
{
    pair p = open_pair(16);
    rig *t = &p.target;
    got g = { .count = 0 };

    for (int round = 0; round < 2; round++) { /* 13 of 16 are 80 %: level 3; 11 are more than 65 %: level 2 */
        for (uint16_t i = 0; i < (round == 0 ? 13 : 11); i++)
            rig_media(&p.owner, false, i, i, i == 0);
        rig_turn(&p.owner, NULL, NULL);
        CHECK_EQ(level_after_a_look(t), 0); /* there for one look */
        CHECK_EQ(level_after_a_look(t), round == 0 ? 3 : 2);
        turn(&p, &g);
        for (int i = 0; i < 40; i++)
            (void)level_after_a_look(t);
        CHECK_EQ(level_after_a_look(t), 0);
    }
    p.owner.now = t->now;
    close_pair(&p);
}

ZR_TEST(a_mirror_answers_a_nack_and_a_joiner_from_its_own_cache)
{
    static const uint8_t nack[16] = { 0x81, 205, 0, 3, 0, 0, 0, 9, 0x11, 0x11, 0x11, 0x11, 0, 2, 0, 1 };
    pair p = open_pair(64);
    got g = { .count = 0 };

    for (uint16_t i = 0; i < 10; i++)
        rig_media(&p.owner, false, i, i, i == 0);
    CHECK_EQ(turn(&p, &g), 10);
    CHECK_EQ(rig_rtcp(&p.target, nack, sizeof nack, rig_addr(4, 6000)), ZR_OK);
    CHECK_EQ(rig_turn(&p.target, note, &g), 2);
    CHECK_EQ(g.seqs[10], 2);
    CHECK_EQ(g.seqs[11], 3);
    DO(&p.target, .op = ZR_CMD_sub_add, .a = 1, .b = SLOT, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6002));
    CHECK_EQ(rig_turn(&p.target, note, &g), 10);
    close_pair(&p);
}

static void count_pli(const zr_tx *tx, void *context)
{
    *(int *)context += tx->sock >= ZR_SOCK_INGRESS;
}

ZR_TEST(key_frame_requests_below_a_mirror_become_one_pli_to_the_publisher_without_the_agent)
{
    static const uint8_t pli[12] = { 0x81, 206, 0, 2, 0, 0, 0, 9, 0x11, 0x11, 0x11, 0x11 };
    pair p = open_pair(64);
    got g = { .count = 0 };
    int plis = 0;

    rig_media(&p.owner, false, 0, 0, true);
    turn(&p, &g);
    while (zr_fwd_wake_next(p.target.fwd) >= 0)
        ;
    zr_chan_sleep(&p.pages[0]->asleep);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(rig_rtcp(&p.target, pli, sizeof pli, rig_addr(4, 6000)), ZR_OK);
    CHECK_EQ(zr_fwd_wake_next(p.target.fwd), 0);
    CHECK_EQ(zr_fwd_wake_next(p.target.fwd), ZR_E_again);
    CHECK_EQ(zr_fwd_mirror_input(p.owner.fwd, 64, p.owner.now), 1);
    rig_turn(&p.owner, count_pli, &plis);
    CHECK_EQ(plis, 1);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_keyframe_asked), 3);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_keyframe_sent), 1);
    CHECK_EQ(rig_event(&p.target).op == ZR_EVT_keyframe, 0);
    rig_balanced(&p.owner);
    close_pair(&p);
}

ZR_TEST(who_sleeps_is_woken_once_a_turn_and_who_is_awake_is_not)
{
    pair p = open_pair(64);

    rig_media(&p.owner, false, 0, 0, true);
    CHECK_EQ(zr_fwd_wake_next(p.owner.fwd), ZR_E_again);
    zr_chan_sleep(&p.pages[1]->asleep);
    CHECK(zr_mirrors_waiting(zr_fwd_mirrors(p.target.fwd))); /* the look before it blocks */
    rig_media(&p.owner, false, 1, 1, false);
    rig_media(&p.owner, false, 2, 2, false);
    CHECK_EQ(zr_fwd_wake_next(p.owner.fwd), 1);
    CHECK_EQ(zr_fwd_wake_next(p.owner.fwd), ZR_E_again);
    close_pair(&p);
}

ZR_TEST(records_of_an_earlier_life_of_the_slot_are_nobodys)
{
    pair p = open_pair(64);
    got g = { .count = 0 };

    rig_media(&p.owner, false, 0, 0, true);
    DO(&p.target, .op = ZR_CMD_stream_close, .a = SLOT);
    CHECK_EQ(turn(&p, &g), 0);
    open_mirror(&p, FEED + 1, 1);
    rig_media(&p.owner, false, 1, 1, false);
    CHECK_EQ(turn(&p, &g), 0);
    CHECK_EQ(rig_drops(&p.target, ZR_DROP_stream), 2);
    DO(&p.owner, .op = ZR_CMD_mirror_drop, .a = 0, .b = 1);
    REFUSES(&p.owner, ZR_E_missing, .op = ZR_CMD_mirror_drop, .a = 0, .b = 1);
    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED + 1);
    CHECK_EQ(turn(&p, &g), 2);
    close_pair(&p);
}

ZR_TEST(a_higher_epoch_removes_the_mirror_at_the_owner_and_starts_it_anew_at_the_target)
{
    pair p = open_pair(64);
    got g = { .count = 0 };

    rig_media(&p.owner, false, 0, 0, true);
    CHECK_EQ(turn(&p, &g), 1);
    DO(&p.owner, .op = ZR_CMD_stream_epoch, .a = 0, .b = 1, .x = 2);
    DO(&p.owner, .op = ZR_CMD_stream_track, .a = 0, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    CHECK_EQ(rig_stat(&p.owner, ZR_STAT_mirrors), 0);
    DO(&p.target, .op = ZR_CMD_stream_epoch, .a = SLOT, .b = 2, .c = 0, .d = FEED + 1, .x = 2);
    DO(&p.target, .op = ZR_CMD_stream_track, .a = SLOT, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16,
       .d = 90000);
    rig_media(&p.owner, false, 1, 1, true);
    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED + 1);
    CHECK_EQ(turn(&p, &g), 1); /* its subscriber stayed */
    CHECK_EQ(g.seqs[1], 1);
    close_pair(&p);
}

ZR_TEST(a_record_that_cannot_be_true_is_skipped_and_counted)
{
    static const struct {
        zr_record record;
        zr_media media;
        uint8_t first;
        int drop; /* -1: accepted */
    } rows[] = {
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 5 }, 0x80, -1 },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 5 }, 0x80, ZR_DROP_duplicate },
        { { .kind = 0, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_record },
        { { .kind = 9, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_record },
        { { .kind = 1, .len = 0, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_record },
        { { .kind = 1, .len = 1501, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_record },
        { { .kind = 1, .len = 65535, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_record },
        { { .kind = 1, .len = 100, .stream = UINT32_MAX, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_stream },
        { { .kind = 1, .len = 100, .stream = 0, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_stream },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED + 1 }, { .number = 6 }, 0x80, ZR_DROP_stream },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 6, .track = 2 }, 0x80, ZR_DROP_track },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 6, .hops = 9 }, 0x80, ZR_DROP_ttl },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x00, ZR_DROP_rtp_version },
        { { .kind = 1, .len = 11, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_rtp_short },
        { { .kind = 2, .stream = SLOT, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_stream },
        { { .kind = 2, .stream = 77, .feed = FEED }, { .number = 6 }, 0x80, ZR_DROP_stream },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED, .arrival = INT64_MIN }, { .number = 7 }, 0x80, -1 },
        { { .kind = 1, .len = 100, .stream = SLOT, .feed = FEED, .arrival = INT64_MAX }, { .number = 8 }, 0x80, -1 },
    };
    pair p = open_pair(64);
    got g = { .count = 0 };
    zr_inbox_end hostile;

    CHECK_EQ(zr_inbox_writer(&hostile, &p.inbox[1], 0), ZR_OK);
    for (unsigned i = 0; i < ZR_LEN(rows); i++) {
        uint64_t accepted = rig_stat(&p.target, ZR_STAT_media_accepted);
        uint64_t dropped = rows[i].drop < 0 ? 0 : rig_drops(&p.target, (enum zr_drop_id)rows[i].drop);
        zr_record *record = zr_inbox_claim(&hostile);
        *record = rows[i].record;
        zr_media_put(record->media, &rows[i].media);
        rig_rtp((uint8_t *)(record + 1), rows[i].media.track != 0, 1, 1, false);
        *(uint8_t *)(record + 1) = rows[i].first;
        zr_inbox_commit(&hostile);
        turn(&p, &g);
        CHECK_EQ(rig_stat(&p.target, ZR_STAT_media_accepted) - accepted, rows[i].drop < 0);
        if (rows[i].drop >= 0)
            CHECK_EQ(rig_drops(&p.target, (enum zr_drop_id)rows[i].drop), dropped + 1);
    }
    close_pair(&p);
}

ZR_TEST(a_corrupt_ring_is_counted_once_and_read_again_when_its_writer_is_a_new_process)
{
    pair p = open_pair(64);
    got g = { .count = 0 };
    zr_inbox_end *in = &p.target.fwd->mirrors.in[0];

    rig_media(&p.owner, false, 0, 0, true);
    CHECK_EQ(turn(&p, &g), 1);
    atomic_store(&in->ring->tail, 1000);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(turn(&p, &g), 0);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_ring_corrupt), 1);
    CHECK(!zr_mirrors_waiting(&p.target.fwd->mirrors)); /* and does not keep its reader awake */
    DO(&p.target, .op = ZR_CMD_peer_up, .a = 0);
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_peer_up, .a = 1);
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_peer_up, .a = 2);
    CHECK_EQ(zr_fwd_meet(p.owner.fwd, 1, &p.inbox[1]), ZR_OK);
    rig_media(&p.owner, false, 1, 1, false);
    CHECK_EQ(turn(&p, &g), 1);
    CHECK_EQ(g.seqs[1], 1);
    close_pair(&p);
}

ZR_TEST(a_mirror_for_children_begins_with_all_that_is_cached)
{
    for (uint64_t whole = 0; whole < 2; whole++) {
        pair p;
        open_rigs(&p, 64);
        open_mirror(&p, FEED, 1);
        for (uint16_t i = 0; i < 5; i++)
            rig_media(&p.owner, false, i, i, i == 2); /* a key frame in the middle */
        rig_turn(&p.owner, NULL, NULL);
        REFUSES(&p.owner, ZR_E_inval, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED, .x = 2);
        DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED, .x = whole);
        rig_turn(&p.owner, NULL, NULL);
        CHECK_EQ(zr_fwd_mirror_input(p.target.fwd, 256, p.target.now), whole == 1 ? 5 : 3);
        rig_balanced(&p.owner);
        rig_balanced(&p.target);
        close_pair(&p);
    }
}

static void note_link(const zr_tx *tx, void *context)
{
    *(uint32_t *)context += tx->sock == ZR_SOCK_LINK;
}

ZR_TEST(a_mirror_serves_children_and_has_what_they_lack_since_it_was_opened)
{
    pair p = open_pair(64);
    uint32_t datagrams = 0;

    DO(&p.target, .op = ZR_CMD_session_add, .a = 0, .b = 16, .c = 1, .d = 1, .y = 1420, .addr = rig_addr(9, 7000));
    for (uint16_t i = 0; i < 6; i++)
        rig_media(&p.owner, false, i, i, false);
    rig_turn(&p.owner, NULL, NULL);
    CHECK_EQ(zr_fwd_mirror_input(p.target.fwd, 256, p.target.now), 6);
    rig_turn(&p.target, NULL, NULL);
    uint64_t sent = rig_stat(&p.target, ZR_STAT_fan_sent); /* to the player */
    /* The first number was 2^32 - 4; up to the third all has come. */
    DO(&p.target, .op = ZR_CMD_child_add, .a = 9, .b = SLOT, .c = 0, .d = 5, .x = 0, .y = (1ull << 32) - 1);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_cache_replayed), 3);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_convs), 1);
    rig_media(&p.owner, false, 6, 6, false);
    rig_turn(&p.owner, NULL, NULL);
    CHECK_EQ(zr_fwd_mirror_input(p.target.fwd, 256, p.target.now), 1);
    rig_turn(&p.target, note_link, &datagrams);
    CHECK(datagrams > 0);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_fan_sent), sent + 3 + 2);
    rig_balanced(&p.target);
    DO(&p.target, .op = ZR_CMD_stream_close, .a = SLOT);
    CHECK_EQ(rig_stat(&p.target, ZR_STAT_subs), 0);
    close_pair(&p);
}

ZR_TEST(commands_about_mirrors_that_cannot_be_are_refused)
{
    pair p = open_pair(64);
    rig alone;

    DO(&p.owner, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED); /* its answer may have died */
    REFUSES(&p.owner, ZR_E_exists, .op = ZR_CMD_mirror_add, .a = 0, .b = 1, .c = SLOT, .d = FEED + 1);
    REFUSES(&p.owner, ZR_E_inval, .op = ZR_CMD_mirror_add, .a = 0, .b = 0, .c = SLOT, .d = FEED); /* itself */
    REFUSES(&p.owner, ZR_E_inval, .op = ZR_CMD_mirror_add, .a = 0, .b = 2, .c = SLOT, .d = FEED);
    REFUSES(&p.owner, ZR_E_inval, .op = ZR_CMD_mirror_add, .a = 0, .b = UINT32_MAX, .c = SLOT, .d = FEED);
    REFUSES(&p.owner, ZR_E_missing, .op = ZR_CMD_mirror_add, .a = 3, .b = 1, .c = SLOT, .d = FEED);
    REFUSES(&p.owner, ZR_E_missing, .op = ZR_CMD_mirror_drop, .a = 0, .b = UINT32_MAX);
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_mirror_add, .a = SLOT, .b = 0, .c = 1, .d = 8); /* of a mirror */
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_stream_open, .a = 3, .b = 2, .c = 1, .d = 8, .x = 1);
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_stream_open, .a = 3, .b = 3, .d = 8, .x = 1);
    DO(&p.target, .op = ZR_CMD_session_add, .a = 0, .b = 16, .c = 1, .d = 1, .y = 1420, .addr = rig_addr(9, 7000));
    REFUSES(&p.target, ZR_E_inval, .op = ZR_CMD_pull_start, .a = SLOT, .b = 0, .c = 5, .d = 0);
    close_pair(&p);

    rig_open(&alone, 0, 16);
    REFUSES(&alone, ZR_E_inval, .op = ZR_CMD_stream_open, .a = 0, .b = 2, .x = 1);
    CHECK_EQ(zr_fwd_mirror_input(alone.fwd, 64, alone.now), 0);
    rig_close(&alone);
}
