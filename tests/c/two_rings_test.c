/*
 * S05 of the bad input catalogue: what one ring has brought comes again, by the same ring or by another worker's.
 *
 * Rings hold records by value, so no two can name one buffer; two can name one packet: stream, life and media number.
 * A number is taken once, and only from the ring of the worker that the mirror is fed from.
 */
#include "fwd_rig.h"
#include "zr_test.h"

#define SLOT 2u
#define FEED 7u

enum { OWNER, TARGET, NEIGHBOUR, WORKERS };

typedef struct scene {
    rig target;
    zr_inbox_page *pages[WORKERS];
    zr_inbox_end writers[WORKERS]; /* of the target's inbox */
} scene;

static scene open_scene(void)
{
    size_t bytes = zr_inbox_bytes(WORKERS, 64, ZR_MIRROR_RECORD);
    scene sc = { .target = { .now = 0 } };
    rig *t = &sc.target;

    rig_open_of(t, TARGET, WORKERS, 64, 1024);
    for (uint32_t i = 0; i < WORKERS; i++) {
        zr_inbox inbox;
        sc.pages[i] = zr_test_memory(bytes);
        CHECK_EQ(zr_inbox_init(sc.pages[i], WORKERS, 64, ZR_MIRROR_RECORD), ZR_OK);
        CHECK_EQ(zr_inbox_look(&inbox, sc.pages[i], bytes), ZR_OK);
        CHECK_EQ(zr_fwd_meet(t->fwd, i, &inbox), ZR_OK);
        if (i == TARGET)
            for (uint32_t from = 0; from < WORKERS; from++)
                if (from != TARGET)
                    CHECK_EQ(zr_inbox_writer(&sc.writers[from], &inbox, from), ZR_OK);
    }
    DO(t, .op = ZR_CMD_stream_open, .a = SLOT, .b = 2, .c = OWNER, .d = FEED, .x = 1);
    DO(t, .op = ZR_CMD_stream_track, .a = SLOT, .b = 0, .c = 1 | ZR_CODEC_h264 << 8 | VIDEO_PT << 16, .d = 90000);
    DO(t, .op = ZR_CMD_sub_add, .a = 0, .b = SLOT, .c = 0xFFFF, .d = 0xFFFF, .addr = rig_addr(4, 6000));
    return sc;
}

static void close_scene(scene *sc)
{
    rig_close(&sc->target);
    for (int i = 0; i < WORKERS; i++)
        free(sc->pages[i]);
}

static void put(scene *sc, uint32_t worker, uint32_t number)
{
    zr_record *record = zr_inbox_claim(&sc->writers[worker]);
    const zr_media media = { .number = number };

    CHECK(record != NULL);
    *record = (zr_record){ .kind = ZR_RECORD_MEDIA, .len = 100, .stream = SLOT, .feed = FEED };
    zr_media_put(record->media, &media);
    rig_rtp((uint8_t *)(record + 1), false, (uint16_t)number, number, number == 0);
    zr_inbox_commit(&sc->writers[worker]);
}

/* What the player is sent of what waits in both rings. */
static int turn(scene *sc)
{
    (void)zr_fwd_mirror_input(sc->target.fwd, 256, sc->target.now);
    int sent = rig_turn(&sc->target, NULL, NULL);

    rig_balanced(&sc->target);
    return sent;
}

ZR_TEST(S05_a_packet_that_comes_again_by_its_own_ring_is_a_duplicate)
{
    scene sc = open_scene();

    for (uint32_t number = 0; number < 20; number++) {
        put(&sc, OWNER, number);
        put(&sc, OWNER, number / 2);
    }
    CHECK_EQ(turn(&sc), 20);
    CHECK_EQ(rig_drops(&sc.target, ZR_DROP_duplicate), 20);
    CHECK_EQ(atomic_load(&sc.target.page->streams[SLOT].duplicates), 20);
    CHECK_EQ(rig_stat(&sc.target, ZR_STAT_media_accepted), 20);
    close_scene(&sc);
}

ZR_TEST(S05_a_packet_that_comes_by_two_rings_is_taken_from_its_streams_owner_and_counted_from_the_other)
{
    scene sc = open_scene();

    for (uint32_t number = 0; number < 20; number++) { /* who is first does not matter */
        put(&sc, number % 2 ? OWNER : NEIGHBOUR, number);
        CHECK_EQ(turn(&sc), number % 2);
        put(&sc, number % 2 ? NEIGHBOUR : OWNER, number);
        CHECK_EQ(turn(&sc), !(number % 2));
    }
    CHECK_EQ(rig_drops(&sc.target, ZR_DROP_stream), 20);
    CHECK_EQ(rig_drops(&sc.target, ZR_DROP_duplicate), 0);
    CHECK_EQ(rig_stat(&sc.target, ZR_STAT_mirror_received), 40);
    CHECK_EQ(rig_stat(&sc.target, ZR_STAT_media_accepted), 20);
    CHECK_EQ(sc.target.page->streams[SLOT].next_number, 20);
    close_scene(&sc);
}
