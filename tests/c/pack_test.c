#include "base/zr_err.h"
#include "kcp/zr_pack.h"
#include "zr_test.h"

enum { CAP = 16, ARENA = 16 * 1500 };

static zr_batch batch;
static zr_pack pack;
static uint8_t bytes[1500];

static void begin(uint32_t cap, uint32_t arena, uint8_t head, uint8_t tail, bool runs)
{
    static void *memory;
    zr_addr to = { .family = 4, .port = 9 };

    if (memory == NULL)
        memory = zr_test_memory(zr_batch_bytes(CAP, ARENA));
    memset(memory, 0xEE, zr_batch_bytes(CAP, ARENA));
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    CHECK_EQ(zr_batch_init(&batch, memory, cap, arena), ZR_OK);
    zr_pack_begin(&pack, &batch, &to, 3, 1400, head, tail, runs);
}

static int put_of(uint32_t conv, uint32_t sn, size_t len)
{
    zr_seg seg = { .conv = conv, .cmd = len > 0 ? ZR_SEG_PUSH : ZR_SEG_ACK, .sn = sn };
    size_t head = len >= 4 ? 4 : 0;
    return zr_pack_put(&pack, &seg, bytes, head, bytes + head, len - head);
}

static int put(uint32_t sn, size_t len)
{
    return put_of(1, sn, len);
}

/* The sns of datagram i as digits: 12 means segments 1 and 2. Checks the payloads on the way. */
static uint32_t sns(uint32_t i)
{
    zr_seg seg;
    size_t pos = 0, size = batch.tx[i].len - (size_t)pack.head - pack.tail;
    uint32_t digits = 0;

    while (zr_seg_next(&seg, batch.tx[i].data + pack.head, size, &pos) == ZR_OK) {
        CHECK(memcmp(seg.data, bytes, seg.len) == 0);
        digits = digits * 10 + seg.sn;
    }
    CHECK_EQ(pos, size);
    return digits;
}

ZR_TEST(greedy_packing_opens_a_datagram_when_the_next_segment_does_not_fit)
{
    begin(CAP, ARENA, 0, 0, false);
    CHECK_EQ(put(1, 0), ZR_OK);
    CHECK_EQ(put(2, 1328), ZR_OK); /* 24 + 24 + 1328 = 1376 */
    CHECK_EQ(put(3, 0), ZR_OK);    /* 1400: exactly full */
    CHECK_EQ(put(4, 0), ZR_OK);
    CHECK_EQ(batch.count, 1);
    zr_pack_finish(&pack);
    CHECK_EQ(batch.count, 2);
    CHECK_EQ(batch.tx[0].len, 1400);
    CHECK_EQ(sns(0), 123);
    CHECK_EQ(sns(1), 4);
    CHECK_EQ(batch.tx[1].to.port, 9);
    CHECK_EQ(batch.tx[1].sock, 3);
}

ZR_TEST(in_runs_large_pushes_stand_alone_and_small_ones_of_others_follow_together)
{
    begin(CAP, ARENA, 0, 0, true);
    CHECK_EQ(put_of(1, 1, 0), ZR_OK);
    CHECK_EQ(put_of(1, 2, 1000), ZR_OK);
    CHECK_EQ(put_of(1, 3, ZR_PACK_LARGE), ZR_OK);
    CHECK_EQ(put_of(2, 4, 1000), ZR_OK);
    CHECK_EQ(put_of(2, 5, ZR_PACK_LARGE + 1), ZR_OK);
    zr_pack_finish(&pack);
    CHECK_EQ(batch.count, 4);
    CHECK_EQ(sns(0), 2);
    CHECK_EQ(sns(1), 4);
    CHECK_EQ(sns(2), 5);
    CHECK_EQ(sns(3), 13);
    CHECK(batch.tx[1].data == batch.tx[0].data + batch.tx[0].len); /* a run is contiguous */
}

ZR_TEST(in_runs_pushes_of_one_conversation_keep_their_order)
{
    begin(CAP, ARENA, 0, 0, true);
    CHECK_EQ(put(1, 35), ZR_OK); /* parameter sets, then the slices that need them */
    CHECK_EQ(put(2, 16), ZR_OK);
    CHECK_EQ(put(3, 1200), ZR_OK);
    CHECK_EQ(put(4, 0), ZR_OK); /* an ACK has no order to keep */
    CHECK_EQ(put(5, 1200), ZR_OK);
    CHECK_EQ(put(6, 300), ZR_OK);
    zr_pack_finish(&pack);
    CHECK_EQ(batch.count, 4);
    CHECK_EQ(sns(0), 12);
    CHECK_EQ(sns(1), 3);
    CHECK_EQ(sns(2), 5);
    CHECK_EQ(sns(3), 46);
}

/* `begin` fills all memory with this: a byte of it that was written shows. */
static bool untouched(const uint8_t *from, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (from[i] != 0xEE)
            return false;
    return true;
}

ZR_TEST(room_for_an_envelope_is_left_in_front_and_behind_and_nothing_is_written_there)
{
    static const struct {
        uint8_t head, tail;
    } rows[] = { { 16, 16 }, { 16, 0 }, { 0, 16 }, { 3, 40 }, { 0, 0 } };

    for (size_t row = 0; row < ZR_LEN(rows); row++) {
        for (int runs = 0; runs < 2; runs++) {
            uint32_t head = rows[row].head, tail = rows[row].tail, around = head + tail, at = 0;
            begin(CAP, ARENA, rows[row].head, rows[row].tail, runs);
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (uint8_t)(i % 200); /* no 0xEE among what may be written */
            CHECK_EQ(put(1, 1000), ZR_OK);
            CHECK_EQ(put(2, 100), ZR_OK);
            CHECK_EQ(put(3, 1200), ZR_OK);
            zr_pack_finish(&pack);
            CHECK_EQ(batch.count, runs ? 3 : 2);
            for (uint32_t i = pack.first; i < batch.count; i++) {
                const zr_tx *tx = &batch.tx[i];
                CHECK(tx->data == batch.arena + at); /* nothing lies between two datagrams */
                CHECK(untouched(tx->data, head));
                CHECK(untouched(tx->data + tx->len - tail, tail));
                CHECK(sns(i) > 0);
                at += tx->len;
            }
            CHECK_EQ(at, 3 * ZR_SEG_HEAD + 2300 + batch.count * around);
            CHECK_EQ(batch.arena_len, at);
            CHECK(untouched(batch.arena + at, ARENA - at));
        }
    }
}

ZR_TEST(finish_always_finds_the_room_that_put_kept)
{
    /* Whatever the sizes and the limits: what put accepted comes out once, in order within its kind. */
    for (uint32_t cap = 1; cap <= 4; cap++)
        for (uint32_t arena = 40; arena < 4000; arena += 97)
            for (uint32_t mode = 0; mode < 2; mode++) {
                uint32_t accepted = 0, found = 0, random = cap * 7919 + arena;
                begin(cap, arena, 16, 16, mode == 1);
                for (uint32_t i = 0; i < 9; i++) { /* digits of one word */
                    random = random * 1103515245 + 12345;
                    size_t len = (random >> 16 & 3) == 0 ? 1200 : (random >> 18) % 420;
                    if (put(1, len) != ZR_OK)
                        break;
                    accepted++;
                }
                zr_pack_finish(&pack);
                CHECK(batch.count <= cap && batch.arena_len <= arena);
                for (uint32_t i = 0; i < batch.count; i++)
                    for (uint32_t digits = sns(i); digits > 0; digits /= 10)
                        found++;
                CHECK_EQ(found, accepted);
            }
}

ZR_TEST(a_refused_segment_is_taken_by_the_next_batch)
{
    begin(1, ARENA, 0, 0, true);
    CHECK_EQ(put(1, 1000), ZR_OK);
    CHECK_EQ(put(2, 1000), ZR_E_full);
    CHECK_EQ(put(3, 0), ZR_E_full);
    zr_pack_finish(&pack);
    CHECK_EQ(batch.count, 1);
    begin(1, ARENA, 0, 0, true);
    CHECK_EQ(put(2, 1000), ZR_OK);
    zr_pack_finish(&pack);
    CHECK_EQ(sns(0), 2);
}
