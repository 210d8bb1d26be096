#include "base/zr_err.h"
#include "kcp/zr_seg.h"
#include "zr_test.h"

static const uint8_t push[] = {
    0x44, 0x33, 0x22, 0x11, 81,   2,    0x80, 0x01, 4, 3, 2,   1,   8,   7,
    6,    5,    0xFF, 0xFE, 0xFD, 0xFC, 3,    0,    0, 0, 'a', 'b', 'c',
};

ZR_TEST(a_segment_is_24_little_endian_bytes_and_its_payload)
{
    zr_seg seg;
    size_t pos = 0;

    CHECK_EQ(zr_seg_next(&seg, push, sizeof push, &pos), ZR_OK);
    CHECK_EQ(pos, sizeof push);
    CHECK_EQ(seg.conv, 0x11223344);
    CHECK_EQ(seg.cmd, ZR_SEG_PUSH);
    CHECK_EQ(seg.frg, 2);
    CHECK_EQ(seg.wnd, 0x0180);
    CHECK_EQ(seg.ts, 0x01020304);
    CHECK_EQ(seg.sn, 0x05060708);
    CHECK_EQ(seg.una, 0xFCFDFEFF);
    CHECK_EQ(seg.len, 3);
    CHECK(memcmp(seg.data, "abc", 3) == 0);

    uint8_t again[ZR_SEG_HEAD];
    zr_seg_put(again, &seg);
    CHECK(memcmp(again, push, ZR_SEG_HEAD) == 0);
}

ZR_TEST(a_datagram_that_ends_early_yields_no_segment)
{
    for (size_t size = 0; size < sizeof push; size++) {
        uint8_t *exact = malloc(size + 1); /* so that the sanitizer sees a read beyond */
        zr_seg seg;
        size_t pos = 0;
        memcpy(exact, push, size);
        int rc = zr_seg_next(&seg, exact, size, &pos);
        free(exact);
        CHECK_EQ(rc, size < ZR_SEG_HEAD ? ZR_E_again : ZR_E_oversize);
        CHECK_EQ(pos, 0);
    }
}

ZR_TEST(a_length_of_half_or_all_of_the_numbers_is_oversize)
{
    static const uint32_t lens[] = { 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFE7, 0xFFFFFFFF };

    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint8_t bad[sizeof push];
        zr_seg seg;
        size_t pos = 0;
        memcpy(bad, push, sizeof push);
        memcpy(bad + 20, &lens[i], 4);
        CHECK_EQ(zr_seg_next(&seg, bad, sizeof bad, &pos), ZR_E_oversize);
    }
}

ZR_TEST(segments_lie_back_to_back)
{
    uint8_t two[2 * sizeof push];
    zr_seg seg;
    size_t pos = 0;

    memcpy(two, push, sizeof push);
    memcpy(two + sizeof push, push, sizeof push);
    CHECK_EQ(zr_seg_next(&seg, two, sizeof two, &pos), ZR_OK);
    CHECK_EQ(zr_seg_next(&seg, two, sizeof two, &pos), ZR_OK);
    CHECK_EQ(zr_seg_next(&seg, two, sizeof two, &pos), ZR_E_again);
    CHECK_EQ(pos, sizeof two);
}
